//! The representations of results: DICOM JSON, Native DICOM Model XML, and CSV (PS3.18 §10.6.1, §F.2).

use crate::dicom::attributes::{Attribute, Attributes, Tag, Value};
use crate::dicom::tags;
use crate::dicom::{dictionary, json, xml};
use crate::http::error::Error;
use crate::http::request::accept::{Accept, Offer};
use crate::http::response::compressed_buffer::CompressedBuffer;
use crate::http::response::multipart as parts;
use crate::http::response::multipart::{DICOM_XML, MODEL_BOUNDARY};
use crate::http::response::negotiation::not_acceptable;
use crate::query::private_creators;
use crate::query::return_attributes::ReturnAttributes;
use crate::query::{Creators, Query};

/// A representation of results, with the state to write the next result.
#[derive(Debug)]
pub(super) enum ResultFormat {
    /// An array of DICOM JSON objects.
    Json {
        /// The media type that the client accepts.
        essence: &'static str,
    },
    /// A part with a Native DICOM Model document for each result.
    Xml,
    /// A line for each result, after one with the names of the columns. Not part of the standard.
    Csv {
        /// The attributes in the columns.
        columns: Vec<Tag>,
        /// The creators of those that are private.
        creators: Creators,
    },
}

impl ResultFormat {
    /// The representation of the results of a query that suits the client best; JSON by default.
    ///
    /// # Errors
    /// [`Error::NotAcceptable`] if the client accepts no representation.
    pub(super) fn choose(accept: &Accept, query: &Query) -> Result<Self, Error> {
        let offer =
            |is_multipart, essence| Offer { is_multipart, essence, transfer_syntax: None, is_default: true };
        let offers = [
            offer(false, "application/dicom+json"),
            offer(false, "application/json"),
            offer(true, DICOM_XML),
            offer(false, "text/csv"),
        ];
        let chosen = accept.choose(&offers).ok_or_else(|| not_acceptable(&offers))?;
        Ok(match chosen.essence {
            DICOM_XML => Self::Xml,
            "text/csv" => Self::Csv { columns: columns(query), creators: query.creators.clone() },
            essence => Self::Json { essence },
        })
    }

    /// Its Content-Type.
    pub(super) fn content_type(&self) -> String {
        match self {
            Self::Json { essence } => (*essence).to_owned(),
            Self::Xml => parts::content_type(DICOM_XML, MODEL_BOUNDARY),
            Self::Csv { .. } => "text/csv; charset=utf-8; header=present".to_owned(),
        }
    }

    /// Whether a response in this representation needs a result: a multipart body has at least one part (RFC
    /// 2046 §5.1.1).
    pub(super) fn needs_results(&self) -> bool {
        matches!(self, Self::Xml)
    }

    /// Writes the text before the first result.
    pub(super) fn begin(&self, out: &mut CompressedBuffer) {
        match self {
            Self::Json { .. } => out.write(b"["),
            Self::Xml => {}
            Self::Csv { columns, .. } => {
                let name =
                    |tag: &Tag| dictionary::keyword(*tag).map_or_else(|| tag.to_string(), str::to_owned);
                out.write(&line(columns.iter().map(name)));
            }
        }
    }

    /// Writes a result.
    pub(super) fn result(&self, result: &Attributes, is_first: bool, out: &mut CompressedBuffer) {
        match self {
            Self::Json { .. } => {
                let mut text = Vec::with_capacity(2048);
                json::write(result, &mut text);
                if !is_first {
                    out.write(b",");
                }
                out.write(&text);
            }
            Self::Xml => {
                let mut text = parts::head(MODEL_BOUNDARY, is_first, DICOM_XML, None).into_bytes();
                xml::write(&json::tree(result), &mut text);
                out.write(&text);
            }
            Self::Csv { columns, creators } => {
                let cell = |tag: &Tag| {
                    let tag = private_creators::tag_in_data_set(*tag, creators, result);
                    tag.and_then(|tag| result.get(&tag)).map(cell).unwrap_or_default()
                };
                out.write(&line(columns.iter().map(cell)));
            }
        }
    }

    /// Writes the text after the last result.
    pub(super) fn end(&self, out: &mut CompressedBuffer) {
        match self {
            Self::Json { .. } => out.write(b"]"),
            Self::Xml => out.write(parts::tail(MODEL_BOUNDARY).as_bytes()),
            Self::Csv { .. } => {}
        }
    }
}

/// The columns of a table of results: the attributes that a result may hold, in the order of tags.
fn columns(query: &Query) -> Vec<Tag> {
    let mut columns = ReturnAttributes::of(query).all();
    columns.push(tags::RETRIEVE_URL);
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// A line of CSV (RFC 4180).
fn line(cells: impl Iterator<Item = String>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells).expect("a vector takes every byte");
    writer.into_inner().expect("a vector takes every byte")
}

/// An attribute in one cell: values as in a DICOM file, with `\` between values and `=` between the groups of
/// a name; items of a sequence as DICOM JSON.
fn cell(attribute: &Attribute) -> String {
    let text = |value: &Value| match value {
        Value::Absent => String::new(),
        Value::Text(text) | Value::Number(text) => text.clone(),
        Value::Name(name) => {
            let groups = [name.alphabetic.as_str(), &name.ideographic, &name.phonetic].join("=");
            groups.trim_end_matches('=').to_owned()
        }
        Value::Item(item) => {
            let mut text = Vec::new();
            json::write(item, &mut text);
            String::from_utf8(text).unwrap_or_default()
        }
    };
    attribute.values.iter().map(text).collect::<Vec<_>>().join("\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::{PersonName, Vr};

    #[test]
    fn a_cell_holds_all_values_of_an_attribute() {
        let name = |alphabetic: &str, phonetic: &str| {
            let (alphabetic, ideographic, phonetic) = (alphabetic.into(), String::new(), phonetic.into());
            Value::Name(PersonName { alphabetic, ideographic, phonetic })
        };
        let item = Attributes::from([(Tag(0x0010_0020), Attribute::text(b"LO", "7"))]);
        for (values, expected) in [
            (vec![], ""),
            (vec![Value::Text("CT".into()), Value::Absent, Value::Number("7".into())], "CT\\\\7"),
            (vec![name("Doe^J", ""), name("Doe", "d")], "Doe^J\\Doe==d"),
            (vec![Value::Item(item)], r#"{"00100020":{"vr":"LO","Value":["7"]}}"#),
        ] {
            assert_eq!(cell(&Attribute { vr: Vr(*b"CS"), values }), expected);
        }
    }

    #[test]
    fn a_line_of_csv_is_quoted_where_it_must_be() {
        let cells = ["plain", "a,b", "say \"x\"", "two\r\nlines", ""];
        let expected = "plain,\"a,b\",\"say \"\"x\"\"\",\"two\r\nlines\",\r\n";
        assert_eq!(line(cells.iter().map(|cell| (*cell).to_owned())), expected.as_bytes());
    }
}
