//! Reading objects whose data set is deflated (PS3.5 §A.5). A value is reached only by inflating all bytes
//! before it, so that values near the end cost more.

use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::archive::permits::InflatePermits;
use crate::archive::run_blocking;
use crate::blobs;
use crate::blobs::ByteStream;

/// The end of preamble, prefix, and the first element of group 0002, which holds the length of the group
/// (PS3.10 §7.1).
const AFTER_GROUP_LENGTH: usize = 144;
/// The most bytes that are inflated for one response, or to encode a deflated instance: for each frame that
/// is read by itself, all bytes before the frame are inflated.
pub(in crate::archive) const MAX_INFLATED_BYTES: u64 = 16 << 30;
/// Bytes that are inflated at a time.
const STEP_BYTES: usize = 64 * 1024;
/// The bytes after which a piece of work ends: bytes of the range, and bytes that are passed over. Other work
/// that needs a permit comes in between.
const MAX_OUTPUT_BYTES: usize = 256 * 1024;
const MAX_WORK_BYTES: usize = 4 * 1024 * 1024;

/// Bytes `range` of an object, as if its data set were inflated in its place. Inflates on blocking threads,
/// under a permit, and holds few bytes, whatever the range. The file header has the offset of the data set,
/// unless `data_set_offset` is given.
pub(in crate::archive) fn inflated(
    object: ByteStream,
    data_set_offset: Option<u64>,
    range: Range<u64>,
    permits: InflatePermits,
) -> ByteStream {
    let inflate = Inflate {
        data_set_offset,
        input: Bytes::new(),
        is_ended: false,
        head: Vec::new(),
        stream: None,
        position: 0,
        wanted: range,
    };
    let parts =
        stream::try_unfold((object, inflate, permits), |(mut object, mut inflate, permits)| async move {
            loop {
                let permit = permits.permit().await;
                let work =
                    run_blocking(Some(permit), move || inflate.work().map(|progress| (progress, inflate)));
                let (progress, after) = work.await.map_err(interrupted)??;
                inflate = after;
                match progress {
                    Progress::Output(bytes) if bytes.is_empty() => {}
                    Progress::Output(bytes) => return Ok(Some((bytes, (object, inflate, permits)))),
                    Progress::InputNeeded => {
                        inflate.input = object.try_next().await?.unwrap_or_default();
                        inflate.is_ended = inflate.input.is_empty();
                    }
                    Progress::Ended => return Ok(None),
                }
            }
        });
    parts.boxed()
}

/// The outcome of a piece of work.
enum Progress {
    /// The next bytes of the range; none if all bytes were passed over.
    Output(Bytes),
    InputNeeded,
    Ended,
}

/// Inflates an object that comes in pieces.
struct Inflate {
    data_set_offset: Option<u64>,
    /// Bytes of the object that are still to be used.
    input: Bytes,
    /// Whether the object has ended: no more input will come.
    is_ended: bool,
    /// The bytes that came before the start of the data set is known.
    head: Vec<u8>,
    stream: Option<Decompress>,
    /// The position of the next byte.
    position: u64,
    wanted: Range<u64>,
}

impl Inflate {
    /// Inflates some of the input. Takes a core for a while: call this method on a blocking thread.
    fn work(&mut self) -> Result<Progress, blobs::Error> {
        let mut output = BytesMut::new();
        let mut worked_bytes = 0;
        while output.len() < MAX_OUTPUT_BYTES && worked_bytes < MAX_WORK_BYTES {
            let halt = if self.position >= self.wanted.end {
                Some(Progress::Ended)
            } else {
                (self.input.is_empty() && !self.is_ended).then_some(Progress::InputNeeded)
            };
            if let Some(halt) = halt {
                return Ok(if output.is_empty() { halt } else { Progress::Output(output.freeze()) });
            }
            let Some(made) = self.step()? else {
                self.wanted.end = self.position;
                continue;
            };
            let start = self.position;
            self.position += made.len() as u64;
            let from = self.wanted.start.clamp(start, self.position) - start;
            let to = self.wanted.end.clamp(start, self.position) - start;
            output.extend_from_slice(&made[from as usize..to as usize]);
            worked_bytes += made.len();
        }
        Ok(Progress::Output(output.freeze()))
    }

    /// The next bytes, which may be none; `None` at the end.
    fn step(&mut self) -> Result<Option<Bytes>, blobs::Error> {
        let Some(stream) = &mut self.stream else {
            return if self.is_ended { Ok(None) } else { self.take_head().map(Some) };
        };
        let mut buffer = vec![0; STEP_BYTES];
        let (read, made) = (stream.total_in(), stream.total_out());
        let status = stream.decompress(&self.input, &mut buffer, FlushDecompress::None).map_err(damaged)?;
        let (read, made) = (stream.total_in() - read, stream.total_out() - made);
        drop(self.input.split_to(read as usize));
        if made == 0 && (status == Status::StreamEnd || self.is_ended) {
            return Ok(None);
        }
        if made == 0 && read == 0 {
            return Err(damaged("inflation comes to a standstill"));
        }
        buffer.truncate(made as usize);
        Ok(Some(Bytes::from(buffer)))
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

fn interrupted(cause: impl std::error::Error + Send + Sync + 'static) -> blobs::Error {
    blobs::Error::Backend { operation: "inflate a deflated data set".into(), source: cause.into() }
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> blobs::Error {
    let source = io::Error::new(io::ErrorKind::InvalidData, cause.into());
    blobs::Error::Backend { operation: "inflate a deflated data set".into(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::archive::access::Caller;
    use crate::archive::permits::Permits;
    use crate::config::Config;

    async fn read(object: &[u8], data_set: Option<u64>, piece: usize, range: Range<u64>) -> Vec<u8> {
        let pieces: Vec<_> = object.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let permits = Permits::new(&Config::defaults()).inflates(&Caller::anonymous());
        let parts = inflated(stream::iter(pieces).boxed(), data_set, range, permits);
        let parts: Vec<Bytes> = parts.try_collect().await.unwrap();
        assert!(parts.iter().all(|part| part.len() < MAX_OUTPUT_BYTES + STEP_BYTES));
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
