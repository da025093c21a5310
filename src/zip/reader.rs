//! Reads zip archives by their central directory, within limits (APPNOTE.TXT 6.3 §4.3).
//!
//! Names of entries are used in messages only: no entry becomes a file. Memory does not depend on what an
//! archive claims: the directory is read twice, an entry at a time.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use crc32fast::Hasher;
use flate2::read::DeflateDecoder;
use memchr::memmem;

/// Limits on one archive.
#[derive(Debug, Clone)]
pub struct ZipLimits {
    /// Entries, folders included (`ingest.max_parts`).
    pub max_entries: u64,
    /// Bytes of all entries when unpacked (`ingest.max_request_bytes`).
    pub max_bytes: u64,
}

/// The reason why an archive, or an entry of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no end of a central directory.
    #[error("not a zip archive, or one that ends too early: it has no central directory")]
    NoDirectory,
    /// The central directory contradicts itself.
    #[error("the central directory of the zip archive is damaged")]
    Directory,
    /// The archive is one of several volumes.
    #[error("a zip archive in several volumes")]
    Volumes,
    /// The limit `max_entries`.
    #[error("the zip archive has more than {0} entries (ingest.max_parts)")]
    TooManyEntries(u64),
    /// Entries share bytes, as those of zip bombs do.
    #[error("entries of the zip archive overlap")]
    Overlap,
    /// The limit `max_bytes`.
    #[error("the zip archive holds more than {0} bytes (ingest.max_request_bytes)")]
    TooLarge(u64),
    /// An entry that is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// An entry that is compressed by another method than deflate.
    #[error("it is compressed by method {0}; stored and deflated entries can be read")]
    Method(u16),
    /// An entry whose bytes are not those that were packed.
    #[error("it is damaged: its length or checksum is not what the directory says")]
    Damaged,
    /// The archive cannot be read.
    #[error("the zip archive cannot be read")]
    Io(#[from] io::Error),
}

/// An entry of the central directory.
#[derive(Debug)]
struct ZipEntry {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    packed_bytes: u64,
    bytes: u64,
    header_offset: u64,
}

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL_ENTRY: &[u8] = b"PK\x03\x04";
const END_BYTES: u64 = 22;
const ENTRY_BYTES: usize = 46;
const LOCAL_ENTRY_BYTES: u64 = 30;
const MAX_COMMENT_BYTES: u64 = 65_535;
/// The maximum number of characters of an entry's name in a message.
const MAX_NAME_CHARACTERS: usize = 200;

/// The receiver of entries: gets the name of each, and its bytes or the error.
pub type EntrySink<'a> = dyn FnMut(&str, Result<&mut dyn Read, Error>) -> io::Result<()> + 'a;

/// Calls `take` for every entry that is not a folder, with its name and its bytes or the error. The bytes end
/// with an error, which holds an [`Error`], if their length or checksum is wrong.
///
/// # Errors
/// The fault of the archive as a whole, or the error of `take`; entries before it were passed to `take`.
pub fn unpack<R: Read + Seek>(
    mut archive: R,
    limits: &ZipLimits,
    take: &mut EntrySink<'_>,
) -> Result<(), Error> {
    let directory = CentralDirectory::find(&mut archive)?;
    if directory.entries > limits.max_entries {
        return Err(Error::TooManyEntries(limits.max_entries));
    }
    directory.check_places(&mut archive)?;
    let mut left = limits.max_bytes;
    let mut at = directory.place.start;
    for _ in 0..directory.entries {
        let (entry, next) = read_entry(&mut archive, at)?;
        at = next;
        if entry.name.ends_with(['/', '\\']) && entry.bytes == 0 {
            continue;
        }
        left = left.checked_sub(entry.bytes).ok_or(Error::TooLarge(limits.max_bytes))?;
        match open(&mut archive, &entry, directory.shift) {
            Ok(mut content) => take(&entry.name, Ok(&mut content))?,
            Err(error @ Error::Io(_)) => return Err(error),
            Err(error) => take(&entry.name, Err(error))?,
        }
    }
    Ok(())
}

