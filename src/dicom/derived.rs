//! What an image says of itself that was compressed with loss from another (PS3.3 §C.7.6.1.1.2, §C.7.6.1.1.5 and
//! §C.12.4.1).

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::explicit::{Element, item, top_level};
use crate::dicom::scan::Outline;

/// Lossy Image Compression Ratio (0028,2112).
pub const RATIO: Tag = Tag(0x0028_2112);
/// Characters at the end of its value that are left blank, for the ratio to be written once it is known.
pub const RATIO_CHARACTERS: usize = 16;

const IMAGE_TYPE: Tag = Tag(0x0008_0008);
const SOP_CLASS: Tag = Tag(0x0008_0016);
const SOP_INSTANCE: Tag = Tag(0x0008_0018);
const REFERENCED_SOP_CLASS: Tag = Tag(0x0008_1150);
const REFERENCED_SOP_INSTANCE: Tag = Tag(0x0008_1155);
const DERIVATION_DESCRIPTION: Tag = Tag(0x0008_2111);
const SOURCE_IMAGES: Tag = Tag(0x0008_2112);
const LOSSY: Tag = Tag(0x0028_2110);
const METHOD: Tag = Tag(0x0028_2114);
const PURPOSE_OF_REFERENCE: Tag = Tag(0x0040_A170);

/// The length of ST (PS3.5 §6.2).
const MAX_DESCRIPTION_BYTES: usize = 1024;

/// The elements in which the compressed image differs from the one that it is made of, in the order of their tags.
///
/// It is a derived image under a SOP Instance UID of its own, `uid`, and refers to its source. What is known of earlier
/// compression stays in front of `method`, the Lossy Image Compression Method (0028,2114), and `description`.
pub fn elements(source: &Outline, uid: &str, method: &str, description: &str) -> Vec<Element> {
    let element = |tag, vr: &[u8; 2], value: Vec<u8>| Element { tag, vr: Vr(*vr), value };
    let stored = |tag| text(source, tag);
    let mut image_type = b"DERIVED".to_vec();
    match stored(IMAGE_TYPE).iter().position(|&byte| byte == b'\\') {
        Some(second) => image_type.extend_from_slice(&stored(IMAGE_TYPE)[second..]),
        None => image_type.extend_from_slice(b"\\PRIMARY"),
    }
    let told = joined(stored(DERIVATION_DESCRIPTION), b"; ", description.as_bytes());
    let told = if told.len() > MAX_DESCRIPTION_BYTES { description.as_bytes().to_vec() } else { told };
    let source_image = item(&[
        element(REFERENCED_SOP_CLASS, b"UI", stored(SOP_CLASS).to_vec()),
        element(REFERENCED_SOP_INSTANCE, b"UI", stored(SOP_INSTANCE).to_vec()),
        element(PURPOSE_OF_REFERENCE, b"SQ", uncompressed_predecessor()),
    ]);
    vec![
        element(IMAGE_TYPE, b"CS", image_type),
        element(SOP_INSTANCE, b"UI", uid.as_bytes().to_vec()),
        element(DERIVATION_DESCRIPTION, b"ST", told),
        element(SOURCE_IMAGES, b"SQ", source_image),
        element(LOSSY, b"CS", b"01".to_vec()),
        element(RATIO, b"DS", ratio(stored(RATIO))),
        element(METHOD, b"CS", joined(stored(METHOD), b"\\", method.as_bytes())),
    ]
}

/// The ratios so far and room for one, of even length together.
fn ratio(stored: &[u8]) -> Vec<u8> {
    let mut ratios = joined(stored, b"\\", b"");
    if !ratios.len().is_multiple_of(2) {
        ratios.push(b' ');
    }
    ratios.resize(ratios.len() + RATIO_CHARACTERS, b' ');
    ratios
}

/// The code for the source of a compressed image (CID 7202).
fn uncompressed_predecessor() -> Vec<u8> {
    let code = |tag, vr: &[u8; 2], value: &str| Element { tag: Tag(tag), vr: Vr(*vr), value: value.into() };
    item(&[
        code(0x0008_0100, b"SH", "121320"),
        code(0x0008_0102, b"SH", "DCM"),
        code(0x0008_0104, b"LO", "Uncompressed predecessor"),
    ])
}

fn joined(first: &[u8], between: &[u8], second: &[u8]) -> Vec<u8> {
    if first.is_empty() { second.to_vec() } else { [first, between, second].concat() }
}

/// The value of an attribute without its padding; empty if there is none.
fn text(source: &Outline, tag: Tag) -> &[u8] {
    top_level(source, tag).map_or(&[], |(_, value)| {
        let end = value.iter().rposition(|byte| !b"\0 ".contains(byte)).map_or(0, |last| last + 1);
        &value[..end]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::build::DataSet;
    use crate::dicom::scan::tests::scan;

    #[test]
    fn what_was_known_of_earlier_loss_stays() {
        let data_set = |image_type: &str| {
            DataSet::explicit().text(0x0008_0008, "CS", image_type).text(0x0008_0016, "UI", "1.2.840").text(
                0x0008_0018,
                "UI",
                "1.2.3",
            )
        };
        let blank = " ".repeat(RATIO_CHARACTERS);
        let once = data_set("ORIGINAL\\SECONDARY\\AXIAL")
            .text(0x0008_2111, "ST", "cropped")
            .text(0x0028_2112, "DS", "4")
            .text(0x0028_2114, "CS", "ISO_10918_1");
        for (set, expected) in [
            (
                once,
                [
                    "DERIVED\\SECONDARY\\AXIAL",
                    "cropped; smaller",
                    &format!("4\\{blank}"),
                    "ISO_10918_1\\ISO_14495_1",
                ],
            ),
            (data_set(""), ["DERIVED\\PRIMARY", "smaller", &blank, "ISO_14495_1"]),
        ] {
            let made = elements(
                &scan(&set.file("1.2.840.10008.1.2.1")).unwrap(),
                "2.25.7",
                "ISO_14495_1",
                "smaller",
            );
            assert!(made.is_sorted_by_key(|element| element.tag));
            let text = |tag: u32| {
                let element = made.iter().find(|element| element.tag == Tag(tag)).unwrap();
                String::from_utf8_lossy(&element.value).into_owned()
            };
            assert_eq!([0x0008_0008, 0x0008_2111, 0x0028_2112, 0x0028_2114].map(text), expected);
            assert_eq!((text(0x0008_0018).as_str(), text(0x0028_2110).as_str()), ("2.25.7", "01"));
            assert!(text(0x0008_2112).contains("1.2.3"));
        }
    }
}
