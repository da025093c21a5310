//! Rewriting an instance in Explicit VR Little Endian, whatever its stored transfer syntax (PS3.18 §8.7.3.4),
//! while the instance is sent.

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::archive::access::Caller;
use crate::archive::derived::frames::{DecodedFrame, decoded_frame};
use crate::archive::read::byte_order::swapped;
use crate::archive::read::pass::InflatePass;
use crate::archive::read::{FILL_BYTES, filled};
use crate::archive::{Archive, Error, run_blocking, scan_limits};
use crate::config::PixelRegion;
use crate::dicom::deidentify::Blanking;
use crate::dicom::explicit;
use crate::dicom::explicit::{EncodedElement, Rewrite, RewritePlan, RewriteSegment};
use crate::dicom::failure::Failure;
use crate::dicom::frames::{FrameTable, PixelLayout};
use crate::dicom::scan::{Outline, Scanner};
use crate::dicom::tags;
use crate::dicom::transfer_syntax;
use crate::index::records::InstanceRecord;
use crate::pixel::single_bits::BitJoiner;

/// Frames that are decoded ahead of the one that is sent.
const DECODE_AHEAD: usize = 2;

/// A file in Explicit VR Little Endian that is produced while it is read.
pub struct ExplicitFile {
    source: Source,
    pub(in crate::archive) plan: RewritePlan,
    /// Bytes of the decoded frames, and their layout, if there are any.
    decoded: Option<(u64, PixelLayout)>,
    /// The parts of frames to black out, and the place of native ones in the object.
    blanking: Option<(Arc<Blanking>, u64)>,
}

/// The differences between a file and the stored object, besides the encoding.
#[derive(Default)]
pub(in crate::archive) struct FileChanges {
    /// Elements that are replaced or added.
    pub(in crate::archive) elements: Vec<EncodedElement>,
    /// Regions of each frame to black out.
    pub(in crate::archive) regions: Vec<PixelRegion>,
}

/// The instance that a file is produced from.
#[derive(Clone)]
pub(in crate::archive) struct Source {
    pub(in crate::archive) archive: Arc<Archive>,
    pub(in crate::archive) caller: Caller,
    pub(in crate::archive) record: Arc<InstanceRecord>,
}

/// Plans an instance as a file in Explicit VR Little Endian. Reads the object once, to find its elements, and
/// decodes the first frame of a compressed one.
///
/// # Errors
/// An error about the form ([`Error::is_about_form`]) with the reason if the instance cannot be represented
/// in this transfer syntax.
pub async fn explicit_file(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
) -> Result<ExplicitFile, Error> {
    let (archive, caller, record) = (archive.clone(), caller.clone(), Arc::new(record.clone()));
    Source { archive, caller, record }.explicit(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN).await
}

impl Source {
    /// Plans the same file, in a transfer syntax whose data set has the encoding of Explicit VR Little
    /// Endian.
    pub(in crate::archive) async fn explicit(
        self,
        transfer_syntax: &'static str,
    ) -> Result<ExplicitFile, Error> {
        let outline = self.outline().await?;
        self.explicit_of(&outline, FileChanges::default(), transfer_syntax).await
    }

    /// Plans the file of an outline in which elements of the stored object were left out or replaced.
    pub(in crate::archive) async fn explicit_of(
        self,
        outline: &Outline,
        changes: FileChanges,
        transfer_syntax: &str,
    ) -> Result<ExplicitFile, Error> {
        let FileChanges { elements, regions } = changes;
        let frames = explicit::FrameOutput::Stored;
        let mut rewrite =
            Rewrite { transfer_syntax: transfer_syntax.to_owned(), changes: Vec::new(), frames };
        let mut decoded = None;
        match (&self.record.layout.frames, &self.record.layout.pixels) {
            (FrameTable::Encapsulated { .. }, _) => {
                let (length, layout) = self.decoded().await?;
                rewrite.changes = explicit::pixel_elements(outline, &layout);
                rewrite.changes.extend(explicit::loss_of_codestream(outline));
                let bits_allocated = layout.bits_allocated;
                rewrite.frames = explicit::FrameOutput::Native { length, bits_allocated };
                decoded = Some((length, layout));
            }
            (FrameTable::Native { .. }, Some(layout)) => {
                rewrite.changes = explicit::pixel_corrections(outline, layout);
            }
            _ => {}
        }
        rewrite.changes.extend(elements);
        rewrite.changes.sort_by_key(|change| change.tag);
        let blanking = match regions.is_empty() {
            true => None,
            false => Some(self.blanking(outline, decoded.as_ref().map(|(_, layout)| layout), &regions)?),
        };
        let plan = explicit::plan(outline, &rewrite)
            .map_err(|error| Error::from(error).context(&format!("transfer syntax {transfer_syntax}")))?;
        Ok(ExplicitFile { source: self, plan, decoded, blanking })
    }