/// The place of the central directory.
struct CentralDirectory {
    place: Range<u64>,
    entries: u64,
    /// Bytes before the archive that its offsets do not count, as of a self-extracting one.
    shift: u64,
}

impl CentralDirectory {
    fn find(archive: &mut (impl Read + Seek)) -> Result<Self, Error> {
        let size = archive.seek(SeekFrom::End(0))?;
        let tail_start = size.saturating_sub(END_BYTES + MAX_COMMENT_BYTES + 20);
        let tail = read_at(archive, tail_start, (size - tail_start) as usize)?;
        let at = memmem::rfind(&tail, END).ok_or(Error::NoDirectory)?;
        let end = tail.get(at..at + END_BYTES as usize).ok_or(Error::NoDirectory)?;
        if u16_at(end, 4) != 0 && u16_at(end, 4) != u16::MAX {
            return Err(Error::Volumes);
        }
        let (mut entries, mut bytes, mut offset) =
            (u64::from(u16_at(end, 10)), u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        let mut directory_end = tail_start + at as u64;
        let locator = at.checked_sub(20).map(|start| &tail[start..at]);
        if let Some(locator) = locator.filter(|locator| locator.starts_with(END_64_LOCATOR)) {
            directory_end = u64_at(locator, 8);
            let end = read_at(archive, directory_end, 56)?;
            if !end.starts_with(END_64) {
                return Err(Error::Directory);
            }
            (entries, bytes, offset) = (u64_at(&end, 32), u64_at(&end, 40), u64_at(&end, 48));
        }
        let start = directory_end.checked_sub(bytes).ok_or(Error::Directory)?;
        let shift = start.checked_sub(offset).ok_or(Error::Directory)?;
        // An entry has no fewer bytes, whatever is claimed.
        if entries > bytes / ENTRY_BYTES as u64 {
            return Err(Error::Directory);
        }
        Ok(Self { place: start..directory_end, entries, shift })
    }

    /// Refuses archives whose entries share bytes: a small archive could hold endless data.
    fn check_places(&self, archive: &mut (impl Read + Seek)) -> Result<(), Error> {
        let mut places = Vec::new();
        let mut at = self.place.start;
        for _ in 0..self.entries {
            let (entry, next) = read_entry(archive, at)?;
            at = next;
            let start = entry.header_offset.saturating_add(self.shift);
            places.push((start, start.saturating_add(LOCAL_ENTRY_BYTES).saturating_add(entry.packed_bytes)));
        }
        if at > self.place.end {
            return Err(Error::Directory);
        }
        places.push((self.place.start, self.place.end));
        places.sort_unstable();
        match places.windows(2).all(|pair| pair[0].1 <= pair[1].0) {
            true => Ok(()),
            false => Err(Error::Overlap),
        }
    }
}

/// Reads the entry of the central directory at an offset. The second result is the offset of the next entry.
fn read_entry(archive: &mut (impl Read + Seek), at: u64) -> Result<(ZipEntry, u64), Error> {
    let head = read_at(archive, at, ENTRY_BYTES)?;
    if !head.starts_with(ENTRY) {
        return Err(Error::Directory);
    }
    let (name, extra, comment) = (u16_at(&head, 28), u16_at(&head, 30), u16_at(&head, 32));
    let rest = read_at(archive, at + ENTRY_BYTES as u64, usize::from(name) + usize::from(extra))?;
    let (name, extra) = rest.split_at(name.into());
    let mut entry = ZipEntry {
        name: String::from_utf8_lossy(name).chars().take(MAX_NAME_CHARACTERS).collect(),
        flags: u16_at(&head, 8),
        method: u16_at(&head, 10),
        crc: u32_at(&head, 16),
        packed_bytes: u32_at(&head, 20).into(),
        bytes: u32_at(&head, 24).into(),
        header_offset: u32_at(&head, 42).into(),
    };
    // Sizes of 4 GiB and more are in an extra field, one after the other (§4.5.3).
    let mut wide = extra_field(extra, 1).unwrap_or_default().chunks_exact(8);
    for number in [&mut entry.bytes, &mut entry.packed_bytes, &mut entry.header_offset] {
        if *number == u64::from(u32::MAX) {
            *number = wide.next().map(|bytes| u64_at(bytes, 0)).ok_or(Error::Directory)?;
        }
    }
    Ok((entry, at + (ENTRY_BYTES + rest.len()) as u64 + u64::from(comment)))
}

fn extra_field(mut fields: &[u8], id: u16) -> Option<&[u8]> {
    while fields.len() >= 4 {
        let value = fields.get(4..4 + usize::from(u16_at(fields, 2)))?;
        if u16_at(fields, 0) == id {
            return Some(value);
        }
        fields = &fields[4 + value.len()..];
    }
    None
}

fn open<'a, R: Read + Seek>(
    archive: &'a mut R,
    entry: &ZipEntry,
    shift: u64,
) -> Result<EntryContent<Box<dyn Read + 'a>>, Error> {
    if entry.flags & 1 != 0 {
        return Err(Error::Encrypted);
    }
    let at = entry.header_offset.checked_add(shift).ok_or(Error::Directory)?;
    let local = read_at(archive, at, LOCAL_ENTRY_BYTES as usize)?;
    if !local.starts_with(LOCAL_ENTRY) {
        return Err(Error::Damaged);
    }
    let before = LOCAL_ENTRY_BYTES + u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
    archive.seek(SeekFrom::Start(at.saturating_add(before)))?;
    let packed = archive.take(entry.packed_bytes);
    let unpacked: Box<dyn Read + 'a> = match entry.method {
        0 => Box::new(packed),
        8 => Box::new(DeflateDecoder::new(BufReader::new(packed))),
        other => return Err(Error::Method(other)),
    };
    Ok(EntryContent { unpacked, left: entry.bytes, crc: entry.crc, hasher: Hasher::new() })
}

