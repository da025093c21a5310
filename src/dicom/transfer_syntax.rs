//! The transfer syntaxes of the standard (PS3.5 §10 and §A, PS3.6 §A): their UIDs under the keywords of the
//! standard, and the properties that follow from a UID.

use dicom_dictionary_std::uids;
pub use dicom_dictionary_std::uids::{
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, DEFLATED_IMAGE_FRAME_COMPRESSION,
    ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, HEVCM10P51, HEVCMP51,
    HTJ2K, HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, IMPLICIT_VR_LITTLE_ENDIAN, JPEG_BASELINE8_BIT,
    JPEG_EXTENDED12_BIT, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG2000, JPEG2000_LOSSLESS, JPEG2000MC,
    JPEG2000MC_LOSSLESS, JPEGLS_LOSSLESS, JPEGLS_NEAR_LOSSLESS, JPEGXL, JPEGXL_LOSSLESS,
    JPEGXLJPEG_RECOMPRESSION, JPIP_REFERENCED, JPIP_REFERENCED_DEFLATE, JPIPHTJ2K_REFERENCED,
    JPIPHTJ2K_REFERENCED_DEFLATE, MPEG2MPHL, MPEG2MPHLF, MPEG2MPML, MPEG2MPMLF, MPEG4HP41, MPEG4HP41BD,
    MPEG4HP41BDF, MPEG4HP41F, MPEG4HP42STEREO, MPEG4HP42STEREOF, MPEG4HP422D, MPEG4HP422DF, MPEG4HP423D,
    MPEG4HP423DF, RLE_LOSSLESS, SMPTEST211020_UNCOMPRESSED_INTERLACED_ACTIVE_VIDEO,
    SMPTEST211020_UNCOMPRESSED_PROGRESSIVE_ACTIVE_VIDEO, SMPTEST211030PCM_DIGITAL_AUDIO,
};

/// Explicit VR Big Endian, which is retired.
#[expect(deprecated, reason = "peers still propose it, and archives hold objects in it")]
pub const EXPLICIT_VR_BIG_ENDIAN: &str = uids::EXPLICIT_VR_BIG_ENDIAN;
/// JPEG Spectral Selection, Non-Hierarchical (Processes 6 and 8), which is retired.
#[expect(deprecated, reason = "archives hold objects in it")]
pub const JPEG_SPECTRAL_SELECTION_NON_HIERARCHICAL68: &str = uids::JPEG_SPECTRAL_SELECTION_NON_HIERARCHICAL68;
/// JPEG Full Progression, Non-Hierarchical (Processes 10 and 12), which is retired.
#[expect(deprecated, reason = "archives hold objects in it")]
pub const JPEG_FULL_PROGRESSION_NON_HIERARCHICAL1012: &str = uids::JPEG_FULL_PROGRESSION_NON_HIERARCHICAL1012;

/// The transfer syntaxes that the standard defines and has not retired, and Explicit VR Big Endian.
pub const STANDARD: [&str; 46] = [
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    MPEG2MPML,
    MPEG2MPMLF,
    MPEG2MPHL,
    MPEG2MPHLF,
    MPEG4HP41,
    MPEG4HP41F,
    MPEG4HP41BD,
    MPEG4HP41BDF,
    MPEG4HP422D,
    MPEG4HP422DF,
    MPEG4HP423D,
    MPEG4HP423DF,
    MPEG4HP42STEREO,
    MPEG4HP42STEREOF,
    HEVCMP51,
    HEVCM10P51,
    JPEGXL_LOSSLESS,
    JPEGXLJPEG_RECOMPRESSION,
    JPEGXL,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    HTJ2K,
    JPIPHTJ2K_REFERENCED,
    JPIPHTJ2K_REFERENCED_DEFLATE,
    JPEG_BASELINE8_BIT,
    JPEG_EXTENDED12_BIT,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEGLS_LOSSLESS,
    JPEGLS_NEAR_LOSSLESS,
    JPEG2000_LOSSLESS,
    JPEG2000,
    JPEG2000MC_LOSSLESS,
    JPEG2000MC,
    JPIP_REFERENCED,
    JPIP_REFERENCED_DEFLATE,
    RLE_LOSSLESS,
    SMPTEST211020_UNCOMPRESSED_PROGRESSIVE_ACTIVE_VIDEO,
    SMPTEST211020_UNCOMPRESSED_INTERLACED_ACTIVE_VIDEO,
    SMPTEST211030PCM_DIGITAL_AUDIO,
    DEFLATED_IMAGE_FRAME_COMPRESSION,
];

/// The beginning of the UIDs of all transfer syntaxes of pixels in JPEG, JPEG-LS, JPEG 2000 and JPEG XL, and
/// of video.
const JPEG_AND_VIDEO: &str = "1.2.840.10008.1.2.4.";
/// The beginning of the UIDs of the transfer syntaxes of video (PS3.5 §8.2.5 to §8.2.9).
const VIDEO: &str = "1.2.840.10008.1.2.4.10";
/// The beginning of the UIDs of the transfer syntaxes of real-time video and audio (PS3.5 §8.2.12).
const REAL_TIME: &str = "1.2.840.10008.1.2.7.";

/// Whether the data set after the file meta information is deflated (PS3.5 §A.5).
pub fn is_deflated(transfer_syntax: &str) -> bool {
    matches!(
        transfer_syntax,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN | JPIP_REFERENCED_DEFLATE | JPIPHTJ2K_REFERENCED_DEFLATE
    )
}

/// Whether pixels are a video stream.
pub fn is_video(transfer_syntax: &str) -> bool {
    transfer_syntax.starts_with(VIDEO)
}

