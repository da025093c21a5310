//! An object while it is being written.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::blobs::Error;

/// The most slices of bytes in one call of the system.
const MAX_SLICES: usize = 1024;

/// An object that is being written and has no key yet: bytes in memory, or a file that is removed on drop.
#[derive(Debug)]
pub struct Staged {
    data: StagedData,
    length: u64,
}

/// The bytes of a staged object.
#[derive(Debug)]
pub(super) enum StagedData {
    File(StagedFile),
    Memory(Vec<u8>),
    /// In memory as long as it is small, then in a file, which is created with the first byte that does not
    /// fit.
    Growing(Vec<u8>, Spill),
    /// Complete, in memory, and in more than one staged object.
    Shared(Bytes),
}

/// The size at which a staged object moves from memory to a file, and that file's directory.
#[derive(Debug)]
pub(super) struct Spill {
    /// The most bytes that may be in memory.
    pub(super) max_memory_bytes: usize,
    /// The directory of the file.
    pub(super) directory: PathBuf,
}

impl Spill {
    /// Creates the file with the bytes that are in memory.
    pub(super) fn file(&self, memory: &[u8]) -> Result<StagedFile, Errno> {
        let mut file = StagedFile::create(&self.directory)?;
        file.append(&mut [IoSlice::new(memory)])?;
        Ok(file)
    }
}

