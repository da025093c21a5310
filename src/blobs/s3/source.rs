//! The bytes of a put, in memory or in a file: any range of them, for every attempt at a request.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, Length};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::blobs::staged::{StagedData, StagedFile};
use crate::config::Checksum;

/// The size of the buffer for reads of a file.
const BUFFER_BYTES: usize = 256 * 1024;

/// The bytes of a staged object that is complete.
#[derive(Debug, Clone)]
pub(super) enum StagedSource {
    Memory(Bytes),
    File(Arc<StagedFile>),
}

/// The checksum of a range in base64, in the field of its header.
#[derive(Debug, Default)]
pub(super) struct ChecksumHeaders {
    pub(super) crc32: Option<String>,
    pub(super) sha256: Option<String>,
}

impl From<StagedData> for StagedSource {
    fn from(place: StagedData) -> Self {
        match place {
            StagedData::File(file) => Self::File(Arc::new(file)),
            StagedData::Memory(bytes) | StagedData::Growing(bytes, _) => Self::Memory(bytes.into()),
            StagedData::Shared(bytes) => Self::Memory(bytes),
        }
    }
}

impl StagedSource {
    /// The bytes of a range, which must lie inside the object, as the body of a request.
    pub(super) async fn body(&self, range: Range<u64>) -> Result<ByteStream, BoxError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize).into()),
            Self::File(file) => {
                // By its path, so that the SDK can read it again for another attempt.
                let body = ByteStream::read_from().path(file.path()).buffer_size(BUFFER_BYTES);
                let length = Length::Exact(range.end - range.start);
                Ok(body.offset(range.start).length(length).build().await?)
            }
        }
    }

    /// The checksum of a range, which must lie inside the object.
    pub(super) async fn checksum(
        &self,
        kind: Checksum,
        range: Range<u64>,
    ) -> Result<ChecksumHeaders, BoxError> {
        match (self, kind) {
            // A megabyte takes a tenth of a millisecond, less than the way to another thread.
            (Self::Memory(_), Checksum::Crc32) => Ok(self.sum(kind, range)?),
            _ => {
                let source = self.clone();
                Ok(tokio::task::spawn_blocking(move || source.sum(kind, range)).await??)
            }
        }
    }

    fn sum(&self, kind: Checksum, range: Range<u64>) -> io::Result<ChecksumHeaders> {
        match kind {
            Checksum::Crc32 => {
                let mut hasher = crc32fast::Hasher::new();
                self.each(range, |bytes| hasher.update(bytes))?;
                let crc32 = BASE64.encode(hasher.finalize().to_be_bytes());
                Ok(ChecksumHeaders { crc32: Some(crc32), sha256: None })
            }
            Checksum::Sha256 => {
                let mut hasher = Sha256::new();
                self.each(range, |bytes| hasher.update(bytes))?;
                Ok(ChecksumHeaders { crc32: None, sha256: Some(BASE64.encode(hasher.finalize())) })
            }
        }
    }

    /// Calls `with` on the bytes of a range, one buffer after the other.
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
