//! The keys of each kind of directory record (PS3.3 §F.5).

use std::collections::BTreeMap;

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::explicit::{push_element, push_tag};

/// What instances' records are called that the standard knows no kind for.
pub(super) const PRIVATE: &str = "PRIVATE";
/// Instance Number.
pub(super) const INSTANCE_NUMBER: Tag = Tag(0x0020_0013);

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008_0005);
const RELATIONSHIP_TYPE: Tag = Tag(0x0040_A010);
const VERIFICATION_DATE_TIME: Tag = Tag(0x0040_A030);
const VERIFYING_OBSERVERS: Tag = Tag(0x0040_A073);
const CONTENT_SEQUENCE: Tag = Tag(0x0040_A730);
const ITEM: Tag = Tag(0xFFFE_E000);
/// Sequences within sequences that are written; what lies deeper is left out.
const MAX_DEPTH: usize = 16;
/// The longest value of a key: it must go into a 16-bit length, and is for people to choose by.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// A key of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    tag: u32,
    vr: &'static [u8; 2],
    need: Need,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// With a value (type 1).
    Value,
    /// At least without value (type 2).
    Presence,
    /// If it is there (type 1C).
    None,
}

impl Key {
    pub(super) fn tag(&self) -> Tag {
        Tag(self.tag)
    }
}

const fn one(tag: u32, vr: &'static [u8; 2]) -> Key {
    Key { tag, vr, need: Need::Value }
}

const fn two(tag: u32, vr: &'static [u8; 2]) -> Key {
    Key { tag, vr, need: Need::Presence }
}

const fn conditional(tag: u32, vr: &'static [u8; 2]) -> Key {
    Key { tag, vr, need: Need::None }
}

const NUMBER: Key = one(0x0020_0013, b"IS");
const DATE: Key = one(0x0008_0023, b"DA");
const TIME: Key = one(0x0008_0033, b"TM");
const LABEL: Key = one(0x0070_0080, b"CS");
const DESCRIPTION: Key = two(0x0070_0081, b"LO");
const CREATOR: Key = two(0x0070_0084, b"PN");
const TITLE_CODE: Key = one(0x0040_A043, b"SQ");
const CONTENT: Key = conditional(0x0040_A730, b"SQ");

pub(super) const PATIENT: &[Key] = &[two(0x0010_0010, b"PN"), one(0x0010_0020, b"LO")];

pub(super) const STUDY: &[Key] = &[
    one(0x0008_0020, b"DA"),
    one(0x0008_0030, b"TM"),
    two(0x0008_0050, b"SH"),
    two(0x0008_1030, b"LO"),
    one(0x0020_000D, b"UI"),
    one(0x0020_0010, b"SH"),
];

pub(super) const SERIES: &[Key] = &[
    one(0x0008_0060, b"CS"),
    one(0x0020_000E, b"UI"),
    one(0x0020_0011, b"IS"),
    conditional(0x0008_103E, b"LO"),
];

/// The kinds of instances' records.
const KINDS: &[(&str, &[Key])] = &[
    ("IMAGE", &[NUMBER]),
    ("RT DOSE", &[NUMBER, one(0x3004_000A, b"CS")]),
    (
        "RT STRUCTURE SET",
        &[NUMBER, one(0x3006_0002, b"SH"), two(0x3006_0008, b"DA"), two(0x3006_0009, b"TM")],
    ),
    ("RT PLAN", &[NUMBER, one(0x300A_0002, b"SH"), two(0x300A_0006, b"DA"), two(0x300A_0007, b"TM")]),
    ("RT TREAT RECORD", &[NUMBER, two(0x3008_0250, b"DA"), two(0x3008_0251, b"TM")]),
    (
        "PRESENTATION",
        &[
            one(0x0070_0082, b"DA"),
            one(0x0070_0083, b"TM"),
            NUMBER,
            LABEL,
            DESCRIPTION,
            CREATOR,
            conditional(0x0008_1115, b"SQ"),
            conditional(0x0070_0402, b"SQ"),
        ],
    ),
    ("WAVEFORM", &[NUMBER, DATE, TIME]),
    ("RAW DATA", &[NUMBER, DATE, TIME]),
    (
        "SR DOCUMENT",
        &[
            NUMBER,
            one(0x0040_A491, b"CS"),
            one(0x0040_A493, b"CS"),
            DATE,
            TIME,
            conditional(0x0040_A030, b"DT"),
            TITLE_CODE,
            CONTENT,
        ],
    ),
    ("KEY OBJECT DOC", &[NUMBER, DATE, TIME, TITLE_CODE, CONTENT]),
    (
        "SPECTROSCOPY",
        &[
            one(0x0008_0008, b"CS"),
            DATE,
            TIME,
            NUMBER,
            conditional(0x0008_9092, b"SQ"),
            one(0x0028_0008, b"IS"),
            one(0x0028_0010, b"US"),
            one(0x0028_0011, b"US"),
            one(0x0028_9001, b"UL"),
            one(0x0028_9002, b"UL"),
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
            two(0x0008_0023, b"DA"),
            two(0x0008_0033, b"TM"),
            NUMBER,
            two(0x0042_0010, b"ST"),
            conditional(0x0040_E001, b"ST"),
            two(0x0040_A043, b"SQ"),
            one(0x0042_0012, b"LO"),
        ],
    ),
    ("SURFACE SCAN", &[DATE, TIME]),
    ("ASSESSMENT", &[NUMBER, one(0x0008_0012, b"DA"), two(0x0008_0013, b"TM")]),
    (
        "RADIOTHERAPY",
        &[NUMBER, conditional(0x3010_0033, b"SH"), conditional(0x3010_0034, b"LO"), DESCRIPTION, CREATOR],
    ),
    (PRIVATE, &[]),
];

