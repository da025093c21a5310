//! Reading objects whose data set is deflated (PS3.5 §A.5). A value is reached only by inflating all bytes
//! before it, so that values near the end cost more.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::yield_now;

use crate::blobs;
use crate::blobs::ByteStream;

/// The end of preamble, prefix, and the first element of group 0002, which holds the length of the group
/// (PS3.10 §7.1).
const AFTER_GROUP_LENGTH: usize = 144;
/// Bytes that are inflated at a time.
const STEP_BYTES: usize = 64 * 1024;

/// Bytes `range` of an object, as if its data set were inflated in its place. Holds one step, whatever the
/// range. The file header tells the offset of the data set, unless `data_set_offset` does.
pub(in crate::archive) fn inflated(
    object: ByteStream,
    data_set_offset: Option<u64>,
    range: Range<u64>,
) -> ByteStream {
    let (input, head) = (Bytes::new(), Vec::new());
    let inflate = Inflate { object, data_set_offset, input, head, stream: None, position: 0 };
    let steps = stream::try_unfold(inflate, |mut inflate| async move {
        // Steps that are passed over await nothing, and other tasks of this thread must have their turn.
        yield_now().await;
        let step = inflate.step().await?;
        Ok(step.map(|step| (step, inflate)))
    });
    let end = range.end;
    let parts = steps
        .try_take_while(move |(position, _)| {
            let is_wanted = *position < end;
            async move { Ok(is_wanted) }
        })
        .try_filter_map(move |(position, bytes)| {
            let from = range.start.clamp(position, position + bytes.len() as u64) - position;
            let to = range.end.clamp(position, position + bytes.len() as u64) - position;
            let part = bytes.slice(from as usize..to as usize);
            async move { Ok((!part.is_empty()).then_some(part)) }
        });
    parts.boxed()
}

/// Inflates an object that comes in pieces.
struct Inflate {
    object: ByteStream,
    data_set_offset: Option<u64>,
    /// Bytes of the object that are still to be used.
    input: Bytes,
    /// The bytes that came before the start of the data set is known.
    head: Vec<u8>,
    stream: Option<Decompress>,
    /// The position of the next byte.
    position: u64,
}

impl Inflate {
    /// The next bytes and their position; `None` at the end.
    async fn step(&mut self) -> Result<Option<(u64, Bytes)>, blobs::Error> {
        loop {
            let is_last = self.input.is_empty() && !self.refill().await?;
            let made = match &mut self.stream {
                None if is_last => return Ok(None),
                None => self.take_head()?,
                Some(stream) => {
                    let mut buffer = vec![0; STEP_BYTES];
                    let (read, made) = (stream.total_in(), stream.total_out());
                    let status = stream.decompress(&self.input, &mut buffer, FlushDecompress::None);
                    let status = status.map_err(damaged)?;
                    let (read, made) = (stream.total_in() - read, stream.total_out() - made);
                    drop(self.input.split_to(read as usize));
                    if made == 0 && (status == Status::StreamEnd || is_last) {
                        return Ok(None);
                    }
                    if made == 0 && read == 0 {
                        return Err(damaged("inflation comes to a standstill"));
                    }
                    buffer.truncate(made as usize);
                    Bytes::from(buffer)
                }
            };
            if !made.is_empty() {
                let position = self.position;
                self.position += made.len() as u64;
                return Ok(Some((position, made)));
            }
        }
    }

    async fn refill(&mut self) -> Result<bool, blobs::Error> {
        let next = self.object.try_next().await?;
        self.input = next.unwrap_or_default();
        Ok(!self.input.is_empty())
    }

    /// Gathers preamble and group 0002, and starts to inflate what follows. Empty until all of it is there.
    fn take_head(&mut self) -> Result<Bytes, blobs::Error> {
        self.head.extend_from_slice(&std::mem::take(&mut self.input));
        let start = match self.data_set_offset {
            Some(offset) => offset as usize,
            None => match self.start_by_group_length()? {
                Some(start) => start,
                None => return Ok(Bytes::new()),
            },
        };
        let Some(&[first, second, ..]) = self.head.get(start..) else { return Ok(Bytes::new()) };
        // Some writers wrap the data set as zlib does (RFC 1950).
        let is_zlib = first & 0x0F == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
        self.stream = Some(Decompress::new(is_zlib));
        let mut head = Bytes::from(std::mem::take(&mut self.head));
        self.input = head.split_off(start);
        Ok(head)
    }

    /// The offset of the data set by the length of group 0002; `None` if the length is still to come.
    fn start_by_group_length(&self) -> Result<Option<usize>, blobs::Error> {
        let Some(length) = self.head.get(AFTER_GROUP_LENGTH - 4..AFTER_GROUP_LENGTH) else { return Ok(None) };
        let length = length.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
        if !self.head[128..].starts_with(b"DICM\x02\x00\x00\x00UL\x04\x00") {
            return Err(damaged("group 0002 does not say how long it is"));
        }
        Ok(Some(AFTER_GROUP_LENGTH + length))
    }
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> blobs::Error {
    let source = io::Error::new(io::ErrorKind::InvalidData, cause.into());
    blobs::Error::Backend { operation: "inflate a deflated data set".into(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn read(object: &[u8], data_set: Option<u64>, piece: usize, range: Range<u64>) -> Vec<u8> {
        let pieces: Vec<_> = object.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let parts: Vec<Bytes> =
            inflated(stream::iter(pieces).boxed(), data_set, range).try_collect().await.unwrap();
        parts.concat()
    }

    #[tokio::test]
    async fn any_range_is_read_however_the_object_is_cut() {
        let mut head = [0; 128].to_vec();
        head.extend(b"DICM\x02\x00\x00\x00UL\x04\x00\x04\x00\x00\x00meta");
        let data_set: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut deflate = flate2::write::DeflateEncoder::new(head.clone(), flate2::Compression::fast());
        deflate.write_all(&data_set).unwrap();
        let object = deflate.finish().unwrap();
        let head_bytes = head.len();
        let inflated = [head, data_set].concat();
        for piece in [1000, 65_536, object.len()] {
            for range in [0..10, 140..160, 150..150, 400_000..700_001, 0..inflated.len()] {
                let part = read(&object, None, piece, range.start as u64..range.end as u64).await;
                assert!(part == inflated[range.clone()], "{piece} {range:?}");
                // The same without a file header that tells where the data set begins.
                let bare = [b"DICM".as_slice(), &object[head_bytes..]].concat();
                let inflated = [b"DICM".as_slice(), &inflated[head_bytes..]].concat();
                let range = range.start.min(inflated.len())..range.end.min(inflated.len());
                let part = read(&bare, Some(4), piece, range.start as u64..range.end as u64).await;
                assert!(part == inflated[range.clone()], "{piece} {range:?}");
            }
        }
    }
}
