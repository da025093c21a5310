//! Element headers (PS3.5 §7.1), and decisions by a header: the encoding, and whether a value is kept in
//! memory.

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::dictionary;
use crate::dicom::jpeg_2000;
use crate::dicom::rle_header;
use crate::dicom::tags;

/// The length field of an element or item that ends with a delimiter.
pub(super) const UNDEFINED: u32 = u32::MAX;

/// Values of bulky VRs up to this many bytes are kept.
const KEPT_BINARY_BYTES: u32 = 1024;
/// Values of the other VRs that may be bulk data up to this many bytes are kept.
const KEPT_OTHER_BYTES: u32 = 64 * 1024;

/// The encoding of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ElementEncoding {
    /// Whether headers state the VR.
    pub(super) is_explicit: bool,
    /// Whether numbers are big endian.
    pub(super) is_big_endian: bool,
}

impl ElementEncoding {
    pub(super) const IMPLICIT: Self = Self { is_explicit: false, is_big_endian: false };
    pub(super) const EXPLICIT: Self = Self { is_explicit: true, is_big_endian: false };
    pub(super) const BIG_ENDIAN: Self = Self { is_explicit: true, is_big_endian: true };

    fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// A header as it was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ElementHeader {
    pub(crate) tag: Tag,
    /// `None` in implicit VR and for items and delimiters.
    pub(crate) vr: Option<Vr>,
    /// Bytes of the value, or [`UNDEFINED`].
    pub(crate) length: u32,
    /// Bytes of the header itself.
    pub(crate) size: usize,
}

/// Reads the header at the start of `window`. If there are too few bytes, the error is the number that is
/// needed.
///
/// In explicit VR, an element whose VR is not two upper case letters is read as an implicit one, and
/// unknown letters for a VR that the standard may add one day, with a length of 32 bits (PS3.5 §6.2, note 4).
pub(super) fn read(window: &[u8], encoding: ElementEncoding) -> Result<ElementHeader, usize> {
    let Some(&[g0, g1, e0, e1, v0, v1, l0, l1]) = window.first_chunk() else { return Err(8) };
    let group = encoding.u16([g0, g1]);
    let tag = Tag(u32::from(group) << 16 | u32::from(encoding.u16([e0, e1])));
    let is_implicit = !encoding.is_explicit || !v0.is_ascii_uppercase() || !v1.is_ascii_uppercase();
    if group != 0xFFFE && encoding.is_explicit && is_blank_vr(tag, [v0, v1], [l0, l1]) {
        return Ok(ElementHeader { tag, vr: None, length: encoding.u16([l0, l1]).into(), size: 8 });
    }
    if group == 0xFFFE || is_implicit {
        return Ok(ElementHeader { tag, vr: None, length: encoding.u32([v0, v1, l0, l1]), size: 8 });
    }
    let vr = Vr([v0, v1]);
    if has_short_length(vr) {
        return Ok(ElementHeader { tag, vr: Some(vr), length: encoding.u16([l0, l1]).into(), size: 8 });
    }
    let Some(&[.., l0, l1, l2, l3]) = window.first_chunk::<12>() else { return Err(12) };
    Ok(ElementHeader { tag, vr: Some(vr), length: encoding.u32([l0, l1, l2, l3]), size: 12 })
}

/// Reads the header at the start of `window` in Explicit VR Little Endian; `None` if bytes are missing.
pub(crate) fn read_explicit(window: &[u8]) -> Option<ElementHeader> {
    read(window, ElementEncoding::EXPLICIT).ok()
}

/// Whether two bytes in the place of a VR are a mark for "unknown" that old toolkits wrote, with a length of
/// 16 bits. As part of a length of 32 bits, spaces, hyphens and question marks would make it a large one;
/// zeros make one of up to 64 KiB, which is told apart by the tag: one whose VR is short has no such length.
fn is_blank_vr(tag: Tag, vr: [u8; 2], length: [u8; 2]) -> bool {
    let has_short_vr = || has_short_length(dictionary::vr(tag, false));
    match &vr {
        b"  " | b"--" | b"??" => has_short_vr() || length[1] == 0,
        [0, 0] => length != [0, 0] && has_short_vr(),
        _ => false,
    }
}

/// Whether the header at the start of `window`, in explicit VR, has a mark for "unknown" in place of its VR.
pub(super) fn has_blank_vr(window: &[u8]) -> bool {
    let Some(&[g0, g1, e0, e1, v0, v1, l0, l1]) = window.first_chunk() else { return false };
    if v0.is_ascii_uppercase() {
        return false;
    }
    let encoding = ElementEncoding::EXPLICIT;
    let tag = Tag(u32::from(encoding.u16([g0, g1])) << 16 | u32::from(encoding.u16([e0, e1])));
    tag.group() != 0xFFFE && is_blank_vr(tag, [v0, v1], [l0, l1])
}

/// Whether the VR is one of those with a length of 16 bits (PS3.5 Table 7.1-2).
pub(crate) fn has_short_length(vr: Vr) -> bool {
    matches!(
        &vr.0,
        b"AE" | b"AS" | b"AT" | b"CS" | b"DA" | b"DS" | b"DT" | b"FD" | b"FL" | b"IS" | b"LO" | b"LT" | b"PN"
    ) || matches!(&vr.0, b"SH" | b"SL" | b"SS" | b"ST" | b"TM" | b"UI" | b"UL" | b"US")
}

