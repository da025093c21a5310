//! The attributes of an encapsulated document (PS3.3 §C.24.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A document in a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncapsulatedDocument {
    /// MIME Type of Encapsulated Document (0042,0012) in lower case, if it is one.
    pub media_type: Option<String>,
    /// Encapsulated Document Length (0042,0015): the bytes without padding.
    pub length: Option<u64>,
    /// Encapsulated Document (0042,0011) with its padding, if it is small enough to stand in the metadata.
    pub inline: Option<Vec<u8>>,
}

/// Reads the attributes of the document from the DICOM JSON metadata of an instance.
///
/// # Errors
/// If the text is not JSON, or not of that model.
pub fn read(metadata: &[u8]) -> Result<EncapsulatedDocument, serde_json::Error> {
    let attributes: DocumentAttributes = serde_json::from_slice(metadata)?;
    let first = |attribute: Option<JsonAttribute>| {
        attribute.and_then(|attribute| attribute.values.into_iter().next())
    };
    let media_type = first(attributes.media_type).and_then(|value| media_type(value.as_str()?));
    let inline = attributes.document.and_then(|document| STANDARD.decode(document.inline?).ok());
    Ok(EncapsulatedDocument {
        media_type,
        length: first(attributes.length).and_then(|value| value.as_u64()),
        inline,
    })
}

#[derive(Deserialize)]
struct DocumentAttributes {
    #[serde(rename = "00420011")]
    document: Option<JsonAttribute>,
    #[serde(rename = "00420012")]
    media_type: Option<JsonAttribute>,
    #[serde(rename = "00420015")]
    length: Option<JsonAttribute>,
}

#[derive(Deserialize)]
struct JsonAttribute {
    #[serde(rename = "Value", default)]
    values: Vec<serde_json::Value>,
    #[serde(rename = "InlineBinary")]
    inline: Option<String>,
}

/// A media type without parameters, fit for a header field.
fn media_type(text: &str) -> Option<String> {
    let text = text.split(';').next()?.trim().to_ascii_lowercase();
    let (class, subtype) = text.split_once('/')?;
    // Browsers take such a body apart, and its parts have header fields of their own.
    if ["multipart", "message"].contains(&class) {
        return None;
    }
    let is_token = |text: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !text.is_empty() && text.len() <= 127 && text.bytes().all(is_allowed)
    };
    (is_token(class) && is_token(subtype)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_document_is_read_from_the_metadata() {
        let read = read(
            br#"{"00080005":{"vr":"CS"},"00420011":{"vr":"OB","InlineBinary":"AQIDAA=="},
                "00420012":{"vr":"LO","Value":["Text/XML"]},"00420015":{"vr":"UL","Value":[3]}}"#,
        );
        let expected = EncapsulatedDocument {
            media_type: Some("text/xml".into()),
            length: Some(3),
            inline: Some(vec![1, 2, 3, 0]),
        };
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn only_what_can_stand_in_a_header_field_is_a_media_type() {
        for (text, expected) in [
            ("application/pdf", Some("application/pdf")),
            (" Model/STL ; q=1", Some("model/stl")),
            ("pdf", None),
            ("a/b/c", None),
            ("text/html\r\nX: y", None),
            ("/", None),
        ] {
            assert_eq!(media_type(text).as_deref(), expected, "{text}");
        }
    }
}
