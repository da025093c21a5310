//! Values of DICOM JSON metadata as numbers and bytes (PS3.18 §F.2), to deserialize a few attributes of many
//! by `serde`. A value of another form than expected counts as absent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

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
    values: Vec<Value>,
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
        self.values.first()?.as_str()
    }

    /// Bytes; numbers as words in little endian. `None` if there are none.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        if self.values.is_empty() {
            return STANDARD.decode(&self.binary).ok().filter(|bytes| !bytes.is_empty());
        }
        let word = |value: &Value| Some((value.as_i64()? as u16).to_le_bytes());
        let words: Option<Vec<[u8; 2]>> = self.values.iter().map(word).collect();
        words.map(|words| words.concat())
    }
}

fn as_number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
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
}
