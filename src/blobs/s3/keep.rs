//! Keeping an object: in one request if it is small, else in parts.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::warn;

use crate::blobs::s3::failure::Failure;
use crate::blobs::s3::source::Source;
use crate::blobs::s3::{Checksum, Store};
use crate::blobs::{Bucket, Error, Key, Staged};
use crate::telemetry;

/// Parts that an object may have.
const MAX_PARTS: u64 = 10_000;

/// As [`crate::blobs::Blobs::keep`].
pub(super) async fn keep(store: &Arc<Store>, staged: Staged, key: &Key) -> Result<(), Error> {
    let length = staged.length();
    let object = Object::new(store, key, length, staged.into_place().into());
    let kept =
        if length <= store.settings.part_bytes { object.put().await } else { object.put_in_parts().await };
    match kept {
        Ok(()) => Ok(()),
        Err(Halt::Store(failure)) if failure.is_precondition_failed() => object.confirm(failure).await,
        Err(Halt::Store(failure)) => Err(failure.into_error(format!("keep {key}"))),
        Err(Halt::Source(source)) => {
            Err(Error::Backend { operation: format!("read what was staged for {key}"), source })
        }
    }
}

/// What ends an attempt to keep an object.
enum Halt {
    Store(Failure),
    /// The staged bytes cannot be read.
    Source(BoxError),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Store(failure)
    }
}

impl From<BoxError> for Halt {
    fn from(error: BoxError) -> Self {
        Self::Source(error)
    }
}

/// An object that is being sent.
struct Object<'a> {
    store: &'a Arc<Store>,
    key: &'a Key,
    bucket: String,
    name: String,
    length: u64,
    source: Source,
}

impl<'a> Object<'a> {
    fn new(store: &'a Arc<Store>, key: &'a Key, length: u64, source: Source) -> Self {
        let (bucket, name) = store.settings.bucket.of(key);
        Self { store, key, bucket, name, length, source }
    }

    /// `*` where the object must not replace another one, and the store looks after that.
    fn if_none_match(&self) -> Option<String> {
        let is_immutable = self.key.bucket == Bucket::Originals;
        (is_immutable && self.store.is_conditional).then(|| "*".to_owned())
    }

    async fn put(&self) -> Result<(), Halt> {
        let store = self.store;
        let sum = self.source.checksum(store.settings.checksum, 0..self.length).await?;
        let body = self.source.body(0..self.length).await?;
        let request = store.requests.uploads.put_object().bucket(&self.bucket).key(&self.name);
        let request = request
            .set_if_none_match(self.if_none_match())
            .set_checksum_crc32(sum.crc32)
            .set_checksum_sha256(sum.sha256)
            .set_server_side_encryption(store.encryption())
            .set_ssekms_key_id(store.kms_key())
            .set_storage_class(store.settings.storage_classes.of(self.key.bucket))
            .content_length(self.length as i64)
            .body(body);
        store.requests.send("PutObject", request.send()).await?;
        telemetry::s3_sent(self.length);
        Ok(())
    }

    async fn put_in_parts(&self) -> Result<(), Halt> {
        let store = self.store;
        let request = store.requests.client.create_multipart_upload().bucket(&self.bucket).key(&self.name);
        let request = request
            .checksum_algorithm(match store.settings.checksum {
                Checksum::Crc32 => ChecksumAlgorithm::Crc32,
                Checksum::Sha256 => ChecksumAlgorithm::Sha256,
            })
            .set_server_side_encryption(store.encryption())
            .set_ssekms_key_id(store.kms_key())
            .set_storage_class(store.settings.storage_classes.of(self.key.bucket));
        let created = store.requests.send("CreateMultipartUpload", request.send()).await?;
        let id = created.upload_id.ok_or(Failure::Nonsense("without an upload's id"))?;
        let (bucket, name) = (self.bucket.clone(), self.name.clone());
        let mut upload = Upload { store: Arc::clone(store), bucket, name, id, is_over: false };
        let outcome = self.send_parts(&upload.id).await;
        upload.is_over = true;
        if outcome.is_err() {
            abort(&upload.store, &upload.bucket, &upload.name, &upload.id).await;
        }
        outcome
    }

