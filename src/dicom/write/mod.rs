//! Data sets in the DICOM JSON model as bytes in Explicit VR Little Endian (PS3.18 §F.2, PS3.5 §A.2).

mod value_encoder;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::dictionary;
use crate::dicom::explicit::{IMPLEMENTATION_CLASS_UID, push_element, push_header, push_tag};
use crate::dicom::failure::Warning;
use crate::dicom::tags;
use crate::dicom::value_reader::{is_binary, is_known};

const UNDEFINED: u32 = u32::MAX;
/// The maximum number of faults that are reported for one data set.
const MAX_FAULTS: usize = 32;

/// A data set in Explicit VR Little Endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenDataSet {
    /// Its bytes and the places of its bulk data, in order.
    pub segments: Vec<DataSetSegment>,
    /// The faults of the data set that did not prevent writing.
    pub warnings: Vec<Warning>,
}

/// The next part of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSetSegment {
    /// Bytes, whole elements.
    Bytes(Vec<u8>),
    /// An element, header and value, that stands elsewhere.
    Bulk {
        /// Its tag.
        tag: Tag,
        /// Its value representation.
        vr: Vr,
        /// The BulkDataURI as it was sent.
        uri: String,
        /// Whether it is not nested.
        is_top_level: bool,
    },
}

/// Writes a data set, one DICOM JSON object, without preamble and group 0002.
///
/// Text is written in UTF-8, and Specific Character Set is ISO_IR 192 where it was sent or is needed.
/// Sequences and items end with delimiters. Group 0002, group lengths and Available Transfer Syntax UID are
/// left out. A VR that is not sent comes from the dictionary.
///
/// # Errors
/// The attributes that cannot be written, of nested ones the outermost, each with the reason: not an object,
/// no representation of PS3.5 §6.2, a value that is none of its representation.
pub fn write(data_set: &Json) -> Result<WrittenDataSet, Vec<Warning>> {
    let mut writer = DataSetWriter {
        is_signed: number(&data_set["00280103"]["Value"][0]) == Some(1),
        needs_unicode: has_text_beyond_ascii(data_set),
        ..DataSetWriter::default()
    };
    writer.data_set(data_set, None);
    writer.flush();
    if !writer.faults.is_empty() {
        return Err(writer.faults);
    }
    Ok(WrittenDataSet { segments: writer.segments, warnings: writer.warnings })
}

/// Preamble, prefix and file meta information for a data set (PS3.10 §7.1).
///
/// It depends only on the instance, not on the sender nor on the version of this server: a resend must make
/// the same bytes to be recognised (`docs/decisions/0031-file-header-of-instances-received-by-c-store.md`).
pub fn file_head(sop_class: &str, sop_instance: &str, transfer_syntax: &str) -> Vec<u8> {
    let mut elements = Vec::with_capacity(512);
    push_element(&mut elements, tags::FILE_META_INFORMATION_VERSION, Vr(*b"OB"), &[0, 1]);
    push_element(&mut elements, tags::MEDIA_STORAGE_SOP_CLASS_UID, Vr(*b"UI"), sop_class.as_bytes());
    push_element(&mut elements, tags::MEDIA_STORAGE_SOP_INSTANCE_UID, Vr(*b"UI"), sop_instance.as_bytes());
    push_element(&mut elements, tags::TRANSFER_SYNTAX_UID, Vr(*b"UI"), transfer_syntax.as_bytes());
    push_element(
        &mut elements,
        tags::IMPLEMENTATION_CLASS_UID,
        Vr(*b"UI"),
        IMPLEMENTATION_CLASS_UID.as_bytes(),
    );
    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM");
    push_element(
        &mut head,
        tags::FILE_META_INFORMATION_GROUP_LENGTH,
        Vr(*b"UL"),
        &(elements.len() as u32).to_le_bytes(),
    );
    head.append(&mut elements);
    head
}

/// The header of an element whose value is `length` bytes, padded to an even number; `None` if the value is
/// too long for a length of 32 bits.
pub fn element_header(tag: Tag, vr: Vr, length: u64) -> Option<Vec<u8>> {
    let padded =
        u32::try_from(length.checked_next_multiple_of(2)?).ok().filter(|&length| length != UNDEFINED)?;
    let mut bytes = Vec::with_capacity(12);
    push_header(&mut bytes, tag, vr, padded);
    Some(bytes)
}

