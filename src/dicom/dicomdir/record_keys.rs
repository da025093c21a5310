//! The keys of each kind of directory record (PS3.3 §F.5).

use std::collections::BTreeMap;

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::explicit::{push_element, push_tag};
use crate::dicom::tags;
use crate::dicom::uids;

/// The kind of the records of instances for which the standard has no kind.
pub(super) const PRIVATE: &str = "PRIVATE";

/// The maximum nesting of sequences that are written; deeper ones are left out.
const MAX_DEPTH: usize = 16;
/// The longest value of a key: its length has 16 bits, and people choose by it.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// A key of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordKey {
    tag: Tag,
    vr: &'static [u8; 2],
    need: KeyType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    /// With a value (type 1).
    Value,
    /// At least without value (type 2).
    Presence,
    /// If it is there (type 1C).
    None,
}

impl RecordKey {
    pub(super) fn tag(&self) -> Tag {
        self.tag
    }
}

const fn one(tag: Tag, vr: &'static [u8; 2]) -> RecordKey {
    RecordKey { tag, vr, need: KeyType::Value }
}

const fn two(tag: Tag, vr: &'static [u8; 2]) -> RecordKey {
    RecordKey { tag, vr, need: KeyType::Presence }
}

const fn conditional(tag: Tag, vr: &'static [u8; 2]) -> RecordKey {
    RecordKey { tag, vr, need: KeyType::None }
}

const NUMBER: RecordKey = one(tags::INSTANCE_NUMBER, b"IS");
const DATE: RecordKey = one(tags::CONTENT_DATE, b"DA");
const TIME: RecordKey = one(tags::CONTENT_TIME, b"TM");
const LABEL: RecordKey = one(tags::CONTENT_LABEL, b"CS");
const DESCRIPTION: RecordKey = two(tags::CONTENT_DESCRIPTION, b"LO");
const CREATOR: RecordKey = two(tags::CONTENT_CREATOR_NAME, b"PN");
const TITLE_CODE: RecordKey = one(tags::CONCEPT_NAME_CODE_SEQUENCE, b"SQ");
const CONTENT: RecordKey = conditional(tags::CONTENT_SEQUENCE, b"SQ");

pub(super) const PATIENT: &[RecordKey] = &[two(tags::PATIENT_NAME, b"PN"), one(tags::PATIENT_ID, b"LO")];

pub(super) const STUDY: &[RecordKey] = &[
    one(tags::STUDY_DATE, b"DA"),
    one(tags::STUDY_TIME, b"TM"),
    two(tags::ACCESSION_NUMBER, b"SH"),
    two(tags::STUDY_DESCRIPTION, b"LO"),
    one(tags::STUDY_INSTANCE_UID, b"UI"),
    one(tags::STUDY_ID, b"SH"),
];

pub(super) const SERIES: &[RecordKey] = &[
    one(tags::MODALITY, b"CS"),
    one(tags::SERIES_INSTANCE_UID, b"UI"),
    one(tags::SERIES_NUMBER, b"IS"),
    conditional(tags::SERIES_DESCRIPTION, b"LO"),
];