impl Staged {
    /// Appends bytes. Blocks: call it on a thread that may block.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::Backend`]. A part of the bytes may then have been appended, and the
    /// object cannot be used any more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.append(&mut [IoSlice::new(bytes)], bytes.len())
    }

    /// Appends the bytes of all chunks, as [`Staged::write`] does, with few calls of the system.
    ///
    /// # Errors
    /// As [`Staged::write`].
    pub fn write_all(&mut self, chunks: &[Bytes]) -> Result<(), Error> {
        for chunks in chunks.chunks(MAX_SLICES) {
            let mut slices: Vec<_> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
            let length = chunks.iter().map(Bytes::len).sum();
            self.append(&mut slices, length)?;
        }
        Ok(())
    }

    fn append(&mut self, slices: &mut [IoSlice<'_>], length: usize) -> Result<(), Error> {
        match &mut self.data {
            StagedData::File(file) => file.append(slices).map_err(cannot_write)?,
            StagedData::Memory(memory) => slices.iter().for_each(|slice| memory.extend_from_slice(slice)),
            StagedData::Growing(memory, spill) if memory.len() + length <= spill.max_memory_bytes => {
                slices.iter().for_each(|slice| memory.extend_from_slice(slice));
            }
            StagedData::Growing(memory, spill) => {
                let mut file = spill.file(memory).map_err(cannot_write)?;
                file.append(slices).map_err(cannot_write)?;
                self.data = StagedData::File(file);
            }
            StagedData::Shared(_) => return Err(cannot_write(Errno::INVAL)),
        }
        self.length += length as u64;
        Ok(())
    }

    /// Makes a second staged object of the same bytes, if they are in memory. Both are complete: nothing can
    /// be written any more. `None` if the bytes are in a file.
    pub fn share(&mut self) -> Option<Self> {
        let bytes = match &mut self.data {
            StagedData::File(_) => return None,
            StagedData::Memory(memory) | StagedData::Growing(memory, _) => std::mem::take(memory).into(),
            StagedData::Shared(bytes) => bytes.clone(),
        };
        self.data = StagedData::Shared(Bytes::clone(&bytes));
        Some(Self { data: StagedData::Shared(bytes), length: self.length })
    }

    /// The bytes that are in memory.
    pub fn memory_bytes(&self) -> usize {
        match &self.data {
            StagedData::File(_) => 0,
            StagedData::Memory(memory) | StagedData::Growing(memory, _) => memory.len(),
            StagedData::Shared(bytes) => bytes.len(),
        }
    }

    /// Overwrites bytes that were written, from `at` on. Blocks: call it on a thread that may block.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::Backend`], also if not all of these bytes were written before.
    pub fn overwrite(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = at.checked_add(bytes.len() as u64).filter(|&end| end <= self.length);
        let end = end.ok_or_else(|| cannot_write(Errno::INVAL))?;
        match &mut self.data {
            StagedData::File(file) => file.overwrite(at, bytes).map_err(cannot_write)?,
            StagedData::Memory(memory) | StagedData::Growing(memory, _) => {
                memory[at as usize..end as usize].copy_from_slice(bytes)
            }
            StagedData::Shared(_) => return Err(cannot_write(Errno::INVAL)),
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads bytes that were written, from `offset` on, as many as fit; none at the end. Blocks, as
    /// [`Staged::write`] does.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes: &[u8] = match &self.data {
            StagedData::File(file) => return file.read_at(buffer, offset),
            StagedData::Memory(memory) | StagedData::Growing(memory, _) => memory,
            StagedData::Shared(bytes) => bytes,
        };
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    pub(super) fn new(data: StagedData) -> Self {
        Self { data, length: 0 }
    }

    pub(super) fn into_data(self) -> StagedData {
        self.data
    }
}

fn cannot_write(error: Errno) -> Error {
    Error::from_errno(error, || "write a staged object".into())
}

/// A file in a staging directory.
#[derive(Debug)]
pub(super) struct StagedFile {
    file: OwnedFd,
    path: PathBuf,
    is_released: bool,
}

impl StagedFile {
    /// Creates a file in `directory`, under a name that no other file of this process has.
    pub(super) fn create(directory: &Path) -> Result<Self, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = directory.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))?;
        Ok(Self { file, path, is_released: false })
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes; on failure a part of them may have been appended.
    pub(super) fn append(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<(), Errno> {
        // Slices without bytes are left out.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match rustix::io::writev(&self.file, slices) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn overwrite(&mut self, mut at: u64, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.file, bytes, at) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => {
                    bytes = &bytes[written..];
                    at += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads bytes from `offset` on, as many as fit; none at the end.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match rustix::io::pread(&self.file, &mut *buffer, offset) {
                Err(Errno::INTR) => {}
                outcome => return outcome.map_err(io::Error::from),
            }
        }
    }

    /// Returns the path of the file, which the caller has to remove.
    pub(super) fn into_path(mut self) -> PathBuf {
        self.is_released = true;
        std::mem::take(&mut self.path)
    }

    /// The file with another descriptor, on which operations fail.
    #[cfg(test)]
    pub(super) fn with_descriptor(mut self, file: OwnedFd) -> Self {
        self.file = file;
        self
    }

    /// Makes the bytes durable, but not the name.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        rustix::fs::fsync(&self.file)
    }

    /// Renames the file to `target`, below the directory `root`. An existing file of that name is replaced;
    /// as it may be in use, the bytes of the new file are made durable before.
    pub(super) fn rename_into_place(&mut self, root: &OwnedFd, target: &str) -> Result<(), Errno> {
        match rustix::fs::renameat_with(CWD, &self.path, root, target, RenameFlags::NOREPLACE) {
            // INVAL and NOSYS: not every file system supports the flag.
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {
                self.sync()?;
                rustix::fs::renameat(CWD, &self.path, root, target)?;
            }
            outcome => outcome?,
        }
        self.is_released = true;
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_released {
            // A file that cannot be removed now is removed when the staging directory is opened the next
            // time.
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_too_large_for_memory_moves_to_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        let spill = Spill { max_memory_bytes: 8, directory: directory.path().to_owned() };
        let mut staged = Staged::new(StagedData::Growing(Vec::new(), spill));
        staged.write(b"abcd").unwrap();
        staged.overwrite(1, b"B").unwrap();
        staged.write(b"efgh").unwrap();
        assert_eq!(files(), 0, "all bytes that may be in memory are there");
        staged.write(b"i").unwrap();
        assert_eq!(files(), 1);
        staged.overwrite(7, b"HI").unwrap();
        staged.write(b"j").unwrap();
        staged.write_all(&[Bytes::new(), Bytes::from("kl"), Bytes::new(), Bytes::from("m")]).unwrap();
        staged.write_all(&[]).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(staged.read_at(&mut buffer, 0).unwrap(), 13);
        assert_eq!((&buffer[..13], staged.length()), (&b"aBcdefgHIjklm"[..], 13));
        drop(staged);
        assert_eq!(files(), 0, "the file is removed with its owner");
    }

    #[test]
    fn many_chunks_are_written_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let chunks: Vec<_> = (0..3 * MAX_SLICES).map(|at| Bytes::from(vec![at as u8; at % 5])).collect();
        let expected = chunks.concat();
        for max_memory_bytes in [0, 100, usize::MAX] {
            let spill = Spill { max_memory_bytes, directory: directory.path().to_owned() };
            let mut staged = Staged::new(StagedData::Growing(Vec::new(), spill));
            staged.write_all(&chunks).unwrap();
            assert_eq!(staged.length(), expected.len() as u64);
            let mut read = vec![0; expected.len() + 1];
            assert_eq!(staged.read_at(&mut read, 0).unwrap(), expected.len());
            assert!(read[..expected.len()] == expected, "{max_memory_bytes}");
        }
    }

    #[test]
    fn bytes_in_memory_can_be_shared_and_are_complete_then() {
        let directory = tempfile::tempdir().unwrap();
        let staged = |max_memory_bytes| {
            let spill = Spill { max_memory_bytes, directory: directory.path().to_owned() };
            let mut staged = Staged::new(StagedData::Growing(Vec::new(), spill));
            staged.write(b"abcde").unwrap();
            staged
        };
        assert!(staged(4).share().is_none(), "a file");
        let mut first = staged(5);
        for mut second in [first.share().unwrap(), first.share().unwrap()] {
            let mut buffer = [0; 8];
            assert_eq!(second.read_at(&mut buffer, 1).unwrap(), 4);
            assert_eq!((&buffer[..4], second.length(), second.memory_bytes()), (&b"bcde"[..], 5, 5));
            assert!(second.write(b"f").is_err() && second.overwrite(0, b"A").is_err());
            assert_eq!(second.length(), 5);
        }
    }

    #[test]
    fn a_full_disk_is_an_error_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = rustix::fs::open("/dev/full", OFlags::RDWR, Mode::empty()).unwrap();
        let file = StagedFile { file, path: directory.path().join("none"), is_released: false };
        let mut staged = Staged::new(StagedData::File(file));
        assert!(matches!(staged.write(b"x"), Err(Error::NoSpace { .. })));
        assert!(matches!(staged.write_all(&[Bytes::from("x")]), Err(Error::NoSpace { .. })));
        assert_eq!(staged.length(), 0);
    }
}
