//! The transfer syntaxes of the standard.

use dicom_dictionary_std::uids;

/// The transfer syntaxes that DICOM defines and has not retired, and Explicit VR Big Endian (PS3.6 §A).
#[expect(deprecated, reason = "Explicit VR Big Endian is retired, and peers still propose it")]
pub const STANDARD_TRANSFER_SYNTAXES: [&str; 46] = [
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids::EXPLICIT_VR_BIG_ENDIAN,
    uids::MPEG2MPML,
    uids::MPEG2MPMLF,
    uids::MPEG2MPHL,
    uids::MPEG2MPHLF,
    uids::MPEG4HP41,
    uids::MPEG4HP41F,
    uids::MPEG4HP41BD,
    uids::MPEG4HP41BDF,
    uids::MPEG4HP422D,
    uids::MPEG4HP422DF,
    uids::MPEG4HP423D,
    uids::MPEG4HP423DF,
    uids::MPEG4HP42STEREO,
    uids::MPEG4HP42STEREOF,
    uids::HEVCMP51,
    uids::HEVCM10P51,
    uids::JPEGXL_LOSSLESS,
    uids::JPEGXLJPEG_RECOMPRESSION,
    uids::JPEGXL,
    uids::HTJ2K_LOSSLESS,
    uids::HTJ2K_LOSSLESS_RPCL,
    uids::HTJ2K,
    uids::JPIPHTJ2K_REFERENCED,
    uids::JPIPHTJ2K_REFERENCED_DEFLATE,
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEGLS_LOSSLESS,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
    uids::JPEG2000MC_LOSSLESS,
    uids::JPEG2000MC,
    uids::JPIP_REFERENCED,
    uids::JPIP_REFERENCED_DEFLATE,
    uids::RLE_LOSSLESS,
    uids::SMPTEST211020_UNCOMPRESSED_PROGRESSIVE_ACTIVE_VIDEO,
    uids::SMPTEST211020_UNCOMPRESSED_INTERLACED_ACTIVE_VIDEO,
    uids::SMPTEST211030PCM_DIGITAL_AUDIO,
    uids::DEFLATED_IMAGE_FRAME_COMPRESSION,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

    use super::*;

    #[test]
    fn the_list_is_that_of_an_independent_registry() {
        let registered: BTreeSet<_> = TransferSyntaxRegistry.iter().map(|syntax| syntax.uid()).collect();
        assert_eq!(BTreeSet::from(STANDARD_TRANSFER_SYNTAXES), registered);
    }
}
