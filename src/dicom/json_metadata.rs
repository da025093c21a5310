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