/// The kinds of instances' records.
const KINDS: &[(&str, &[RecordKey])] = &[
    ("IMAGE", &[NUMBER]),
    ("RT DOSE", &[NUMBER, one(tags::DOSE_SUMMATION_TYPE, b"CS")]),
    (
        "RT STRUCTURE SET",
        &[
            NUMBER,
            one(tags::STRUCTURE_SET_LABEL, b"SH"),
            two(tags::STRUCTURE_SET_DATE, b"DA"),
            two(tags::STRUCTURE_SET_TIME, b"TM"),
        ],
    ),
    (
        "RT PLAN",
        &[
            NUMBER,
            one(tags::RT_PLAN_LABEL, b"SH"),
            two(tags::RT_PLAN_DATE, b"DA"),
            two(tags::RT_PLAN_TIME, b"TM"),
        ],
    ),
    ("RT TREAT RECORD", &[NUMBER, two(tags::TREATMENT_DATE, b"DA"), two(tags::TREATMENT_TIME, b"TM")]),
    (
        "PRESENTATION",
        &[
            one(tags::PRESENTATION_CREATION_DATE, b"DA"),
            one(tags::PRESENTATION_CREATION_TIME, b"TM"),
            NUMBER,
            LABEL,
            DESCRIPTION,
            CREATOR,
            conditional(tags::REFERENCED_SERIES_SEQUENCE, b"SQ"),
            conditional(tags::BLENDING_SEQUENCE, b"SQ"),
        ],
    ),
    ("WAVEFORM", &[NUMBER, DATE, TIME]),
    ("RAW DATA", &[NUMBER, DATE, TIME]),
    (
        "SR DOCUMENT",
        &[
            NUMBER,
            one(tags::COMPLETION_FLAG, b"CS"),
            one(tags::VERIFICATION_FLAG, b"CS"),
            DATE,
            TIME,
            conditional(tags::VERIFICATION_DATE_TIME, b"DT"),
            TITLE_CODE,
            CONTENT,
        ],
    ),
    ("KEY OBJECT DOC", &[NUMBER, DATE, TIME, TITLE_CODE, CONTENT]),
    (
        "SPECTROSCOPY",
        &[
            one(tags::IMAGE_TYPE, b"CS"),
            DATE,
            TIME,
            NUMBER,
            conditional(tags::REFERENCED_IMAGE_EVIDENCE_SEQUENCE, b"SQ"),
            one(tags::NUMBER_OF_FRAMES, b"IS"),
            one(tags::ROWS, b"US"),
            one(tags::COLUMNS, b"US"),
            one(tags::DATA_POINT_ROWS, b"UL"),
            one(tags::DATA_POINT_COLUMNS, b"UL"),
        ],
    ),
    ("REGISTRATION", CONTENT_IDENTIFIED),
    ("FIDUCIAL", CONTENT_IDENTIFIED),
    ("VALUE MAP", CONTENT_IDENTIFIED),
    ("MEASUREMENT", CONTENT_IDENTIFIED),
    ("SURFACE", CONTENT_IDENTIFIED),
    ("TRACT", CONTENT_IDENTIFIED),
    ("STEREOMETRIC", &[]),
    ("PLAN", &[]),
    (
        "ENCAP DOC",
        &[
            two(tags::CONTENT_DATE, b"DA"),
            two(tags::CONTENT_TIME, b"TM"),
            NUMBER,
            two(tags::DOCUMENT_TITLE, b"ST"),
            conditional(tags::HL7_INSTANCE_IDENTIFIER, b"ST"),
            two(tags::CONCEPT_NAME_CODE_SEQUENCE, b"SQ"),
            one(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, b"LO"),
        ],
    ),
    ("SURFACE SCAN", &[DATE, TIME]),
    (
        "ASSESSMENT",
        &[NUMBER, one(tags::INSTANCE_CREATION_DATE, b"DA"), two(tags::INSTANCE_CREATION_TIME, b"TM")],
    ),
    (
        "RADIOTHERAPY",
        &[
            NUMBER,
            conditional(tags::USER_CONTENT_LABEL, b"SH"),
            conditional(tags::USER_CONTENT_LONG_LABEL, b"LO"),
            DESCRIPTION,
            CREATOR,
        ],
    ),
    (PRIVATE, &[]),
];

const CONTENT_IDENTIFIED: &[RecordKey] = &[DATE, TIME, NUMBER, LABEL, DESCRIPTION, CREATOR];

/// The kind of an instance's record and its keys.
pub(super) fn of_instance(sop_class: &str, has_pixels: bool) -> (&'static str, &'static [RecordKey]) {
    let kind = kind(sop_class, has_pixels);
    KINDS.iter().find(|(name, _)| *name == kind).copied().unwrap_or((PRIVATE, &[]))
}

