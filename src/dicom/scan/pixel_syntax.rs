//! The transfer syntax of frames that are not encoded as the declared one says (PS3.5 §8.2, §A.4).

use crate::dicom::codestream;
use crate::dicom::scan::state::ScanState;
use crate::dicom::tags;
use crate::dicom::transfer_syntax;

impl ScanState {
    /// Replaces the transfer syntax by the one that the first frame proves, if frames are encapsulated and
    /// the declared transfer syntax is native or belongs to another codec. Pixel Data that is a codestream
    /// without items is taken for one fragment.
    ///
    /// A deflated or big endian data set keeps its transfer syntax, which its elements are read by.
    pub(super) fn correct_pixel_syntax(&mut self) {
        let bare = self.bare_codestream();
        let outline = &self.outline;
        let declared = outline.transfer_syntax.as_str();
        let is_native = transfer_syntax::is_native_little_endian(declared) && !outline.is_deflated;
        let codec = transfer_syntax::compression(declared);
        if (outline.fragments.is_empty() && bare.is_none()) || (!is_native && codec.is_none()) {
            return;
        }
        let head = &outline.first_frame_head;
        let recognised = match codestream::recognise(head) {
            Some(codestream) => Some(codestream.transfer_syntax),
            None if codestream::rle_segments(head).is_some() => Some(transfer_syntax::RLE_LOSSLESS),
            None => None,
        };
        let Some(recognised) = recognised else { return };
        if let Some(bare) = bare {
            self.outline.fragments.push(bare);
            self.outline.codestream_starts.push(0);
            self.warn_of(tags::PIXEL_DATA, "it is a frame without an item around it");
        }
        if codec != transfer_syntax::compression(recognised) {
            self.outline.transfer_syntax = recognised.to_owned();
            self.warn_of(tags::TRANSFER_SYNTAX_UID, "the frames are not in the declared transfer syntax");
        }
    }

    /// The place of Pixel Data that is no sequence of items and begins with the header of a codestream.
    fn bare_codestream(&self) -> Option<(u64, u32)> {
        let outline = &self.outline;
        codestream::recognise(&outline.first_frame_head).filter(|_| outline.fragments.is_empty())?;
        let pixels = outline.events.iter().rfind(|event| event.tag == tags::PIXEL_DATA)?;
        Some((pixels.offset, u32::try_from(pixels.length).ok()?))
    }
}
