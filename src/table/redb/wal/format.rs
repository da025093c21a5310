//! The format of the write-ahead log: a header block, then records, each at the beginning of a block.
//!
//! A record is `magic` (8 bytes), the id of the log (16), the record's number (8), the length of the payload
//! (4), the CRC-32 of all other bytes of the record (4), and the payload. Zeros fill the last block. The
//! header block is a record with number 0 and no payload. Numbers are little-endian.
//!
//! Records follow each other with consecutive numbers. After a checkpoint they begin again behind the header,
//! over older ones, which have lower numbers.

use std::ops::Range;

/// The size of a block. A write of a record never changes a block of another record, so that a write that is
/// cut off damages nothing that was written before.
pub(super) const BLOCK: usize = 4096;

/// The bytes of a record before its payload.
pub(super) const HEADER: usize = 40;

const MAGIC: [u8; 8] = *b"cuspwal1";
const CRC_AT: usize = 36;

/// A log that cannot be replayed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::table::redb) enum LogDamage {
    /// The file is missing, empty, or belongs to another table.
    #[error("it is missing, or belongs to another index")]
    OtherLog,
    /// A record is not there, though later ones are: it was acknowledged.
    #[error("record {expected} is damaged or missing, and record {found} is there")]
    MissingRecord { expected: u64, found: u64 },
}

/// A record within the bytes of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    /// The whole record, without the zeros behind it.
    pub(super) bytes: Range<usize>,
}

impl Record {
    /// The position of the payload.
    pub(super) fn payload(&self) -> Range<usize> {
        self.bytes.start + HEADER..self.bytes.end
    }
}

/// Begins a record: space for the header, to which the payload is appended.
pub(in crate::table::redb) fn begin_record() -> Vec<u8> {
    vec![0; HEADER]
}

/// Writes the header of a record that has its payload, and fills its last block with zeros. `None` if the
/// payload is longer than 4 GiB.
pub(super) fn finish_record(id: u128, number: u64, record: &mut Vec<u8>) -> Option<()> {
    let length = u32::try_from(record.len() - HEADER).ok()?;
    record[..8].copy_from_slice(&MAGIC);
    record[8..24].copy_from_slice(&id.to_le_bytes());
    record[24..32].copy_from_slice(&number.to_le_bytes());
    record[32..CRC_AT].copy_from_slice(&length.to_le_bytes());
    let crc = crc(record);
    record[CRC_AT..HEADER].copy_from_slice(&crc.to_le_bytes());
    record.resize(record.len().next_multiple_of(BLOCK), 0);
    Some(())
}

fn crc(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..CRC_AT]);
    hasher.update(&record[HEADER..]);
    hasher.finalize()
}

/// The record of log `id` that begins at `at`; `None` if there is no whole record.
fn record_at(bytes: &[u8], at: usize, id: u128) -> Option<Record> {
    let rest = bytes.get(at..)?;
    let header = rest.get(..HEADER)?;
    let log = u128::from_le_bytes(*header[8..].first_chunk()?);
    if header[..8] != MAGIC || log != id {
        return None;
    }
    let number = u64::from_le_bytes(*header[24..].first_chunk()?);
    let length = u32::from_le_bytes(*header[32..].first_chunk()?) as usize;
    let stored = u32::from_le_bytes(*header[CRC_AT..].first_chunk()?);
    let record = rest.get(..HEADER.checked_add(length)?)?;
    (crc(record) == stored).then(|| Record { number, bytes: at..at + record.len() })
}

/// Finds the records of log `id` that follow number `applied`, in order.
///
/// A record is written only when the one before is on the disk. So the first record that is not whole is the
/// end, unless a whole record with a higher number lies behind it.
///
/// # Errors
/// [`LogDamage`] if the log is another one, or a record that was acknowledged is not whole.
pub(super) fn scan(bytes: &[u8], id: u128, applied: u64) -> Result<Vec<Record>, LogDamage> {
    if record_at(bytes, 0, id).is_none_or(|header| header.number != 0) {
        return Err(LogDamage::OtherLog);
    }
    let mut records: Vec<Record> = Vec::new();
    let mut at = BLOCK;
    while let Some(record) = record_at(bytes, at, id) {
        match records.last() {
            Some(last) if record.number != last.number + 1 => break,
            None if record.number > applied.saturating_add(1) => {
                return Err(LogDamage::MissingRecord { expected: applied + 1, found: record.number });
            }
            _ => {}
        }
        at = record.bytes.end.next_multiple_of(BLOCK);
        records.push(record);
    }
    let last = records.last().map_or(applied, |record| record.number.max(applied));
    while at < bytes.len() {
        let later = record_at(bytes, at, id).filter(|record| record.number > last);
        if let Some(record) = later {
            return Err(LogDamage::MissingRecord { expected: last + 1, found: record.number });
        }
        at += BLOCK;
    }
    records.retain(|record| record.number > applied);
    Ok(records)
}
