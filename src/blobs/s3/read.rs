//! Reading a range of an object: one request, and more only where a connection is cut in the middle of the answer.

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
use crate::blobs::s3::client::backoff;
use crate::blobs::s3::failure::Failure;
use crate::blobs::{ByteStream, CHUNK_BYTES, Error, Key};
use crate::telemetry;

/// No object is larger, and no range that reaches further is asked for: not every store can read such a number.
const MAX_OBJECT_BYTES: u64 = 1 << 50;

/// As [`crate::blobs::Blobs::read`].
pub(super) async fn read(store: &Arc<Store>, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
    if range.is_empty() || range.end > MAX_OBJECT_BYTES {
        // HTTP has no empty ranges.
        let size_bytes = store.size(key).await?.ok_or_else(|| Error::NotFound(key.clone()))?;
        if range.start > range.end || range.end > size_bytes {
            return Err(Error::OutOfRange { key: key.clone(), range });
        }
        return Ok(stream::empty().boxed());
    }
    let answer = get(store, key, &range).await?;
    let etag = answer.e_tag;
    let reader = Reader {
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

/// Asks for a range, which is not empty; the answer is to just that range.
async fn get(store: &Store, key: &Key, range: &Range<u64>) -> Result<GetObjectOutput, Error> {
    let (bucket, name) = store.settings.bucket.of(key);
    let request = store.requests.client.get_object().bucket(bucket).key(name);
    let request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
    let out_of_range = || Error::OutOfRange { key: key.clone(), range: range.clone() };
    match store.requests.send("GetObject", request.send()).await {
        Ok(answer) => match extent(&answer) {
            Some(extent) if extent == *range => Ok(answer),
            // The store ends the range where the object ends.
            Some(extent) if extent.start == range.start && extent.end < range.end => Err(out_of_range()),
            _ => Err(Failure::Nonsense("with another range").into_error(format!("read {key}"))),
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

struct Reader {
    store: Arc<Store>,
    key: Key,
    /// Tells whether a further answer is from the same object. Some stores take `If-Match` only in a form of their own.
    etag: Option<String>,
    /// What has not been given away yet.
    left: Range<u64>,
    body: primitives::ByteStream,
    /// What has been received and not been given away.
    read: Bytes,
    /// Answers cut off since there was any progress.
    cuts: u32,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        while self.read.is_empty() {
            let left = self.left.end - self.left.start;
            if left == 0 {
                return None;
            }
            let silence = Duration::from_secs(self.store.settings.read_timeout_seconds);
            let cause = match timeout(silence, self.body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    self.read = bytes.slice(..length);
                    continue;
                }
                Ok(Some(Err(error))) => Failure::Silence(error.to_string()),
                Ok(None) => Failure::Nonsense("with fewer bytes than it said"),
                Err(_) => Failure::Silence(format!("nothing came for {} s", silence.as_secs())),
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

    /// Asks for what is left, after the answer was cut off.
    async fn resume(&mut self, cause: Failure) -> Result<(), Error> {
        self.cuts += 1;
        let operation = || format!("read {} from byte {} on", self.key, self.left.start);
        if self.cuts >= self.store.settings.max_attempts || self.etag.is_none() {
            return Err(cause.into_error(operation()));
        }
        let cause = cause.to_string();
        debug!(cause, "an answer was cut off: going on to {}", operation());
        telemetry::s3_retried();
        sleep(backoff(self.cuts)).await;
        let answer = get(&self.store, &self.key, &self.left).await?;
        if answer.e_tag != self.etag {
            return Err(Failure::Nonsense("with another object than before").into_error(operation()));
        }
        self.body = answer.body;
        Ok(())
    }
}
