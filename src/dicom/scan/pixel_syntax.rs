//! The transfer syntax of frames that are not encoded as the declared one says (PS3.5 §8.2, §A.4).

use crate::dicom::codestream;
use crate::dicom::rle_header;
use crate::dicom::scan::state::ScanState;
use crate::dicom::tags;
use crate::dicom::transfer_syntax::{self, Compression};

impl ScanState {
    /// Replaces the transfer syntax by the one that the first frame proves, if frames are encapsulated and
    /// the declared transfer syntax is native, belongs to another codec, or says that a lossy codestream is
    /// lossless. Pixel Data that is a codestream without items is taken for one fragment.
    ///
    /// Another process of the declared codec is only warned of: all usual decoders read every process, and
    /// the true transfer syntax may be one that is retired (PS3.5 §8.2.1).
    ///
    /// A deflated or big endian data set keeps its transfer syntax, which its elements are read by.
    pub(super) fn correct_pixel_syntax(&mut self) {
        let bare = self.bare_codestream();
        let outline = &self.outline;
        let declared = outline.transfer_syntax.as_str();
        let is_native = transfer_syntax::is_native_little_endian(declared) && !outline.is_deflated;
        let codec = transfer_syntax::compression(declared);
        // Samples may look like the header of a codestream.
        let is_uncompressed = codec == Some(Compression::Encapsulated);
        let is_kept = is_uncompressed || (!is_native && codec.is_none());
        if (outline.fragments.is_empty() && bare.is_none()) || is_kept {
            return;
        }
        let head = &outline.first_frame_head;
        let (recognised, is_lossy) = match codestream::recognise(head) {
            Some(codestream) => (codestream.transfer_syntax, codestream.is_lossy),
            None if rle_header::segments(head).is_some() => (transfer_syntax::RLE_LOSSLESS, false),
            None => return,
        };
        let is_other_codec = codec != transfer_syntax::compression(recognised);
        let hides_loss = is_lossy && !transfer_syntax::may_be_lossy(declared);
        // The header of a frame does not tell spectral selection from full progression.
        let is_progressive = [declared, recognised]
            == [
                transfer_syntax::JPEG_SPECTRAL_SELECTION_NON_HIERARCHICAL68,
                transfer_syntax::JPEG_FULL_PROGRESSION_NON_HIERARCHICAL1012,
            ];
        let is_included = transfer_syntax::includes(declared, recognised) || is_progressive;
        if let Some(bare) = bare {
            self.outline.fragments.push(bare);
            self.outline.codestream_starts.push(0);
            self.warn_of(tags::PIXEL_DATA, "it is a frame without an item around it");
        }
        if is_other_codec || hides_loss {
            self.outline.transfer_syntax = recognised.to_owned();
            self.warn_of(tags::TRANSFER_SYNTAX_UID, "the frames are not in the declared transfer syntax");
        } else if !is_included {
            let reason = "the frames are coded by another process than that of the declared transfer syntax";
            self.warn_of(tags::TRANSFER_SYNTAX_UID, reason);
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
