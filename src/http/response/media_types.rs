//! The media type of compressed frames in each transfer syntax (PS3.18 Table 8.7.3-5).

/// The media type of bytes that are not compressed, or in no way that has a type of its own.
pub(in crate::http) const OCTET_STREAM: &str = "application/octet-stream";

/// The media type of frames in a transfer syntax; `None` if it does not compress or the standard names no
/// type.
pub(in crate::http) fn of_frames(uid: &str) -> Option<&'static str> {
    use crate::dicom::transfer_syntax::*;

    Some(match uid {
        RLE_LOSSLESS => "image/dicom-rle",
        JPEG_BASELINE8_BIT | JPEG_EXTENDED12_BIT | JPEG_LOSSLESS | JPEG_LOSSLESS_SV1 => "image/jpeg",
        JPEGLS_LOSSLESS | JPEGLS_NEAR_LOSSLESS => "image/jls",
        JPEG2000_LOSSLESS | JPEG2000 => "image/jp2",
        JPEG2000MC_LOSSLESS | JPEG2000MC => "image/jpx",
        HTJ2K_LOSSLESS | HTJ2K_LOSSLESS_RPCL | HTJ2K => "image/jphc",
        JPEGXL_LOSSLESS | JPEGXLJPEG_RECOMPRESSION | JPEGXL => "image/jxl",
        MPEG2MPML | MPEG2MPMLF | MPEG2MPHL | MPEG2MPHLF => "video/mpeg",
        HEVCMP51 | HEVCM10P51 => "video/H265",
        _ if is_video(uid) => "video/mp4",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_media_type_of_their_transfer_syntax() {
        for (uid, expected) in [
            ("1.2.840.10008.1.2.1", None),
            ("1.2.840.10008.1.2.1.98", None),
            ("1.2.840.10008.1.2.4.70", Some("image/jpeg")),
            ("1.2.840.10008.1.2.4.102.1", Some("video/mp4")),
            ("1.2.840.10008.1.2.4.100", Some("video/mpeg")),
            ("1.2.840.10008.1.2.5", Some("image/dicom-rle")),
            ("1.2.3", None),
        ] {
            assert_eq!(of_frames(uid), expected, "{uid}");
        }
    }
}
