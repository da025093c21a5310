//! Giving an instance in Explicit VR Little Endian, whatever it is stored in (PS3.18 §8.7.3.4), while it is sent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::archive::access::Caller;
use crate::archive::derive::DecodedFrame;
use crate::archive::store::limits;
use crate::archive::{Archive, Error};
use crate::blobs;
use crate::blobs::ByteStream;
use crate::dicom::explicit;
use crate::dicom::explicit::{Decoded, Segment, TRANSFER_SYNTAX};
use crate::dicom::frames::Frames;
use crate::dicom::scan::{Outline, Scanner};
use crate::index::records::InstanceRecord;

/// Frames that are decoded ahead of the one that is sent.
const DECODE_AHEAD: usize = 2;

/// A file in Explicit VR Little Endian that is made while it is read.
pub struct ExplicitFile {
    archive: Arc<Archive>,
    caller: Caller,
    record: Arc<InstanceRecord>,
    segments: Vec<Segment>,
}

impl Archive {
    /// Plans an instance as a file in Explicit VR Little Endian. Reads the object once, to find its elements, and
    /// decodes the first frame of a compressed one.
    ///
    /// # Errors
    /// [`Error::NotAcceptable`] with the reason if it cannot be given in this transfer syntax.
    pub async fn explicit(
        self: &Arc<Self>,
        caller: &Caller,
        record: &InstanceRecord,
    ) -> Result<ExplicitFile, Error> {
        let outline = self.outline(caller, record).await?;
        let decoded = match record.layout.frames {
            Frames::Encapsulated { .. } => Some(self.decoded_layout(caller, record).await?),
            Frames::None | Frames::Native { .. } => None,
        };
        let segments = explicit::plan(&outline, decoded.as_ref())
            .map_err(|error| Error::NotAcceptable(format!("transfer syntax {TRANSFER_SYNTAX}: {error}")))?;
        let (archive, caller, record) = (self.clone(), caller.clone(), Arc::new(record.clone()));
        Ok(ExplicitFile { archive, caller, record, segments })
    }

    async fn outline(&self, caller: &Caller, record: &InstanceRecord) -> Result<Outline, Error> {
        let unreadable =
            |failure| Error::NotAcceptable(format!("the stored object cannot be read: {failure}"));
        let mut scanner = Scanner::new(limits(&self.ingest));
        let mut object = self.read_object(caller, record, 0..record.size_bytes).await?;
        while let Some(chunk) = object.try_next().await? {
            scanner.push(&chunk).map_err(unreadable)?;
        }
        scanner.finish().map_err(unreadable)
    }

    /// What the frames of a compressed instance are once decoded: as the first one is.
    async fn decoded_layout(&self, caller: &Caller, record: &InstanceRecord) -> Result<Decoded, Error> {
        let DecodedFrame { bytes, photometric, is_planar } = self.decoded_frame(caller, record, 1).await?;
        let pixels = record.layout.pixels.as_ref();
        let pixels = pixels.ok_or_else(|| Error::NotAcceptable("there is no image".into()))?;
        Ok(Decoded {
            length: bytes.len() as u64 * u64::from(pixels.number_of_frames),
            bits_allocated: pixels.bits_allocated,
            samples: pixels.samples,
            photometric,
            is_planar,
        })
    }
}

impl ExplicitFile {
    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.segments.iter().map(Segment::length).sum()
    }

    /// Reads the file. A frame that cannot be decoded ends it with an error.
    pub fn read(self) -> stream::BoxStream<'static, Result<Bytes, Error>> {
        let Self { archive, caller, record, segments } = self;
        let segments = stream::iter(segments).then(move |segment| {
            let (archive, caller, record) = (archive.clone(), caller.clone(), record.clone());
            async move {
                Ok::<_, Error>(match segment {
                    Segment::Bytes(bytes) => stream::iter([Ok(Bytes::from(bytes))]).boxed(),
                    Segment::Copy { offset, length, swap } => {
                        let bytes = archive.read(&caller, &record, offset..offset + length).await?;
                        swapped(bytes, usize::from(swap)).map_err(Error::from).boxed()
                    }
                    Segment::PixelData { length } => decoded_frames(archive, caller, record, length).boxed(),
                })
            }
        });
        segments.try_flatten().boxed()
    }
}

/// All frames, decoded; `length` bytes or an error.
fn decoded_frames(
    archive: Arc<Archive>,
    caller: Caller,
    record: Arc<InstanceRecord>,
    length: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + Send {
    let frames = record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames);
    let frame_bytes = length / u64::from(frames.max(1));
    stream::iter(1..=frames)
        .map(move |number| {
            let (archive, caller, record) = (archive.clone(), caller.clone(), record.clone());
            async move {
                let bytes = archive.decoded_frame(&caller, &record, number).await?.bytes;
                if bytes.len() as u64 != frame_bytes {
                    let problem = format!("frame {number} has another size than the first");
                    return Err(Error::NotAcceptable(problem));
                }
                Ok(Bytes::from(bytes))
            }
        })
        .buffered(DECODE_AHEAD)
}

/// Bytes with the order within each word of `word` bytes reversed; a rest that is no whole word stays as it is.
fn swapped(bytes: ByteStream, word: usize) -> ByteStream {
    if word <= 1 {
        return bytes;
    }
    let state = (bytes.fuse(), BytesMut::new());
    let words = stream::try_unfold(state, move |(mut bytes, mut rest)| async move {
        while let Some(chunk) = bytes.try_next().await? {
            rest.extend_from_slice(&chunk);
            let mut whole = rest.split_to(rest.len() / word * word);
            if !whole.is_empty() {
                whole.chunks_exact_mut(word).for_each(<[u8]>::reverse);
                return Ok(Some((whole.freeze(), (bytes, rest))));
            }
        }
        let rest = rest.freeze();
        Ok::<_, blobs::Error>((!rest.is_empty()).then(|| (rest, (bytes, BytesMut::new()))))
    });
    words.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_are_swapped_across_chunks() {
        let chunks = [&[1, 2, 3][..], &[4], &[5, 6, 7]];
        let chunks = chunks.map(|chunk| Ok(Bytes::from_static(chunk)));
        let bytes: Vec<Bytes> = swapped(stream::iter(chunks).boxed(), 2).try_collect().await.unwrap();
        assert_eq!(bytes.concat(), [2, 1, 4, 3, 6, 5, 7]);
    }
}
