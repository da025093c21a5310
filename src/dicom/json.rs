//! Attributes written as and read from DICOM JSON (PS3.18 §F.2).

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Number, Value as Json};

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::value_reader::{Token, json_number};

/// The maximum nesting of objects and arrays that any thread can parse: parsing, writing and dropping JSON
/// take stack for each level.
pub const MAX_NESTING: usize = 400;
/// Objects and arrays for each sequence: the data set, the attribute, and the array of items.
const LEVELS_PER_SEQUENCE: usize = 3;
/// The nesting of objects and arrays from which [`read`] leaves values out: 130 sequences.
const MAX_READ_NESTING: usize = 390;

/// The reason why a text is not DICOM JSON.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON.
    #[error("not valid JSON")]
    Syntax(#[source] serde_json::Error),
    /// The text is nested too deeply.
    #[error("nested more than {MAX_NESTING} levels deep")]
    TooDeep,
    /// The text is JSON, but not an object of attributes.
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

/// A data set as JSON: the output of [`write()`], parsed.
pub fn tree(attributes: &Attributes) -> Json {
    let mut text = Vec::new();
    write(attributes, &mut text);
    parse(&text).unwrap_or_default()
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

/// Appends the JSON before the value with this index (from 0).
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

/// Reads one data set, a JSON object. Attributes whose value is InlineBinary or a BulkDataURI are left out,
/// and the values of items that are nested deeper than 130 sequences.
///
/// # Errors
/// [`Error`] if the text is not DICOM JSON.
pub fn read(text: &[u8]) -> Result<Attributes, Error> {
    let mut deserializer = Deserializer::from_slice(text);
    deserializer.disable_recursion_limit();
    let json = Pruned { depth: 1 }.deserialize(&mut deserializer).map_err(Error::Syntax)?;
    deserializer.end().map_err(Error::Syntax)?;
    let Json::Object(json) = json else { return Err(Error::Model("a data set is not an object")) };
    json.into_iter().filter_map(|(tag, attribute)| read_attribute(&tag, attribute).transpose()).collect()
}

/// Reads JSON as it is: a data set is a [`Json::Object`]. Numbers keep their value.
///
/// # Errors
/// [`Error::Syntax`] or [`Error::TooDeep`].
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    if nesting(text) > MAX_NESTING {
        return Err(Error::TooDeep);
    }
    parse_nested(text)
}

/// Reads JSON as it is, on a thread with a stack for its [`nesting`], on which it must be dropped too.
///
/// # Errors
/// [`Error::Syntax`].
pub fn parse_nested<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    let mut deserializer = Deserializer::from_slice(text);
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer).map_err(Error::Syntax)?;
    deserializer.end().map_err(Error::Syntax)?;
    Ok(value)
}

/// The nesting of objects and arrays that this many sequences within each other take.
pub const fn nesting_of_sequences(depth: usize) -> usize {
    // The data set within the innermost sequence, its attribute, the values, and a name.
    (depth + 1).saturating_mul(LEVELS_PER_SEQUENCE) + 1
}

/// The nesting of the objects and arrays in a JSON text.
pub fn nesting(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_string, mut is_escaped) = (false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_string,
            b'"' => is_string = !is_string,
            b'{' | b'[' if !is_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Reads JSON whose deepest arrays become `null`.
#[derive(Clone, Copy)]
struct Pruned {
    depth: usize,
}

impl Pruned {
    fn inner(self) -> Self {
        Self { depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Pruned {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pruned {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        if self.depth > MAX_READ_NESTING {
            while values.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Json::Null);
        }
        let mut array = Vec::new();
        while let Some(value) = values.next_element_seed(self.inner())? {
            array.push(value);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        // Only what is no DICOM JSON has that many objects within each other without an array.
        if self.depth > MAX_READ_NESTING + LEVELS_PER_SEQUENCE {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Json::Null);
        }
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            object.insert(key, members.next_value_seed(self.inner())?);
        }
        Ok(Json::Object(object))
    }
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

/// Reads a value. The recursion is bounded by [`MAX_READ_NESTING`].
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
    fn sequences_are_read_to_a_depth_that_every_stack_holds() {
        for (depth, expected) in [(3, 3), (128, 128), (140, 130), (100_000, 130)] {
            let (open, close) = (r#"{"00400275":{"vr":"SQ","Value":["#, "]}}");
            let text = open.repeat(depth)
                + r#"{"00100020":{"vr":"LO","Value":["[[\"{{\\"]}}"#
                + &close.repeat(depth);
            assert_eq!(nesting(text.as_bytes()), 3 * depth + 3);
            let data_set = read(text.as_bytes()).unwrap();
            let mut item = Some(&data_set);
            let mut found = 0;
            while let Some(Value::Item(inner)) = item.and_then(|set| set[&Tag(0x0040_0275)].values.first()) {
                found += 1;
                item = Some(inner).filter(|inner| inner.contains_key(&Tag(0x0040_0275)));
            }
            assert_eq!(found, expected, "{depth}");
        }
    }

    #[test]
    fn numbers_keep_their_value() {
        for number in ["0.30000000000000004", "123456789.12345679", "5e-324", "18446744073709551615"] {
            let parsed: Json = parse(number.as_bytes()).unwrap();
            assert_eq!(parsed.to_string(), number);
        }
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
