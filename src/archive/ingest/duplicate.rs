//! Duplicates: instances whose SOP Instance UID is stored already.
//!
//! The same instance may come under another file header: as a file from one sender and by C-STORE, which has
//! no file header, from another, or from a sender that writes headers of its own (PS3.10 §7.1). The data sets
//! are compared then.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use futures_util::TryStreamExt;

use crate::archive::access::{Caller, Tenant};
use crate::archive::ingest::Refusal;
use crate::archive::verified::is_intact;
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::{Key, Staged};
use crate::dicom::instance::ParsedInstance;
use crate::dicom::layout::BulkValue;
use crate::dicom::scan::is_file_head;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::digest::{DigestAlgorithm, Hasher, ObjectDigest};
use crate::index::records::InstanceRecord;

/// Bytes of a staged object that are read at a time.
const READ_BYTES: usize = 256 * 1024;
/// The longest file header, in bytes, of a stored object that is compared.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// The state of the archive under the SOP Instance UID of an instance that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::archive) enum Existing {
    /// Nothing is stored.
    Nothing,
    /// The same bytes are stored.
    Same,
    /// There is a record of the same bytes or the same data set, but the object of this name is lost.
    Lost {
        /// The name of the object.
        object: String,
    },
    /// An instance of another study or series is stored.
    Elsewhere,
    /// Other bytes are stored.
    Different {
        /// The digest of the stored bytes.
        digest: ObjectDigest,
    },
    /// The digest of the stored bytes is of another algorithm, so that nothing can be said by digests.
    OtherAlgorithm {
        /// The digest of the stored bytes.
        digest: ObjectDigest,
    },
}

/// The way to check that a stored object is still what its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Inspection {
    /// By its size, with one request.
    Size,
    /// By its digest: the whole object is read.
    Digest,
}

/// Looks up what is stored under the UID of an instance whose object has this digest and size.
pub(in crate::archive) async fn existing(
    archive: &Archive,
    tenant: &Tenant,
    (study, series, instance): (&StudyUid, &SeriesUid, &InstanceUid),
    digest: ObjectDigest,
    size_bytes: u64,
    inspection: Inspection,
) -> Result<Existing, Error> {
    let Some(stored) = archive.index.locate(tenant.as_str(), instance).await? else {
        return Ok(Existing::Nothing);
    };
    if stored.study != *study || stored.series != *series {
        return Ok(Existing::Elsewhere);
    }
    if stored.digest.algorithm() != digest.algorithm() {
        return Ok(Existing::OtherAlgorithm { digest: stored.digest });
    }
    if stored.digest != digest {
        return Ok(Existing::Different { digest: stored.digest });
    }
    // The answer that an instance is stored means that its bytes are there: a missing or damaged object is
    // put again.
    let key = keys::original(tenant, study, series, instance, &stored.object);
    let is_intact = match inspection {
        Inspection::Size => archive.blobs.size(&key).await? == Some(size_bytes),
        Inspection::Digest => is_intact(archive, &key, digest, size_bytes).await?,
    };
    Ok(if is_intact { Existing::Same } else { Existing::Lost { object: stored.object } })
}

/// The digest of a staged object by an algorithm. Returns the staged object too.
pub(super) async fn digest_of(
    staged: Staged,
    algorithm: DigestAlgorithm,
) -> Result<(ObjectDigest, Staged), Refusal> {
    let work = move || -> io::Result<_> {
        let mut hasher = Hasher::new(algorithm);
        let (mut buffer, mut offset) = (vec![0; READ_BYTES], 0);
        loop {
            match staged.read_at(&mut buffer, offset)? {
                0 => return Ok((hasher.finish(), staged)),
                read => {
                    hasher.update(&buffer[..read]);
                    offset += read as u64;
                }
            }
        }
    };
    Ok(run_blocking(None, work).await??)
}

/// The outcome of a comparison with the data set that is stored under a UID.
pub(super) enum DataSetComparison {
    /// The data sets are the same.
    Same,
    /// They are not, or cannot be compared.
    Different,
    /// The stored object is missing or damaged. As far as its record tells, it had the same data set.
    Lost {
        /// The name of the object.
        object: String,
    },
}

