//! Small data sets of attributes in memory, read from bytes and written as bytes in Implicit or Explicit VR
//! Little Endian (PS3.5 §7, §A.1, §A.2): the identifiers of DIMSE messages.

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::element_reader::collect;
use crate::dicom::explicit::{push_element, push_header, push_tag};
use crate::dicom::failure::Failure;
use crate::dicom::repertoire::Repertoire;
use crate::dicom::scan::{ScanLimits, Scanner};
use crate::dicom::tags;
use crate::dicom::uids;
use crate::dicom::write::{file_head, padding};

const UNDEFINED: u32 = u32::MAX;

/// The limits of a data set that is read, but that on its elements: identifiers of queries are far below.
const LIMITS: ScanLimits = ScanLimits {
    max_header_bytes: 4 << 20,
    max_sequence_depth: 8,
    max_elements: 0,
    max_inflated_bytes: 0,
    max_deflate_ratio: 1,
};

/// Reads all attributes of a data set but binary ones, text in Unicode. The elements in items count among
/// `max_elements`.
///
/// # Errors
/// Bytes that are no data set of this transfer syntax, or exceed the limits.
pub fn read(bytes: &[u8], transfer_syntax: &str, max_elements: usize) -> Result<Attributes, Failure> {
    let mut scanner = Scanner::new(ScanLimits { max_elements, ..LIMITS });
    // The scanner learns the transfer syntax from a file header; its UIDs are not used.
    scanner.push(&file_head(uids::VERIFICATION, uids::VERIFICATION, transfer_syntax))?;
    scanner.push(bytes)?;
    Ok(collect(&scanner.finish()?, |_| true))
}

/// The encoding of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSetEncoding {
    /// Implicit VR Little Endian.
    Implicit,
    /// Explicit VR Little Endian.
    Explicit,
}

/// Writes a data set. Its text is in `repertoire` if all of it can be, and in UTF-8 if not. Specific
/// Character Set is written if some text is not in ASCII; the one in `attributes` is not.
pub fn write(attributes: &Attributes, encoding: DataSetEncoding, repertoire: Repertoire) -> Vec<u8> {
    for repertoire in [repertoire, Repertoire::UNICODE] {
        let writer = || Writer { bytes: Vec::new(), encoding, repertoire, is_ascii: true };
        // The attributes before Specific Character Set are those of groups below 0008 and of its first
        // elements.
        let (mut first, mut rest) = (writer(), writer());
        let is_first = |(tag, _): &(&Tag, &Attribute)| **tag < tags::SPECIFIC_CHARACTER_SET;
        let written = first.attributes(attributes.iter().take_while(is_first));
        if written.and_then(|()| rest.attributes(attributes.iter().skip_while(is_first))).is_none() {
            continue;
        }
        if !(first.is_ascii && rest.is_ascii) {
            let terms = repertoire.term.split('\\').map(|term| match term {
                "" => Value::Absent,
                term => Value::Text(term.to_owned()),
            });
            let character_set = Attribute { vr: Vr(*b"CS"), values: terms.collect() };
            // The defined terms are in ASCII.
            let _ = first.attribute(tags::SPECIFIC_CHARACTER_SET, &character_set);
        }
        first.bytes.append(&mut rest.bytes);
        return first.bytes;
    }
    Vec::new()
}

struct Writer {
    bytes: Vec<u8>,
    encoding: DataSetEncoding,
    repertoire: Repertoire,
    is_ascii: bool,
}

impl Writer {
    /// Writes attributes but Specific Character Set; `None` if a text is not in the repertoire.
    fn attributes<'a>(&mut self, attributes: impl Iterator<Item = (&'a Tag, &'a Attribute)>) -> Option<()> {
        for (tag, attribute) in attributes.filter(|(tag, _)| **tag != tags::SPECIFIC_CHARACTER_SET) {
            self.attribute(*tag, attribute)?;
        }
        Some(())
    }

    fn attribute(&mut self, tag: Tag, attribute: &Attribute) -> Option<()> {
        if &attribute.vr.0 == b"SQ" {
            self.header(tag, attribute.vr, UNDEFINED);
            for value in &attribute.values {
                self.delimiter(tags::ITEM, UNDEFINED);
                if let Value::Item(item) = value {
                    self.attributes(item.iter())?;
                }
                self.delimiter(tags::ITEM_DELIMITATION_ITEM, 0);
            }
            self.delimiter(tags::SEQUENCE_DELIMITATION_ITEM, 0);
            return Some(());
        }
        let mut bytes = Vec::new();
        for (index, value) in attribute.values.iter().enumerate() {
            match binary_number(attribute.vr, value) {
                Some(number) => bytes.extend(number),
                None => {
                    if index > 0 {
                        bytes.push(b'\\');
                    }
                    self.text(attribute.vr, value, &mut bytes)?;
                }
            }
        }
        match self.encoding {
            DataSetEncoding::Explicit => push_element(&mut self.bytes, tag, attribute.vr, &bytes),
            DataSetEncoding::Implicit => {
                if !bytes.len().is_multiple_of(2) {
                    bytes.push(padding(attribute.vr));
                }
                self.header(tag, attribute.vr, u32::try_from(bytes.len()).ok()?);
                self.bytes.append(&mut bytes);
            }
        }
        Some(())
    }

    fn header(&mut self, tag: Tag, vr: Vr, length: u32) {
        match self.encoding {
            DataSetEncoding::Explicit => push_header(&mut self.bytes, tag, vr, length),
            DataSetEncoding::Implicit => self.delimiter(tag, length),
        }
    }

    /// Writes a tag and a length, as items and delimiters have them in every encoding.
    fn delimiter(&mut self, tag: Tag, length: u32) {
        push_tag(&mut self.bytes, tag);
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }

    /// Appends a text. Designations of character sets end before each delimiter (PS3.5 §6.1.2.5.3).
    fn text(&mut self, vr: Vr, value: &Value, out: &mut Vec<u8>) -> Option<()> {
        match value {
            Value::Absent | Value::Item(_) => {}
            Value::Text(text) | Value::Number(text) if has_lines(vr) => self.pieces(text, '\n', out)?,
            Value::Text(text) | Value::Number(text) => self.pieces(text, '^', out)?,
            Value::Name(PersonName { alphabetic, ideographic, phonetic }) => {
                let groups = [alphabetic, ideographic, phonetic];
                let last = groups.iter().rposition(|group| !group.is_empty()).unwrap_or(0);
                for (index, group) in groups[..=last].iter().enumerate() {
                    if index > 0 {
                        out.push(b'=');
                    }
                    self.pieces(group, '^', out)?;
                }
            }
        }
        Some(())
    }

    fn pieces(&mut self, text: &str, delimiter: char, out: &mut Vec<u8>) -> Option<()> {
        self.is_ascii &= text.is_ascii();
        for (index, piece) in text.split(delimiter).enumerate() {
            if index > 0 {
                out.push(delimiter as u8);
            }
            out.extend(self.repertoire.encode(piece)?);
        }
        Some(())
    }
}

