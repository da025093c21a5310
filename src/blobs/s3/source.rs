//! The bytes that are sent: in memory or in a file, any range of them, as often as a request is sent again.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, Length};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::blobs::s3::Checksum;
use crate::blobs::staged::{Place, StagedFile};

/// Bytes of a file that are read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// A staged object that is complete.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<StagedFile>),
}

/// A checksum in base64, under the header that it has.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) crc32: Option<String>,
    pub(super) sha256: Option<String>,
}

impl From<Place> for Source {
    fn from(place: Place) -> Self {
        match place {
            Place::File(file) => Self::File(Arc::new(file)),
            Place::Memory(bytes) | Place::Growing(bytes, _) => Self::Memory(bytes.into()),
        }
    }
}

impl Source {
    /// The bytes of a range, which lies inside, as the body of a request.
    pub(super) async fn body(&self, range: Range<u64>) -> Result<ByteStream, BoxError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize).into()),
            Self::File(file) => {
                // By its path, so that it can be read again for another attempt.
                let body = ByteStream::read_from().path(file.path()).buffer_size(BUFFER_BYTES);
                let length = Length::Exact(range.end - range.start);
                Ok(body.offset(range.start).length(length).build().await?)
            }
        }
    }

    /// The checksum of a range, which lies inside.
    pub(super) async fn checksum(&self, kind: Checksum, range: Range<u64>) -> Result<Sum, BoxError> {
        match (self, kind) {
            // A megabyte takes a tenth of a millisecond, less than finding a thread for it.
            (Self::Memory(_), Checksum::Crc32) => Ok(self.sum(kind, range)?),
            _ => {
                let source = self.clone();
                Ok(tokio::task::spawn_blocking(move || source.sum(kind, range)).await??)
            }
        }
    }

    fn sum(&self, kind: Checksum, range: Range<u64>) -> io::Result<Sum> {
        match kind {
            Checksum::Crc32 => {
                let mut hasher = crc32fast::Hasher::new();
                self.each(range, |bytes| hasher.update(bytes))?;
                let crc32 = BASE64.encode(hasher.finalize().to_be_bytes());
                Ok(Sum { crc32: Some(crc32), sha256: None })
            }
            Checksum::Sha256 => {
                let mut hasher = Sha256::new();
                self.each(range, |bytes| hasher.update(bytes))?;
                Ok(Sum { crc32: None, sha256: Some(BASE64.encode(hasher.finalize())) })
            }
        }
    }

    /// Calls `with` on the bytes of a range, a piece at a time.
    fn each(&self, range: Range<u64>, mut with: impl FnMut(&[u8])) -> io::Result<()> {
        let file = match self {
            Self::Memory(bytes) => {
                with(&bytes[range.start as usize..range.end as usize]);
                return Ok(());
            }
            Self::File(file) => file,
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut at = range.start;
        while at < range.end {
            let length = usize::try_from(range.end - at).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            let read = file.read_at(&mut buffer[..length], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            with(&buffer[..read]);
            at += read as u64;
        }
        Ok(())
    }
}