/// Compares the object that is stored under the UID of `instance`, with the digest `stored`, with the data
/// set of `staged`, which starts at `data_set_offset`. Returns the staged object too.
pub(super) async fn compare_data_sets(
    archive: &Archive,
    caller: &Caller,
    instance: &ParsedInstance,
    stored: ObjectDigest,
    staged: Staged,
    data_set_offset: u64,
) -> Result<(DataSetComparison, Staged), Refusal> {
    let ParsedInstance { study, series, instance: uid, transfer_syntax, .. } = instance;
    let record: Option<InstanceRecord> =
        archive.index.instance(caller.tenant.as_str(), study, series, uid).await?;
    let Some(record) = record.filter(|record| record.transfer_syntax == *transfer_syntax) else {
        return Ok((DataSetComparison::Different, staged));
    };
    let data_set_bytes = staged.length().saturating_sub(data_set_offset);
    let head_bytes = record.size_bytes.checked_sub(data_set_bytes).filter(|&head| head <= MAX_HEAD_BYTES);
    let Some(head_bytes) = head_bytes.filter(|_| record.digest == stored) else {
        return Ok((DataSetComparison::Different, staged));
    };
    let key = keys::original_of(&caller.tenant, &record);
    let staged = Arc::new(staged);
    let is_same = compare(archive, &key, head_bytes..record.size_bytes, &staged, data_set_offset).await?;
    let comparison = if is_same {
        DataSetComparison::Same
    } else if seems_same(&record, instance, head_bytes, data_set_offset)
        && !is_intact(archive, &key, stored, record.size_bytes).await?
    {
        DataSetComparison::Lost { object: record.object }
    } else {
        DataSetComparison::Different
    };
    Ok((comparison, Arc::into_inner(staged).expect("the comparisons have ended")))
}

/// Whether a record, whose object has a header of `head_bytes`, tells of the same data set as `instance`,
/// whose data set starts at `data_set_offset`: the metadata are the same, and the bulk values are in the same
/// places.
fn seems_same(
    record: &InstanceRecord,
    instance: &ParsedInstance,
    head_bytes: u64,
    data_set_offset: u64,
) -> bool {
    let place = |value: &BulkValue, data_set: u64| {
        (value.path.clone(), value.offset.checked_sub(data_set), value.length)
    };
    let old = record.layout.bulk.iter().map(|value| place(value, head_bytes));
    let new = instance.layout.bulk.iter().map(|value| place(value, data_set_offset));
    record.metadata == instance.metadata && old.eq(new)
}

/// Whether the object under `key` has nothing but a file header before the range `data_set`, and in this
/// range the bytes of `staged` from `offset` on.
async fn compare(
    archive: &Archive,
    key: &Key,
    data_set: Range<u64>,
    staged: &Arc<Staged>,
    mut offset: u64,
) -> Result<bool, Refusal> {
    let read = async |range| match archive.blobs.read(key, range).await {
        Ok(bytes) => Ok(Some(bytes)),
        // The object is lost.
        Err(blobs::Error::NotFound(_) | blobs::Error::OutOfRange { .. }) => Ok(None),
        Err(error) => Err(Refusal::from(error)),
    };
    let Some(head) = read(0..data_set.start).await? else { return Ok(false) };
    let head = head.try_collect::<Vec<_>>().await?.concat();
    if !is_file_head(&head) {
        return Ok(false);
    }
    let Some(mut bytes) = read(data_set).await? else { return Ok(false) };
    while let Some(chunk) = bytes.try_next().await? {
        let (staged, at) = (Arc::clone(staged), offset);
        offset += chunk.len() as u64;
        if !run_blocking(None, move || has_bytes(&staged, at, &chunk)).await?? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a staged object has these bytes at this offset.
fn has_bytes(staged: &Staged, mut offset: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut buffer = vec![0; bytes.len()];
    let mut read = 0;
    while read < buffer.len() {
        match staged.read_at(&mut buffer[read..], offset)? {
            0 => return Ok(false),
            some => {
                read += some;
                offset += some as u64;
            }
        }
    }
    Ok(buffer == bytes)
}