    async fn send_parts(&self, upload: &str) -> Result<(), Halt> {
        let parts = parts(self.length, self.store.settings.part_bytes);
        let parts = stream::iter(parts).map(|(number, range)| self.send_part(upload, number, range));
        let parts = parts.buffered(self.store.settings.part_concurrency).try_collect::<Vec<_>>().await?;
        let uploads = &self.store.requests.uploads;
        let request =
            uploads.complete_multipart_upload().bucket(&self.bucket).key(&self.name).upload_id(upload);
        let request = request
            .set_if_none_match(self.if_none_match())
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        match self.store.requests.send("CompleteMultipartUpload", request.send()).await {
            Ok(_) => Ok(()),
            // It was sent again, and the first attempt had succeeded though its answer did not come.
            Err(failure) if failure.code() == "NoSuchUpload" && self.is_there().await => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn send_part(&self, upload: &str, number: i32, range: Range<u64>) -> Result<CompletedPart, Halt> {
        let length = range.end - range.start;
        let sum = self.source.checksum(self.store.settings.checksum, range.clone()).await?;
        let body = self.source.body(range).await?;
        let request = self.store.requests.uploads.upload_part().bucket(&self.bucket).key(&self.name);
        let request = request
            .upload_id(upload)
            .part_number(number)
            .set_checksum_crc32(sum.crc32)
            .set_checksum_sha256(sum.sha256)
            .content_length(length as i64)
            .body(body);
        let sent = self.store.requests.send("UploadPart", request.send()).await?;
        telemetry::s3_sent(length);
        // As the store understood it: one that does not know the checksum is not told of it again.
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
        Ok(part.set_checksum_crc32(sent.checksum_crc32).set_checksum_sha256(sent.checksum_sha256).build())
    }

    /// After the store said that there is an object under the key. Nobody else gives an original the same key: it is this
    /// one, sent by an attempt whose answer did not come.
    async fn confirm(&self, failure: Failure) -> Result<(), Error> {
        if self.is_there().await {
            return Ok(());
        }
        Err(failure.into_error(format!("keep {}: there is another object", self.key)))
    }

    async fn is_there(&self) -> bool {
        self.store.size(self.key).await.is_ok_and(|size| size == Some(self.length))
    }
}

/// The parts of an object of `length` bytes: numbers from one, and ranges. All but the last are equally large.
fn parts(length: u64, part_bytes: u64) -> impl Iterator<Item = (i32, Range<u64>)> {
    let part_bytes = part_bytes.max(length.div_ceil(MAX_PARTS));
    (1..)
        .zip((0..length).step_by(part_bytes as usize))
        .map(move |(number, start)| (number, start..length.min(start + part_bytes)))
}

/// An upload in parts that has begun; aborted when this is dropped before it is over, as when nobody waits for it any more.
struct Upload {
    store: Arc<Store>,
    bucket: String,
    name: String,
    id: String,
    is_over: bool,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_over {
            let (store, id) = (Arc::clone(&self.store), std::mem::take(&mut self.id));
            let (bucket, name) = (std::mem::take(&mut self.bucket), std::mem::take(&mut self.name));
            runtime.spawn(async move { abort(&store, &bucket, &name, &id).await });
        }
    }
}

/// Removes what was sent of an upload. What stays, because the store does not answer, costs space until a lifecycle rule
/// removes it; no reader sees it.
async fn abort(store: &Store, bucket: &str, name: &str, id: &str) {
    let request = store.requests.client.abort_multipart_upload().bucket(bucket).key(name).upload_id(id);
    match store.requests.send("AbortMultipartUpload", request.send()).await {
        Ok(_) => {}
        Err(failure) if failure.is_not_found() => {}
        Err(failure) => {
            let error = failure.to_string();
            warn!(error, "cannot abort an upload in parts: a lifecycle rule of {bucket} has to remove it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_object_and_are_not_too_many() {
        let ranges = |length, part_bytes| parts(length, part_bytes).collect::<Vec<_>>();
        assert_eq!(ranges(10, 4), [(1, 0..4), (2, 4..8), (3, 8..10)]);
        assert_eq!(ranges(8, 4), [(1, 0..4), (2, 4..8)]);
        let many = ranges(10_000_001, 10);
        assert!(many.len() as u64 <= MAX_PARTS);
        assert_eq!(many.last().map(|(_, range)| range.end), Some(10_000_001));
    }
}