/// The kind of record by SOP class (PS3.3 Table F.4-1, PS3.4 §B.5).
fn kind(sop_class: &str, has_pixels: bool) -> &'static str {
    let image = if has_pixels { "IMAGE" } else { PRIVATE };
    let Some(leaf) = sop_class.strip_prefix(uids::STORAGE_ROOT) else {
        return if sop_class == uids::RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE { "PLAN" } else { image };
    };
    let starts_with = |family: &str| leaf.starts_with(family);
    match leaf {
        "481.2" => "RT DOSE",
        "481.3" => "RT STRUCTURE SET",
        "481.5" | "481.8" => "RT PLAN",
        "481.4" | "481.6" | "481.7" | "481.9" => "RT TREAT RECORD",
        "88.59" => "KEY OBJECT DOC",
        "78.6" | "79.1" => "SR DOCUMENT",
        "4.2" => "SPECTROSCOPY",
        "66" => "RAW DATA",
        "66.1" | "66.3" => "REGISTRATION",
        "66.2" => "FIDUCIAL",
        "66.5" => "SURFACE",
        "66.6" => "TRACT",
        "67" => "VALUE MAP",
        "77.1.5.3" => "STEREOMETRIC",
        "80.1" => "MEASUREMENT",
        "90.1" => "ASSESSMENT",
        "131" => "PRESENTATION",
        _ if starts_with("11.") => "PRESENTATION",
        _ if starts_with("9.") => "WAVEFORM",
        _ if starts_with("88.") => "SR DOCUMENT",
        _ if starts_with("104.") => "ENCAP DOC",
        _ if starts_with("78.") => "MEASUREMENT",
        _ if starts_with("68.") => "SURFACE SCAN",
        _ if starts_with("481.") && !has_pixels => "RADIOTHERAPY",
        _ => image,
    }
}

/// Appends the keys of a record in the order of their tags. A value that must be there and was not sent gets
/// a default: `number` for a number, the first day of 1900, midnight, `UNKNOWN`. Text is in UTF-8.
pub(super) fn write(keys: &[RecordKey], attributes: &Attributes, number: usize, out: &mut Vec<u8>) {
    let mut elements = BTreeMap::new();
    let mut needs_unicode = false;
    for key in keys {
        let attribute = find(key, attributes).unwrap_or(Attribute { vr: Vr(*key.vr), values: Vec::new() });
        let value = value(&attribute, Vr(*key.vr), 0);
        let value = match key.need {
            KeyType::Value if value.is_empty() => made_up(key.vr, number),
            KeyType::None if value.is_empty() => continue,
            _ => value,
        };
        needs_unicode |= has_text_beyond_ascii(&attribute, 0);
        elements.insert(key.tag(), (Vr(*key.vr), value));
    }
    if needs_unicode {
        elements.insert(tags::SPECIFIC_CHARACTER_SET, (Vr(*b"CS"), b"ISO_IR 192".to_vec()));
    }
    for (tag, (vr, value)) in elements {
        push_element(out, tag, vr, &value);
    }
}

fn has_text_beyond_ascii(attribute: &Attribute, depth: usize) -> bool {
    attribute.values.iter().any(|value| match value {
        Value::Absent | Value::Number(_) => false,
        Value::Text(text) => !text.is_ascii(),
        Value::Name(name) => !person_name(name).is_ascii(),
        Value::Item(item) => {
            depth < MAX_DEPTH && item.values().any(|attribute| has_text_beyond_ascii(attribute, depth + 1))
        }
    })
}

/// Removes all attributes that records with these keys do not need. Keeps the Instance Number.
pub(super) fn keep(keys: &[RecordKey], attributes: &mut Attributes) {
    let needed = |tag: Tag| {
        let mut tags = [PATIENT, STUDY, SERIES, keys].into_iter().flatten().map(RecordKey::tag);
        tag == tags::INSTANCE_NUMBER
            || tags.any(|key| {
                key == tag
                    || (key == tags::VERIFICATION_DATE_TIME && tag == tags::VERIFYING_OBSERVER_SEQUENCE)
            })
    };
    attributes.retain(|tag, _| needed(*tag));
    if let Some(content) = attributes.get_mut(&tags::CONTENT_SEQUENCE) {
        content.values.retain(modifies_title);
    }
}

