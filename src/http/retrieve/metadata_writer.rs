//! Writes the text of metadata responses, page by page, plain or as one gzip or Zstandard stream.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value as Json;
use tracing::error;

use crate::archive::records::MetadataRecord;
use crate::archive::with_stack_for;
use crate::dicom::attributes::Tag;
use crate::dicom::metadata::{GzipJoiner, Metadata};
use crate::dicom::{json, tags, xml};
use crate::http::error::Error;
use crate::http::request::accept_encoding::ContentCoding;
use crate::http::response::multipart as parts;
use crate::http::response::multipart::{DICOM_XML, MODEL_BOUNDARY};

/// The level of Zstandard, for responses that are compressed while they are sent.
const ZSTD_LEVEL: i32 = 1;

/// The format of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetadataFormat {
    /// An array of DICOM JSON objects.
    Json,
    /// A Native DICOM Model document.
    Xml,
    /// A part with a Native DICOM Model document for each instance.
    XmlParts,
}

/// Writes the text of a response.
pub(super) struct MetadataWriter {
    form: MetadataFormat,
    base_url: String,
    is_first: bool,
    left_out: Arc<AtomicUsize>,
    output: TextOutput,
}

enum TextOutput {
    Plain(Vec<u8>),
    /// JSON, joined from stored gzip members.
    Joined(GzipJoiner),
    Compressed(Box<GzEncoder<Vec<u8>>>),
    Zstandard(Box<zstd::Encoder<'static, Vec<u8>>>),
}

impl MetadataWriter {
    pub(super) fn new(form: MetadataFormat, coding: ContentCoding, base_url: &str) -> Result<Self, Error> {
        let output = match (coding, form) {
            (ContentCoding::Identity, _) => TextOutput::Plain(Vec::new()),
            (ContentCoding::Gzip, MetadataFormat::Json) => TextOutput::Joined(GzipJoiner::new()),
            (ContentCoding::Gzip, MetadataFormat::Xml | MetadataFormat::XmlParts) => {
                TextOutput::Compressed(Box::new(GzEncoder::new(Vec::new(), Compression::fast())))
            }
            (ContentCoding::Zstd, _) => {
                let encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(damaged)?;
                TextOutput::Zstandard(Box::new(encoder))
            }
        };
        let left_out = Arc::new(AtomicUsize::new(0));
        Ok(Self { form, base_url: base_url.to_owned(), is_first: true, left_out, output })
    }

    /// The number of instances so far that were left out, because their metadata cannot be read.
    pub(super) fn left_out(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.left_out)
    }

    /// Whether the metadata are parsed, which takes many times the memory of their text.
    pub(super) fn parses(&self) -> bool {
        self.form != MetadataFormat::Json
    }

    /// The bytes for a page of instances. An instance whose record is damaged is left out.
    ///
    /// Metadata that are joined from gzip members are not inflated, so that damage to them is not seen.
    pub(super) fn page(&mut self, records: &[MetadataRecord]) -> Result<Vec<u8>, Error> {
        for record in records {
            match self.instance(&record.metadata) {
                Ok(()) => self.is_first = false,
                Err(Error::Damaged(cause)) => {
                    let error = format!("{cause:#}");
                    error!(error, "cannot read the metadata of an instance, which is left out of a response");
                    self.left_out.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.output.take())
    }

    /// Writes an instance, or nothing if it cannot be read.
    fn instance(&mut self, metadata: &Metadata) -> Result<(), Error> {
        if self.form == MetadataFormat::Json {
            let before = if self.is_first { "[" } else { "," };
            return self.output.metadata(before, metadata, &self.base_url);
        }
        let Document { text, location } = document(metadata, &self.base_url)?;
        if self.form == MetadataFormat::XmlParts {
            let head = parts::located(MODEL_BOUNDARY, self.is_first, DICOM_XML, None, &location);
            self.output.text(head.as_bytes())?;
        }
        self.output.text(&text)
    }

    /// The bytes at the end of the response.
    ///
    /// # Errors
    /// [`Error::Damaged`] if all instances were left out.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Error> {
        if self.is_first && self.left_out.load(Ordering::Relaxed) > 0 {
            return Err(damaged(anyhow::anyhow!("the metadata of no instance can be read")));
        }
        match self.form {
            MetadataFormat::Json => self.output.text(if self.is_first { b"[]" } else { b"]" })?,
            MetadataFormat::Xml => {}
            MetadataFormat::XmlParts => self.output.text(parts::tail(MODEL_BOUNDARY).as_bytes())?,
        }
        Ok(match self.output {
            TextOutput::Plain(text) => text,
            TextOutput::Joined(gzip) => gzip.finish(),
            TextOutput::Compressed(gzip) => gzip.finish().map_err(damaged)?,
            TextOutput::Zstandard(zstd) => zstd.finish().map_err(damaged)?,
        })
    }
}

impl TextOutput {
    fn text(&mut self, text: &[u8]) -> Result<(), Error> {
        match self {
            Self::Plain(out) => out.extend_from_slice(text),
            Self::Joined(gzip) => gzip.text(text),
            Self::Compressed(gzip) => gzip.write_all(text).map_err(damaged)?,
            Self::Zstandard(zstd) => zstd.write_all(text).map_err(damaged)?,
        }
        Ok(())
    }