    /// Plans the file of an outline with its frames encapsulated as they are stored.
    pub(in crate::archive) fn encapsulated_of(
        self,
        outline: &Outline,
        elements: Vec<EncodedElement>,
    ) -> Result<ExplicitFile, Error> {
        let transfer_syntax = outline.transfer_syntax.clone();
        let mut changes: Vec<_> = explicit::loss_of_codestream(outline).into_iter().chain(elements).collect();
        changes.sort_by_key(|change| change.tag);
        let rewrite = Rewrite { transfer_syntax, changes, frames: explicit::FrameOutput::Encapsulation };
        let plan = explicit::plan(outline, &rewrite)?;
        Ok(ExplicitFile { source: self, plan, decoded: None, blanking: None })
    }

    /// The bytes of regions in frames of a layout, by default the stored one, and the place of stored frames.
    fn blanking(
        &self,
        outline: &Outline,
        decoded: Option<&PixelLayout>,
        regions: &[PixelRegion],
    ) -> Result<(Arc<Blanking>, u64), Error> {
        let unsupported = || Error::Unsupported("text in images of this form cannot be blacked out".into());
        let layout = decoded.or(self.record.layout.pixels.as_ref()).ok_or_else(unsupported)?;
        let blanking = Blanking::new(layout, regions).ok_or_else(unsupported)?;
        // Pixel Data comes last, and nested ones are not in the outline of a copy.
        let pixels = outline.events.iter().rfind(|event| event.tag == tags::PIXEL_DATA);
        Ok((Arc::new(blanking), pixels.ok_or_else(unsupported)?.offset))
    }

    /// Finds the elements of the object by reading all of it.
    pub(in crate::archive) async fn outline(&self) -> Result<Outline, Error> {
        let Self { archive, caller, record } = self;
        let mut scanner = Scanner::new(scan_limits(&archive.ingest));
        let mut object = archive.read_object(caller, record, 0..record.size_bytes).await?;
        while let Some(chunk) = object.try_next().await? {
            // A chunk of a deflated object may be inflated to a thousand times as much.
            let permit = archive.permits.codec(caller).await;
            let scan = run_blocking(Some(permit), move || scanner.push(&chunk).map(|()| scanner));
            scanner = scan.await?.map_err(unreadable)?;
        }
        scanner.finish().map_err(unreadable)
    }

    /// Describes the frames of a compressed instance as they are once decoded, from the first frame: bytes of
    /// all frames, and their layout.
    async fn decoded(&self) -> Result<(u64, PixelLayout), Error> {
        let frame = decoded_frame(&self.archive, &self.caller, &self.record, 1).await?;
        let DecodedFrame { bytes, photometric, is_planar, bits_stored } = frame;
        let layout = self.record.layout.pixels.as_ref();
        let layout = layout.ok_or_else(|| Error::Unsupported("there is no image".into()))?;
        let length = match single_bits(layout) {
            Some(frame_bits) => (frame_bits * u64::from(layout.number_of_frames)).div_ceil(8),
            None => bytes.len() as u64 * u64::from(layout.number_of_frames),
        };
        let layout = PixelLayout { photometric, is_planar, bits_stored, ..layout.clone() };
        Ok((length, layout.with_usual_high_bit()))
    }

    /// The bytes of planned segments.
    pub(in crate::archive) fn read(
        &self,
        segments: Vec<RewriteSegment>,
    ) -> stream::BoxStream<'static, Result<Bytes, Error>> {
        let (source, pass) = (self.clone(), InflatePass::default());
        let segments = stream::iter(segments).then(move |segment| {
            let (Source { archive, caller, record }, pass) = (source.clone(), pass.clone());
            async move {
                Ok::<_, Error>(match segment {
                    RewriteSegment::Bytes(bytes) => stream::iter([Ok(Bytes::from(bytes))]).boxed(),
                    RewriteSegment::Zeros(length) => filled(&[0; FILL_BYTES], length).map(Ok).boxed(),
                    RewriteSegment::Copy { offset, length, swap } => {
                        let bytes = archive.read_on(&caller, &record, offset..offset + length, &pass).await?;
                        swapped(bytes, usize::from(swap)).map_err(Error::from).boxed()
                    }
                })
            }
        });
        segments.try_flatten().boxed()
    }
}

impl ExplicitFile {
    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        let segments = self.plan.before.iter().chain(&self.plan.after);
        let decoded_bytes = self.decoded.as_ref().map_or(0, |(length, _)| *length);
        segments.map(RewriteSegment::length).sum::<u64>() + decoded_bytes
    }

    /// Reads the file. A frame that cannot be decoded ends the stream with an error.
    pub fn read(self) -> stream::BoxStream<'static, Result<Bytes, Error>> {
        let Self { source, plan, decoded, blanking } = self;
        let after = source.read(plan.after);
        let Some((length, layout)) = decoded else {
            let before = match blanking {
                Some((blanking, at)) => blanked_segment(&source, plan.before, blanking, at),
                None => source.read(plan.before),
            };
            return before.chain(after).boxed();
        };
        let before = source.read(plan.before);
        let frames = decoded_frames(source, length, layout);
        let frames = match blanking {
            Some((blanking, _)) => blanked(frames.boxed(), blanking),
            None => frames.boxed(),
        };
        before.chain(frames).chain(after).boxed()
    }
}

