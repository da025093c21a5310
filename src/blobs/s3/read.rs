//! Reads of a range of an object: one request, and more only if a connection ends in the middle of the
//! answer.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::blobs::s3::Store;
use crate::blobs::s3::client::BACKOFF;
use crate::blobs::s3::failure::RequestFailure;
use crate::blobs::{ByteStream, CHUNK_BYTES, Error, Key};
use crate::telemetry;

/// The end of the largest range that is requested. No object is larger, and not every service can parse a
/// larger number.
const MAX_OBJECT_BYTES: u64 = 1 << 50;

/// As [`crate::blobs::Blobs::read`].
pub(super) async fn read(store: &Arc<Store>, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
    if range.is_empty() || range.end > MAX_OBJECT_BYTES {
        // HTTP has no empty range.
        let size_bytes = store.size(key).await?.ok_or_else(|| Error::NotFound(key.clone()))?;
        if range.start > range.end || range.end > size_bytes {
            return Err(Error::OutOfRange { key: key.clone(), range });
        }
        return Ok(stream::empty().boxed());
    }
    let answer = get(store, key, &range).await?;
    let etag = answer.e_tag;
    let reader = RangeReader {
        store: Arc::clone(store),
        key: key.clone(),
        etag,
        left: range,
        body: answer.body,
        read: Bytes::new(),
        cuts: 0,
    };
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        if chunk.is_err() {
            reader.left.start = reader.left.end;
        }
        Some((chunk, reader))
    });
    Ok(chunks.boxed())
}

/// Requests a range, which is not empty; the answer holds exactly that range.
async fn get(store: &Store, key: &Key, range: &Range<u64>) -> Result<GetObjectOutput, Error> {
    let (bucket, name) = store.locate(key);
    let request = store.requests.client.get_object().bucket(bucket).key(name);
    let request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
    let out_of_range = || Error::OutOfRange { key: key.clone(), range: range.clone() };
    match store.requests.send("GetObject", request.send()).await {
        Ok(answer) => match extent(&answer) {
            Some(extent) if extent == *range => Ok(answer),
            // The service ends the range at the end of the object.
            Some(extent) if extent.start == range.start && extent.end < range.end => Err(out_of_range()),
            _ => Err(RequestFailure::InvalidResponse("with another range").into_error(format!("read {key}"))),
        },
        Err(failure) if failure.is_not_found() => Err(Error::NotFound(key.clone())),
        Err(failure) if failure.status() == 416 => Err(out_of_range()),
        Err(failure) => Err(failure.into_error(format!("read {key}"))),
    }
}

/// The range that an answer holds.
fn extent(answer: &GetObjectOutput) -> Option<Range<u64>> {
    let Some(text) = answer.content_range() else {
        return Some(0..u64::try_from(answer.content_length()?).ok()?);
    };
    let (range, _size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some(first..last.checked_add(1)?)
}

struct RangeReader {
    store: Arc<Store>,
    key: Key,
    /// The tag by which a further answer is compared with the first, because some services accept `If-Match`
    /// only in a form of their own.
    etag: Option<String>,
    /// The range that was not passed on yet.
    left: Range<u64>,
    body: primitives::ByteStream,
    /// Bytes that were received and not passed on yet.
    read: Bytes,
    /// Answers that were cut off since the last progress.
    cuts: u32,
}

impl RangeReader {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        while self.read.is_empty() {
            let left = self.left.end - self.left.start;
            if left == 0 {
                return None;
            }
            let limit = Duration::from_secs(self.store.settings.read_timeout_seconds);
            let cause = match timeout(limit, self.body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    self.read = bytes.slice(..length);
                    continue;
                }
                Ok(Some(Err(error))) => RequestFailure::NoResponse(error.to_string()),
                Ok(None) => RequestFailure::InvalidResponse("with fewer bytes than its length"),
                Err(_) => RequestFailure::NoResponse(format!("no byte for {} s", limit.as_secs())),
            };
            if let Err(error) = self.resume(cause).await {
                return Some(Err(error));
            }
        }
        let chunk = self.read.split_to(self.read.len().min(CHUNK_BYTES));
        self.left.start += chunk.len() as u64;
        self.cuts = 0;
        telemetry::s3_received(chunk.len() as u64);
        Some(Ok(chunk))
    }

    /// Requests the rest of the range, after the answer was cut off.
    async fn resume(&mut self, cause: RequestFailure) -> Result<(), Error> {
        self.cuts += 1;
        let operation = || format!("read {} from byte {} on", self.key, self.left.start);
        if self.cuts >= self.store.settings.max_attempts || self.etag.is_none() {
            return Err(cause.into_error(operation()));
        }
        let cause = cause.to_string();
        debug!(cause, "an answer was cut off: another request to {}", operation());
        telemetry::s3_retried();
        sleep(BACKOFF.wait(self.cuts)).await;
        let answer = get(&self.store, &self.key, &self.left).await?;
        if answer.e_tag != self.etag {
            return Err(
                RequestFailure::InvalidResponse("with another object than before").into_error(operation())
            );
        }
        self.body = answer.body;
        Ok(())
    }
}
