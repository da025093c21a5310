//! Decoded frames.

use crate::archive::access::Caller;
use crate::archive::derived::decoding::frame_for_work;
use crate::archive::read::frame::{MAX_FRAME_BYTES, StoredFrame};
use crate::archive::{Archive, Error, run_blocking};
use crate::dicom::frames::PixelLayout;
use crate::index::records::InstanceRecord;
use crate::pixel;
use crate::pixel::MAX_SAMPLES;
use crate::pixel::decode::{self, Decoded};

/// Every frame that can be decoded can be read.
const _: () = assert!(MAX_FRAME_BYTES == 4 * MAX_SAMPLES as u64);

/// A frame as native Pixel Data of Explicit VR Little Endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedFrame {
    /// rows × columns × samples words of Bits Allocated.
    pub bytes: Vec<u8>,
    /// The Photometric Interpretation (0028,0004) that the bytes have.
    pub photometric: String,
    /// Whether the bytes have Planar Configuration (0028,0006) 1.
    pub is_planar: bool,
    /// The Bits Stored (0028,0101) that all samples have room in: those of the layout, or more, if the frame
    /// holds samples that need more.
    pub bits_stored: u16,
}

/// Clears the bits of the next frame in the last byte of a frame of single bits.
fn without_next_frame(bytes: &mut [u8], layout: &PixelLayout) {
    let bits_of_last = layout.native_frame_bits().map_or(0, |bits| bits % 8);
    if layout.bits_allocated == 1
        && bits_of_last > 0
        && let Some(last) = bytes.last_mut()
    {
        *last &= (1 << bits_of_last) - 1;
    }
}

/// The bytes of one frame of an instance, decoded; 0 without pixels. An encoded frame is hardly ever larger.
pub fn frame_bytes(record: &InstanceRecord) -> usize {
    let bytes = record.layout.pixels.as_ref().map_or(0, PixelLayout::frame_bytes);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Returns frame `number` (from 1), decoded. A native frame in little endian is returned as stored.
///
/// Holds the frame in memory, several times over while decoding. The number of frames that are decoded at the
/// same time is limited to the number of cores.
///
/// # Errors
/// [`Error::NotFound`] if there is no such frame, an error about the form with the reason if the frame cannot
/// be decoded ([`Error::is_about_form`]).
pub async fn decoded_frame(
    archive: &Archive,
    caller: &Caller,
    record: &InstanceRecord,
    number: u32,
) -> Result<DecodedFrame, Error> {
    let (permit, frame) = frame_for_work(archive, caller, record, number).await?;
    if frame.little_endian().is_some() {
        let StoredFrame { mut bytes, layout, .. } = frame.stored;
        without_next_frame(&mut bytes, &layout);
        let PixelLayout { photometric, is_planar, bits_stored, .. } = layout;
        return Ok(DecodedFrame { bytes, photometric, is_planar, bits_stored });
    }
    let decoded = run_blocking(Some(permit), move || {
        let Decoded { image, photometric } = frame.decode()?;
        let layout = frame.layout();
        let bytes = decode::native_bytes(&image, layout.bits_allocated)?;
        let bits_stored = layout.bits_stored.max(image.precision as u16);
        Ok::<_, pixel::Error>(DecodedFrame { bytes, photometric, is_planar: false, bits_stored })
    });
    decoded.await?.map_err(|error| Error::from(error).context(&format!("frame {number}")))
}
