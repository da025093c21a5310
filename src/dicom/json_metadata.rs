//! Writes the DICOM JSON metadata of an instance from the outline of its scan (PS3.18 §F.2, §10.4.1.1.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::element_reader::{ElementReader, ElementStep, ValueElement};
use crate::dicom::failure::Warning;
use crate::dicom::json;
use crate::dicom::layout::BulkValue;
use crate::dicom::scan::{Outline, ScanEvent};
use crate::dicom::tags;
use crate::dicom::transfer_syntax::of_web_services;
use crate::dicom::value_reader;

/// The metadata of an instance.
#[derive(Debug)]
pub(crate) struct JsonMetadata {
    /// The JSON text, cut wherever the server's base URL belongs.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// The values that it refers to.
    pub(crate) bulk: Vec<BulkValue>,
    /// The warnings about the data set.
    pub(crate) warnings: Vec<Warning>,
}

/// Writes the metadata. `instance_path` is `/studies/…/series/…/instances/…`, the start of each BulkDataURI
/// after the base URL.
///
/// Group 0002 and group lengths are left out. Text is in UTF-8, and so Specific Character Set is ISO_IR 192
/// wherever it was sent or is needed. Available Transfer Syntax UID is added, for viewers that choose a
/// decoder by it.
pub(crate) fn write(outline: &Outline, instance_path: &str) -> JsonMetadata {
    let mut writer = JsonMetadataWriter {
        walk: ElementReader::new(outline),
        transfer_syntax: &outline.transfer_syntax,
        instance_path,
        pieces: Vec::new(),
        piece: Vec::with_capacity(8192),
        bulk: Vec::new(),
        open: Vec::new(),
        charset_place: None,
        has_transfer_syntax: false,
        needs_unicode: false,
    };
    writer.piece.push(b'{');
    while let Some(step) = writer.walk.step() {
        writer.take(step);
    }
    writer.finish()
}

struct JsonMetadataWriter<'a> {
    walk: ElementReader<'a>,
    transfer_syntax: &'a str,
    instance_path: &'a str,
    pieces: Vec<Vec<u8>>,
    piece: Vec<u8>,
    bulk: Vec<BulkValue>,
    /// The sequences that are open, each with how many of its items were started.
    open: Vec<(Tag, usize)>,
    /// The offset of the character set in the first piece, and whether it is there.
    charset_place: Option<(usize, bool)>,
    has_transfer_syntax: bool,
    needs_unicode: bool,
}

impl<'a> JsonMetadataWriter<'a> {
    fn take(&mut self, step: ElementStep<'a>) {
        match step {
            ElementStep::Value(element) => {
                self.before(element.tag);
                self.value(&element);
            }
            ElementStep::Bulk(vr, event) => {
                self.before(event.tag);
                self.bulk(vr, event);
            }
            ElementStep::Sequence(tag) => {
                self.before(tag);
                json::begin_attribute(tag, Vr(*b"SQ"), &mut self.piece);
                self.open.push((tag, 0));
            }
            ElementStep::Item => {
                if let Some((_, items)) = self.open.last_mut() {
                    json::begin_value(*items, &mut self.piece);
                    *items += 1;
                }
                self.piece.push(b'{');
            }
            ElementStep::ItemEnd => self.piece.push(b'}'),
            ElementStep::SequenceEnd => {
                if let Some((_, items)) = self.open.pop() {
                    json::end_attribute(items, &mut self.piece);
                }
            }
        }
    }

    /// Notes the places of attributes to add, before `tag` is written.
    fn before(&mut self, tag: Tag) {
        if !self.open.is_empty() {
            return;
        }
        if tag >= tags::SPECIFIC_CHARACTER_SET && self.charset_place.is_none() && self.pieces.is_empty() {
            self.charset_place = Some((self.piece.len(), tag == tags::SPECIFIC_CHARACTER_SET));
        }
        if tag > tags::AVAILABLE_TRANSFER_SYNTAX_UID {
            self.add_transfer_syntax();
        }
        self.has_transfer_syntax |= tag == tags::AVAILABLE_TRANSFER_SYNTAX_UID;
    }

    fn add_transfer_syntax(&mut self) {
        if !std::mem::replace(&mut self.has_transfer_syntax, true) {
            json::begin_attribute(tags::AVAILABLE_TRANSFER_SYNTAX_UID, Vr(*b"UI"), &mut self.piece);
            json::begin_value(0, &mut self.piece);
            json::write_string(of_web_services(self.transfer_syntax), &mut self.piece);
            json::end_attribute(1, &mut self.piece);
        }
    }