/// The header of encapsulated Pixel Data and of its first item, the Basic Offset Table with these offsets
/// (PS3.5 §A.4).
pub fn encapsulation_header(tag: Tag, offsets: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + 4 * offsets.len());
    push_header(&mut bytes, tag, Vr(*b"OB"), UNDEFINED);
    bytes.extend_from_slice(&fragment_header(4 * offsets.len() as u32));
    for offset in offsets {
        bytes.extend_from_slice(&offset.to_le_bytes());
    }
    bytes
}

/// The header of a fragment of encapsulated Pixel Data, of an even number of bytes.
pub fn fragment_header(length: u32) -> [u8; 8] {
    item_header(tags::ITEM, length)
}

/// The delimiter at the end of encapsulated Pixel Data.
pub fn encapsulation_end() -> [u8; 8] {
    item_header(tags::SEQUENCE_DELIMITATION_ITEM, 0)
}

fn item_header(tag: Tag, length: u32) -> [u8; 8] {
    let mut bytes = Vec::with_capacity(8);
    push_tag(&mut bytes, tag);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.try_into().expect("a tag and a length are eight bytes")
}

/// The byte that pads a value of this representation to an even length (PS3.5 §6.2).
pub fn padding(vr: Vr) -> u8 {
    if is_binary(vr) || &vr.0 == b"UI" { 0 } else { b' ' }
}

