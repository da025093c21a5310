//! The dictionary of standard attributes: tags, keywords and value representations (PS3.6 §6).

use dicom_core::VR;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_dictionary_std::StandardDataDictionary;

use crate::dicom::attributes::{Tag, Vr};

/// The tag of a standard attribute by its keyword, in the keyword's own spelling.
///
/// For a repeating group the result is its first tag: `OverlayData` is (6000,3000).
pub fn tag_by_keyword(keyword: &str) -> Option<Tag> {
    let entry = StandardDataDictionary.by_name(keyword)?;
    let tag = entry.tag();
    Some(Tag(u32::from(tag.group()) << 16 | u32::from(tag.element())))
}

/// The keyword of a standard attribute; none for private ones, private creators and group lengths.
pub fn keyword(tag: Tag) -> Option<&'static str> {
    if tag.is_private() || tag.element() == 0 {
        return None;
    }
    StandardDataDictionary.by_tag(inner(tag)).map(|entry| entry.alias)
}

/// The value representation that an attribute has by the dictionary, UN if it is unknown.
///
/// `is_signed` is whether Pixel Representation is 1, which decides between SS and US. Where the dictionary
/// allows OB or OW, or US or OW, the result is OW, as in implicit VR (PS3.5 §A.1).
pub fn vr(tag: Tag, is_signed: bool) -> Vr {
    if tag.is_private() {
        return match tag.element() {
            0 => Vr(*b"UL"),
            0x0010..=0x00FF => Vr(*b"LO"),
            _ => Vr(*b"UN"),
        };
    }
    match StandardDataDictionary.by_tag(inner(tag)).map(|entry| entry.vr) {
        Some(VirtualVr::Exact(vr)) => Vr(letters(vr)),
        Some(VirtualVr::Xs) => Vr(if is_signed { *b"SS" } else { *b"US" }),
        Some(VirtualVr::Ox | VirtualVr::Px | VirtualVr::Lt) => Vr(*b"OW"),
        Some(_) | None => Vr(*b"UN"),
    }
}

/// Whether an attribute may have a value representation by the dictionary. UN, and attributes that are not in
/// the dictionary, may be anything (PS3.5 §6.2.2).
pub fn allows(tag: Tag, vr: Vr) -> bool {
    let entry = if tag.is_private() { None } else { StandardDataDictionary.by_tag(inner(tag)) };
    let one_of = |letters: &[&[u8; 2]]| letters.contains(&&vr.0);
    &vr.0 == b"UN"
        || match entry.map(|entry| entry.vr) {
            Some(VirtualVr::Exact(exact)) => vr.0 == letters(exact) || exact == VR::UN,
            Some(VirtualVr::Xs) => one_of(&[b"SS", b"US"]),
            Some(VirtualVr::Ox | VirtualVr::Px) => one_of(&[b"OB", b"OW"]),
            Some(VirtualVr::Lt) => one_of(&[b"OW", b"SS", b"US"]),
            Some(_) | None => true,
        }
}

fn inner(tag: Tag) -> dicom_core::Tag {
    dicom_core::Tag(tag.group(), tag.element())
}

fn letters(vr: VR) -> [u8; 2] {
    vr.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_and_tags_lead_to_each_other() {
        for (name, tag) in [("PatientName", 0x0010_0010), ("StudyInstanceUID", 0x0020_000D)] {
            assert_eq!(tag_by_keyword(name), Some(Tag(tag)));
            assert_eq!(keyword(Tag(tag)), Some(name));
        }
        assert_eq!(tag_by_keyword("OverlayData"), Some(Tag(0x6000_3000)));
        assert_eq!(keyword(Tag(0x6002_3000)), Some("OverlayData"));
        assert_eq!(tag_by_keyword("patientname"), None);
        assert_eq!(keyword(Tag(0x0009_0010)), None);
    }

    #[test]
    fn the_dictionary_may_leave_a_choice() {
        for (tag, vr, expected) in [
            (0x0010_0020, b"LO", true),
            (0x0010_0020, b"UN", true),
            (0x0010_0020, b"SH", false),
            (0x0028_0106, b"SS", true),
            (0x0028_0106, b"OW", false),
            (0x7FE0_0010, b"OB", true),
            (0x0028_3006, b"US", true),
            (0x0009_1001, b"FD", true),
            (0x0008_9999, b"FD", true),
        ] {
            assert_eq!(allows(Tag(tag), Vr(*vr)), expected, "{tag:08X}");
        }
    }

    #[test]
    fn representations_follow_the_dictionary_and_its_context() {
        for (tag, is_signed, expected) in [
            (0x0010_0010, false, "PN"),
            (0x0008_0000, false, "UL"),
            (0x0009_0000, false, "UL"),
            (0x0009_0010, false, "LO"),
            (0x0009_1001, false, "UN"),
            (0x0028_0106, false, "US"),
            (0x0028_0106, true, "SS"),
            (0x7FE0_0010, false, "OW"),
            (0x0028_3006, false, "OW"),
            (0x6004_3000, false, "OW"),
            (0x5002_0005, false, "US"),
            (0x0020_31AB, false, "CS"),
            (0x0040_A730, false, "SQ"),
            (0x0008_9999, false, "UN"),
        ] {
            assert_eq!(vr(Tag(tag), is_signed).as_str(), expected, "{tag:08X}");
        }
    }
}
