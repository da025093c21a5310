//! Writes the text of metadata responses, page by page, plain or as one gzip stream.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value as Json;

use crate::archive::records::MetadataRecord;
use crate::dicom::metadata::{GzipJoiner, Metadata};
use crate::dicom::{json, xml};
use crate::http::error::Error;
use crate::http::response::multipart as parts;
use crate::http::response::multipart::{DICOM_XML, MODEL_BOUNDARY};

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
    output: TextOutput,
}

enum TextOutput {
    Plain(Vec<u8>),
    /// JSON, joined from stored gzip members.
    Joined(GzipJoiner),
    Compressed(Box<GzEncoder<Vec<u8>>>),
}

impl MetadataWriter {
    pub(super) fn new(form: MetadataFormat, is_gzip: bool, base_url: &str) -> Self {
        let output = match (is_gzip, form) {
            (false, _) => TextOutput::Plain(Vec::new()),
            (true, MetadataFormat::Json) => TextOutput::Joined(GzipJoiner::new()),
            (true, MetadataFormat::Xml | MetadataFormat::XmlParts) => {
                TextOutput::Compressed(Box::new(GzEncoder::new(Vec::new(), Compression::fast())))
            }
        };
        Self { form, base_url: base_url.to_owned(), is_first: true, output }
    }

    /// Whether the metadata are parsed, which takes many times the memory of their text.
    pub(super) fn parses(&self) -> bool {
        self.form != MetadataFormat::Json
    }

    /// The bytes for a page of instances.
    ///
    /// # Errors
    /// If a record is damaged.
    pub(super) fn page(&mut self, records: &[MetadataRecord]) -> Result<Vec<u8>, Error> {
        for record in records {
            let is_first = std::mem::take(&mut self.is_first);
            match self.form {
                MetadataFormat::Json => {
                    self.output.text(if is_first { b"[" } else { b"," })?;
                    self.output.metadata(&record.metadata, &self.base_url)?;
                }
                MetadataFormat::Xml => self.output.text(&document(&record.metadata, &self.base_url)?)?,
                MetadataFormat::XmlParts => {
                    let head = parts::head(MODEL_BOUNDARY, is_first, DICOM_XML, None);
                    self.output.text(head.as_bytes())?;
                    self.output.text(&document(&record.metadata, &self.base_url)?)?;
                }
            }
        }
        Ok(self.output.take())
    }

    /// The bytes at the end of the response.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Error> {
        match self.form {
            MetadataFormat::Json => self.output.text(if self.is_first { b"[]" } else { b"]" })?,
            MetadataFormat::Xml => {}
            MetadataFormat::XmlParts => self.output.text(parts::tail(MODEL_BOUNDARY).as_bytes())?,
        }
        Ok(match self.output {
            TextOutput::Plain(text) => text,
            TextOutput::Joined(gzip) => gzip.finish(),
            TextOutput::Compressed(gzip) => gzip.finish().map_err(damaged)?,
        })
    }
}

impl TextOutput {
    fn text(&mut self, text: &[u8]) -> Result<(), Error> {
        match self {
            Self::Plain(out) => out.extend_from_slice(text),
            Self::Joined(gzip) => gzip.text(text),
            Self::Compressed(gzip) => gzip.write_all(text).map_err(damaged)?,
        }
        Ok(())
    }

    fn metadata(&mut self, metadata: &Metadata, base_url: &str) -> Result<(), Error> {
        match self {
            Self::Plain(out) => metadata.write_text(base_url, out).map_err(damaged),
            Self::Joined(gzip) => {
                gzip.metadata(metadata, base_url);
                Ok(())
            }
            Self::Compressed(gzip) => {
                let mut text = Vec::new();
                metadata.write_text(base_url, &mut text).map_err(damaged)?;
                gzip.write_all(&text).map_err(damaged)
            }
        }
    }

    /// Takes the bytes that are ready to be sent.
    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Plain(out) => std::mem::take(out),
            Self::Joined(gzip) => gzip.take(),
            Self::Compressed(gzip) => std::mem::take(gzip.get_mut()),
        }
    }
}

/// An instance's metadata in XML.
fn document(metadata: &Metadata, base_url: &str) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    metadata.write_text(base_url, &mut text).map_err(damaged)?;
    let data_set: Json = json::parse(&text).map_err(damaged)?;
    let mut document = Vec::with_capacity(2 * text.len());
    xml::write(&data_set, &mut document);
    Ok(document)
}

fn damaged(error: impl Into<anyhow::Error>) -> Error {
    Error::Damaged(error.into())
}