fn has_long_length(vr: Vr) -> bool {
    matches!(
        &vr.0,
        b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
    )
}

/// The properties of a data set that its first 8 bytes show.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstElement {
    /// The encoding of the first element.
    pub(super) encoding: ElementEncoding,
    /// Whether the element has a known VR, so that `encoding` is certain.
    pub(super) has_known_vr: bool,
    /// Whether a data set can begin with these bytes.
    pub(super) is_plausible: bool,
}

/// Recognises the encoding of a data set by its first element.
pub(super) fn recognise(start: [u8; 8]) -> FirstElement {
    let [g0, g1, _, _, v0, v1, l0, l1] = start;
    let vr = Vr([v0, v1]);
    let has_known_vr = has_short_length(vr) || has_long_length(vr);
    let is_explicit = v0.is_ascii_uppercase() && v1.is_ascii_uppercase();
    // Data sets begin with a low group, which is a high one in the wrong byte order.
    let is_big_endian = u16::from_be_bytes([g0, g1]) < u16::from_le_bytes([g0, g1]);
    let encoding = ElementEncoding { is_explicit, is_big_endian };
    let length = encoding.u32([v0, v1, l0, l1]);
    let has_low_group = (1..=0x40).contains(&encoding.u16([g0, g1]));
    // Implicit VR is always little endian. Files of other kinds would pass for the big endian that there is
    // not, as the AppleDouble files in zip archives of a Mac.
    let may_be_implicit = !is_explicit && !is_big_endian && length < 1 << 20;
    let may_be_unknown_vr = is_explicit && length < 1 << 20;
    let is_plausible = has_low_group && (has_known_vr || may_be_implicit || may_be_unknown_vr);
    FirstElement { encoding, has_known_vr, is_plausible }
}

/// Whether an element in what should be implicit VR is explicit without doubt: the letters of a VR, and a
/// length that would be a large one if they were part of it.
pub(super) fn is_explicit_after_all(start: [u8; 8]) -> bool {
    let [_, _, _, _, v0, v1, l0, l1] = start;
    has_short_length(Vr([v0, v1])) && (l0, l1) != (0, 0)
}

/// Whether `value` starts with the header of an item that fits into `length` bytes.
pub(super) fn starts_with_item(value: [u8; 8], length: u32, encoding: ElementEncoding) -> bool {
    read(&value, encoding)
        .is_ok_and(|item| item.tag == tags::ITEM && (item.length == UNDEFINED || item.length <= length - 8))
}

/// Whether the dictionary has a sequence under this tag; `None` if it does not know the tag.
pub(super) fn is_sequence_by_dictionary(tag: Tag) -> Option<bool> {
    match &dictionary::vr(tag, false).0 {
        b"UN" => None,
        vr => Some(vr == b"SQ"),
    }
}

/// Whether a value is left out of memory, as DICOM JSON may refer to it by BulkDataURI (PS3.18 §F.2.2).
pub(super) fn is_bulk(header: &ElementHeader) -> bool {
    match header.tag.0 {
        _ if tags::is_pixel_data(header.tag) || header.tag == tags::ENCAPSULATED_DOCUMENT => return true,
        // The extended offset table and look-up tables: frames and colours are found by them, so they are
        // kept whatever their size.
        0x7FE0_0001 | 0x7FE0_0002 | 0x0028_3006 | 0x0028_1201..=0x0028_1203 | 0x0028_1221..=0x0028_1223 => {
            return false;
        }
        _ => {}
    }
    if header.length <= KEPT_BINARY_BYTES {
        return false;
    }
    match &header.vr.unwrap_or_else(|| dictionary::vr(header.tag, false)).0 {
        b"OB" | b"OW" | b"OD" | b"OF" | b"OL" | b"OV" | b"UN" => true,
        b"DS" | b"FL" | b"FD" | b"IS" | b"LT" | b"SL" | b"SS" | b"ST" | b"SV" | b"UC" | b"UL" | b"US"
        | b"UT" | b"UV" => header.length > KEPT_OTHER_BYTES,
        _ => false,
    }
}

/// Whether bytes are a file header, preamble, prefix and group 0002, and nothing else (PS3.10 §7.1); also
/// none at all.
pub(crate) fn is_file_head(head: &[u8]) -> bool {
    let without_preamble = head.get(128..).and_then(|rest| rest.strip_prefix(b"DICM"));
    let mut rest = without_preamble.unwrap_or(head);
    while !rest.is_empty() {
        let Ok(header) = read(rest, ElementEncoding::EXPLICIT) else { return false };
        let end = (header.size as u64).saturating_add(header.length.into());
        match usize::try_from(end).ok().and_then(|end| rest.get(end..)) {
            Some(after) if header.tag.group() == 2 => rest = after,
            _ => return false,
        }
    }
    true
}

/// Whether a fragment begins as a codestream or an image file begins. No Basic Offset Table begins so: its
/// first offset is 0 (PS3.5 §A.4).
pub(super) fn starts_codestream(fragment: &[u8]) -> bool {
    const JPEG_XL: &[u8] = b"\0\0\0\x0CJXL \r\n\x87\n";
    let starts: [&[u8]; 3] = [&[0xFF, 0xD8, 0xFF], &[0xFF, 0x0A], JPEG_XL];
    rle_header::may_start(fragment)
        || jpeg_2000::is_jpeg_2000(fragment)
        || starts.iter().any(|start| fragment.starts_with(start))
}
