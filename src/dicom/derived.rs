//! The attributes of an image that was compressed with loss from another image (PS3.3 §C.7.6.1.1.2,
//! §C.7.6.1.1.5 and §C.12.4.1).

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::explicit::{EncodedElement, item, top_level};
use crate::dicom::scan::Outline;
use crate::dicom::tags;

/// Blank characters at the end of Lossy Image Compression Ratio: the ratio is written there when it is known.
pub const RATIO_CHARACTERS: usize = 16;

/// The length of ST (PS3.5 §6.2).
const MAX_DESCRIPTION_BYTES: usize = 1024;

/// The elements in which a compressed image differs from its source, in the order of their tags.
///
/// The compressed image is a derived image with its own SOP Instance UID, `uid`, and refers to its source.
/// The methods of earlier compression stay in front of `method`, the Lossy Image Compression Method
/// (0028,2114), and `description`.
pub fn elements(source: &Outline, uid: &str, method: &str, description: &str) -> Vec<EncodedElement> {
    let element = |tag, vr: &[u8; 2], value: Vec<u8>| EncodedElement { tag, vr: Vr(*vr), value };
    let stored = |tag| text(source, tag);
    let mut image_type = b"DERIVED".to_vec();
    match stored(tags::IMAGE_TYPE).iter().position(|&byte| byte == b'\\') {
        Some(second) => image_type.extend_from_slice(&stored(tags::IMAGE_TYPE)[second..]),
        None => image_type.extend_from_slice(b"\\PRIMARY"),
    }
    let derivation = joined(stored(tags::DERIVATION_DESCRIPTION), b"; ", description.as_bytes());
    let derivation =
        if derivation.len() > MAX_DESCRIPTION_BYTES { description.as_bytes().to_vec() } else { derivation };
    let source_image = item(&[
        element(tags::REFERENCED_SOP_CLASS_UID, b"UI", stored(tags::SOP_CLASS_UID).to_vec()),
        element(tags::REFERENCED_SOP_INSTANCE_UID, b"UI", stored(tags::SOP_INSTANCE_UID).to_vec()),
        element(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, b"SQ", uncompressed_predecessor()),
    ]);
    vec![
        element(tags::IMAGE_TYPE, b"CS", image_type),
        element(tags::SOP_INSTANCE_UID, b"UI", uid.as_bytes().to_vec()),
        element(tags::DERIVATION_DESCRIPTION, b"ST", derivation),
        element(tags::SOURCE_IMAGE_SEQUENCE, b"SQ", source_image),
        element(tags::LOSSY_IMAGE_COMPRESSION, b"CS", b"01".to_vec()),
        element(
            tags::LOSSY_IMAGE_COMPRESSION_RATIO,
            b"DS",
            ratio(stored(tags::LOSSY_IMAGE_COMPRESSION_RATIO)),
        ),
        element(
            tags::LOSSY_IMAGE_COMPRESSION_METHOD,
            b"CS",
            joined(stored(tags::LOSSY_IMAGE_COMPRESSION_METHOD), b"\\", method.as_bytes()),
        ),
    ]
}

/// The stored ratios, and blanks for one more, of even length together.
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
    let code = |tag, vr: &[u8; 2], value: &str| EncodedElement { tag, vr: Vr(*vr), value: value.into() };
    item(&[
        code(tags::CODE_VALUE, b"SH", "121320"),
        code(tags::CODING_SCHEME_DESIGNATOR, b"SH", "DCM"),
        code(tags::CODE_MEANING, b"LO", "Uncompressed predecessor"),
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
    use crate::dicom::transfer_syntax;

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
                &scan(&set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap(),
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
