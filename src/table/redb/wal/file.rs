//! The file of a write-ahead log.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The operations of a log on its file. The file is created empty when it is opened.
pub(in crate::table::redb) trait LogFile: Send {
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads until `bytes` is full or the file ends; returns the number of bytes.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Flushes what was written, and the length.
    fn flush(&self) -> io::Result<()>;
    /// Flushes all of the file, and its name in the directory.
    fn flush_with_name(&self) -> io::Result<()>;
}

/// The path of the log of the table in `table`.
pub(in crate::table::redb) fn log_path(table: &Path) -> PathBuf {
    let mut path = OsString::from(table);
    path.push(".wal");
    path.into()
}

/// A log in a file.
pub(in crate::table::redb) struct DiskLog {
    file: OwnedFd,
    directory: PathBuf,
}

impl DiskLog {
    /// Opens the file, which is created if it does not exist.
    pub(in crate::table::redb) fn open(path: &Path) -> io::Result<Self> {
        // The log holds patient data: the file is for this user alone.
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::open(path, OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC, mode)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(Self { file, directory: directory.unwrap_or(Path::new(".")).to_owned() })
    }
}

impl LogFile for DiskLog {
    fn len(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.file)?.st_size.cast_unsigned())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pread(&self.file, &mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(&self.file, &bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn flush_with_name(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.file)?;
        let directory = rustix::fs::open(
            &self.directory,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(rustix::fs::fsync(directory)?)
    }
}