fn has_lines(vr: Vr) -> bool {
    matches!(&vr.0, b"LT" | b"ST" | b"UT")
}

/// The bytes of a number of a representation with binary numbers; `None` for the other representations, and
/// for what is no number.
fn binary_number(vr: Vr, value: &Value) -> Option<Vec<u8>> {
    let (Value::Text(text) | Value::Number(text)) = value else { return None };
    Some(match &vr.0 {
        b"US" => text.parse::<u16>().ok()?.to_le_bytes().to_vec(),
        b"SS" => text.parse::<i16>().ok()?.to_le_bytes().to_vec(),
        b"UL" => text.parse::<u32>().ok()?.to_le_bytes().to_vec(),
        b"SL" => text.parse::<i32>().ok()?.to_le_bytes().to_vec(),
        b"UV" => text.parse::<u64>().ok()?.to_le_bytes().to_vec(),
        b"SV" => text.parse::<i64>().ok()?.to_le_bytes().to_vec(),
        b"FL" => text.parse::<f32>().ok()?.to_le_bytes().to_vec(),
        b"FD" => text.parse::<f64>().ok()?.to_le_bytes().to_vec(),
        b"AT" => {
            let tag: Tag = text.parse().ok()?;
            [tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};

    fn name(alphabetic: &str, ideographic: &str) -> Attribute {
        let name = PersonName {
            alphabetic: alphabetic.into(),
            ideographic: ideographic.into(),
            phonetic: String::new(),
        };
        Attribute { vr: Vr(*b"PN"), values: vec![Value::Name(name)] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let item = Attributes::from([(Tag(0x0008_0100), Attribute::text(b"SH", "A1"))]);
        let all = Attributes::from([
            (
                tags::MODALITIES_IN_STUDY,
                Attribute {
                    vr: Vr(*b"CS"),
                    values: vec![Value::Text("CT".into()), Value::Text("MR".into())],
                },
            ),
            (Tag(0x0008_1032), Attribute { vr: Vr(*b"SQ"), values: vec![Value::Item(item)] }),
            (tags::PATIENT_NAME, name("Yamada^Tarou", "山田^太郎")),
            (tags::PATIENT_ID, Attribute::text(b"LO", "123")),
            (tags::STUDY_INSTANCE_UID, Attribute::text(b"UI", "1.2.3")),
            (tags::ROWS, Attribute::number(b"US", 512)),
            (tags::STUDY_DESCRIPTION, Attribute::text(b"LO", "")),
        ]);
        for (encoding, transfer_syntax) in [
            (DataSetEncoding::Explicit, EXPLICIT_VR_LITTLE_ENDIAN),
            (DataSetEncoding::Implicit, IMPLICIT_VR_LITTLE_ENDIAN),
        ] {
            for value in ["ISO_IR 192", "\\ISO 2022 IR 87", "ISO_IR 100"] {
                let bytes = write(&all, encoding, Repertoire::of_peer(value));
                let mut found = read(&bytes, transfer_syntax, 100).unwrap();
                let set = found.remove(&tags::SPECIFIC_CHARACTER_SET).unwrap();
                let expected = if value == "ISO_IR 100" { "ISO_IR 192" } else { value };
                let last = set.values.last().cloned();
                assert_eq!(last, expected.rsplit('\\').next().map(|text| Value::Text(text.into())));
                assert_eq!(found, all, "{encoding:?} {value}");
            }
        }
    }

    #[test]
    fn ascii_has_no_character_set() {
        let all = Attributes::from([(tags::PATIENT_NAME, name("Doe^J", ""))]);
        let bytes = write(&all, DataSetEncoding::Implicit, Repertoire::UNICODE);
        assert_eq!(bytes, b"\x10\0\x10\0\x06\0\0\0Doe^J ");
    }
}
