//! Reading a frame and decoding it in a decoder process.

use crate::archive::access::Caller;
use crate::archive::permits::Permit;
use crate::archive::read::frame::{StoredFrame, stored_frame};
use crate::archive::{Archive, Error};
use crate::decoders;
use crate::decoders::{PackedFrame, Priority, Request};
use crate::dicom::frames::{FrameTable, PixelLayout};
use crate::dicom::transfer_syntax::{Compression, compression};
use crate::index::records::InstanceRecord;
use crate::pixel;
use crate::pixel::decode::{self, Decoded, FrameEncoding};

/// The reason why a frame is not available to code that needs its samples.
#[derive(Debug, thiserror::Error)]
pub(in crate::archive) enum FrameError {
    /// The frame cannot be read.
    #[error(transparent)]
    Read(#[from] Error),
    /// The frame cannot be decoded.
    #[error(transparent)]
    Decode(#[from] decoders::Error),
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Read(error) => error,
            FrameError::Decode(error) if error.is_transient() => Self::NotReady(error.to_string()),
            FrameError::Decode(decoders::Error::Unsupported(reason)) => Self::Unsupported(reason),
            FrameError::Decode(error) => Self::Damaged(error.to_string()),
        }
    }
}

/// A stored frame that this process can decode, or that a decoder process has decoded.
pub(in crate::archive) struct DecodableFrame {
    /// The frame; without its bytes if a decoder process has decoded the frame.
    pub(in crate::archive) stored: StoredFrame,
    /// The samples, if a decoder process has decoded the frame.
    packed: Option<PackedFrame>,
}

impl DecodableFrame {
    /// The layout of the frame.
    pub(in crate::archive) fn layout(&self) -> &PixelLayout {
        &self.stored.layout
    }

    /// The bytes, if they are native words and start with a byte.
    pub(in crate::archive) fn little_endian(&self) -> Option<&[u8]> {
        self.stored.little_endian()
    }

    /// Decodes the frame. Takes a core for a while: call this method on a blocking thread.
    pub(in crate::archive) fn decode(&self) -> Result<Decoded, pixel::Error> {
        let StoredFrame { bytes, layout, first_bit, transfer_syntax } = &self.stored;
        let encoding = match *first_bit {
            Some(first_bit) => FrameEncoding::Native { first_bit },
            None => FrameEncoding::Compressed(transfer_syntax),
        };
        match &self.packed {
            Some(packed) => Ok(packed.unpack()),
            None => decode::decode(bytes, layout, encoding),
        }
    }
}

/// Reads frame `number` (from 1), then waits for a permit for the work with the frame.
/// [`DecodableFrame::decode`] then returns ready samples or runs memory-safe code only: frames that need
/// another codec have been decoded in a decoder process.
///
/// # Errors
/// [`Error::NotFound`] if there is no such frame, [`Error::Unsupported`] or [`Error::Damaged`] with the
/// reason if the frame cannot be decoded.
pub(in crate::archive) async fn frame_for_work(
    archive: &Archive,
    caller: &Caller,
    record: &InstanceRecord,
    number: u32,
) -> Result<(Permit, DecodableFrame), Error> {
    let read_permit = archive.permits.frame_read(caller).await;
    let stored = stored_frame(archive, caller, record, number).await?;
    // A permit is given back only after there is the next one: otherwise frames would pile up in memory.
    if !needs_process(record) {
        let permit = archive.permits.codec(caller).await;
        drop(read_permit);
        return Ok((permit, DecodableFrame { stored, packed: None }));
    }
    let place = archive.decoder_processes.place(&caller.sharing_client(), Priority::Request).await;
    drop(read_permit);
    let decoded = decode_in_process(place, stored).await;
    let (frame, place) =
        decoded.map_err(|error| Error::from(FrameError::from(error)).context(&format!("frame {number}")))?;
    let permit = archive.permits.codec(caller).await;
    drop(place);
    Ok((permit, frame))
}

/// Reads and decodes a frame like [`frame_for_work`], but for background work, which takes no core from
/// requests.
///
/// # Errors
/// The error of the decoder is returned apart from other errors.
pub(in crate::archive) async fn frame_for_background(
    archive: &Archive,
    caller: &Caller,
    record: &InstanceRecord,
    number: u32,
) -> Result<DecodableFrame, FrameError> {
    let stored = stored_frame(archive, caller, record, number).await?;
    if !needs_process(record) {
        return Ok(DecodableFrame { stored, packed: None });
    }
    let place = archive.decoder_processes.place(&caller.sharing_client(), Priority::Background).await;
    Ok(decode_in_process(place, stored).await?.0)
}

/// Decodes a frame in the process that a place is for; without a place, the frame stays as it is.
async fn decode_in_process(
    place: Option<decoders::Place>,
    mut stored: StoredFrame,
) -> Result<(DecodableFrame, Option<decoders::Place>), decoders::Error> {
    let Some(place) = place else { return Ok((DecodableFrame { stored, packed: None }, None)) };
    let (packed, place) = place.decode(take_request(&mut stored)).await?;
    Ok((DecodableFrame { stored, packed: Some(packed) }, Some(place)))
}

/// Moves the codestream of a frame into a request.
fn take_request(frame: &mut StoredFrame) -> Request {
    Request {
        layout: frame.layout.clone(),
        transfer_syntax: frame.transfer_syntax.clone(),
        frame: std::mem::take(&mut frame.bytes),
    }
}

/// Whether frames of an instance are decoded in a process of their own. Uncompressed, deflated and RLE frames
/// are not: that code is memory-safe, and its time and memory are bounded by the size of the frame.
fn needs_process(record: &InstanceRecord) -> bool {
    let uid = record.transfer_syntax.as_str();
    let is_encapsulated = matches!(record.layout.frames, FrameTable::Encapsulated { .. });
    let is_in_process = matches!(
        compression(uid),
        None | Some(Compression::Encapsulated | Compression::DeflatedFrame | Compression::Rle)
    );
    is_encapsulated && !is_in_process
}
