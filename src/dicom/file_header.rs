//! The file header of an instance that came without a header, or with one by which readers cannot find or
//! read the data set (PS3.10 §7.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::dictionary;
use crate::dicom::explicit::{IMPLEMENTATION_CLASS_UID, push_element};
use crate::dicom::failure::Warning;
use crate::dicom::scan::{EventKind, Outline, ScanEvent};
use crate::dicom::tags;
use crate::dicom::value_reader;

/// Bytes of the preamble and the prefix.
const PREAMBLE_AND_PREFIX: u64 = 132;
/// Bytes of the element that holds the length of group 0002.
const GROUP_LENGTH_ELEMENT: u64 = 12;
/// The longest value of the stored group 0002 that the header takes over. The header is part of the record
/// of the instance.
const MAX_VALUE_BYTES: usize = 4096;

/// A file header to give in place of the stored one, if there is a stored one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// The number of bytes at the start of the stored object that the header stands for: all that comes
    /// before the data set. 0 if the object is a bare data set.
    pub replaces: u64,
    /// Preamble, prefix and group 0002.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Makes the header of a scanned object that has none which every reader understands, and adds what is wrong
/// to `warnings`. `None` if the stored header can be given as it is.
///
/// A stored header is given as it is if it has a preamble and a prefix, if its first element is the right
/// length of group 0002, if all its elements state their VR, and if it names the transfer syntax of the data
/// set. The elements of another header are taken over.
pub fn replacement(
    outline: &Outline,
    sop_class: &str,
    sop_instance: &str,
    warnings: &mut Vec<Warning>,
) -> Option<FileHeader> {
    if is_usable(outline) {
        return None;
    }
    let mut warn = |tag, reason: &str| warnings.push(Warning { tag, reason: reason.to_owned() });
    warn(tags::FILE_META_INFORMATION_GROUP_LENGTH, "the file header is missing or wrong; files get another");
    let mut elements = BTreeMap::new();
    for event in &outline.file_meta {
        let value = value(outline, event);
        if value.len() > MAX_VALUE_BYTES {
            warn(event.tag, "too long for the file header that files get; left out");
        } else {
            let vr = event.vr.filter(|&vr| value_reader::is_known(vr));
            let vr = vr.unwrap_or_else(|| dictionary::vr(event.tag, false));
            elements.entry(event.tag).or_insert((vr, value));
        }
    }
    elements.remove(&tags::FILE_META_INFORMATION_GROUP_LENGTH);
    let ui = Vr(*b"UI");
    elements.insert(tags::TRANSFER_SYNTAX_UID, (ui, outline.transfer_syntax.as_bytes()));
    for (tag, vr, value) in [
        (tags::FILE_META_INFORMATION_VERSION, Vr(*b"OB"), [0, 1].as_slice()),
        (tags::MEDIA_STORAGE_SOP_CLASS_UID, ui, sop_class.as_bytes()),
        (tags::MEDIA_STORAGE_SOP_INSTANCE_UID, ui, sop_instance.as_bytes()),
        (tags::IMPLEMENTATION_CLASS_UID, ui, IMPLEMENTATION_CLASS_UID.as_bytes()),
    ] {
        elements.entry(tag).or_insert((vr, value));
    }
    Some(FileHeader { replaces: outline.data_set_offset, bytes: written(&elements) })
}

fn is_usable(outline: &Outline) -> bool {
    let Some(first) = outline.file_meta.first() else { return false };
    let declared = outline.file_meta.iter().find(|event| event.tag == tags::TRANSFER_SYNTAX_UID);
    let declared = declared.map(|event| value(outline, event)).unwrap_or_default();
    let declared = String::from_utf8_lossy(declared);
    let length = value(outline, first).try_into().map(u32::from_le_bytes);
    let length_offset = PREAMBLE_AND_PREFIX + GROUP_LENGTH_ELEMENT - 4;
    first.tag == tags::FILE_META_INFORMATION_GROUP_LENGTH
        && first.offset == length_offset
        && length.is_ok_and(|length| length_offset + 4 + u64::from(length) == outline.data_set_offset)
        && outline.file_meta.iter().all(|event| event.vr.is_some_and(value_reader::is_known))
        && declared.trim_matches(['\0', ' ']) == outline.transfer_syntax
}

fn value<'a>(outline: &'a Outline, event: &ScanEvent) -> &'a [u8] {
    match &event.kind {
        EventKind::Value(range) => outline.head.get(range.clone()).unwrap_or_default(),
        _ => &[],
    }
}