fn modifies_title(item: &Value) -> bool {
    matches!(item, Value::Item(item) if text(item, tags::RELATIONSHIP_TYPE) == Some("HAS CONCEPT MOD"))
}

/// The attribute of a key. Some are computed from other attributes.
fn find(key: &RecordKey, attributes: &Attributes) -> Option<Attribute> {
    let found = attributes.get(&key.tag());
    match key.tag() {
        // All that modify the title, and nothing else.
        tags::CONTENT_SEQUENCE => {
            let mut content = found?.clone();
            content.values.retain(modifies_title);
            Some(content)
        }
        // The last verification.
        tags::VERIFICATION_DATE_TIME => {
            let observers = attributes.get(&tags::VERIFYING_OBSERVER_SEQUENCE)?.values.iter();
            let times = observers.filter_map(|observer| match observer {
                Value::Item(item) => text(item, tags::VERIFICATION_DATE_TIME),
                _ => None,
            });
            times.max().map(|time| Attribute::text(b"DT", time))
        }
        _ => found.cloned(),
    }
}

fn text(attributes: &Attributes, tag: Tag) -> Option<&str> {
    attributes.get(&tag).and_then(Attribute::first_text)
}

fn made_up(vr: &[u8; 2], number: usize) -> Vec<u8> {
    match vr {
        b"IS" => number.to_string().into_bytes(),
        b"DA" => b"19000101".to_vec(),
        b"TM" => b"000000".to_vec(),
        b"US" => 1_u16.to_le_bytes().to_vec(),
        b"UL" => 1_u32.to_le_bytes().to_vec(),
        b"SQ" => Vec::new(),
        _ => b"UNKNOWN".to_vec(),
    }
}

