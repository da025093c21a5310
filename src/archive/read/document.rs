//! Instances that are no images, in a form that a person can use: encapsulated documents, video and
//! structured reports (PS3.18 Table 8.7.4-1).

use std::fmt::Display;
use std::ops::Range;

use futures_util::TryStreamExt;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error, run_blocking};
use crate::dicom::encapsulated;
use crate::dicom::encapsulated::EncapsulatedDocument;
use crate::dicom::frames::FrameTable;
use crate::dicom::json;
use crate::dicom::report;
use crate::dicom::report::Report;
use crate::dicom::transfer_syntax;
use crate::dicom::uids;
use crate::index::records::InstanceRecord;

/// Path of Encapsulated Document among the bulk values.
const ENCAPSULATED_DOCUMENT: &str = "00420011";
/// The usual media type of the documents of a SOP class.
const MEDIA_TYPES: [(&str, &str); 5] = [
    (uids::ENCAPSULATED_PDF_STORAGE, "application/pdf"),
    (uids::ENCAPSULATED_CDA_STORAGE, "text/xml"),
    (uids::ENCAPSULATED_STL_STORAGE, "model/stl"),
    (uids::ENCAPSULATED_OBJ_STORAGE, "model/obj"),
    (uids::ENCAPSULATED_MTL_STORAGE, "model/mtl"),
];

/// The kind of an instance that is no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// A document of another standard: PDF, CDA, STL and the like.
    Encapsulated,
    /// A video stream.
    Video,
    /// A structured report.
    Report,
}

/// An instance that is no image.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A document of another standard.
    Encapsulated {
        /// Its media type, in lower case.
        media_type: String,
        /// Its bytes, without padding.
        bytes: DocumentBytes,
    },
    /// A video stream: the only frame of the instance, to be read by [`Archive::read_frame`].
    Video,
    /// A structured report.
    Report(Report),
}

/// The bytes of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentBytes {
    /// In the stored object, to be read by [`Archive::read`].
    At(Range<u64>),
    /// A few bytes, held in memory.
    Inline(Vec<u8>),
}

/// The kind of an instance; `None` for an image.
pub fn kind(record: &InstanceRecord) -> Option<DocumentKind> {
    let class = record.sop_class.as_str();
    match record.layout.frames {
        FrameTable::Encapsulated { .. } => {
            transfer_syntax::is_video(&record.transfer_syntax).then_some(DocumentKind::Video)
        }
        FrameTable::Native { .. } => None,
        FrameTable::None if uids::is_structured_report(class) => Some(DocumentKind::Report),
        FrameTable::None if uids::is_encapsulated_document(class) || place(record).is_some() => {
            Some(DocumentKind::Encapsulated)
        }
        FrameTable::None => None,
    }
}

impl Archive {
    /// An instance that is no image. Reads its metadata, and of a document at most its last byte.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is something else, [`Error::Damaged`] if it cannot be read as what it is.
    pub async fn document(&self, caller: &Caller, record: &InstanceRecord) -> Result<Document, Error> {
        match (kind(record), &record.layout.frames) {
            (Some(DocumentKind::Video), FrameTable::Encapsulated { .. }) => Ok(Document::Video),
            (Some(DocumentKind::Report), _) => {
                let read = |metadata: &[u8]| json::read(metadata).map(|set| report::read(&set));
                Ok(Document::Report(self.read_metadata(caller, record, read).await?))
            }
            (Some(DocumentKind::Encapsulated), _) => self.encapsulated(caller, record).await,
            _ => Err(Error::Unsupported("the instance is no document".into())),
        }
    }

    async fn encapsulated(&self, caller: &Caller, record: &InstanceRecord) -> Result<Document, Error> {
        let EncapsulatedDocument { media_type, length, inline } =
            self.read_metadata(caller, record, encapsulated::read).await?;
        let media_type = media_type.unwrap_or_else(|| usual_media_type(&record.sop_class).to_owned());
        let bytes = match (inline, place(record)) {
            (Some(mut bytes), _) => {
                let padding = padding(bytes.len() as u64, length, &media_type, bytes.last().copied());
                bytes.truncate(bytes.len() - padding as usize);
                DocumentBytes::Inline(bytes)
            }
            (None, Some(place)) => {
                let last = match length {
                    Some(_) => None,
                    None => self.read(caller, record, place.end - 1..place.end).await?.try_next().await?,
                };
                let last = last.and_then(|bytes| bytes.last().copied());
                let padding = padding(place.end - place.start, length, &media_type, last);
                DocumentBytes::At(place.start..place.end - padding)
            }
            (None, None) => return Err(Error::Unsupported("the instance holds no document".into())),
        };
        Ok(Document::Encapsulated { media_type, bytes })
    }

    /// Reads the metadata of an instance by `read`, on a blocking thread.
    async fn read_metadata<T: Send + 'static, E: Display>(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        read: impl FnOnce(&[u8]) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permits.codec(caller).await;
        let metadata = record.metadata.clone();
        let outcome = run_blocking(Some(permit), move || {
            let mut text = Vec::new();
            metadata.write_text("", &mut text).map_err(|error| error.to_string())?;
            read(&text).map_err(|error| error.to_string())
        });
        outcome.await?.map_err(|reason| Error::Damaged(format!("the metadata cannot be shown: {reason}")))
    }
}

/// The range of the document in the object; `None` if the document is in the metadata, or if there is none.
fn place(record: &InstanceRecord) -> Option<Range<u64>> {
    let value = record.layout.bulk.iter().find(|value| value.path == ENCAPSULATED_DOCUMENT)?;
    Some(value.offset..value.offset + value.length)
}

/// The media type of a document of this SOP class that names none.
fn usual_media_type(sop_class: &str) -> &'static str {
    let usual = MEDIA_TYPES.iter().find(|(class, _)| *class == sop_class);
    usual.map_or("application/octet-stream", |(_, media_type)| media_type)
}

/// Bytes of padding, none or one, at the end of a value of `size` bytes, the last of which is `last` if that
/// is known.
///
/// By the length that was declared, if it can be right; else a final zero byte is padding where it can be
/// nothing else.
fn padding(size: u64, declared: Option<u64>, media_type: &str, last: Option<u8>) -> u64 {
    match declared {
        Some(length) if length <= size && size - length <= 1 => size - length,
        _ => {
            let is_text = media_type.starts_with("text/")
                || ["application/pdf", "model/obj", "model/mtl"].contains(&media_type);
            u64::from(is_text && last == Some(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_told_from_the_document() {
        for (size, declared, media_type, last, expected) in [
            (10, Some(9), "model/stl", None, 1),
            (10, Some(10), "application/pdf", None, 0),
            (10, Some(4), "application/pdf", None, 0),
            (10, Some(11), "application/pdf", None, 0),
            (10, None, "text/xml", Some(0), 1),
            (10, None, "text/xml", Some(b'>'), 0),
            (10, None, "model/stl", Some(0), 0),
        ] {
            assert_eq!(
                padding(size, declared, media_type, last),
                expected,
                "{size} {declared:?} {media_type}"
            );
        }
    }

    #[test]
    fn a_document_that_does_not_name_its_type_has_that_of_its_class() {
        for (class, expected) in [
            ("1.2.840.10008.5.1.4.1.1.104.1", "application/pdf"),
            ("1.2.840.10008.5.1.4.1.1.104.3", "model/stl"),
            ("1.2.3", "application/octet-stream"),
        ] {
            assert_eq!(usual_media_type(class), expected);
        }
    }
}