/// A value that is a natural number or the text of one.
pub fn number(value: &Json) -> Option<u64> {
    match value {
        Json::Number(number) => number.as_u64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whether a string of the data set needs more than the default repertoire. The JSON parser bounds the
/// recursion.
fn has_text_beyond_ascii(json: &Json) -> bool {
    match json {
        Json::String(text) => !text.is_ascii(),
        Json::Array(values) => values.iter().any(has_text_beyond_ascii),
        Json::Object(members) => members.values().any(has_text_beyond_ascii),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

#[derive(Default)]
struct DataSetWriter {
    bytes: Vec<u8>,
    segments: Vec<DataSetSegment>,
    faults: Vec<Warning>,
    warnings: Vec<Warning>,
    is_signed: bool,
    needs_unicode: bool,
}

/// The content of an attribute.
enum AttributeContent<'a> {
    Values(&'a [Json]),
    Inline(&'a str),
    Bulk(&'a str),
}

impl DataSetWriter {
    /// Writes a data set or, below the attribute `outermost`, an item. The JSON parser bounds the recursion.
    fn data_set(&mut self, json: &Json, outermost: Option<Tag>) {
        let Json::Object(members) = json else {
            return self.fault(outermost.unwrap_or(Tag(0)), "an item is not an object");
        };
        let mut attributes = BTreeMap::new();
        for (key, attribute) in members {
            let Ok(tag) = key.parse::<Tag>() else {
                self.fault(outermost.unwrap_or(Tag(0)), "a key is not a tag of eight hexadecimal digits");
                continue;
            };
            if attributes.insert(tag, attribute).is_some() {
                self.fault(outermost.unwrap_or(tag), &format!("{tag:?} stands there twice"));
            }
        }
        attributes.retain(|tag, _| !is_left_out(*tag));
        if outermost.is_none()
            && (self.needs_unicode || is_declared(attributes.get(&tags::SPECIFIC_CHARACTER_SET)))
        {
            attributes.insert(tags::SPECIFIC_CHARACTER_SET, &Json::Null);
        } else {
            // Items have the character set of the data set.
            attributes.remove(&tags::SPECIFIC_CHARACTER_SET);
        }
        for (tag, attribute) in attributes {
            if tag == tags::SPECIFIC_CHARACTER_SET {
                push_element(&mut self.bytes, tag, Vr(*b"CS"), b"ISO_IR 192");
            } else if let Err(reason) = self.attribute(tag, attribute, outermost) {
                let place = outermost.map(|_| format!("{tag:?} "));
                self.fault(outermost.unwrap_or(tag), &format!("{}{reason}", place.unwrap_or_default()));
            }
        }
    }

    fn attribute(&mut self, tag: Tag, attribute: &Json, outermost: Option<Tag>) -> Result<(), String> {
        let Json::Object(members) = attribute else { return Err("is not an object".into()) };
        let content = content(members)?;
        let vr = match members.get("vr") {
            None | Some(Json::Null) => dictionary::vr(tag, self.is_signed),
            Some(Json::String(text)) if text.contains(" or ") => self.one_of(tag, text, &content)?,
            Some(Json::String(text)) => known_vr(text)?,
            Some(_) => return Err("has a vr that is no text".into()),
        };
        if !dictionary::allows(tag, vr) {
            let reason = format!("{vr:?} is not its value representation");
            self.warn(outermost.unwrap_or(tag), &reason);
        }
        match content {
            AttributeContent::Bulk(_) if &vr.0 == b"SQ" => {
                Err("is a sequence and cannot be bulk data".into())
            }
            AttributeContent::Bulk(uri) => {
                self.flush();
                let is_top_level = outermost.is_none();
                self.segments.push(DataSetSegment::Bulk { tag, vr, uri: uri.to_owned(), is_top_level });
                Ok(())
            }
            AttributeContent::Values(items) if &vr.0 == b"SQ" => {
                self.sequence(tag, items, outermost.unwrap_or(tag));
                Ok(())
            }
            AttributeContent::Values(values) => {
                let value = value_encoder::encode(vr, values)?;
                push_element(&mut self.bytes, tag, vr, &value);
                Ok(())
            }
            AttributeContent::Inline(text) if is_binary(vr) => {
                let value = STANDARD.decode(text).map_err(|_| "has an InlineBinary that is no base64")?;
                push_element(&mut self.bytes, tag, vr, &value);
                Ok(())
            }
            AttributeContent::Inline(_) => Err(format!("has an InlineBinary, which {vr:?} cannot have")),
        }
    }

    /// The VR for a sender that did not make the choice of the dictionary, as pydicom with `OB or OW`.
    fn one_of(&self, tag: Tag, text: &str, content: &AttributeContent<'_>) -> Result<Vr, String> {
        let choice = text.split(" or ").map(known_vr).collect::<Result<Vec<_>, _>>()?;
        let usual = dictionary::vr(tag, self.is_signed);
        let numbers = Vr(if self.is_signed { *b"SS" } else { *b"US" });
        let fits = |vr: &Vr| is_binary(*vr) != matches!(content, AttributeContent::Values([_, ..]));
        let found = [usual, numbers].into_iter().find(|vr| choice.contains(vr) && fits(vr));
        Ok(found.or_else(|| choice.iter().copied().find(fits)).unwrap_or(choice[0]))
    }

    fn sequence(&mut self, tag: Tag, items: &[Json], outermost: Tag) {
        push_header(&mut self.bytes, tag, Vr(*b"SQ"), UNDEFINED);
        for item in items {
            self.bytes.extend_from_slice(&item_header(tags::ITEM, UNDEFINED));
            // An item without attributes may be written as an empty value.
            if !item.is_null() {
                self.data_set(item, Some(outermost));
            }
            self.bytes.extend_from_slice(&item_header(tags::ITEM_DELIMITATION_ITEM, 0));
        }
        self.bytes.extend_from_slice(&item_header(tags::SEQUENCE_DELIMITATION_ITEM, 0));
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            self.segments.push(DataSetSegment::Bytes(std::mem::take(&mut self.bytes)));
        }
    }

    fn fault(&mut self, tag: Tag, reason: &str) {
        note(&mut self.faults, tag, reason);
    }

    fn warn(&mut self, tag: Tag, reason: &str) {
        note(&mut self.warnings, tag, reason);
    }
}

fn note(notes: &mut Vec<Warning>, tag: Tag, reason: &str) {
    if notes.len() < MAX_FAULTS {
        notes.push(Warning { tag, reason: reason.to_owned() });
    }
}

/// Whether an attribute is of the file, of the transfer or of the encoding, and not of the data set.
fn is_left_out(tag: Tag) -> bool {
    tag.group() < 0x0004
        || tag.element() == 0
        || tag == tags::AVAILABLE_TRANSFER_SYNTAX_UID
        || tag.group() == 0xFFFE
}

fn is_declared(character_set: Option<&&Json>) -> bool {
    character_set
        .is_some_and(|attribute| attribute["Value"].as_array().is_some_and(|terms| !terms.is_empty()))
}

fn content(members: &serde_json::Map<String, Json>) -> Result<AttributeContent<'_>, String> {
    let given = |name| members.get(name).filter(|json| !json.is_null());
    match (given("Value"), given("InlineBinary"), given("BulkDataURI")) {
        (None, None, None) => Ok(AttributeContent::Values(&[])),
        (Some(Json::Array(values)), None, None) => Ok(AttributeContent::Values(values)),
        (None, Some(Json::String(text)), None) => Ok(AttributeContent::Inline(text)),
        (None, None, Some(Json::String(uri))) if !uri.is_empty() => Ok(AttributeContent::Bulk(uri)),
        (Some(_), None, None) => Err("has a Value that is no array".into()),
        (None, Some(_), None) => Err("has an InlineBinary that is no text".into()),
        (None, None, Some(_)) => Err("has a BulkDataURI that is no URI".into()),
        _ => Err("has more than one of Value, InlineBinary and BulkDataURI".into()),
    }
}

fn known_vr(text: &str) -> Result<Vr, String> {
    let vr = text.as_bytes().try_into().ok().map(Vr).filter(|&vr| is_known(vr));
    vr.ok_or_else(|| "has a vr that is no value representation".into())
}

#[cfg(test)]
mod tests {
    use dicom_object::FileMetaTable;
    use serde_json::json;

    use super::*;
    use crate::dicom::build::DataSet;
    use crate::dicom::transfer_syntax;
    use crate::dicom::uids;

    fn bytes(data_set: &Json) -> Vec<u8> {
        let written = write(data_set).unwrap();
        assert_eq!(written.warnings, []);
        match written.segments.as_slice() {
            [DataSetSegment::Bytes(bytes)] => bytes.clone(),
            segments => panic!("{segments:?}"),
        }
    }

    #[test]
    fn attributes_are_written_in_the_order_of_their_tags_with_items_delimited() {
        let json = json!({
            "00280010": {"vr": "US", "Value": [512]},
            "0008114a": {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": ["1.2"]}}, {}, null]},
            "00091001": {"vr": "UN", "InlineBinary": "YWJj"},
            "00090010": {"vr": "LO", "Value": ["ACME"]},
            "00080008": {"vr": "CS", "Value": ["ORIGINAL", null, "AXIAL"]},
            "00081030": {"vr": "LO"},
        });
        let item = DataSet::explicit().text(0x0020_000D, "UI", "1.2");
        let expected = DataSet::explicit()
            .text(0x0008_0008, "CS", "ORIGINAL\\\\AXIAL")
            .text(0x0008_1030, "LO", "")
            .delimited_sequence(0x0008_114A, "SQ", &[item, DataSet::explicit(), DataSet::explicit()])
            .text(0x0009_0010, "LO", "ACME")
            .element(0x0009_1001, "UN", b"abc")
            .us(0x0028_0010, &[512]);
        assert_eq!(bytes(&json), expected.bytes());
    }

    #[test]
    fn text_is_written_in_utf_8_and_says_so_once() {
        let name = json!({"vr": "PN", "Value": [{"Alphabetic": "M\u{fc}ller"}]});
        let item = json!({"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}, "00100010": name});
        let json = json!({"00081120": {"vr": "SQ", "Value": [item]}});
        let item = DataSet::explicit().text(0x0010_0010, "PN", "M\u{fc}ller");
        let expected = DataSet::explicit().text(0x0008_0005, "CS", "ISO_IR 192").delimited_sequence(
            0x0008_1120,
            "SQ",
            &[item],
        );
        assert_eq!(bytes(&json), expected.bytes());
        let declared = json!({"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}});
        assert_eq!(bytes(&declared), DataSet::explicit().text(0x0008_0005, "CS", "ISO_IR 192").bytes());
        let plain = json!({"00080005": {"vr": "CS"}, "00100020": {"vr": "LO", "Value": ["1"]}});
        assert_eq!(bytes(&plain), DataSet::explicit().text(0x0010_0020, "LO", "1").bytes());
    }

    #[test]
    fn what_is_not_of_the_data_set_is_left_out() {
        let json = json!({
            "00020010": {"vr": "UI", "Value": ["1.2"]},
            "00080000": {"vr": "UL", "Value": [8]},
            "00083002": {"vr": "UI", "Value": ["1.2"]},
            "00100020": {"Value": ["7"]},
        });
        assert_eq!(bytes(&json), DataSet::explicit().text(0x0010_0020, "LO", "7").bytes());
    }

    #[test]
    fn bulk_data_keeps_its_place() {
        let bulk = json!({"vr": "OB", "BulkDataURI": "x/1"});
        let json = json!({
            "00091001": bulk,
            "00081140": {"vr": "SQ", "Value": [{"00420011": bulk, "00420012": {"vr": "LO", "Value": ["a"]}}]},
        });
        let written = write(&json).unwrap();
        let places = written.segments.iter().map(|segment| match segment {
            DataSetSegment::Bytes(bytes) => (Tag(0), bytes.len(), false),
            DataSetSegment::Bulk { tag, uri, is_top_level, .. } => (*tag, uri.len(), *is_top_level),
        });
        let expected = [(0, 20, false), (0x0042_0011, 3, false), (0, 26, false), (0x0009_1001, 3, true)];
        assert_eq!(places.collect::<Vec<_>>(), expected.map(|(tag, length, top)| (Tag(tag), length, top)));
    }

    #[test]
    fn faults_name_the_attribute() {
        for (json, tag, reason) in [
            (json!([]), 0, "an item is not an object"),
            (json!({"PatientID": {}}), 0, "a key is not a tag of eight hexadecimal digits"),
            (json!({"00100020": 1}), 0x0010_0020, "is not an object"),
            (json!({"00100020": {"vr": "LX"}}), 0x0010_0020, "has a vr that is no value representation"),
            (json!({"00100020": {"vr": 1}}), 0x0010_0020, "has a vr that is no text"),
            (json!({"00100020": {"vr": "LO", "Value": "1"}}), 0x0010_0020, "has a Value that is no array"),
            (
                json!({"0010002A": {"vr": "LO"}, "0010002a": {"vr": "LO"}}),
                0x0010_002A,
                "(0010,002A) stands there twice",
            ),
            (
                json!({"7FE00010": {"vr": "OW", "InlineBinary": "*"}}),
                0x7FE0_0010,
                "has an InlineBinary that is no base64",
            ),
            (
                json!({"00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "US", "Value": ["x"]}}]}}),
                0x0008_1140,
                "(0008,1155) has a value that is not US",
            ),
        ] {
            let faults = write(&json).unwrap_err();
            assert_eq!(faults, [Warning { tag: Tag(tag), reason: reason.into() }], "{json}");
        }
    }

    #[test]
    fn a_choice_that_is_left_open_is_made() {
        let values = |vr: &str| json!({"vr": vr, "Value": [1]});
        let json = json!({
            "00280103": {"vr": "US", "Value": [1]},
            "00280106": values("US or SS"),
            "00283002": values("US or SS or OW"),
            "00283006": values("US or OW"),
            "7FE00010": {"vr": "OB or OW", "InlineBinary": "AAE="},
        });
        let expected = DataSet::explicit()
            .us(0x0028_0103, &[1])
            .element(0x0028_0106, "SS", &[1, 0])
            .element(0x0028_3002, "SS", &[1, 0])
            .us(0x0028_3006, &[1])
            .element(0x7FE0_0010, "OW", &[0, 1]);
        assert_eq!(bytes(&json), expected.bytes());
        assert!(write(&json!({"7FE00010": {"vr": "OB or XX"}})).is_err());
    }

    #[test]
    fn another_representation_than_the_dictionary_has_is_kept_with_a_warning() {
        let written = write(&json!({"00100020": {"vr": "SH", "Value": ["1"]}})).unwrap();
        assert_eq!(
            written.segments,
            [DataSetSegment::Bytes(DataSet::explicit().text(0x0010_0020, "SH", "1").bytes())]
        );
        assert_eq!(written.warnings[0].tag, Tag(0x0010_0020));
    }

    #[test]
    fn the_file_head_is_read_by_others() {
        let head = file_head(uids::CT_IMAGE_STORAGE, "1.2.3", transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        assert_eq!(head[..128], [0; 128]);
        let mut rest = &head[128..];
        let meta = FileMetaTable::from_reader(&mut rest).unwrap();
        assert!(rest.is_empty(), "{} bytes follow", rest.len());
        assert_eq!(meta.information_group_length as usize, head.len() - 128 - 4 - 12);
        assert_eq!(meta.media_storage_sop_class_uid(), uids::CT_IMAGE_STORAGE);
        assert_eq!(meta.media_storage_sop_instance_uid(), "1.2.3");
        assert_eq!(meta.transfer_syntax(), transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        assert_eq!(meta.implementation_class_uid(), IMPLEMENTATION_CLASS_UID);
        assert_eq!(meta.source_application_entity_title, None);
    }

    #[test]
    fn headers_tell_what_fits() {
        let pixel_data = Tag(0x7FE0_0010);
        let header = element_header(pixel_data, Vr(*b"OW"), 3).unwrap();
        assert_eq!(header, [0xE0, 0x7F, 0x10, 0, b'O', b'W', 0, 0, 4, 0, 0, 0]);
        for length in [u64::from(u32::MAX) - 1, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(
                element_header(pixel_data, Vr(*b"OW"), length).is_some(),
                length == 0xFFFF_FFFE,
                "{length}"
            );
        }
        let encapsulated = [
            encapsulation_header(pixel_data, &[0]),
            fragment_header(2).to_vec(),
            b"ab".to_vec(),
            encapsulation_end().to_vec(),
        ];
        assert_eq!(encapsulated.concat(), DataSet::explicit().encapsulated(&[&[0; 4], b"ab"]).bytes());
    }
}