fn written(elements: &BTreeMap<Tag, (Vr, &[u8])>) -> Vec<u8> {
    let mut group = Vec::with_capacity(512);
    for (tag, (vr, value)) in elements {
        push_element(&mut group, *tag, *vr, value);
    }
    let mut bytes = vec![0; PREAMBLE_AND_PREFIX as usize - 4];
    bytes.extend_from_slice(b"DICM");
    let length = (group.len() as u32).to_le_bytes();
    push_element(&mut bytes, tags::FILE_META_INFORMATION_GROUP_LENGTH, Vr(*b"UL"), &length);
    bytes.append(&mut group);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::build::DataSet;
    use crate::dicom::scan::tests::scan;
    use crate::dicom::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};

    fn data_set() -> Vec<u8> {
        DataSet::explicit().text(0x0008_0016, "UI", "1.2.3").text(0x0008_0018, "UI", "1.2.3.4").bytes()
    }

    fn replaced(object: &[u8]) -> (Option<FileHeader>, usize) {
        let mut warnings = Vec::new();
        let header = replacement(&scan(object).unwrap(), "1.2.3", "1.2.3.4", &mut warnings);
        (header, warnings.len())
    }

    fn group(length: Option<u32>, transfer_syntax: &str) -> Vec<u8> {
        let group = DataSet::explicit()
            .text(0x0002_0010, "UI", transfer_syntax)
            .text(0x0002_0016, "AE", "SENDER")
            .bytes();
        let length = length.map(|wrong| DataSet::explicit().element(0x0002_0000, "UL", &wrong.to_le_bytes()));
        [length.map(DataSet::bytes).unwrap_or_default(), group].concat()
    }

    #[test]
    fn a_header_that_can_be_read_stays() {
        let whole = DataSet::explicit().raw(&data_set()).file(EXPLICIT_VR_LITTLE_ENDIAN);
        assert_eq!(replaced(&whole), (None, 0));
        let right = group(None, EXPLICIT_VR_LITTLE_ENDIAN).len() as u32;
        let own =
            [&[7; 128], b"DICM".as_slice(), &group(Some(right), EXPLICIT_VR_LITTLE_ENDIAN), &data_set()];
        assert_eq!(replaced(&own.concat()), (None, 0));
    }

    #[test]
    fn every_other_header_is_replaced_by_one_that_can_be_read() {
        let preamble = [&[7; 128], b"DICM".as_slice()].concat();
        let right = group(None, EXPLICIT_VR_LITTLE_ENDIAN).len() as u32;
        let implicit_group = DataSet::implicit().text(0x0002_0010, "UI", EXPLICIT_VR_LITTLE_ENDIAN).bytes();
        for (name, head, has_sender) in [
            ("none", Vec::new(), false),
            ("prefix only", b"DICM".to_vec(), false),
            ("preamble only", preamble.clone(), false),
            ("no preamble", group(Some(right), EXPLICIT_VR_LITTLE_ENDIAN), true),
            (
                "no preamble but prefix",
                [b"DICM".as_slice(), &group(Some(right), EXPLICIT_VR_LITTLE_ENDIAN)].concat(),
                true,
            ),
            ("no length", [&preamble[..], &group(None, EXPLICIT_VR_LITTLE_ENDIAN)].concat(), true),
            ("wrong length", [&preamble[..], &group(Some(7), EXPLICIT_VR_LITTLE_ENDIAN)].concat(), true),
            (
                "wrong transfer syntax",
                [&preamble[..], &group(Some(right - 2), IMPLICIT_VR_LITTLE_ENDIAN)].concat(),
                true,
            ),
            ("no VR", [&preamble[..], &implicit_group].concat(), false),
        ] {
            let (header, warnings) = replaced(&[head.clone(), data_set()].concat());
            let header = header.unwrap_or_else(|| panic!("{name}"));
            assert_eq!((header.replaces, warnings), (head.len() as u64, 1), "{name}");
            let file = [header.bytes.clone(), data_set()].concat();
            assert_eq!(replaced(&file), (None, 0), "{name}");
            let has = |text: &[u8]| memchr::memmem::find(&header.bytes, text).is_some();
            assert!(has(b"1.2.3.4\0") && has(EXPLICIT_VR_LITTLE_ENDIAN.as_bytes()), "{name}");
            assert_eq!(has(b"SENDER"), has_sender, "{name}");
        }
    }

    #[test]
    fn an_endless_value_of_the_header_is_left_out_with_a_warning() {
        let group = DataSet::explicit().element(0x0002_0102, "OB", &[1; 5000]).bytes();
        let (header, warnings) = replaced(&[group, data_set()].concat());
        assert!(header.unwrap().bytes.len() < 1000);
        assert_eq!(warnings, 2);
    }
}