/// The bytes of an entry, checked against the length in the directory.
struct EntryContent<R> {
    unpacked: R,
    left: u64,
    crc: u32,
    hasher: Hasher,
}

impl<R: Read> Read for EntryContent<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, Error::Damaged);
        let read = self.unpacked.read(buffer).map_err(damaged)?;
        self.hasher.update(&buffer[..read]);
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| damaged(io::ErrorKind::InvalidData.into()))?;
        if read == 0 && (self.left > 0 || self.hasher.clone().finalize() != self.crc) {
            return Err(damaged(io::ErrorKind::InvalidData.into()));
        }
        Ok(read)
    }
}

fn read_at(archive: &mut (impl Read + Seek), at: u64, length: usize) -> Result<Vec<u8>, Error> {
    archive.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; length];
    match archive.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Directory),
        outcome => Ok(outcome.map(|()| bytes)?),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    const LIMITS: ZipLimits = ZipLimits { max_entries: 100, max_bytes: 1_000_000 };

    fn zip(entries: &[(&str, &[u8], CompressionMethod)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes, method) in entries {
            writer.start_file(*name, SimpleFileOptions::default().compression_method(*method)).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    type Entries = Vec<(String, Result<Vec<u8>, String>)>;

    /// The entries with their bytes or errors, and how reading ended.
    fn unpacked(archive: &[u8], limits: &ZipLimits) -> (Entries, Option<String>) {
        let mut entries = Vec::new();
        let end = unpack(Cursor::new(archive), limits, &mut |name, content| {
            let mut bytes = Vec::new();
            let content = match content {
                Ok(content) => {
                    content.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            entries.push((name.to_owned(), content));
            Ok(())
        });
        (entries, end.err().map(|error| error.to_string()))
    }

    #[test]
    fn stored_and_deflated_entries_come_out_as_they_went_in() {
        let long = b"abc".repeat(50_000);
        let archive = zip(&[
            ("a", b"one", CompressionMethod::Stored),
            ("folder/", b"", CompressionMethod::Stored),
            ("folder/../../b", &long, CompressionMethod::Deflated),
            ("empty", b"", CompressionMethod::Stored),
        ]);
        let expected = vec![
            ("a".to_owned(), Ok(b"one".to_vec())),
            ("folder/../../b".to_owned(), Ok(long)),
            ("empty".to_owned(), Ok(vec![])),
        ];
        assert_eq!(unpacked(&archive, &LIMITS), (expected.clone(), None));
        let with_stub = [b"#!/bin/sh".as_slice(), &archive].concat();
        assert_eq!(unpacked(&with_stub, &LIMITS), (expected, None));
    }

    #[test]
    fn a_damaged_entry_hides_no_other() {
        let mut archive = zip(&[
            ("a", b"one-one", CompressionMethod::Stored),
            ("b", b"two", CompressionMethod::Stored),
            ("c", b"three", CompressionMethod::Stored),
        ]);
        let at = memmem::find(&archive, b"one-one").unwrap();
        archive[at] = b'O';
        // The flag in the directory says that the second is encrypted, the method of the third is unknown.
        let entries: Vec<_> = memmem::find_iter(&archive, ENTRY).collect();
        archive[entries[1] + 8] |= 1;
        archive[entries[2] + 10] = 99;
        let (found, end) = unpacked(&archive, &LIMITS);
        let errors: Vec<_> = found.into_iter().map(|(_, content)| content.unwrap_err()).collect();
        assert_eq!(
            errors,
            [Error::Damaged.to_string(), Error::Encrypted.to_string(), Error::Method(99).to_string()]
        );
        assert_eq!(end, None);
    }

    #[test]
    fn limits_hold() {
        let archive = zip(&[
            ("a", &[0; 600], CompressionMethod::Deflated),
            ("b", &[0; 600], CompressionMethod::Deflated),
        ]);
        let (found, end) = unpacked(&archive, &ZipLimits { max_entries: 1, ..LIMITS });
        assert_eq!((found.len(), end), (0, Some(Error::TooManyEntries(1).to_string())));
        let (found, end) = unpacked(&archive, &ZipLimits { max_bytes: 1000, ..LIMITS });
        assert_eq!((found.len(), end), (1, Some(Error::TooLarge(1000).to_string())));
        // More bytes than the directory says do not come out.
        let mut lying = archive;
        let entry = memmem::find(&lying, ENTRY).unwrap();
        lying[entry + 24..entry + 28].copy_from_slice(&10_u32.to_le_bytes());
        assert_eq!(unpacked(&lying, &LIMITS).0[0].1, Err(Error::Damaged.to_string()));
    }

    #[test]
    fn entries_that_overlap_are_refused() {
        let mut archive =
            zip(&[("a", &[1; 100], CompressionMethod::Stored), ("b", &[1; 100], CompressionMethod::Stored)]);
        let second = memmem::rfind(&archive, ENTRY).unwrap();
        archive[second + 42..second + 46].copy_from_slice(&0_u32.to_le_bytes());
        assert_eq!(unpacked(&archive, &LIMITS), (vec![], Some(Error::Overlap.to_string())));
    }

    #[test]
    fn no_beginning_and_no_mutation_of_an_archive_does_harm() {
        let archive =
            zip(&[("a", b"one", CompressionMethod::Stored), ("b", &[7; 300], CompressionMethod::Deflated)]);
        for length in 0..archive.len() {
            assert!(unpacked(&archive[..length], &LIMITS).1.is_some(), "{length}");
        }
        for at in 0..archive.len() {
            for byte in [0, 0x7F, 0xFF] {
                let mut mutated = archive.clone();
                mutated[at] = byte;
                unpacked(&mutated, &LIMITS);
            }
        }
    }
}
