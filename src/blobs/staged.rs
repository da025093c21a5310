//! An object while it is being written.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// An object that is being written and that nobody can see: bytes in memory, or a file that is removed when this is dropped.
#[derive(Debug)]
pub struct Staged {
    place: Place,
    length: u64,
}

/// Where a staged object's bytes are.
#[derive(Debug)]
pub(super) enum Place {
    File(StagedFile),
    Memory(Vec<u8>),
    /// In memory as long as it is small, then in a file.
    Growing(Vec<u8>, Spill),
}

/// When a staged object moves from memory to a file, and where to.
#[derive(Debug)]
pub(super) struct Spill {
    /// Bytes that may be in memory.
    pub(super) max_memory_bytes: usize,
    /// The directory of the file.
    pub(super) directory: PathBuf,
}

impl Staged {
    /// Appends bytes. Blocks: call it on a thread that may.
    ///
    /// # Errors
    /// As the file system says, [`io::ErrorKind::StorageFull`] among them; a part of the bytes may then have
    /// been appended, and the object is of no more use.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.place {
            Place::File(file) => file.append(bytes)?,
            Place::Memory(memory) => memory.extend_from_slice(bytes),
            Place::Growing(memory, spill) if memory.len() + bytes.len() <= spill.max_memory_bytes => {
                memory.extend_from_slice(bytes);
            }
            Place::Growing(memory, spill) => {
                let mut file = StagedFile::create(&spill.directory)?;
                file.append(memory)?;
                file.append(bytes)?;
                self.place = Place::File(file);
            }
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Puts other bytes in the place of some that were written, from `at` on. Blocks: call it on a thread that may.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if these were not all written before; else as the file system says.
    pub fn overwrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = at.checked_add(bytes.len() as u64).filter(|&end| end <= self.length);
        let end = end.ok_or(io::ErrorKind::InvalidInput)?;
        match &mut self.place {
            Place::File(file) => file.overwrite(at, bytes)?,
            Place::Memory(memory) | Place::Growing(memory, _) => {
                memory[at as usize..end as usize].copy_from_slice(bytes)
            }
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads bytes that were written, from `offset` on, as many as fit; none at the end. Blocks, as [`Staged::write`] does.
    ///
    /// # Errors
    /// As the file system says.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.place {
            Place::File(file) => file.read_at(buffer, offset),
            Place::Memory(memory) | Place::Growing(memory, _) => {
                let rest =
                    usize::try_from(offset).ok().and_then(|offset| memory.get(offset..)).unwrap_or_default();
                let read = rest.len().min(buffer.len());
                buffer[..read].copy_from_slice(&rest[..read]);
                Ok(read)
            }
        }
    }

    pub(super) fn new(place: Place) -> Self {
        Self { place, length: 0 }
    }

    pub(super) fn into_place(self) -> Place {
        self.place
    }
}

/// A file in a staging directory.
#[derive(Debug)]
pub(super) struct StagedFile {
    file: OwnedFd,
    path: PathBuf,
    is_kept: bool,
}

impl StagedFile {
    /// Creates a file in `directory`, under a name that no other of this process has.
    pub(super) fn create(directory: &Path) -> Result<Self, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = directory.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o640))?;
        Ok(Self { file, path, is_kept: false })
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes; a part of them may have been appended when it fails.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.file, bytes) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => bytes = &bytes[written..],
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

    /// Leaves the file where it is: who has its path removes it.
    pub(super) fn into_path(mut self) -> PathBuf {
        self.is_kept = true;
        std::mem::take(&mut self.path)
    }

    /// Makes the bytes durable, not the name.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        rustix::fs::fsync(&self.file)
    }

    /// Renames the file to `target`, below the directory `root`. If that name is taken, it takes the place of
    /// what has it, and is made durable before: what is there may be in use.
    pub(super) fn take_name(&mut self, root: &OwnedFd, target: &str) -> Result<(), Errno> {
        match rustix::fs::renameat_with(CWD, &self.path, root, target, RenameFlags::NOREPLACE) {
            // Not every file system can tell.
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {
                self.sync()?;
                rustix::fs::renameat(CWD, &self.path, root, target)?;
            }
            outcome => outcome?,
        }
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed is removed when the staging directory is opened the next time.
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_too_large_for_memory_goes_on_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        let spill = Spill { max_memory_bytes: 8, directory: directory.path().to_owned() };
        let mut staged = Staged::new(Place::Growing(Vec::new(), spill));
        staged.write(b"abcd").unwrap();
        staged.overwrite(1, b"B").unwrap();
        staged.write(b"efgh").unwrap();
        assert_eq!(files(), 0, "as much as may be in memory is");
        staged.write(b"i").unwrap();
        assert_eq!(files(), 1);
        staged.overwrite(7, b"HI").unwrap();
        staged.write(b"j").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(staged.read_at(&mut buffer, 0).unwrap(), 10);
        assert_eq!((&buffer[..10], staged.length()), (&b"aBcdefgHIj"[..], 10));
        drop(staged);
        assert_eq!(files(), 0, "it is removed with its owner");
    }
}
