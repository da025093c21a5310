//! The media type of compressed frames in each transfer syntax (PS3.18 Table 8.7.3-5).

/// Explicit VR Little Endian: the default of all resources (PS3.18 §8.7.3.4).
pub(in crate::http) const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// The media type of bytes that are not compressed, or in no way that has a type of its own.
pub(in crate::http) const OCTET_STREAM: &str = "application/octet-stream";

/// The media type of frames in a transfer syntax; `None` if it does not compress or the standard names no type.
pub(in crate::http) fn of_frames(transfer_syntax: &str) -> Option<&'static str> {
    let leaf = transfer_syntax.strip_prefix("1.2.840.10008.1.2.")?;
    Some(match leaf {
        "5" => "image/dicom-rle",
        "4.50" | "4.51" | "4.57" | "4.70" => "image/jpeg",
        "4.80" | "4.81" => "image/jls",
        "4.90" | "4.91" => "image/jp2",
        "4.92" | "4.93" => "image/jpx",
        "4.201" | "4.202" | "4.203" => "image/jphc",
        "4.110" | "4.111" | "4.112" => "image/jxl",
        "4.100" | "4.100.1" | "4.101" | "4.101.1" => "video/mpeg",
        "4.107" | "4.108" => "video/H265",
        _ if leaf.starts_with("4.10") => "video/mp4",
        _ => return None,
    })
}

/// Whether what is stored in a transfer syntax has, or may have, lost something (PS3.5 §A.4).
pub(in crate::http) fn may_be_lossy(transfer_syntax: &str) -> bool {
    let Some(leaf) = transfer_syntax.strip_prefix("1.2.840.10008.1.2.4.") else { return false };
    let is_lossless = ["57", "70", "80", "90", "92", "201", "202", "110"].contains(&leaf);
    !is_lossless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_lost_something_is_known() {
        for (leaf, expected) in [("1", false), ("5", false), ("4.70", false), ("4.50", true), ("4.91", true)]
        {
            assert_eq!(may_be_lossy(&format!("1.2.840.10008.1.2.{leaf}")), expected, "{leaf}");
        }
    }

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
