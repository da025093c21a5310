//! Whole objects for responses of many instances. An object that cannot be given is found before its first
//! byte is sent, so that the response goes on without that instance (docs/decisions/0102).

use std::future::{Future, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::read::file::as_file;
use crate::archive::verified::{is_intact, verified};
use crate::archive::{Archive, Error, keys};
use crate::backoff::Backoff;
use crate::blobs;
use crate::blobs::{ByteStream, Key};
use crate::dicom::uid::InstanceUid;
use crate::digest::ObjectDigest;
use crate::index::records::InstanceRecord;
use crate::telemetry;

/// The most objects that are looked at before the head of a response: all of the first page of records on a
/// local disk, and as many as one round of requests takes in a remote store.
const LOOK_AHEAD: usize = 200;
const REMOTE_LOOK_AHEAD: usize = 32;
/// The objects that are looked at at the same time.
pub(super) const LOOKS_AT_ONCE: usize = 32;

/// The largest object that is held in memory until it is verified.
const MAX_HELD_BYTES: u64 = 256 * 1024;
const MAX_HELD_REMOTE_BYTES: u64 = 1024 * 1024;
/// The largest object that is read twice: verified first, then sent. Larger objects are verified while they
/// are sent.
pub(super) const MAX_READ_TWICE_BYTES: u64 = 16 * 1024 * 1024;

/// The time for which a large object that was found damaged is taken for damaged.
const DAMAGE_CERTAIN: Duration = Duration::from_secs(60);

/// The wait before a failed read is retried.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_millis(200));
/// The instances in a row that may fail in a way that may pass, before a response ends. So many failures are
/// not of the instances but of the store.
const MAX_FAILURES_IN_A_ROW: u32 = 3;

/// The place and the digest of a whole object.
pub(super) struct WholeObject<'a> {
    pub(super) key: &'a Key,
    pub(super) size_bytes: u64,
    pub(super) digest: ObjectDigest,
}

/// Decides whether a response goes on without an instance that cannot be given.
#[derive(Debug, Default)]
pub struct OmissionPolicy {
    failures_in_a_row: u32,
}

impl OmissionPolicy {
    /// Records that an instance was given.
    pub fn given(&mut self) {
        self.failures_in_a_row = 0;
    }

    /// Whether the response goes on after an error of one instance. It does after a missing or damaged
    /// object, but not after a failure of the index, nor after several other failures in a row.
    pub fn goes_on_after(&mut self, error: &Error) -> bool {
        match error {
            Error::Index(_) => false,
            error if is_lost(error) || matches!(error, Error::NotFound(_) | Error::NotDeidentified(_)) => {
                true
            }
            _ => {
                self.failures_in_a_row += 1;
                self.failures_in_a_row <= MAX_FAILURES_IN_A_ROW
            }
        }
    }
}

/// Whether an error says that an object is missing or damaged.
pub fn is_lost(error: &Error) -> bool {
    let Error::Blobs(error) = error else { return false };
    matches!(error, blobs::Error::NotFound(_) | blobs::Error::OutOfRange { .. } | blobs::Error::Damaged(_))
}

/// Whether an error was logged where it was found, or is none of the server.
pub fn is_logged(error: &Error) -> bool {
    matches!(error, Error::Internal(_) | Error::NotDeidentified(_) | Error::Blobs(blobs::Error::Damaged(_)))
}

impl Archive {
    /// The instances whose object is missing or too short, as far as they are among the first of `records`,
    /// and those whose object was found damaged before; each with the error that a read of the object would
    /// have. Objects of which nothing can be found out now are not among them.
    pub async fn lost_instances(
        &self,
        caller: &Caller,
        records: &[InstanceRecord],
    ) -> Vec<(InstanceUid, Error)> {
        let was_damaged = |record| self.damaged.age(&keys::original_of(&caller.tenant, record)).is_some();
        let records = records.iter().enumerate();
        let records = records.filter(|(place, record)| *place < self.look_ahead() || was_damaged(record));
        let looks: Vec<_> = records.map(|(_, record)| self.lost_instance(caller, record).boxed()).collect();
        stream::iter(looks).buffered(LOOKS_AT_ONCE).filter_map(ready).collect().await
    }

    /// Whether the stored object of an instance is there, as far as that shows without reading the object.
    ///
    /// # Errors
    /// If the store does not answer, which proves nothing.
    pub async fn has_object(&self, caller: &Caller, record: &InstanceRecord) -> Result<bool, Error> {
        let key = keys::original_of(&caller.tenant, record);
        let size = self.blobs.size(&key).await?;
        let object = WholeObject { key: &key, size_bytes: record.size_bytes, digest: record.digest };
        Ok(self.lost_object_of_size(object, size).await.is_none())
    }

    async fn lost_instance(&self, caller: &Caller, record: &InstanceRecord) -> Option<(InstanceUid, Error)> {
        let key = keys::original_of(&caller.tenant, record);
        let object = WholeObject { key: &key, size_bytes: record.size_bytes, digest: record.digest };
        let error = self.lost_object(object).await?;
        Some((record.instance.clone(), self.unless_deleted(caller, record, error).await))
    }

    /// The number of objects that are looked at before the head of a response.
    pub(super) fn look_ahead(&self) -> usize {
        if self.is_remote { REMOTE_LOOK_AHEAD } else { LOOK_AHEAD }
    }

    /// The error of reading an object that is missing or too short, or that was found damaged and still is.
    pub(super) async fn lost_object(&self, object: WholeObject<'_>) -> Option<blobs::Error> {
        // The read of the object shows whether an error lasts.
        let size = self.blobs.size(object.key).await.ok()?;
        self.lost_object_of_size(object, size).await
    }