    /// Writes `before` and the JSON text of an instance, or nothing if the text cannot be read.
    fn metadata(&mut self, before: &str, metadata: &Metadata, base_url: &str) -> Result<(), Error> {
        match self {
            Self::Plain(out) => {
                let length = out.len();
                out.extend_from_slice(before.as_bytes());
                let written = metadata.write_text(base_url, out).map_err(damaged);
                written.inspect_err(|_| out.truncate(length))
            }
            Self::Joined(gzip) => {
                gzip.text(before.as_bytes());
                gzip.metadata(metadata, base_url);
                Ok(())
            }
            Self::Compressed(_) | Self::Zstandard(_) => {
                let mut text = before.as_bytes().to_vec();
                metadata.write_text(base_url, &mut text).map_err(damaged)?;
                self.text(&text)
            }
        }
    }

    /// Takes the bytes that are ready to be sent.
    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Plain(out) => std::mem::take(out),
            Self::Joined(gzip) => gzip.take(),
            Self::Compressed(gzip) => std::mem::take(gzip.get_mut()),
            Self::Zstandard(zstd) => std::mem::take(zstd.get_mut()),
        }
    }
}

/// An instance's metadata in XML.
struct Document {
    text: Vec<u8>,
    /// The URL of the metadata.
    location: String,
}

fn document(metadata: &Metadata, base_url: &str) -> Result<Document, Error> {
    let mut text = Vec::new();
    metadata.write_text(base_url, &mut text).map_err(damaged)?;
    let write = || {
        let data_set: Json = json::parse_nested(&text)?;
        let mut document = Vec::with_capacity(2 * text.len());
        xml::write(&data_set, &mut document);
        Ok::<_, json::Error>(Document { text: document, location: location(&data_set, base_url) })
    };
    with_stack_for(json::nesting(&text), write)?.map_err(damaged)
}

/// The URL of the metadata of an instance.
fn location(data_set: &Json, base_url: &str) -> String {
    let uid = |tag: Tag| data_set[tag.to_string()]["Value"][0].as_str().unwrap_or_default();
    let [study, series, instance] =
        [tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID, tags::SOP_INSTANCE_UID].map(uid);
    format!("{base_url}/studies/{study}/series/{series}/instances/{instance}/metadata")
}

fn damaged(error: impl Into<anyhow::Error>) -> Error {
    Error::Damaged(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::metadata::compress;

    fn record(text: &str) -> MetadataRecord {
        MetadataRecord { metadata: compress(&[text.as_bytes().to_vec()]) }
    }

    fn patient(id: &str) -> MetadataRecord {
        record(&format!(r#"{{"00100020":{{"vr":"LO","Value":["{id}"]}}}}"#))
    }

    fn damaged_record() -> MetadataRecord {
        let mut damaged = patient("damaged");
        damaged.metadata.pieces[0].crc32 ^= 1;
        damaged
    }

    /// The response to a request for these records, and how many were left out.
    fn written(form: MetadataFormat, records: &[MetadataRecord]) -> Result<(String, usize), Error> {
        let mut writer = MetadataWriter::new(form, ContentCoding::Identity, "http://pacs")?;
        let left_out = writer.left_out();
        let mut text = writer.page(records)?;
        text.extend(writer.finish()?);
        Ok((String::from_utf8(text).unwrap(), left_out.load(Ordering::Relaxed)))
    }

    #[test]
    fn an_instance_that_cannot_be_read_spoils_no_other() {
        let bad = [damaged_record(), record("{"), record(r#"{"00100020":"#)];
        for (form, expected_left_out) in [(MetadataFormat::Json, 1), (MetadataFormat::XmlParts, 3)] {
            let good = written(form, &[patient("A"), patient("B")]).unwrap();
            for place in 0..3 {
                let mut records = vec![patient("A"), patient("B")];
                // JSON is given as it was written: only damage to the record is seen.
                records.splice(place..place, bad[..expected_left_out].iter().cloned());
                let (text, left_out) = written(form, &records).unwrap();
                assert_eq!((text, left_out), (good.0.clone(), expected_left_out), "{form:?} {place}");
            }
            assert!(matches!(written(form, &bad[..1]), Err(Error::Damaged(_))));
        }
        assert!(matches!(written(MetadataFormat::Xml, &bad), Err(Error::Damaged(_))));
        assert_eq!(written(MetadataFormat::Json, &[]).unwrap(), ("[]".to_owned(), 0));
    }
}
