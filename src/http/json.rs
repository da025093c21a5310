//! Attributes as DICOM JSON text, and answers made of it (PS3.18 §F.2).

use std::io::Write;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use axum::http::response::Builder;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Value};
use crate::http::accept::Offer;
use crate::http::content;
use crate::http::error::Error;
use crate::http::request::Head;

/// Answers smaller than this are not worth compressing: they fit into a few packets.
const MIN_GZIP_BYTES: usize = 4096;

/// The media types in which JSON is given, the standard's own first.
pub(crate) fn offers() -> [Offer; 2] {
    let offer = |essence| Offer { is_multipart: false, essence, transfer_syntax: None, is_default: true };
    [offer("application/dicom+json"), offer("application/json")]
}

/// The media type for JSON that the client accepts.
///
/// # Errors
/// [`Error::NotAcceptable`] if it accepts none.
pub(crate) fn media_type(head: &Head) -> Result<&'static str, Error> {
    let chosen = head.accept().choose(&offers()).map(|offer| offer.essence);
    chosen.ok_or_else(|| Error::NotAcceptable("Accept: can be application/dicom+json, application/json".into()))
}

/// Ends a response with JSON text, compressed if the client can take that and it pays.
pub(crate) fn answer(
    response: Builder,
    media_type: &'static str,
    text: Vec<u8>,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let mut response = response.header(CONTENT_TYPE, media_type).header(VARY, "Accept, Accept-Encoding");
    let body = if text.len() >= MIN_GZIP_BYTES && head.takes_gzip() {
        response = response.header(CONTENT_ENCODING, "gzip");
        gzip(&text)
    } else {
        text
    };
    content::finish(response.header(CONTENT_LENGTH, body.len()), Body::from(Bytes::from(body)))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.expect("a vector takes every byte")
}

/// Appends an array of objects.
pub(crate) fn write_array(results: &[Attributes], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, attributes) in results.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_object(attributes, out);
    }
    out.push(b']');
}

/// Appends one object.
pub(crate) fn write_object(attributes: &Attributes, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (tag, attribute)) in attributes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("\"{tag}\":").as_bytes());
        write_attribute(attribute, out);
    }
    out.push(b'}');
}

fn write_attribute(attribute: &Attribute, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"vr\":");
    write_string(attribute.vr.as_str(), out);
    // An empty attribute has no member `Value`; viewers fail over an empty array (PS3.18 §F.2.5).
    for (index, value) in attribute.values.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"Value\":[" } else { b"," });
        match value {
            Value::Absent => out.extend_from_slice(b"null"),
            Value::Text(text) => write_string(text, out),
            Value::Number(number) => out.extend_from_slice(number.as_bytes()),
            Value::Name(name) => write_name(name, out),
            Value::Item(item) => write_object(item, out),
        }
    }
    out.extend_from_slice(if attribute.values.is_empty() { b"}" } else { b"]}" });
}

fn write_name(name: &PersonName, out: &mut Vec<u8>) {
    let groups = [("Alphabetic", &name.alphabetic), ("Ideographic", &name.ideographic), ("Phonetic", &name.phonetic)];
    let mut separator = b'{';
    for (key, group) in groups.into_iter().filter(|(_, group)| !group.is_empty()) {
        out.push(separator);
        write_string(key, out);
        out.push(b':');
        write_string(group, out);
        separator = b',';
    }
    out.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::{Tag, Vr};

    #[test]
    fn every_kind_of_value_is_written() {
        let name = PersonName { alphabetic: "A^B".into(), phonetic: "\"x\"".into(), ..PersonName::default() };
        let item = Attributes::from([(Tag(0x0008_1150), Attribute::text(b"UI", "1.2"))]);
        let attributes = Attributes::from([
            (Tag(0x0008_0005), Attribute::text(b"CS", "")),
            (Tag(0x0008_1199), Attribute { vr: Vr(*b"SQ"), values: vec![Value::Item(item)] }),
            (Tag(0x0010_0010), Attribute { vr: Vr(*b"PN"), values: vec![Value::Name(name)] }),
            (Tag(0x0018_1164), Attribute { vr: Vr(*b"DS"), values: vec![Value::Number("0.10".into()), Value::Absent] }),
        ]);
        let mut out = Vec::new();
        write_array(&[attributes, Attributes::new()], &mut out);
        let expected = concat!(
            r#"[{"00080005":{"vr":"CS"},"00081199":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2"]}}]},"#,
            r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"A^B","Phonetic":"\"x\""}]},"#,
            r#""00181164":{"vr":"DS","Value":[0.10,null]}},{}]"#,
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
