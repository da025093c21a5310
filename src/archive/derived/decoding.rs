//! Reading a frame and decoding it in a decoder process.

use crate::archive::access::Caller;
use crate::archive::derived::frames::StoredFrame;
use crate::archive::permits::Permit;
use crate::archive::{Archive, Error};
use crate::decoders;
use crate::decoders::{Priority, Request};
use crate::dicom::frames::FrameTable;
use crate::dicom::transfer_syntax;
use crate::index::records::InstanceRecord;
use crate::pixel::decode::is_decodable;

/// Why a frame cannot be given to the work that needs its samples.
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

impl Archive {
    /// Reads frame `number` (from 1) and waits for a core for the work with it. [`StoredFrame::decode`] is then ready or
    /// runs code of this program only: other frames have been decoded in a process.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such frame, [`Error::Unsupported`] or [`Error::Damaged`] with the reason if it cannot be decoded.
    pub(in crate::archive) async fn frame_for_work(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
    ) -> Result<(Permit, StoredFrame), Error> {
        if !needs_process(record) {
            let permit = self.permits.codec().await;
            return Ok((permit, self.stored_frame(caller, record, number).await?));
        }
        let decoded = self.decode_in_process(caller, record, number, Priority::Request).await;
        let (frame, place) = decoded.map_err(|error| match error {
            FrameError::Read(error) => error,
            error => Error::from(error).context(&format!("frame {number}")),
        })?;
        // The place is given up after there is a permit: else decoded frames would gather in memory.
        let permit = self.permits.codec().await;
        drop(place);
        Ok((permit, frame))
    }

    /// The same for background work, which takes no core from requests.
    ///
    /// # Errors
    /// The error of the decoder apart from others.
    pub(in crate::archive) async fn frame_for_background(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
    ) -> Result<StoredFrame, FrameError> {
        if !needs_process(record) {
            return Ok(self.stored_frame(caller, record, number).await?);
        }
        Ok(self.decode_in_process(caller, record, number, Priority::Background).await?.0)
    }

    /// Reads a frame when there is a place for it, and decodes it.
    async fn decode_in_process(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
        priority: Priority,
    ) -> Result<(StoredFrame, Option<decoders::Place>), FrameError> {
        let client = format!("{} {}", caller.tenant.as_str(), caller.client);
        let place = self.decoder_processes.place(&client, priority).await;
        let mut frame = self.stored_frame(caller, record, number).await?;
        let Some(place) = place else { return Ok((frame, None)) };
        let (packed, place) = place.decode(frame.take_request()).await?;
        frame.packed = Some(packed);
        Ok((frame, Some(place)))
    }
}

impl StoredFrame {
    /// Moves the codestream into a request.
    fn take_request(&mut self) -> Request {
        Request {
            layout: self.layout.clone(),
            transfer_syntax: self.transfer_syntax.clone(),
            frame: std::mem::take(&mut self.bytes),
        }
    }
}

/// Whether frames of an instance are decoded by a codec that is not of this program. Native frames and RLE Lossless are
/// not.
fn needs_process(record: &InstanceRecord) -> bool {
    let uid = record.transfer_syntax.as_str();
    let is_encapsulated = matches!(record.layout.frames, FrameTable::Encapsulated { .. });
    is_encapsulated && is_decodable(uid) && uid != transfer_syntax::RLE_LOSSLESS
}
