//! Values in objects whose data set is deflated (PS3.5 §A.5): they can be reached only by inflating what is before.

use std::ops::Range;

use flate2::{Decompress, FlushDecompress, Status};
use futures_util::TryStreamExt;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::index::records::InstanceRecord;

/// Deflated Explicit VR Little Endian.
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Where the data set starts if group 0002 says how long it is: preamble, prefix, and its first element (PS3.10 §7.1).
const AFTER_GROUP_LENGTH: usize = 144;
/// Bytes that are inflated at a time.
const STEP_BYTES: usize = 32 * 1024;

/// Whether a record's offsets count in the inflated object.
pub(super) fn is_deflated(record: &InstanceRecord) -> bool {
    record.transfer_syntax == DEFLATED
}

impl Archive {
    /// Bytes `range` of a deflated object, as if its data set were inflated in its place. Reads and inflates all that
    /// is before, and holds the bytes in memory.
    ///
    /// # Errors
    /// [`Error::NotAcceptable`] if it does not inflate to that many bytes.
    pub(super) async fn read_inflated(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        range: Range<u64>,
    ) -> Result<Vec<u8>, Error> {
        let mut chunks = self.read(caller, record, 0..record.size_bytes).await?;
        let mut inflated = Inflated { range, ..Inflated::default() };
        while let Some(chunk) = chunks.try_next().await? {
            if inflated.push(&chunk).is_none() {
                break;
            }
        }
        inflated.finish().ok_or_else(|| Error::NotAcceptable("the data set does not inflate that far".into()))
    }
}

/// Cuts a range out of a deflated object that comes in pieces.
#[derive(Default)]
struct Inflated {
    range: Range<u64>,
    /// What came before the data set is known to begin.
    head: Vec<u8>,
    stream: Option<Decompress>,
    /// Where the next inflated byte lies.
    position: u64,
    taken: Vec<u8>,
}

impl Inflated {
    /// Takes the next bytes; `None` if no more are needed or can be used.
    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        if self.stream.is_some() {
            return self.inflate(bytes);
        }
        self.head.extend_from_slice(bytes);
        let Some(group_length) = self.head.get(AFTER_GROUP_LENGTH - 4..AFTER_GROUP_LENGTH) else {
            return Some(());
        };
        let group_length = u32::from_le_bytes(*group_length.first_chunk()?) as usize;
        let is_usual = self.head[128..].starts_with(b"DICM\x02\x00\x00\x00UL\x04\x00");
        let start = AFTER_GROUP_LENGTH.checked_add(group_length).filter(|_| is_usual)?;
        let Some(&[first, second, ..]) = self.head.get(start..) else { return Some(()) };
        // Some writers wrap the data set as zlib does (RFC 1950).
        let is_zlib = first & 0x0F == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
        self.stream = Some(Decompress::new(is_zlib));
        self.position = start as u64;
        let head = std::mem::take(&mut self.head);
        self.inflate(&head[start..])
    }

    fn inflate(&mut self, mut bytes: &[u8]) -> Option<()> {
        let stream = self.stream.as_mut()?;
        let mut buffer = [0; STEP_BYTES];
        loop {
            let (read, made) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(bytes, &mut buffer, FlushDecompress::None).ok()?;
            let (read, made) = (stream.total_in() - read, stream.total_out() - made);
            bytes = &bytes[read as usize..];
            let end = self.position + made;
            let (from, to) = (self.range.start.max(self.position), self.range.end.min(end));
            if from < to {
                let part = (from - self.position) as usize..(to - self.position) as usize;
                self.taken.extend_from_slice(&buffer[part]);
            }
            self.position = end;
            if status == Status::StreamEnd || end >= self.range.end {
                return None;
            }
            if read == 0 && made == 0 {
                return Some(());
            }
        }
    }

    fn finish(self) -> Option<Vec<u8>> {
        (self.taken.len() as u64 == self.range.end - self.range.start).then_some(self.taken)
    }
}