    /// As [`Archive::lost_object`], where the size of the object is known.
    async fn lost_object_of_size(&self, object: WholeObject<'_>, size: Option<u64>) -> Option<blobs::Error> {
        let WholeObject { key, size_bytes, digest } = object;
        match size {
            Some(size) if size >= size_bytes => {
                let age = self.damaged.age(key)?;
                // It may have been restored from a back-up. A large object is not read for each response.
                let is_certain = size_bytes > MAX_READ_TWICE_BYTES && age < DAMAGE_CERTAIN;
                let is_intact = !is_certain && is_intact(self, key, digest, size_bytes).await.ok()?;
                (!is_intact).then(|| blobs::Error::Damaged(key.clone()))
            }
            Some(_) => Some(blobs::Error::OutOfRange { key: key.clone(), range: 0..size_bytes }),
            None => Some(blobs::Error::NotFound(key.clone())),
        }
    }

    /// Opens an instance as a file, for a response of many instances. Objects of up to 16 MiB are verified
    /// before this returns, as far as that takes no second request to a remote store; others while they are
    /// read.
    ///
    /// # Errors
    /// As [`Archive::read_object`]; for an object that is verified at once also [`blobs::Error::Damaged`].
    pub async fn open_whole(&self, caller: &Caller, record: &InstanceRecord) -> Result<ByteStream, Error> {
        let key = keys::original_of(&caller.tenant, record);
        let object = WholeObject { key: &key, size_bytes: record.size_bytes, digest: record.digest };
        match self.open_verified(object).await {
            Ok(object) => Ok(as_file(object, record.size_bytes, record.file_header.clone())),
            Err(error) => Err(self.unless_deleted(caller, record, error).await),
        }
    }

    /// The size of the largest object that is held in memory until it is verified.
    pub(super) fn max_held_bytes(&self) -> u64 {
        if self.is_remote { MAX_HELD_REMOTE_BYTES } else { MAX_HELD_BYTES }
    }

    /// Opens a whole object, as [`Archive::open_whole`].
    pub(super) async fn open_verified(&self, object: WholeObject<'_>) -> Result<ByteStream, blobs::Error> {
        let WholeObject { key, size_bytes, digest } = object;
        let bytes = self.blobs.read(key, 0..size_bytes).await?;
        let mut bytes = verified(self, bytes, key.clone(), digest);
        if size_bytes <= self.max_held_bytes() {
            let chunks: Vec<_> = bytes.try_collect().await?;
            return Ok(stream::iter(chunks).map(Ok).boxed());
        }
        if size_bytes <= MAX_READ_TWICE_BYTES && self.reads_twice {
            while bytes.try_next().await?.is_some() {}
            return self.blobs.read(key, 0..size_bytes).await;
        }
        let first = bytes.try_next().await?;
        Ok(stream::iter(first).map(Ok).chain(bytes).boxed())
    }

    /// The error of reading the object of an instance, or [`Error::NotFound`] if the instance was deleted
    /// after its record was read.
    pub(super) async fn unless_deleted(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        error: blobs::Error,
    ) -> Error {
        let InstanceRecord { study, series, instance, .. } = record;
        if matches!(error, blobs::Error::NotFound(_))
            && let Err(deleted) = self.instance(caller, study, series, instance).await
        {
            return deleted;
        }
        count_loss(&error);
        error.into()
    }

    /// Repeats an operation once if its failure may pass.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn retried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match attempt().await {
            Err(error) if self.may_pass(&error) => {
                tokio::time::sleep(RETRY.wait(1)).await;
                attempt().await
            }
            outcome => outcome,
        }
    }

    fn may_pass(&self, error: &Error) -> bool {
        match error {
            Error::Blobs(blobs::Error::Backend { .. }) | Error::NotReady(_) => true,
            // The damage may be in the local cache, where the object was evicted.
            Error::Blobs(blobs::Error::Damaged(_)) => self.is_remote,
            _ => false,
        }
    }
}

/// Counts an object that is missing or too short. One with other bytes was counted when its digest was
/// checked.
pub(super) fn count_loss(error: &blobs::Error) {
    match error {
        blobs::Error::NotFound(_) => telemetry::object_damaged("missing"),
        blobs::Error::OutOfRange { .. } => telemetry::object_damaged("damaged"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { bucket: blobs::Bucket::Originals, path: "a".into() }
    }

    #[test]
    fn a_response_goes_on_without_what_is_lost_and_ends_when_the_store_fails() {
        let mut policy = OmissionPolicy::default();
        let lost = [
            Error::Blobs(blobs::Error::NotFound(key())),
            Error::Blobs(blobs::Error::Damaged(key())),
            Error::Blobs(blobs::Error::OutOfRange { key: key(), range: 0..9 }),
            Error::NotFound("instance".into()),
        ];
        for error in lost.iter().cycle().take(100) {
            assert!(policy.goes_on_after(error), "{error}");
        }
        let failure =
            || Error::Blobs(blobs::Error::Backend { operation: "read".into(), source: "no answer".into() });
        for _ in 0..10 {
            for _ in 0..MAX_FAILURES_IN_A_ROW {
                assert!(policy.goes_on_after(&failure()));
            }
            policy.given();
        }
        let goes_on: Vec<_> = (0..=MAX_FAILURES_IN_A_ROW).map(|_| policy.goes_on_after(&failure())).collect();
        assert_eq!(goes_on, [true, true, true, false]);
        assert!(!OmissionPolicy::default().goes_on_after(&Error::Index(crate::index::Error::Interrupted)));
    }
}
