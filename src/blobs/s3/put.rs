//! Puts of objects: in one request if the object is small, otherwise in parts.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::warn;

use crate::blobs::s3::Store;
use crate::blobs::s3::failure::RequestFailure;
use crate::blobs::s3::source::StagedSource;
use crate::blobs::{Bucket, Error, Key, Staged};
use crate::config::Checksum;
use crate::telemetry;

/// The most parts of an object.
const MAX_PARTS: u64 = 10_000;

/// As [`crate::blobs::Blobs::put`].
pub(super) async fn put(store: &Arc<Store>, staged: Staged, key: &Key) -> Result<(), Error> {
    let length = staged.length();
    let object = ObjectPut::new(store, key, length, staged.into_data().into());
    let outcome = if length <= store.settings.part_bytes {
        object.put_whole().await
    } else {
        object.put_in_parts().await
    };
    match outcome {
        Ok(()) => Ok(()),
        Err(PutError::Store(failure)) if failure.is_precondition_failed() => object.confirm(failure).await,
        Err(PutError::Store(failure)) => Err(failure.into_error(format!("put {key}"))),
        Err(PutError::StagedSource(source)) => {
            Err(Error::Backend { operation: format!("read what was staged for {key}"), source })
        }
    }
}

/// The reason why a put failed.
enum PutError {
    /// A request failed.
    Store(RequestFailure),
    /// The staged bytes cannot be read.
    StagedSource(BoxError),
}

impl From<RequestFailure> for PutError {
    fn from(failure: RequestFailure) -> Self {
        Self::Store(failure)
    }
}

impl From<BoxError> for PutError {
    fn from(error: BoxError) -> Self {
        Self::StagedSource(error)
    }
}

/// The put of an object.
struct ObjectPut<'a> {
    store: &'a Arc<Store>,
    key: &'a Key,
    bucket: String,
    name: String,
    length: u64,
    source: StagedSource,
}

impl<'a> ObjectPut<'a> {
    fn new(store: &'a Arc<Store>, key: &'a Key, length: u64, source: StagedSource) -> Self {
        let (bucket, name) = store.locate(key);
        Self { store, key, bucket, name, length, source }
    }

    /// `*` if the object must not replace another one, and the service supports that condition.
    fn if_none_match(&self) -> Option<String> {
        let is_immutable = self.key.bucket == Bucket::Originals;
        (is_immutable && self.store.is_conditional).then(|| "*".to_owned())
    }

    async fn put_whole(&self) -> Result<(), PutError> {
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
            .set_storage_class(store.storage_class(self.key.bucket))
            .content_length(self.length as i64)
            .body(body);
        store.requests.send("PutObject", request.send()).await?;
        telemetry::s3_sent(self.length);
        Ok(())
    }

    async fn put_in_parts(&self) -> Result<(), PutError> {
        let store = self.store;
        let request = store.requests.client.create_multipart_upload().bucket(&self.bucket).key(&self.name);
        let request = request
            .checksum_algorithm(match store.settings.checksum {
                Checksum::Crc32 => ChecksumAlgorithm::Crc32,
                Checksum::Sha256 => ChecksumAlgorithm::Sha256,
            })
            .set_server_side_encryption(store.encryption())
            .set_ssekms_key_id(store.kms_key())
            .set_storage_class(store.storage_class(self.key.bucket));
        let created = store.requests.send("CreateMultipartUpload", request.send()).await?;
        let id = created.upload_id.ok_or(RequestFailure::InvalidResponse("without an upload's id"))?;
        let (bucket, name) = (self.bucket.clone(), self.name.clone());
        let mut upload = MultipartUpload { store: Arc::clone(store), bucket, name, id, is_over: false };
        let outcome = self.send_parts(&upload.id).await;
        upload.is_over = true;
        if outcome.is_err() {
            abort(&upload.store, &upload.bucket, &upload.name, &upload.id).await;
        }
        outcome
    }

    async fn send_parts(&self, upload: &str) -> Result<(), PutError> {
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
            // A retry: the first attempt had succeeded, but its answer was lost.
            Err(failure) if failure.code() == "NoSuchUpload" && self.is_there().await => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn send_part(
        &self,
        upload: &str,
        number: i32,
        range: Range<u64>,
    ) -> Result<CompletedPart, PutError> {
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
        // The checksums of the answer: a service that does not support one must not get it again.
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
        Ok(part.set_checksum_crc32(sent.checksum_crc32).set_checksum_sha256(sent.checksum_sha256).build())
    }

    /// Handles the answer that the key has an object already. No other object gets the key of an original, so
    /// it is this one, sent by an attempt whose answer was lost.
    async fn confirm(&self, failure: RequestFailure) -> Result<(), Error> {
        if self.is_there().await {
            return Ok(());
        }
        Err(failure.into_error(format!("put {}: there is another object", self.key)))
    }

    async fn is_there(&self) -> bool {
        self.store.size(self.key).await.is_ok_and(|size| size == Some(self.length))
    }
}

/// The parts of an object of `length` bytes: numbers from 1, and ranges. All parts but the last are equally
/// large.
fn parts(length: u64, part_bytes: u64) -> impl Iterator<Item = (i32, Range<u64>)> {
    let part_bytes = part_bytes.max(length.div_ceil(MAX_PARTS));
    (1..)
        .zip((0..length).step_by(part_bytes as usize))
        .map(move |(number, start)| (number, start..length.min(start + part_bytes)))
}

/// A multipart upload that has begun. It is aborted if this is dropped before the upload is over, for example
/// because the caller has stopped waiting.
struct MultipartUpload {
    store: Arc<Store>,
    bucket: String,
    name: String,
    id: String,
    is_over: bool,
}

impl Drop for MultipartUpload {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_over {
            let (store, id) = (Arc::clone(&self.store), std::mem::take(&mut self.id));
            let (bucket, name) = (std::mem::take(&mut self.bucket), std::mem::take(&mut self.name));
            runtime.spawn(async move { abort(&store, &bucket, &name, &id).await });
        }
    }
}

/// Removes the parts of an upload. Parts that stay because the service does not answer cost space until a
/// lifecycle rule removes them; no reader sees them.
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
