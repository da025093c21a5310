//! Bytes under a key: where originals and what is derived from them are kept. Knows nothing of DICOM.

use std::{fmt, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub mod cached;
#[cfg(test)]
mod contract;
pub mod fs;
pub mod memory;
pub mod s3;
mod scratch;
mod staged;

pub use staged::Staged;

/// A class of objects; a bucket on S3, a directory on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// What was sent, byte for byte.
    Originals,
    /// JPEG 2000 previews of series.
    Previews,
    /// Small pictures.
    Thumbnails,
    /// What may vanish at any time.
    Temporary,
    /// What was moved to cold storage.
    Archive,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Self; 5] =
        [Self::Originals, Self::Previews, Self::Thumbnails, Self::Temporary, Self::Archive];

    /// The bucket's name: lower case letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Originals => "originals",
            Self::Previews => "previews",
            Self::Thumbnails => "thumbnails",
            Self::Temporary => "temporary",
            Self::Archive => "archive",
        }
    }
}

/// The name of an object: a bucket and a path of segments parted by `/`.
///
/// Whoever makes a key answers for its segments: not empty, not `.` or `..`, no `/`, `\` or NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The bucket.
    pub bucket: Bucket,
    /// The path in it.
    pub path: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket.name(), self.path)
    }
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was written, in milliseconds since 1970 UTC.
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
        /// The range asked for.
        range: Range<u64>,
    },
    /// There is no room left.
    #[error("no space left to {operation}")]
    NoSpace {
        /// What could not be done.
        operation: String,
    },
    /// The backend failed; whether the operation took effect is not known, and it may be repeated.
    #[error("cannot {operation}")]
    Backend {
        /// What could not be done, and to which object.
        operation: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A place for objects.
///
/// # Contract
/// - An object is there whole or not at all: no reader can observe a part of one. Only where a crash comes before
///   [`Blobs::keep`] has returned may a part be left, under a key that nobody had been told of.
/// - When [`Blobs::keep`] returns `Ok`, the object survives a crash of the process and of the machine.
/// - Keeping bytes under a key that exists replaces the object; readers that have begun read on in the old one
///   or fail, they never see a mixture. Originals are never replaced: who keeps one gives it a key that no other object ever
///   had, except for the same bytes; a backend may refuse others.
/// - Every method may be called again after any failure.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Opens a new staged object, that nobody can see and that vanishes when dropped or when the process dies.
    async fn stage(&self) -> Result<Staged, Error>;

    /// Makes a staged object durable under `key`. Calls that wait at the same time share their flush.
    async fn keep(&self, staged: Staged, key: &Key) -> Result<(), Error>;

    /// Reads a range of bytes, which must lie inside the object; an empty range of an object is an empty stream.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::OutOfRange`] come at once, not in the stream.
    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error>;

    /// The object's size in bytes; `None` if there is none.
    async fn size(&self, key: &Key) -> Result<Option<u64>, Error>;

    /// Deletes an object; deleting what is not there succeeds.
    ///
    /// After a crash of the machine it may be there again, unless [`Blobs::flush`] came in between.
    async fn delete(&self, key: &Key) -> Result<(), Error>;

    /// Makes all deletions durable that have returned.
    async fn flush(&self) -> Result<(), Error>;

    /// Keys that were being kept when the last process on this store was killed, among others that were kept just
    /// before: whoever kept them may not have learned of it.
    fn unsettled(&self) -> Vec<Key>;

    /// Lists the objects whose path starts with `prefix`, in no particular order, without holding them all.
    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<Entry, Error>>;
}
