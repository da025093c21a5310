//! Verifying the object of an instance against the record of the instance.

use futures_util::TryStreamExt;
use serde::Deserialize;

use crate::archive::access::Tenant;
use crate::archive::maintenance::report::Finding;
use crate::archive::{Archive, Error, keys, run_blocking, run_in_background};
use crate::blobs;
use crate::blobs::Key;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::digest::{Hasher, ObjectDigest};
use crate::index::records::InstanceRecord;

/// The part of an instance's record that describes its object.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StoredObject {
    pub(super) study: StudyUid,
    pub(super) series: SeriesUid,
    pub(super) instance: InstanceUid,
    object: String,
    digest: ObjectDigest,
    pub(super) size_bytes: u64,
}

impl StoredObject {
    pub(super) fn of(record: &InstanceRecord) -> Self {
        Self {
            study: record.study.clone(),
            series: record.series.clone(),
            instance: record.instance.clone(),
            object: record.object.clone(),
            digest: record.digest,
            size_bytes: record.size_bytes,
        }
    }

    pub(super) fn key(&self, tenant: &Tenant) -> Key {
        keys::original(tenant, &self.study, &self.series, &self.instance, &self.object)
    }
}

/// The threads that compute a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashing {
    /// Blocking threads, under a permit, as many at a time as there are cores.
    OnBlockingThreads,
    /// The threads of background work.
    InBackground,
}

/// The fault of the object of an instance.
pub(super) async fn verify(
    archive: &Archive,
    tenant: &Tenant,
    object: &StoredObject,
    hashing: Hashing,
) -> Result<Option<Finding>, Error> {
    let finding = match is_intact(archive, &object.key(tenant), object, hashing).await {
        Ok(true) => return Ok(None),
        Ok(false) => Finding::Damaged(object.key(tenant)),
        Err(Error::Blobs(blobs::Error::OutOfRange { key, .. })) => Finding::Damaged(key),
        Err(Error::Blobs(blobs::Error::NotFound(key))) => Finding::Missing(key),
        Err(error) => return Err(error),
    };
    // An object goes after the row that names it, so that one which is still named should be there.
    let StoredObject { study, series, instance, .. } = object;
    let current: Option<StoredObject> =
        archive.index.instance(tenant.as_str(), study, series, instance).await?;
    let is_named = current.is_some_and(|current| current.object == object.object);
    Ok(is_named.then_some(finding))
}

/// Whether the object under `key` has the digest and the size of `object`.
async fn is_intact(
    archive: &Archive,
    key: &Key,
    object: &StoredObject,
    hashing: Hashing,
) -> Result<bool, Error> {
    let mut bytes = archive.blobs.read_uncached(key, 0..object.size_bytes).await?;
    let mut hasher = Hasher::new(object.digest.algorithm());
    while let Some(chunk) = bytes.try_next().await? {
        let work = move || {
            hasher.update(&chunk);
            hasher
        };
        hasher = match hashing {
            Hashing::InBackground => run_in_background(work).await?,
            Hashing::OnBlockingThreads => {
                let permit = archive.permits.codec_in_background().await;
                run_blocking(Some(permit), work).await?
            }
        };
    }
    let is_longer = archive.blobs.size(key).await? != Some(object.size_bytes);
    Ok(!is_longer && hasher.finish() == object.digest)
}