/// The bytes of segments, with regions of the stored frames at a place of the object blacked out.
fn blanked_segment(
    source: &Source,
    mut segments: Vec<RewriteSegment>,
    blanking: Arc<Blanking>,
    frames_at: u64,
) -> stream::BoxStream<'static, Result<Bytes, Error>> {
    let is_frames = |segment: &RewriteSegment| matches!(segment, RewriteSegment::Copy { offset, .. } if *offset == frames_at);
    let Some(place) = segments.iter().position(is_frames) else {
        let error = Error::Unsupported("text in images of this form cannot be blacked out".into());
        return stream::iter([Err(error)]).boxed();
    };
    let after = segments.split_off(place + 1);
    let frames = segments.split_off(place);
    let frames = blanked(source.read(frames), blanking);
    source.read(segments).chain(frames).chain(source.read(after)).boxed()
}

/// Frames that follow each other, with regions blacked out.
fn blanked(
    frames: stream::BoxStream<'static, Result<Bytes, Error>>,
    blanking: Arc<Blanking>,
) -> stream::BoxStream<'static, Result<Bytes, Error>> {
    let blank = move |offset: &mut u64, chunk: Result<Bytes, Error>| {
        let chunk = chunk.map(|chunk| {
            let mut bytes = chunk.to_vec();
            blanking.apply(*offset, &mut bytes);
            *offset += bytes.len() as u64;
            Bytes::from(bytes)
        });
        ready(Some(chunk))
    };
    frames.scan(0, blank).boxed()
}

/// Bits of a frame whose samples are single bits; `None` for other frames. Such frames follow each other
/// without a gap, so that one may start within a byte (PS3.5 §8.1.1).
fn single_bits(layout: &PixelLayout) -> Option<u64> {
    (layout.bits_allocated == 1).then(|| layout.frame_samples())
}

/// Streams all frames, decoded: `length` bytes of which `layout` is true, or an error.
fn decoded_frames(
    source: Source,
    length: u64,
    layout: PixelLayout,
) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + Send {
    let frames = layout.number_of_frames;
    let frame_bits = single_bits(&layout);
    let frame_bytes = frame_bits.map_or(length / u64::from(frames.max(1)), |bits| bits.div_ceil(8));
    let mut joiner = frame_bits.map(|bits| BitJoiner::new(bits, frames));
    let (of_archive, of_caller) = (source.archive.clone(), source.caller.clone());
    stream::iter(1..=frames)
        .then(move |number| {
            let (archive, caller) = (of_archive.clone(), of_caller.clone());
            async move {
                let bytes = usize::try_from(frame_bytes).unwrap_or(usize::MAX);
                (number, archive.response_memory(&caller, bytes).await)
            }
        })
        .map(move |(number, memory)| {
            let Source { archive, caller, record } = source.clone();
            let PixelLayout { photometric, bits_stored, .. } = layout.clone();
            memory.fill(async move {
                let frame = decoded_frame(&archive, &caller, &record, number).await?;
                if frame.bytes.len() as u64 != frame_bytes || frame.photometric != photometric {
                    let problem = format!("frame {number} is of another size or colour than the first");
                    return Err(Error::Damaged(problem));
                }
                if frame.bits_stored > bits_stored {
                    let problem = format!("frame {number} has samples of more bits than the first");
                    return Err(Error::Damaged(problem));
                }
                Ok(Bytes::from(frame.bytes))
            })
        })
        .buffered(DECODE_AHEAD)
        .map_ok(move |bytes| match &mut joiner {
            Some(joiner) => joiner.push(&bytes).into(),
            None => bytes,
        })
}

/// The error for a stored object that cannot be scanned.
fn unreadable(failure: Failure) -> Error {
    let reason = format!("the stored object cannot be read: {failure}");
    match failure {
        Failure::TooDeep { .. }
        | Failure::TooManyElements { .. }
        | Failure::TooManyMetadataElements { .. }
        | Failure::TooManyValues { .. }
        | Failure::HeaderTooLarge { .. }
        | Failure::InflatesTooMuch { .. } => Error::TooLarge(reason),
        Failure::NotDicom
        | Failure::MediaDirectory
        | Failure::Truncated { .. }
        | Failure::Malformed { .. }
        | Failure::NonPatientObject
        | Failure::NoIdentity { .. }
        | Failure::NotDeflate => Error::Damaged(reason),
    }
}
