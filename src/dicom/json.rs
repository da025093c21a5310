//! Attributes written as and read from DICOM JSON (PS3.18 §F.2).

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::values::{Token, json_number};

/// Why a text is not DICOM JSON.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON, or nested too deeply (128 levels of JSON).
    #[error("not valid JSON")]
    Syntax(#[source] serde_json::Error),
    /// It is JSON, but not an object of attributes.
    #[error("not DICOM JSON: {0}")]
    Model(&'static str),
}

/// Appends a data set as a JSON object in UTF-8; attributes without values have no `Value`.
pub fn write(attributes: &Attributes, out: &mut Vec<u8>) {
    out.push(b'{');
    for (tag, attribute) in attributes {
        begin_attribute(*tag, attribute.vr, out);
        for (index, value) in attribute.values.iter().enumerate() {
            begin_value(index, out);
            match value {
                Value::Absent => write_token(Token::Absent, out),
                Value::Text(text) => write_token(Token::Text(text), out),
                Value::Number(number) => write_token(Token::Number(number), out),
                Value::Name(PersonName { alphabetic, ideographic, phonetic }) => {
                    write_token(Token::Name([alphabetic, ideographic, phonetic]), out);
                }
                Value::Item(item) => write(item, out),
            }
        }
        end_attribute(attribute.values.len(), out);
    }
    out.push(b'}');
}

/// Appends the start of an attribute: a comma unless it is the first, its tag and its VR.
pub(crate) fn begin_attribute(tag: Tag, vr: Vr, out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
    out.push(b'"');
    for shift in (0..8).rev() {
        out.push(b"0123456789ABCDEF"[(tag.0 >> (4 * shift) & 0xF) as usize]);
    }
    out.extend_from_slice(b"\":{\"vr\":\"");
    out.extend_from_slice(vr.as_str().as_bytes());
    out.push(b'"');
}

/// Appends what stands before the value of this index (from 0).
pub(crate) fn begin_value(index: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(if index == 0 { b",\"Value\":[" } else { b"," });
}

/// Appends the end of an attribute with so many values.
pub(crate) fn end_attribute(values: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(if values == 0 { b"}" } else { b"]}" });
}

/// Appends one value.
pub(crate) fn write_token(token: Token<'_>, out: &mut Vec<u8>) {
    match token {
        Token::Absent => out.extend_from_slice(b"null"),
        Token::Text(text) => write_string(text, out),
        Token::Number(number) => out.extend_from_slice(number.as_bytes()),
        Token::Name(groups) => {
            let mut before = b'{';
            for (group, key) in groups.into_iter().zip(["Alphabetic", "Ideographic", "Phonetic"]) {
                if !group.is_empty() {
                    out.push(before);
                    write_string(key, out);
                    out.push(b':');
                    write_string(group, out);
                    before = b',';
                }
            }
            out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
        }
    }
}

/// Appends a JSON string (RFC 8259 §7).
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            letter @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', letter]),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Reads one data set, a JSON object. Attributes whose value is InlineBinary or a BulkDataURI are left out.
///
/// # Errors
/// [`Error`] if the text is not DICOM JSON.
pub fn read(text: &[u8]) -> Result<Attributes, Error> {
    let json: BTreeMap<String, Json> = serde_json::from_slice(text).map_err(Error::Syntax)?;
    json.into_iter().filter_map(|(tag, attribute)| read_attribute(&tag, attribute).transpose()).collect()
}

fn read_attribute(tag: &str, attribute: Json) -> Result<Option<(Tag, Attribute)>, Error> {
    let tag: Tag = tag.parse().map_err(|()| Error::Model("a key is not a tag"))?;
    let Json::Object(mut attribute) = attribute else {
        return Err(Error::Model("an attribute is not an object"));
    };
    if attribute.contains_key("InlineBinary") || attribute.contains_key("BulkDataURI") {
        return Ok(None);
    }
    let vr = match attribute.get("vr").and_then(Json::as_str).map(str::as_bytes) {
        Some(&[first, second]) if first.is_ascii_uppercase() && second.is_ascii_uppercase() => {
            Vr([first, second])
        }
        _ => return Err(Error::Model("an attribute has no vr")),
    };
    let values = match attribute.remove("Value") {
        Some(Json::Array(values)) => {
            values.into_iter().map(|value| read_value(vr, value)).collect::<Result<_, _>>()?
        }
        None | Some(Json::Null) => Vec::new(),
        Some(_) => return Err(Error::Model("a Value is not an array")),
    };
    Ok(Some((tag, Attribute { vr, values })))
}

/// Reads a value. The recursion is bounded by the depth that the JSON parser allows.
fn read_value(vr: Vr, value: Json) -> Result<Value, Error> {
    Ok(match value {
        Json::Null => Value::Absent,
        Json::Number(number) => Value::Number(number.to_string()),
        Json::String(text) if text.is_empty() => Value::Absent,
        Json::String(text) => match (&vr.0, json_number(&text)) {
            (b"DS" | b"IS" | b"SV" | b"UV", Some(number)) => Value::Number(number.into_owned()),
            (b"PN", _) => Value::Name(PersonName { alphabetic: text, ..PersonName::default() }),
            _ => Value::Text(text),
        },
        Json::Object(mut groups) if &vr.0 == b"PN" => {
            let mut group = |key| match groups.remove(key) {
                Some(Json::String(text)) => text,
                _ => String::new(),
            };
            let (alphabetic, ideographic, phonetic) =
                (group("Alphabetic"), group("Ideographic"), group("Phonetic"));
            Value::Name(PersonName { alphabetic, ideographic, phonetic })
        }
        Json::Object(item) => {
            let attributes = item.into_iter().map(|(tag, attribute)| read_attribute(&tag, attribute));
            Value::Item(attributes.filter_map(Result::transpose).collect::<Result<_, _>>()?)
        }
        Json::Bool(_) | Json::Array(_) => {
            return Err(Error::Model("a value is neither text, number nor object"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_of_everything() -> Attributes {
        let name =
            PersonName { alphabetic: "Doe^J".into(), ideographic: String::new(), phonetic: "\"d\"".into() };
        let item = Attributes::from([(Tag(0x0008_0100), Attribute::text(b"SH", "a\\b\n\u{1}é"))]);
        let items = vec![Value::Item(item), Value::Item(Attributes::new())];
        Attributes::from([
            (
                Tag(0x0008_0008),
                Attribute { vr: Vr(*b"CS"), values: vec![Value::Text("A".into()), Value::Absent] },
            ),
            (Tag(0x0010_0010), Attribute { vr: Vr(*b"PN"), values: vec![Value::Name(name)] }),
            (Tag(0x0010_0020), Attribute::text(b"LO", "")),
            (Tag(0x0020_0013), Attribute::number(b"IS", 7)),
            (Tag(0x0040_0275), Attribute { vr: Vr(*b"SQ"), values: items }),
        ])
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut text = Vec::new();
        write(&some_of_everything(), &mut text);
        assert_eq!(read(&text).unwrap(), some_of_everything());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            concat!(
                r#"{"00080008":{"vr":"CS","Value":["A",null]},"#,
                r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"Doe^J","Phonetic":"\"d\""}]},"#,
                r#""00100020":{"vr":"LO"},"00200013":{"vr":"IS","Value":[7]},"#,
                r#""00400275":{"vr":"SQ","Value":[{"00080100":{"vr":"SH","Value":["a\\b\n\u0001é"]}},{}]}}"#
            )
        );
    }

    #[test]
    fn numbers_may_come_as_strings_and_binary_values_are_left_out() {
        let read = read(
            br#"{"00200013":{"vr":"IS","Value":["+7"]},"00420011":{"vr":"OB","InlineBinary":"AA=="},
                "7FE00010":{"vr":"OW","BulkDataURI":"x"}}"#,
        );
        assert_eq!(read.unwrap(), Attributes::from([(Tag(0x0020_0013), Attribute::number(b"IS", 7))]));
    }

    #[test]
    fn what_is_not_dicom_json_is_an_error() {
        let deep = r#"{"00400275":{"vr":"SQ","Value":["#.repeat(10_000);
        for text in ["", "[]", "1", r#"{"x":{"vr":"CS"}}"#, r#"{"00080008":1}"#, r#"{"00080008":{}}"#, &deep]
        {
            assert!(read(text.as_bytes()).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }
}