const CONTENT_IDENTIFIED: &[Key] = &[DATE, TIME, NUMBER, LABEL, DESCRIPTION, CREATOR];

/// The kind of an instance's record and its keys.
pub(super) fn of_instance(sop_class: &str, has_pixels: bool) -> (&'static str, &'static [Key]) {
    let kind = kind(sop_class, has_pixels);
    KINDS.iter().find(|(name, _)| *name == kind).copied().unwrap_or((PRIVATE, &[]))
}

/// The kind of record by SOP class (PS3.3 Table F.4-1, PS3.4 §B.5).
fn kind(sop_class: &str, has_pixels: bool) -> &'static str {
    let image = if has_pixels { "IMAGE" } else { PRIVATE };
    let Some(leaf) = sop_class.strip_prefix("1.2.840.10008.5.1.4.1.1.") else {
        return if sop_class == "1.2.840.10008.5.1.4.34.7" { "PLAN" } else { image };
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

/// Appends the keys of a record in the order of their tags. A value that must be there and was not sent is made up:
/// `number` for a number, the first day of 1900, midnight, `UNKNOWN`. Text is in UTF-8.
pub(super) fn write(keys: &[Key], attributes: &Attributes, number: usize, out: &mut Vec<u8>) {
    let mut elements = BTreeMap::new();
    let mut needs_unicode = false;
    for key in keys {
        let attribute = find(key, attributes).unwrap_or(Attribute { vr: Vr(*key.vr), values: Vec::new() });
        let value = value(&attribute, Vr(*key.vr), 0);
        let value = match key.need {
            Need::Value if value.is_empty() => made_up(key.vr, number),
            Need::None if value.is_empty() => continue,
            _ => value,
        };
        needs_unicode |= has_text_beyond_ascii(&attribute, 0);
        elements.insert(key.tag(), (Vr(*key.vr), value));
    }
    if needs_unicode {
        elements.insert(SPECIFIC_CHARACTER_SET, (Vr(*b"CS"), b"ISO_IR 192".to_vec()));
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

/// Keeps of attributes what records with these keys are made of, and the instance's number.
pub(super) fn keep(keys: &[Key], attributes: &mut Attributes) {
    let needed = |tag: Tag| {
        let mut tags = [PATIENT, STUDY, SERIES, keys].into_iter().flatten().map(Key::tag);
        tag == INSTANCE_NUMBER
            || tags.any(|key| key == tag || (key == VERIFICATION_DATE_TIME && tag == VERIFYING_OBSERVERS))
    };
    attributes.retain(|tag, _| needed(*tag));
    if let Some(content) = attributes.get_mut(&CONTENT_SEQUENCE) {
        content.values.retain(modifies_title);
    }
}

fn modifies_title(item: &Value) -> bool {
    matches!(item, Value::Item(item) if text(item, RELATIONSHIP_TYPE) == Some("HAS CONCEPT MOD"))
}

/// The attribute of a key; some are made of others.
fn find(key: &Key, attributes: &Attributes) -> Option<Attribute> {
    let found = attributes.get(&key.tag());
    match key.tag() {
        // All that modify the title, and nothing else.
        CONTENT_SEQUENCE => {
            let mut content = found?.clone();
            content.values.retain(modifies_title);
            Some(content)
        }
        // The last verification.
        VERIFICATION_DATE_TIME => {
            let observers = attributes.get(&VERIFYING_OBSERVERS)?.values.iter();
            let times = observers.filter_map(|observer| match observer {
                Value::Item(item) => text(item, VERIFICATION_DATE_TIME),
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

/// The value of an attribute in explicit VR little endian; empty for what cannot be a key: bulk values, values too long.
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
        push_tag(&mut bytes, ITEM);
        bytes.extend_from_slice(&(own.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&own);
    }
    bytes
}

/// A number in binary, if that is how its representation is written; what is none is 0.
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
        let report = of_instance("1.2.840.10008.5.1.4.1.1.88.11", false).1;
        let item = |pairs: &[(u32, &str)]| {
            Value::Item(pairs.iter().map(|(tag, text)| (Tag(*tag), Attribute::text(b"DT", *text))).collect())
        };
        let sequence = |values| Attribute { vr: Vr(*b"SQ"), values };
        let modifies = item(&[(0x0040_A010, "HAS CONCEPT MOD")]);
        let contains = item(&[(0x0040_A010, "CONTAINS")]);
        let mut attributes = Attributes::from([
            (INSTANCE_NUMBER, Attribute::number(b"IS", 7)),
            (VERIFYING_OBSERVERS, sequence(vec![item(&[(0x0040_A030, "20240229")])])),
            (CONTENT_SEQUENCE, sequence(vec![modifies.clone(), contains])),
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
        assert_eq!(attributes[&CONTENT_SEQUENCE].values, [modifies]);
        assert_eq!(attributes.len(), 4);
    }
}
