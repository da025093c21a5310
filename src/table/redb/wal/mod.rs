//! The write-ahead log of a table: one file beside the engine's, whose space is written once and then used
//! again and again, so that a record is durable with one write and one flush.
//!
//! A table's file holds the id of its log as long as the log may have records that the file lacks. Each log
//! has an id of its own, also one that begins in an older log's file: a record of another log is never
//! replayed.

use std::fmt;
use std::io;

pub(super) use file::{DiskLog, LogFile, log_path};
use format::{BLOCK, finish_record, scan};
pub(super) use format::{LogDamage, begin_record};

mod file;
mod format;

/// The sizes of a log, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogSizes {
    /// The length of the file at first; it doubles when it is full.
    pub(super) initial: u64,
    /// The length at which the file does not grow further. At half of it, a checkpoint is due.
    pub(super) max: u64,
}

/// The sizes of a log in a file. Each second of many uploads fills some MiB.
pub(super) const SIZES: LogSizes = LogSizes { initial: 1 << 20, max: 32 << 20 };

/// The zeros that are written at a time when the file grows. The kernel caches as much as one unit, and goes
/// through all of a unit when a part of it is flushed.
const FILL_BYTES: u64 = 64 << 10;

/// A write-ahead log.
pub(super) struct Wal {
    file: Box<dyn LogFile>,
    sizes: LogSizes,
    /// The length of the file that is written and flushed.
    length: u64,
    /// The id; `None` while the table needs no log.
    id: Option<u128>,
    /// The position of the next record; `None` before [`Wal::restart`]: a table that was opened has to be
    /// made durable before records are overwritten.
    position: Option<u64>,
    /// Whether there are records that the table's file may lack.
    has_records: bool,
}

/// A record that could not be written.
#[derive(Debug)]
pub(super) enum AppendError {
    /// The record is not whole in the file, and never will be.
    NotWritten(io::Error),
    /// The flush failed: the record may be on the disk, or may not.
    NotFlushed(io::Error),
}

/// A log that cannot be used when its table is opened.
#[derive(Debug)]
pub(super) enum RecoverError {
    /// The log is missing or lacks a record that was acknowledged.
    Damaged(LogDamage),
    /// The file cannot be read or written.
    Io(io::Error),
}

impl Wal {
    /// Opens the log of a table whose file names log `id`, and calls `replay` with the number and the payload
    /// of each record after number `applied`, in order. All of these records are durable when this returns.
    ///
    /// # Errors
    /// [`RecoverError::Damaged`] if the log is missing or lacks a record that was acknowledged.
    pub(super) fn open(
        file: Box<dyn LogFile>,
        sizes: LogSizes,
        id: Option<u128>,
        applied: u64,
        mut replay: impl FnMut(u64, &[u8]),
    ) -> Result<Self, RecoverError> {
        let length = file.len().map_err(RecoverError::Io)? / BLOCK as u64 * BLOCK as u64;
        let mut wal = Self { file, sizes, length, id, position: None, has_records: false };
        let Some(id) = id else { return Ok(wal) };
        let bytes = wal.read_all().map_err(RecoverError::Io)?;
        let records = scan(&bytes, id, applied).map_err(RecoverError::Damaged)?;
        for record in &records {
            replay(record.number, &bytes[record.payload()]);
        }
        if let Some(last) = records.last() {
            // Only the last record may not be on the disk yet. The same bytes are written again, because the
            // system may regard bytes whose flush failed as flushed.
            let rewritten = wal.file.write_at(last.bytes.start as u64, &bytes[last.bytes.clone()]);
            rewritten.and_then(|()| wal.file.flush()).map_err(RecoverError::Io)?;
            wal.has_records = true;
        }
        Ok(wal)
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        let length = self.file.len()?.min(self.sizes.max);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let read = self.file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The id, while the table needs the log.
    pub(super) fn id(&self) -> Option<u128> {
        self.id
    }

    /// Whether records can be appended.
    pub(super) fn is_begun(&self) -> bool {
        self.position.is_some()
    }

    /// Whether there are records that the table's file may lack.
    pub(super) fn has_records(&self) -> bool {
        self.has_records
    }

    /// Whether half of the space is used.
    pub(super) fn is_half_full(&self) -> bool {
        self.position.is_some_and(|position| position >= self.sizes.max / 2)
    }

    /// Makes the file ready for a log with a fresh id, which is returned. The table's file has to hold the id
    /// before [`Wal::restart`].
    pub(super) fn prepare(&mut self) -> io::Result<u128> {
        if self.length < self.sizes.initial {
            self.grow(self.sizes.initial)?;
        }
        let id = uuid::Uuid::new_v4().as_u128();
        let mut header = begin_record();
        finish_record(id, 0, &mut header).ok_or_else(too_large)?;
        self.file.write_at(0, &header)?;
        self.file.flush()?;
        Ok(id)
    }

    /// Begins again at the start of the space: the file of the table, which names log `id`, holds all
    /// records.
    pub(super) fn restart(&mut self, id: u128) {
        self.id = Some(id);
        self.position = Some(BLOCK as u64);
        self.has_records = false;
    }

    /// Notes that the table's file does not name this log any more.
    pub(super) fn end(&mut self) {
        self.id = None;
        self.position = None;
        self.has_records = false;
    }

    /// Writes a record and flushes it. Returns its length in the file. After an error, the next record takes
    /// the same place.
    pub(super) fn append(&mut self, number: u64, mut record: Vec<u8>) -> Result<u64, AppendError> {
        let not_written = AppendError::NotWritten;
        let begun = self.id.zip(self.position);
        let (id, position) = begun.ok_or_else(|| not_written(io::Error::other("the log has not begun")))?;
        let unpadded = record.len();
        finish_record(id, number, &mut record).ok_or_else(|| not_written(too_large()))?;
        let length = record.len() as u64;
        let end = position + length;
        if end > self.sizes.max {
            return Err(not_written(too_large()));
        }
        if end > self.length {
            let doubled = self.length * 2;
            self.grow(doubled.max(end.next_power_of_two()).min(self.sizes.max)).map_err(not_written)?;
        }
        if let Err(error) = self.file.write_at(position, &record) {
            let is_whole = self.may_hold(position, &record[..unpadded]);
            return Err(if is_whole { AppendError::NotFlushed(error) } else { not_written(error) });
        }
        self.file.flush().map_err(AppendError::NotFlushed)?;
        self.position = Some(end);
        self.has_records = true;
        Ok(length)
    }

    /// Whether these bytes are at a position, or the file cannot be read.
    fn may_hold(&self, position: u64, bytes: &[u8]) -> bool {
        let mut found = vec![0; bytes.len()];
        self.file.read_at(position, &mut found).map_or(true, |_| found == bytes)
    }

    /// Fills the file with zeros up to `length`. Space that is only allocated would make each flush write the
    /// file system's own records, too.
    fn grow(&mut self, length: u64) -> io::Result<()> {
        let mut at = self.length;
        while at < length {
            let step = FILL_BYTES.min(length - at);
            self.file.write_at(at, &vec![0; step as usize])?;
            at += step;
        }
        self.file.flush_with_name()?;
        self.length = length;
        Ok(())
    }
}

fn too_large() -> io::Error {
    io::Error::other("a record is larger than the write-ahead log")
}

impl fmt::Debug for Wal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file: _, sizes, length, id, position, has_records } = self;
        let mut fields = formatter.debug_struct("Wal");
        fields.field("sizes", sizes).field("length", length).field("id", id);
        fields.field("position", position).field("has_records", has_records).finish()
    }
}

#[cfg(test)]
mod tests;
