//! A store of objects, which are bytes under a key: originals and what is derived from them. No DICOM here.

use std::{fmt, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use rustix::io::Errno;

pub mod cached;
#[cfg(test)]
mod contract;
pub mod fs;
pub mod memory;
pub mod s3;
mod scratch;
mod staged;

pub use crate::config::Bucket;
pub use staged::Staged;

/// The name of an object: a bucket and a path of segments separated by `/`.
///
/// The code that makes a key must make sure of its segments: not empty, not `.` or `..`, no `/`, `\` or NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The bucket.
    pub bucket: Bucket,
    /// The path in the bucket.
    pub path: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket.name(), self.path)
    }
}

/// An object as it is listed: its key, size and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The object's key.
    pub key: Key,
    /// The object's size in bytes.
    pub size_bytes: u64,
    /// The time at which the object was written, in milliseconds since 1970 UTC.
    pub modified_at: i64,
}

/// The bytes of a range, in order, in chunks of at most [`CHUNK_BYTES`].
pub type ByteStream = BoxStream<'static, Result<Bytes, Error>>;

/// The largest chunk of a [`ByteStream`].
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Why an operation on objects failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No object has that key.
    #[error("no object {0}")]
    NotFound(Key),
    /// The range reaches beyond the object's end.
    #[error("{key} has no bytes {range:?}")]
    OutOfRange {
        /// The object.
        key: Key,
        /// The requested range.
        range: Range<u64>,
    },
    /// The bytes of the object are not those that were stored.
    #[error("object {0} is damaged: its digest differs")]
    Damaged(Key),
    /// There is no space left.
    #[error("no space left to {operation}")]
    NoSpace {
        /// The operation that failed, and its object.
        operation: String,
    },
    /// The backend failed; whether the operation took effect is not known, and it may be repeated.
    #[error("cannot {operation}")]
    Backend {
        /// The operation that failed, and its object.
        operation: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// The error of an operation on a file.
    fn from_errno(error: Errno, operation: impl FnOnce() -> String) -> Self {
        match error {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace { operation: operation() },
            error => Self::Backend { operation: operation(), source: std::io::Error::from(error).into() },
        }
    }
}

/// A store of objects.
///
/// # Contract
/// - An object exists whole or not at all: no reader can observe a part of one. Only a crash before
///   [`Blobs::put`] has returned may leave a part of an object, under a key that no caller has seen yet.
/// - When [`Blobs::put`] returns `Ok`, the object survives a crash of the process and of the machine.
/// - A put under a key that exists replaces the object; readers that have begun continue with the old object
///   or fail, they never see a mixture. Originals are never replaced: an original is put under a key that no
///   object with other bytes ever had; a backend may refuse to replace one.
/// - Every method may be called again after any failure.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Opens a new staged object. It has no key yet, and is removed when it is dropped or when the process
    /// ends.
    async fn stage(&self) -> Result<Staged, Error>;

    /// Puts a staged object durably under `key`. Calls that wait at the same time may share flushes.
    async fn put(&self, staged: Staged, key: &Key) -> Result<(), Error>;

    /// Reads a range of bytes, which must lie inside the object; an empty range of an object is an empty
    /// stream.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::OutOfRange`] are returned at once, not in the stream.
    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error>;

    /// Reads as [`Blobs::read`] does, past any cache and without filling it, so that the store itself is
    /// checked.
    async fn read_uncached(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        self.read(key, range).await
    }

    /// The object's size in bytes; `None` if there is none.
    async fn size(&self, key: &Key) -> Result<Option<u64>, Error>;

    /// Deletes an object; deleting an object that does not exist succeeds.
    ///
    /// After a crash of the machine the object may exist again, unless [`Blobs::flush`] was called after the
    /// deletion.
    async fn delete(&self, key: &Key) -> Result<(), Error>;

    /// Drops what a cache has of an object, because these bytes are damaged.
    async fn evict(&self, _: &Key) {}

    /// Makes all deletions that have returned durable.
    async fn flush(&self) -> Result<(), Error>;

    /// The keys that may have no commit: those written just before the last process on this store was killed.
    /// Objects whose put returned, and was committed, may be among them.
    fn unconfirmed(&self) -> Vec<Key>;

    /// Lists the objects whose path starts with `prefix`, in no particular order, without holding all in
    /// memory.
    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, Error>>;
}
