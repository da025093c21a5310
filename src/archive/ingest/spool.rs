//! Spools: bytes of a request that are needed in another order than they arrive in. They are on disk until
//! the request ends, never in memory.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use anyhow::anyhow;
use bytes::Bytes;
use tracing::error;

use crate::archive::ingest::Refusal;
use crate::archive::{Archive, run_blocking};
use crate::blobs;
use crate::blobs::Staged;

/// Bytes that are collected before a blocking thread writes them.
const BATCH_BYTES: usize = 128 * 1024;
/// Bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// A spool that grows. Dropping a spool deletes its file.
pub struct Spool {
    state: SpoolState,
    batch: Vec<Bytes>,
    batch_bytes: usize,
    length: u64,
}

enum SpoolState {
    Good(Staged),
    /// A write failed: whether there was no space left.
    Failed {
        has_no_space: bool,
    },
}

/// A spool that is complete. Copies are of the same bytes.
#[derive(Clone)]
pub struct Spooled {
    staged: Option<Arc<Staged>>,
    has_no_space: bool,
    length: u64,
}

impl Archive {
    /// Opens a spool.
    pub async fn spool(&self) -> Spool {
        let state = match self.blobs.stage().await {
            Ok(staged) => SpoolState::Good(staged),
            Err(blobs::Error::NoSpace { .. }) => SpoolState::Failed { has_no_space: true },
            Err(error) => failed(&anyhow::Error::new(error)),
        };
        Spool { state, batch: Vec::new(), batch_bytes: 0, length: 0 }
    }
}

impl Spool {
    /// Appends bytes. After a failure they are discarded, and [`Spooled::refusal`] has the reason.
    pub async fn write(&mut self, bytes: Bytes) {
        self.length += bytes.len() as u64;
        self.batch_bytes += bytes.len();
        self.batch.push(bytes);
        if self.batch_bytes >= BATCH_BYTES {
            self.flush().await;
        }
    }

    /// The number of bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Ends the spool.
    pub async fn finish(mut self) -> Spooled {
        self.flush().await;
        let length = self.length;
        match self.state {
            SpoolState::Good(staged) => {
                Spooled { staged: Some(Arc::new(staged)), has_no_space: false, length }
            }
            SpoolState::Failed { has_no_space } => Spooled { staged: None, has_no_space, length },
        }
    }

    async fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let state = std::mem::replace(&mut self.state, SpoolState::Failed { has_no_space: false });
        let SpoolState::Good(mut staged) = state else {
            self.state = state;
            return;
        };
        let written = run_blocking(None, move || {
            batch.iter().try_for_each(|bytes| staged.write(bytes))?;
            Ok::<_, blobs::Error>(staged)
        });
        self.state = match written.await {
            Ok(Ok(staged)) => SpoolState::Good(staged),
            Ok(Err(blobs::Error::NoSpace { .. })) => SpoolState::Failed { has_no_space: true },
            Ok(Err(error)) => failed(&error.into()),
            Err(_) => SpoolState::Failed { has_no_space: false },
        };
    }
}

fn failed(error: &anyhow::Error) -> SpoolState {
    error!(error = format!("{error:#}"), "cannot spool a request");
    SpoolState::Failed { has_no_space: false }
}

impl Spooled {
    /// The number of bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The reason why the bytes are not there, if they are not.
    pub fn refusal(&self) -> Option<Refusal> {
        match (&self.staged, self.has_no_space) {
            (Some(_), _) => None,
            (None, true) => Some(Refusal::NoSpace),
            (None, false) => Some(Refusal::Failed(anyhow!("the request could not be spooled"))),
        }
    }

    /// Reads as many bytes from `offset` on as fit into `buffer`; none at the end. Blocks.
    ///
    /// # Errors
    /// As the file system says, or if the bytes are not there.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.staged.as_ref().ok_or(io::ErrorKind::NotFound)?.read_at(buffer, offset)
    }

    /// The next bytes of a range, which becomes shorter by them; `None` at its end.
    ///
    /// # Errors
    /// As the file system says, or if the bytes end before the range does.
    pub async fn next(&self, range: &mut Range<u64>) -> Result<Option<Bytes>, Refusal> {
        if range.is_empty() {
            return Ok(None);
        }
        let (spooled, offset) = (self.clone(), range.start);
        let wanted = (range.end - range.start).min(READ_BYTES as u64) as usize;
        let read = run_blocking(None, move || {
            let mut buffer = vec![0; wanted];
            let read = spooled.read_at(&mut buffer, offset)?;
            buffer.truncate(read);
            Ok::<_, io::Error>(buffer)
        });
        let bytes = read.await??;
        if bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        range.start += bytes.len() as u64;
        Ok(Some(bytes.into()))
    }
}