    fn value(&mut self, element: &ValueElement<'a>) {
        let out = &mut self.piece;
        json::begin_attribute(element.tag, element.vr, out);
        if element.tag == tags::SPECIFIC_CHARACTER_SET {
            out.extend_from_slice(UNICODE_VALUE);
            return;
        }
        if value_reader::is_binary(element.vr) {
            if !element.bytes.is_empty() {
                let bytes = value_reader::little_endian(element.vr, element.bytes, element.is_big_endian);
                out.extend_from_slice(b",\"InlineBinary\":\"");
                out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                out.push(b'"');
            }
            out.push(b'}');
            return;
        }
        let start = out.len();
        let mut count = 0;
        self.walk.visit(element, &mut |token| {
            json::begin_value(count, out);
            json::write_token(token, out);
            count += 1;
        });
        json::end_attribute(count, out);
        self.needs_unicode = self.needs_unicode || !out[start..].is_ascii();
    }

    fn bulk(&mut self, vr: Vr, event: &ScanEvent) {
        json::begin_attribute(event.tag, vr, &mut self.piece);
        if event.length == 0 {
            self.piece.push(b'}');
            return;
        }
        let mut path: String = self.open.iter().map(|(tag, item)| format!("{tag}/{item}/")).collect();
        path.push_str(&event.tag.to_string());
        self.piece.extend_from_slice(b",\"BulkDataURI\":\"");
        self.pieces.push(std::mem::take(&mut self.piece));
        self.piece.extend_from_slice(format!("{}/bulkdata/{path}\"}}", self.instance_path).as_bytes());
        self.bulk.push(BulkValue { path, vr, offset: event.offset, length: event.length });
    }

    fn finish(mut self) -> JsonMetadata {
        self.add_transfer_syntax();
        self.piece.push(b'}');
        self.pieces.push(self.piece);
        if let (Some((at, false)), true, Some(first)) =
            (self.charset_place, self.needs_unicode, self.pieces.first_mut())
        {
            add_charset(first, at);
        }
        JsonMetadata { pieces: self.pieces, bulk: self.bulk, warnings: self.walk.warnings }
    }
}

const UNICODE_VALUE: &[u8] = b",\"Value\":[\"ISO_IR 192\"]}";

