//! Reads of ranges of objects, without another thread as long as the bytes are in the page cache.

use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::blobs::fs::{Root, blocking, path_of};
use crate::blobs::{ByteStream, CHUNK_BYTES, Error, Key};

/// The most buffers that are held for reuse.
const MAX_BUFFERS: usize = 64;

/// An object's file.
pub(in crate::blobs) struct OpenFile {
    pub(in crate::blobs) file: OwnedFd,
    pub(in crate::blobs) size_bytes: u64,
}

/// Opens an object.
///
/// The first attempt uses only what the kernel has in memory, which takes microseconds; if that is not
/// enough, the second attempt runs on a thread that may block.
pub(super) async fn open(root: &Arc<Root>, key: &Key) -> Result<OpenFile, Error> {
    let path = path_of(key)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
    let opened = match rustix::fs::openat2(&root.directory, &path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(file),
        Err(Errno::NOENT) => Err(Errno::NOENT),
        // The path is not in memory, or the kernel or a sandbox does not offer the call.
        Err(_) => {
            let root = Arc::clone(root);
            blocking(move || rustix::fs::openat(&root.directory, &path, flags, Mode::empty())).await?
        }
    };
    let status = opened.and_then(|file| rustix::fs::fstat(&file).map(|status| (file, status)));
    match status {
        Ok((file, status)) if FileType::from_raw_mode(status.st_mode).is_file() => {
            Ok(OpenFile { file, size_bytes: u64::try_from(status.st_size).unwrap_or(0) })
        }
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(Error::NotFound(key.clone())),
        Err(error) => Err(Error::from_errno(error, || format!("read {key}"))),
    }
}

/// The bytes of `range`, which lies inside the object.
pub(in crate::blobs) fn stream(
    file: OpenFile,
    key: Key,
    range: Range<u64>,
    buffers: Arc<Buffers>,
) -> ByteStream {
    let reader = FileReader { file: Arc::new(file.file), key, range, buffers };
    stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        if chunk.is_err() {
            reader.range.start = reader.range.end;
        }
        Some((chunk, reader))
    })
    .boxed()
}

struct FileReader {
    file: Arc<OwnedFd>,
    key: Key,
    /// The range that is left to read.
    range: Range<u64>,
    buffers: Arc<Buffers>,
}

impl FileReader {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let left = self.range.end.saturating_sub(self.range.start);
        if left == 0 {
            return None;
        }
        let length = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        Some(self.chunk(length).await)
    }

    async fn chunk(&mut self, length: usize) -> Result<Bytes, Error> {
        let mut buffer = Buffer::take(&self.buffers, length);
        let offset = self.range.start;
        let at_once = rustix::io::preadv2(
            &*self.file,
            &mut [IoSliceMut::new(&mut buffer.memory[..length])],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        let outcome = match at_once {
            Ok(read) if read > 0 => Ok(read),
            // The bytes are not in memory, or the file system does not support the flag.
            _ => {
                let file = Arc::clone(&self.file);
                let (filled, outcome) = blocking(move || {
                    let outcome = rustix::io::retry_on_intr(|| {
                        rustix::io::pread(&*file, &mut buffer.memory[..length], offset)
                    });
                    (buffer, outcome)
                })
                .await?;
                buffer = filled;
                outcome
            }
        };
        match outcome {
            Ok(0) => Err(Error::from_errno(Errno::IO, || format!("read {}: it was cut short", self.key))),
            Ok(read) => {
                self.range.start += read as u64;
                buffer.length = read;
                Ok(Bytes::from_owner(buffer))
            }
            Err(error) => Err(Error::from_errno(error, || format!("read {}", self.key))),
        }
    }
}

/// Buffers of [`CHUNK_BYTES`] for reuse.
#[derive(Debug, Default)]
pub(in crate::blobs) struct Buffers {
    free: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer, which returns to its pool when its bytes are no longer used.
struct Buffer {
    memory: Box<[u8]>,
    length: usize,
    pool: Arc<Buffers>,
}

impl Buffer {
    /// A buffer of at least `length` bytes. A small one is allocated, and not taken from the pool, because
    /// its bytes may be held for long.
    fn take(pool: &Arc<Buffers>, length: usize) -> Self {
        let is_small = length <= CHUNK_BYTES / 8;
        let free =
            if is_small { None } else { pool.free.lock().unwrap_or_else(PoisonError::into_inner).pop() };
        let size = if is_small { length } else { CHUNK_BYTES };
        let memory = free.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Self { memory, length: 0, pool: Arc::clone(pool) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.memory.len() < CHUNK_BYTES {
            return;
        }
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MAX_BUFFERS {
            free.push(std::mem::take(&mut self.memory));
        }
    }
}
