//! Kinds of attributes and of values, by their tags and VRs.

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::deidentify::values;
use crate::dicom::tags;

/// UIDs that name parts of the standard, of a vendor's dictionary or of a coding scheme, and no object: they
/// are structural, and stay (PS3.15 §E.3.9).
pub(super) const STRUCTURAL_UIDS: [u32; 19] = [
    0x0000_0002,
    0x0000_0003,
    0x0008_0016,
    0x0008_001A,
    0x0008_001B,
    0x0008_0062,
    0x0008_010C,
    0x0008_010D,
    0x0008_0117,
    0x0008_0118,
    0x0008_040E,
    0x0008_1150,
    0x0008_115A,
    0x0008_3002,
    0x0034_0003,
    0x0400_0010,
    0x0400_0510,
    0x3010_0052,
    0x3010_0053,
];

/// Whether all attributes of a group are left out: curves, overlays, text of a retired form of compression,
/// and the tables that go with pixel data.
pub(super) fn is_dropped_group(tag: Tag) -> bool {
    match tag.group() {
        0x1000 | 0x1010 => true,
        0x7FE0 => !tags::is_pixel_data(tag),
        group => matches!(group >> 8, 0x50 | 0x60 | 0x7F),
    }
}

/// Whether large values of this VR are usual: binary data, and text, which is cleaned.
pub(super) fn may_be_bulk(vr: Vr) -> bool {
    matches!(&vr.0, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"UN") || is_free_text(vr)
}

/// Whether a value of this VR is text that people may type.
pub(super) fn is_free_text(vr: Vr) -> bool {
    matches!(&vr.0, b"AE" | b"LO" | b"LT" | b"PN" | b"SH" | b"ST" | b"UC" | b"UR" | b"UT")
}

/// Whether a value of this VR holds nothing but numbers or a defined term.
pub(super) fn is_number_or_term(vr: Vr, value: &[u8]) -> bool {
    let is_of_term =
        |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_ \\\0".contains(byte);
    match &vr.0 {
        b"CS" => value.iter().all(is_of_term),
        b"DS" | b"IS" => values::is_what_it_says(vr, value),
        b"FL" | b"FD" | b"SS" | b"US" | b"SL" | b"UL" => true,
        _ => false,
    }
}