/// Whether numbers are big endian.
pub fn is_big_endian(transfer_syntax: &str) -> bool {
    transfer_syntax == EXPLICIT_VR_BIG_ENDIAN
}

/// Whether web services may use a transfer syntax: all but Implicit VR Little Endian and Explicit VR Big
/// Endian (PS3.18 §8.6.2.1, §8.7.3).
pub fn is_of_web_services(transfer_syntax: &str) -> bool {
    !matches!(transfer_syntax, IMPLICIT_VR_LITTLE_ENDIAN | EXPLICIT_VR_BIG_ENDIAN)
}

/// The transfer syntax in which web services give what is stored in `transfer_syntax`.
pub fn of_web_services(transfer_syntax: &str) -> &str {
    if is_of_web_services(transfer_syntax) { transfer_syntax } else { EXPLICIT_VR_LITTLE_ENDIAN }
}

/// Whether pixels are not compressed, and numbers are little endian.
pub fn is_native_little_endian(transfer_syntax: &str) -> bool {
    matches!(
        transfer_syntax,
        IMPLICIT_VR_LITTLE_ENDIAN | EXPLICIT_VR_LITTLE_ENDIAN | DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    )
}

/// Whether pixels are compressed, or a stream of video or audio (PS3.5 §A.4 to §A.9).
pub fn is_compressed(transfer_syntax: &str) -> bool {
    transfer_syntax.starts_with(JPEG_AND_VIDEO)
        || transfer_syntax.starts_with(REAL_TIME)
        || matches!(transfer_syntax, RLE_LOSSLESS | DEFLATED_IMAGE_FRAME_COMPRESSION)
}

/// Whether pixels have been or may have been compressed with loss (PS3.5 §A.4).
pub fn may_be_lossy(transfer_syntax: &str) -> bool {
    let is_lossless = matches!(
        transfer_syntax,
        JPEG_LOSSLESS
            | JPEG_LOSSLESS_SV1
            | JPEGLS_LOSSLESS
            | JPEG2000_LOSSLESS
            | JPEG2000MC_LOSSLESS
            | HTJ2K_LOSSLESS
            | HTJ2K_LOSSLESS_RPCL
            | JPEGXL_LOSSLESS
    );
    transfer_syntax.starts_with(JPEG_AND_VIDEO) && !is_lossless
}

/// A family of encapsulated frames that one decoder reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None: native frames, each in fragments of its own (PS3.5 §A.4).
    Encapsulated,
    /// Deflated frames (PS3.5 §8.2.16).
    DeflatedFrame,
    /// Run length encoding (PS3.5 §8.2.2).
    Rle,
    /// JPEG (PS3.5 §8.2.1).
    Jpeg,
    /// JPEG-LS (PS3.5 §8.2.3).
    JpegLs,
    /// JPEG 2000, its Part 2, and High-Throughput JPEG 2000 (PS3.5 §8.2.4, §8.2.14).
    Jpeg2000,
}

/// The family of the frames of a transfer syntax; `None` if they are not encapsulated, or of another family.
pub fn compression(transfer_syntax: &str) -> Option<Compression> {
    Some(match transfer_syntax {
        ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN => Compression::Encapsulated,
        DEFLATED_IMAGE_FRAME_COMPRESSION => Compression::DeflatedFrame,
        RLE_LOSSLESS => Compression::Rle,
        JPEG_BASELINE8_BIT
        | JPEG_EXTENDED12_BIT
        | JPEG_SPECTRAL_SELECTION_NON_HIERARCHICAL68
        | JPEG_FULL_PROGRESSION_NON_HIERARCHICAL1012
        | JPEG_LOSSLESS
        | JPEG_LOSSLESS_SV1 => Compression::Jpeg,
        JPEGLS_LOSSLESS | JPEGLS_NEAR_LOSSLESS => Compression::JpegLs,
        JPEG2000_LOSSLESS | JPEG2000 | JPEG2000MC_LOSSLESS | JPEG2000MC | HTJ2K_LOSSLESS
        | HTJ2K_LOSSLESS_RPCL | HTJ2K => Compression::Jpeg2000,
        _ => return None,
    })
}

/// Whether each codestream of transfer syntax `narrow` is one of transfer syntax `wide` too (PS3.5 §8.2,
/// §A.4).
pub fn includes(wide: &str, narrow: &str) -> bool {
    wide == narrow
        || matches!(
            (wide, narrow),
            (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1)
                | (JPEG_EXTENDED12_BIT, JPEG_BASELINE8_BIT)
                | (JPEGLS_NEAR_LOSSLESS, JPEGLS_LOSSLESS)
                | (JPEG2000 | JPEG2000MC_LOSSLESS | JPEG2000MC, JPEG2000_LOSSLESS)
                | (JPEG2000MC, JPEG2000)
                | (HTJ2K_LOSSLESS | HTJ2K, HTJ2K_LOSSLESS_RPCL)
                | (HTJ2K, HTJ2K_LOSSLESS)
        )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

    use super::*;

    #[test]
    fn the_list_is_that_of_an_independent_registry() {
        let registered: BTreeSet<_> = TransferSyntaxRegistry.iter().map(|syntax| syntax.uid()).collect();
        assert_eq!(BTreeSet::from(STANDARD), registered);
    }

    #[test]
    fn transfer_syntaxes_that_may_have_lost_something_are_told_from_the_others() {
        for (leaf, expected) in [("1", false), ("5", false), ("4.70", false), ("4.50", true), ("4.91", true)]
        {
            assert_eq!(may_be_lossy(&format!("1.2.840.10008.1.2.{leaf}")), expected, "{leaf}");
        }
    }
}