/// The value of an attribute in explicit VR little endian; empty for what cannot be a key: bulk values,
/// values too long.
fn value(attribute: &Attribute, vr: Vr, depth: usize) -> Vec<u8> {
    if &vr.0 == b"SQ" {
        return sequence(attribute, depth);
    }
    let mut bytes = Vec::new();
    for (index, value) in attribute.values.iter().enumerate() {
        let text = match value {
            Value::Text(text) | Value::Number(text) => text.clone(),
            Value::Name(name) => person_name(name),
            Value::Absent | Value::Item(_) => String::new(),
        };
        match number(vr, &text) {
            Some(number) => bytes.extend_from_slice(&number),
            None => {
                if index > 0 {
                    bytes.push(b'\\');
                }
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    if bytes.len() > MAX_VALUE_BYTES { Vec::new() } else { bytes }
}

fn sequence(attribute: &Attribute, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in &attribute.values {
        let Value::Item(item) = value else { continue };
        let mut own = Vec::new();
        for (tag, attribute) in item.iter().filter(|_| depth < MAX_DEPTH) {
            let value = self::value(attribute, attribute.vr, depth + 1);
            push_element(&mut own, *tag, attribute.vr, &value);
        }
        push_tag(&mut bytes, tags::ITEM);
        bytes.extend_from_slice(&(own.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&own);
    }
    bytes
}

/// A number in binary, if its value representation is binary. Text that is no number is 0.
fn number(vr: Vr, text: &str) -> Option<Vec<u8>> {
    let whole = || text.parse::<i64>().unwrap_or(0);
    let real = || text.parse::<f64>().unwrap_or(0.0);
    Some(match &vr.0 {
        b"US" | b"SS" => (whole() as u16).to_le_bytes().to_vec(),
        b"UL" | b"SL" => (whole() as u32).to_le_bytes().to_vec(),
        b"UV" | b"SV" => whole().to_le_bytes().to_vec(),
        b"FL" => (real() as f32).to_le_bytes().to_vec(),
        b"FD" => real().to_le_bytes().to_vec(),
        b"AT" => {
            let tag = text.parse().unwrap_or(Tag(0));
            let mut bytes = Vec::new();
            push_tag(&mut bytes, tag);
            bytes
        }
        _ => return None,
    })
}

/// A person name with its component groups (PS3.5 §6.2.1).
fn person_name(name: &PersonName) -> String {
    let groups = [&name.alphabetic, &name.ideographic, &name.phonetic].map(String::as_str).join("=");
    groups.trim_end_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_kind_of_record() {
        for (leaf, has_pixels, expected) in [
            ("2", true, "IMAGE"),
            ("481.2", true, "RT DOSE"),
            ("481.5", false, "RT PLAN"),
            ("481.1", true, "IMAGE"),
            ("481.12", false, "RADIOTHERAPY"),
            ("11.1", false, "PRESENTATION"),
            ("9.1.1", false, "WAVEFORM"),
            ("88.11", false, "SR DOCUMENT"),
            ("88.59", false, "KEY OBJECT DOC"),
            ("104.1", false, "ENCAP DOC"),
            ("66.4", true, "IMAGE"),
            ("66.5", false, "SURFACE"),
            ("999", false, PRIVATE),
        ] {
            let (kind, _) = of_instance(&format!("1.2.840.10008.5.1.4.1.1.{leaf}"), has_pixels);
            assert_eq!(kind, expected, "{leaf}");
        }
        assert_eq!(of_instance("1.3.46.1", true).0, "IMAGE");
    }

    #[test]
    fn what_must_have_a_value_has_one_and_text_beyond_ascii_says_its_character_set() {
        let mut bytes = Vec::new();
        write(PATIENT, &Attributes::new(), 1, &mut bytes);
        let expected = [&b"\x10\0\x10\0PN\0\0"[..], b"\x10\0\x20\0LO\x08\0UNKNOWN "].concat();
        assert_eq!(bytes, expected);
        let name = PersonName { alphabetic: "Mu".into(), phonetic: "ü".into(), ..PersonName::default() };
        let name = Attribute { vr: Vr(*b"PN"), values: vec![Value::Name(name)] };
        let attributes =
            Attributes::from([(Tag(0x0010_0010), name), (Tag(0x0010_0020), Attribute::text(b"LO", "P"))]);
        bytes.clear();
        write(PATIENT, &attributes, 1, &mut bytes);
        let expected = [
            &b"\x08\0\x05\0CS\x0A\0ISO_IR 192"[..],
            "\x10\0\x10\0PN\x06\0Mu==ü".as_bytes(),
            b"\x10\0\x20\0LO\x02\0P ",
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn what_is_kept_makes_the_same_record() {
        let report = of_instance(uids::BASIC_TEXT_SR_STORAGE, false).1;
        let item = |pairs: &[(u32, &str)]| {
            Value::Item(pairs.iter().map(|(tag, text)| (Tag(*tag), Attribute::text(b"DT", *text))).collect())
        };
        let sequence = |values| Attribute { vr: Vr(*b"SQ"), values };
        let modifies = item(&[(0x0040_A010, "HAS CONCEPT MOD")]);
        let contains = item(&[(0x0040_A010, "CONTAINS")]);
        let mut attributes = Attributes::from([
            (tags::INSTANCE_NUMBER, Attribute::number(b"IS", 7)),
            (tags::VERIFYING_OBSERVER_SEQUENCE, sequence(vec![item(&[(0x0040_A030, "20240229")])])),
            (tags::CONTENT_SEQUENCE, sequence(vec![modifies.clone(), contains])),
            (Tag(0x0010_0010), Attribute::text(b"PN", "Doe")),
            (Tag(0x0070_0001), sequence(vec![item(&[])])),
        ]);
        let written = |attributes: &Attributes| {
            let mut bytes = Vec::new();
            write(report, attributes, 1, &mut bytes);
            bytes
        };
        let before = written(&attributes);
        keep(report, &mut attributes);
        assert_eq!(written(&attributes), before);
        assert_eq!(attributes[&tags::CONTENT_SEQUENCE].values, [modifies]);
        assert_eq!(attributes.len(), 4);
    }
}
