//! The records of a zip file (APPNOTE 6.3.10 §4.3): entries that are stored, their checksums after them;
//! zip64 where sizes, places or their number need it.

use time::OffsetDateTime;

const LOCAL_SIGNATURE: u32 = 0x0403_4B50;
const DESCRIPTOR_SIGNATURE: u32 = 0x0807_4B50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4B50;
const END_SIGNATURE: u32 = 0x0605_4B50;
const END64_SIGNATURE: u32 = 0x0606_4B50;
const LOCATOR64_SIGNATURE: u32 = 0x0706_4B50;

/// Checksum and sizes follow the data.
const FLAGS: u16 = 1 << 3;
const STORED: u16 = 0;
/// Version 2.0 of the format, and the one that has zip64.
const PLAIN_VERSION: u16 = 20;
const ZIP64_VERSION: u16 = 45;
/// Made on Unix, by the last of these versions.
const MADE_BY: u16 = 3 << 8 | ZIP64_VERSION;
/// A file that its owner may write and all may read.
const MODE: u32 = 0o100_644 << 16;
const ZIP64_FIELD: u16 = 1;

/// The mark of a value that is too large for its field, and is in the zip64 field.
const IN_ZIP64_16: u16 = u16::MAX;
const IN_ZIP64: u32 = u32::MAX;

/// An entry before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    /// Its path: ASCII, parted by `/`.
    pub(crate) name: String,
    /// Its bytes.
    pub(crate) size_bytes: u64,
    /// In milliseconds since 1970 UTC.
    pub(crate) modified_at: i64,
}

impl EntryHeader {
    /// The local header, before the bytes of the entry.
    pub(crate) fn local(&self) -> Vec<u8> {
        let mut record = RecordBytes::new(LOCAL_SIGNATURE);
        record.u16(self.version());
        self.common(&mut record, 0, 0, 0);
        record.u16(if self.is_large() { 20 } else { 0 });
        record.text(&self.name);
        if self.is_large() {
            record.u16(ZIP64_FIELD);
            record.u16(16);
            record.u64(0);
            record.u64(0);
        }
        record.0
    }

    /// From the version needed to the length of the name, as both kinds of header have it.
    fn common(&self, record: &mut RecordBytes, checksum: u32, stored: u32, size: u32) {
        let (date, time) = dos_time(self.modified_at);
        record.u16(FLAGS);
        record.u16(STORED);
        record.u16(time);
        record.u16(date);
        record.u32(checksum);
        record.u32(stored);
        record.u32(size);
        record.u16(self.name.len() as u16);
    }

    /// The data descriptor, after the bytes of the entry.
    fn descriptor(&self, checksum: u32) -> Vec<u8> {
        let mut record = RecordBytes::new(DESCRIPTOR_SIGNATURE);
        record.u32(checksum);
        for _ in 0..2 {
            if self.is_large() {
                record.u64(self.size_bytes);
            } else {
                record.u32(self.size_bytes as u32);
            }
        }
        record.0
    }

    /// Its entry in the central directory.
    fn central(&self, checksum: u32, offset: u64) -> Vec<u8> {
        let (size, place) = (fits(self.size_bytes), fits(offset));
        let large: Vec<u64> = [(size, self.size_bytes), (size, self.size_bytes), (place, offset)]
            .into_iter()
            .filter_map(|(field, value)| (field == IN_ZIP64).then_some(value))
            .collect();
        let mut record = RecordBytes::new(CENTRAL_SIGNATURE);
        record.u16(MADE_BY);
        record.u16(if large.is_empty() { PLAIN_VERSION } else { ZIP64_VERSION });
        self.common(&mut record, checksum, size, size);
        record.u16(if large.is_empty() { 0 } else { 4 + 8 * large.len() as u16 });
        // No comment, the first disk, no internal attributes.
        record.u16(0);
        record.u16(0);
        record.u16(0);
        record.u32(MODE);
        record.u32(place);
        record.text(&self.name);
        if !large.is_empty() {
            record.u16(ZIP64_FIELD);
            record.u16(8 * large.len() as u16);
            large.into_iter().for_each(|value| record.u64(value));
        }
        record.0
    }

    fn version(&self) -> u16 {
        if self.is_large() { ZIP64_VERSION } else { PLAIN_VERSION }
    }

    fn is_large(&self) -> bool {
        fits(self.size_bytes) == IN_ZIP64
    }
}

/// A number as a field of 32 bits.
fn fits(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(IN_ZIP64)
}

/// The writer of the central directory, which grows with the entries.
#[derive(Debug, Default)]
pub(crate) struct DirectoryWriter {
    records: Vec<u8>,
    count: u64,
    /// Bytes of the entries so far.
    offset: u64,
}

