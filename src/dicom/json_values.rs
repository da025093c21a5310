//! Values of DICOM JSON metadata as numbers and bytes (PS3.18 §F.2), to deserialize a few attributes of many
//! by `serde`. A value of another form than expected counts as absent.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A sequence whose items are read as `Item`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct JsonSequence<Item> {
    #[serde(rename = "Value", default = "Vec::new")]
    pub(crate) items: Vec<Item>,
}

impl<Item> Default for JsonSequence<Item> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

/// The values of an attribute that is no sequence.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct JsonValues {
    #[serde(rename = "Value", default)]
    values: Vec<JsonScalar>,
    #[serde(rename = "InlineBinary", default)]
    binary: String,
}

impl JsonValues {
    /// The first `N` values as numbers, whether they are written as numbers or as strings.
    pub(crate) fn numbers<const N: usize>(&self) -> Option<[f64; N]> {
        let numbers: Option<Vec<f64>> = self.values.get(..N)?.iter().map(as_number).collect();
        numbers?.try_into().ok().filter(|numbers: &[f64; N]| numbers.iter().all(|number| number.is_finite()))
    }

    /// All values as numbers; none if one is no number.
    pub(crate) fn all_numbers(&self) -> Vec<f64> {
        let numbers: Option<Vec<f64>> = self.values.iter().map(as_number).collect();
        numbers.unwrap_or_default()
    }

    /// The first value as a number.
    pub(crate) fn number(&self) -> Option<f64> {
        self.numbers().map(|[number]| number)
    }

    /// The first value, if it is a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.values.first()? {
            JsonScalar::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes; numbers as words in little endian. `None` if there are none.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        if self.values.is_empty() {
            return STANDARD.decode(&self.binary).ok().filter(|bytes| !bytes.is_empty());
        }
        let word = |value: &JsonScalar| match value {
            JsonScalar::Integer(number) => Some((*number as u16).to_le_bytes()),
            _ => None,
        };
        let words: Option<Vec<[u8; 2]>> = self.values.iter().map(word).collect();
        words.map(|words| words.concat())
    }
}

/// A value that is no array and no object: those are skipped without recursion, however deep they are.
#[derive(Debug, Clone, PartialEq)]
enum JsonScalar {
    Integer(i64),
    Number(f64),
    Text(String),
    /// `null`, or a value of another kind.
    Other,
}

impl<'de> Deserialize<'de> for JsonScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = JsonScalar;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<JsonScalar, E> {
        Ok(JsonScalar::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<JsonScalar, E> {
        Ok(JsonScalar::Other)
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonScalar, E> {
        Ok(JsonScalar::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonScalar, E> {
        Ok(i64::try_from(value).map_or(JsonScalar::Number(value as f64), JsonScalar::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<JsonScalar, E> {
        Ok(JsonScalar::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonScalar, E> {
        Ok(JsonScalar::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<JsonScalar, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(JsonScalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<JsonScalar, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(JsonScalar::Other)
    }
}

fn as_number(value: &JsonScalar) -> Option<f64> {
    match value {
        JsonScalar::Integer(number) => Some(*number as f64),
        JsonScalar::Number(number) => Some(*number),
        JsonScalar::Text(text) => text.trim().parse().ok(),
        JsonScalar::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bytes_are_read_in_every_form() {
        let read = |json: &str| serde_json::from_str::<JsonValues>(json).unwrap();
        assert_eq!(read(r#"{"vr":"DS","Value":[1.5,"2 "]}"#).numbers(), Some([1.5, 2.0]));
        assert_eq!(read(r#"{"vr":"DS","Value":[1.5,null]}"#).numbers::<2>(), None);
        assert_eq!(read(r#"{"vr":"DS"}"#).number(), None);
        assert_eq!(read(r#"{"vr":"CS","Value":["A","B"]}"#).text(), Some("A"));
        assert_eq!(read(r#"{"vr":"OW","InlineBinary":"AQID"}"#).bytes(), Some(vec![1, 2, 3]));
        assert_eq!(read(r#"{"vr":"SS","Value":[258,-1]}"#).bytes(), Some(vec![2, 1, 255, 255]));
        assert_eq!(read(r#"{"vr":"OW","BulkDataURI":"/studies/1"}"#).bytes(), None);
    }

    #[test]
    fn what_is_nested_in_place_of_a_number_is_absent_however_deep() {
        let (open, close) = (r#"{"00400275":{"vr":"SQ","Value":["#, "]}}");
        let nested = open.repeat(100_000) + &close.repeat(100_000);
        let values: JsonValues =
            serde_json::from_str(&format!(r#"{{"vr":"DS","Value":[{nested},5]}}"#)).unwrap();
        assert_eq!(values.number(), None);
        assert_eq!(values.values, [JsonScalar::Other, JsonScalar::Integer(5)]);
    }
}