/// Inserts the character set where text beyond ASCII came without one. There is always an attribute after it.
fn add_charset(piece: &mut Vec<u8>, at: usize) {
    let mut attribute = Vec::new();
    json::begin_attribute(tags::SPECIFIC_CHARACTER_SET, Vr(*b"CS"), &mut attribute);
    attribute.extend_from_slice(UNICODE_VALUE);
    if at > 1 {
        attribute.insert(0, b',');
    } else {
        attribute.push(b',');
    }
    piece.splice(at..at, attribute);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;
    use crate::dicom::instance;
    use crate::dicom::scan::has_short_length;
    use crate::dicom::scan::tests::scan;
    use crate::dicom::xml;

    /// An attribute of each VR (PS3.6 §6).
    const SELECTORS: [(&[u8; 2], u32); 34] = [
        (b"AE", 0x0072_005E),
        (b"AS", 0x0072_005F),
        (b"AT", 0x0072_0060),
        (b"DA", 0x0072_0061),
        (b"CS", 0x0072_0062),
        (b"DT", 0x0072_0063),
        (b"IS", 0x0072_0064),
        (b"OB", 0x0072_0065),
        (b"LO", 0x0072_0066),
        (b"OF", 0x0072_0067),
        (b"LT", 0x0072_0068),
        (b"OW", 0x0072_0069),
        (b"PN", 0x0072_006A),
        (b"TM", 0x0072_006B),
        (b"SH", 0x0072_006C),
        (b"UN", 0x0072_006D),
        (b"ST", 0x0072_006E),
        (b"UC", 0x0072_006F),
        (b"UT", 0x0072_0070),
        (b"UR", 0x0072_0071),
        (b"DS", 0x0072_0072),
        (b"OD", 0x0072_0073),
        (b"FD", 0x0072_0074),
        (b"OL", 0x0072_0075),
        (b"FL", 0x0072_0076),
        (b"UL", 0x0072_0078),
        (b"US", 0x0072_007A),
        (b"SL", 0x0072_007C),
        (b"SS", 0x0072_007E),
        (b"UI", 0x0072_007F),
        (b"SQ", 0x0072_0080),
        (b"OV", 0x0072_0081),
        (b"SV", 0x0072_0082),
        (b"UV", 0x0072_0083),
    ];

    /// Values that are legal, nearly legal, or nothing of the kind.
    const VALUES: [&[u8]; 28] = [
        b"",
        b" ",
        b"\0",
        b"\\",
        b"\\\\ \\",
        b"1",
        b"1e400",
        b"-1E999",
        b"1e-400",
        b"-0",
        b"+.5\\7.\\007",
        b"99999999999",
        b"99999999999999999999999999999999",
        b"NaN",
        b"-Infinity",
        b"0x10",
        b"1 2",
        b"1,5 ",
        b"1.5\0",
        b"^^^^^^=^=^=^=",
        b"a=b=c=d\\=\\^",
        b"\xFF\xFE\x80",
        b"\x1B$B\x1B",
        b"]]>&<\"\\\r\n\t\x01\x7F",
        b"\xFF\xFF\xFF\x7F\xFF\xFF\xFF\xFF",
        b"\0\0\x80\x7F\0\0\x80\xFF",
        b"\0\0\0\0\0\0\xF0\x7F",
        b"\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF",
    ];

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => proptest::sample::select(&VALUES[..]).prop_map(<[u8]>::to_vec),
            2 => proptest::collection::vec(any::<u8>(), 0..40),
            1 => (proptest::sample::select(&VALUES[..]), 1..600_usize).prop_map(|(value, n)| value.repeat(n)),
            1 => (any::<u8>(), 60_000..66_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        ]
    }

    /// Appends an element with its value as it is, of odd length too.
    fn push(data_set: &mut Vec<u8>, is_explicit: bool, tag: u32, vr: &[u8; 2], value: &[u8]) {
        data_set.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
        data_set.extend_from_slice(&(tag as u16).to_le_bytes());
        let mut value = value;
        if is_explicit && has_short_length(Vr(*vr)) {
            value = &value[..value.len().min(0xFFFF)];
            data_set.extend_from_slice(vr);
            data_set.extend_from_slice(&(value.len() as u16).to_le_bytes());
        } else {
            if is_explicit {
                data_set.extend_from_slice(&[vr[0], vr[1], 0, 0]);
            }
            data_set.extend_from_slice(&(value.len() as u32).to_le_bytes());
        }
        data_set.extend_from_slice(value);
    }

    fn data_set(is_explicit: bool, charset: &str, vr: &[u8; 2], tag: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut add = |tag, vr: &[u8; 2], value: &[u8]| push(&mut bytes, is_explicit, tag, vr, value);
        add(0x0008_0005, b"CS", charset.as_bytes());
        for (tag, uid) in [
            (0x0008_0016, "1.2.840.10008.5.1.4.1.1.7\0"),
            (0x0008_0018, "1.2.3\0"),
            (0x0020_000D, "1.2.4\0"),
            (0x0020_000E, "1.2.5\0"),
        ] {
            add(tag, b"UI", uid.as_bytes());
        }
        add(tag, vr, value);
        let mut item = Vec::new();
        push(&mut item, is_explicit, tag, vr, &value[..value.len().min(60_000)]);
        let mut items = vec![0xFE, 0xFF, 0, 0xE0];
        items.extend_from_slice(&(item.len() as u32).to_le_bytes());
        items.append(&mut item);
        add(0x0072_0400, b"SQ", &items);
        add(0x4008_0300, b"ST", b"END ");
        bytes
    }

    fn is_finite(json: &Json) -> bool {
        match json {
            Json::Number(number) => number.as_f64().is_some_and(f64::is_finite),
            Json::Array(values) => values.iter().all(is_finite),
            Json::Object(members) => members.values().all(is_finite),
            Json::Null | Json::Bool(_) | Json::String(_) => true,
        }
    }

    /// Whether every letter may be in XML 1.0, and the document is read again as what was written.
    fn is_xml(data_set: &Json) -> bool {
        let mut document = Vec::new();
        xml::write(data_set, &mut document);
        let text = std::str::from_utf8(&document).unwrap();
        let is_allowed = |letter: char| letter >= ' ' && !matches!(letter, '\u{FFFE}' | '\u{FFFF}');
        text.chars().all(|letter| letter == '\n' || is_allowed(letter))
            && xml::read(&document, 64, 100_000).is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn whatever_a_value_is_the_metadata_are_valid_json_and_xml(
            (vr, tag) in proptest::sample::select(&SELECTORS[..]),
            is_explicit: bool,
            charset in proptest::sample::select(
                &["", "ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "GB18030 ", "KLINGON "][..],
            ),
            value in value(),
        ) {
            let outline = scan(&data_set(is_explicit, charset, vr, tag, &value)).unwrap();
            let instance = instance::read(&outline, &[Tag(tag)]).unwrap();
            let mut text = Vec::new();
            instance.metadata.write_text("http://pacs", &mut text).unwrap();
            let json: Json = serde_json::from_slice(&text).unwrap();
            prop_assert!(is_finite(&json));
            prop_assert!(is_xml(&json));
            prop_assert_eq!(&json["40080300"]["Value"][0], "END");
            prop_assert!(json[Tag(tag).to_string()]["vr"].is_string());
            prop_assert!(json::read(&text).is_ok());
            let mut indexed = Vec::new();
            json::write(&instance.attributes, &mut indexed);
            prop_assert!(is_finite(&serde_json::from_slice(&indexed).unwrap()));
        }
    }
}