impl DirectoryWriter {
    /// Ends an entry whose header and bytes were written. Returns the bytes to write after them.
    pub(crate) fn end_entry(&mut self, header: &EntryHeader, checksum: u32) -> Vec<u8> {
        self.records.extend(header.central(checksum, self.offset));
        let descriptor = header.descriptor(checksum);
        self.count += 1;
        self.offset += header.local().len() as u64 + header.size_bytes + descriptor.len() as u64;
        descriptor
    }

    /// The central directory and the end records.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let (size, count) = (self.records.len() as u64, self.count);
        let mut bytes = self.records;
        let short_count = u16::try_from(count).unwrap_or(IN_ZIP64_16);
        let is_large = short_count == IN_ZIP64_16 || fits(size) == IN_ZIP64 || fits(self.offset) == IN_ZIP64;
        if is_large {
            bytes.extend(end64(count, size, self.offset));
        }
        let mut record = RecordBytes::new(END_SIGNATURE);
        record.u16(0);
        record.u16(0);
        record.u16(short_count);
        record.u16(short_count);
        record.u32(fits(size));
        record.u32(fits(self.offset));
        record.u16(0);
        bytes.extend(record.0);
        bytes
    }
}

fn end64(count: u64, size: u64, offset: u64) -> Vec<u8> {
    let mut record = RecordBytes::new(END64_SIGNATURE);
    record.u64(44);
    record.u16(MADE_BY);
    record.u16(ZIP64_VERSION);
    record.u32(0);
    record.u32(0);
    record.u64(count);
    record.u64(count);
    record.u64(size);
    record.u64(offset);
    record.u32(LOCATOR64_SIGNATURE);
    record.u32(0);
    record.u64(offset + size);
    record.u32(1);
    record.0
}

/// Bytes of the file that holds these entries.
pub(crate) fn length<'a>(headers: impl Iterator<Item = &'a EntryHeader>) -> u64 {
    let mut directory = DirectoryWriter::default();
    for header in headers {
        directory.end_entry(header, 0);
    }
    directory.offset + directory.into_bytes().len() as u64
}

/// Bytes of a record in little endian.
struct RecordBytes(Vec<u8>);

impl RecordBytes {
    fn new(signature: u32) -> Self {
        Self(signature.to_le_bytes().to_vec())
    }

    fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// Date and time as DOS has them, in UTC to two seconds, not before 1980 and not after 2107; what is no time
/// is 1980.
fn dos_time(at: i64) -> (u16, u16) {
    let first = OffsetDateTime::from_unix_timestamp(315_532_800).expect("1980 is a year");
    let last = OffsetDateTime::from_unix_timestamp(4_354_819_198).expect("2107 is a year");
    let at = OffsetDateTime::from_unix_timestamp(at / 1000).unwrap_or(first).clamp(first, last);
    let year = at.year() as u16 - 1980;
    let date = (year << 9) | (u16::from(u8::from(at.month())) << 5) | u16::from(at.day());
    let time = (u16::from(at.hour()) << 11) | (u16::from(at.minute()) << 5) | (u16::from(at.second()) / 2);
    (date, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(size_bytes: u64) -> EntryHeader {
        EntryHeader { name: "a/b".into(), size_bytes, modified_at: 0 }
    }

    #[test]
    fn times_are_those_of_dos() {
        for (at, expected) in [
            (0, (1 << 5 | 1, 0)),
            (1_709_208_305_000, (44 << 9 | 2 << 5 | 29, 12 << 11 | 5 << 5 | 2)),
            (5_000_000_000_000, (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29)),
            (i64::MIN, (1 << 5 | 1, 0)),
            (i64::MAX, (1 << 5 | 1, 0)),
        ] {
            assert_eq!(dos_time(at), expected, "{at}");
        }
    }

    #[test]
    fn what_32_bits_cannot_hold_stands_in_zip64_fields() {
        let large = u64::from(u32::MAX);
        for (size, local, descriptor) in [(large - 1, 33, 16), (large, 53, 24), (3 * large, 53, 24)] {
            let header = header(size);
            assert_eq!(header.local().len(), local, "{size}");
            assert_eq!(header.descriptor(0).len(), descriptor, "{size}");
        }
        for (size, offset, extra) in [(1, 1, 0), (large, 1, 20), (1, large, 12), (large, large, 28)] {
            assert_eq!(header(size).central(0, offset).len(), 46 + 3 + extra, "{size} {offset}");
        }
    }

    #[test]
    fn many_entries_and_far_ones_end_in_zip64_records() {
        let small = |count: usize| vec![header(1); count];
        let plain = |count: u64| count * (33 + 1 + 16 + 49) + 22;
        for (headers, expected) in [
            (small(0), 22),
            (small(65_534), plain(65_534)),
            (small(65_535), plain(65_535) + 76),
            // Two of 3 GiB: the third entry starts beyond 4 GiB, and so does the directory.
            (vec![header(3 << 30); 3], 3 * (33 + (3 << 30) + 16 + 49) + 12 + 22 + 76),
        ] {
            assert_eq!(length(headers.iter()), expected, "{}", headers.len());
        }
    }
}
