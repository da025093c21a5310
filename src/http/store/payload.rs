//! The kind of a request to store and of each part, by header fields (PS3.18 §10.5.1.4, §10.5.4, §8.7.3).

use crate::archive::ingest::assembly::{AssemblyPart, MetadataFormat};
use crate::http::error::Error;
use crate::http::request::accept::MediaType;
use crate::http::request::multipart::PartHeaders;

const ZIP: [&str; 3] = ["application/zip", "application/x-zip-compressed", "application/x-zip"];
const INSTANCE: [&str; 2] = ["application/dicom", "application/x-dicom"];
/// Media types that do not determine the kind; the bytes do.
const ANYTHING: [&str; 2] = ["application/octet-stream", "*/*"];
const SUPPORTED: &str = "multipart/related with a type of application/dicom, application/dicom+json, \
     application/dicom+xml or application/zip; these by themselves; multipart/form-data";

/// The body of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// One representation.
    One(PartKind),
    /// Several, as `multipart/related`.
    Related {
        /// The boundary between them.
        boundary: String,
        /// The kind of the first part, by the `type` parameter.
        root: PartKind,
    },
    /// A form that a browser sends (RFC 7578).
    Form {
        /// The boundary between its fields.
        boundary: String,
    },
}

/// The kind of a part, or of a body without parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PartKind {
    /// An instance, as a file or a bare data set.
    Instance,
    /// Metadata or bulk data.
    Assembled(AssemblyPart),
    /// Instances in a zip archive.
    Zip,
    /// A field of a form that is no file.
    Field,
    /// A part that cannot be stored; the text says why.
    Other(&'static str),
}

impl Payload {
    /// The kind of a body with this Content-Type.
    ///
    /// # Errors
    /// [`Error::UnsupportedMediaType`] if the type cannot be stored, [`Error::Parameter`] if its boundary is
    /// missing.
    pub(super) fn of(content_type: Option<&str>) -> Result<Self, Error> {
        let Some(media_type) = content_type.and_then(MediaType::parse) else {
            return Err(unsupported("the request has none"));
        };
        let essence = media_type.essence.as_str();
        let is_form = essence == "multipart/form-data";
        let kind = by_media_type(essence);
        if !media_type.is_multipart && !is_form {
            return kind.map(Self::One).ok_or_else(|| unsupported(&format!("`{essence}` cannot be stored")));
        }
        let boundary = media_type.boundary.clone();
        let no_boundary =
            || Error::Parameter { name: "Content-Type".into(), reason: "has no boundary".into() };
        match kind {
            _ if is_form => Ok(Self::Form { boundary: boundary.ok_or_else(no_boundary)? }),
            Some(root) => Ok(Self::Related { boundary: boundary.ok_or_else(no_boundary)?, root }),
            // Some clients leave out the type parameter, or name that of raw bytes; the parts decide.
            None if ANYTHING.contains(&essence) => {
                Ok(Self::Related { boundary: boundary.ok_or_else(no_boundary)?, root: PartKind::Instance })
            }
            None => Err(unsupported(&format!("`{essence}` cannot be stored"))),
        }
    }

    /// The kind of a part. `has_metadata` says whether metadata came before the part.
    pub(super) fn part(&self, head: &PartHeaders, has_metadata: bool) -> PartKind {
        let media_type = head.content_type.as_deref().and_then(MediaType::parse);
        let essence = media_type.as_ref().map_or("*/*", |media_type| &media_type.essence);
        if let Some(kind) = by_media_type(essence) {
            return kind;
        }
        let says_nothing = ANYTHING.contains(&essence);
        match self {
            Self::Form { .. } => form_field(head, says_nothing),
            Self::Related { root: root @ PartKind::Assembled(_), .. }
            | Self::One(root @ PartKind::Assembled(_))
                if !has_metadata && head.content_location.is_none() && names_metadata(essence) =>
            {
                root.clone()
            }
            Self::Related { root: PartKind::Zip, .. } if says_nothing => PartKind::Zip,
            _ if has_metadata || matches!(self, Self::Related { root: PartKind::Assembled(_), .. }) => {
                let Some(location) = head.content_location.clone() else {
                    return PartKind::Other("bulk data without Content-Location");
                };
                let transfer_syntax =
                    media_type.as_ref().and_then(|found| found.transfer_syntaxes.first().cloned());
                PartKind::Assembled(AssemblyPart::Bulk {
                    location,
                    media_type: essence.to_owned(),
                    transfer_syntax,
                })
            }
            _ if says_nothing => PartKind::Instance,
            _ => PartKind::Other("a part of a media type that is not stored"),
        }
    }
}

/// Whether a part of this type may be the metadata that the request's own type announces.
fn names_metadata(essence: &str) -> bool {
    ["*/*", "application/json", "application/xml", "text/xml"].contains(&essence)
}

fn by_media_type(essence: &str) -> Option<PartKind> {
    match essence {
        "application/dicom+json" => Some(PartKind::Assembled(AssemblyPart::Metadata(MetadataFormat::Json))),
        "application/dicom+xml" => Some(PartKind::Assembled(AssemblyPart::Metadata(MetadataFormat::Xml))),
        _ if INSTANCE.contains(&essence) => Some(PartKind::Instance),
        _ if ZIP.contains(&essence) => Some(PartKind::Zip),
        _ => None,
    }
}

/// A field of a form: a field with a file name is a file, whatever its media type.
fn form_field(head: &PartHeaders, says_nothing: bool) -> PartKind {
    let disposition = head.content_disposition.as_deref().unwrap_or_default().to_ascii_lowercase();
    match disposition.contains("filename") {
        true => PartKind::Instance,
        false if says_nothing || disposition.contains("form-data") => PartKind::Field,
        false => PartKind::Other("a field of a form that is no file"),
    }
}

fn unsupported(what: &str) -> Error {
    Error::UnsupportedMediaType(format!("Content-Type: {what}; can be {SUPPORTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: PartKind = PartKind::Assembled(AssemblyPart::Metadata(MetadataFormat::Json));

    #[test]
    fn what_can_be_stored_is_told_from_the_content_type() {
        let related = |boundary: &str, root| Ok(Payload::Related { boundary: boundary.into(), root });
        for (text, expected) in [
            ("multipart/related; type=\"application/dicom\"; boundary=B", related("B", PartKind::Instance)),
            (
                "multipart/related; type=application/dicom; boundary=\"B:1\"",
                related("B:1", PartKind::Instance),
            ),
            ("multipart/related; boundary=B", related("B", PartKind::Instance)),
            ("multipart/related; type=\"application/dicom+json\"; boundary=B", related("B", JSON)),
            ("multipart/related; type=\"application/zip\"; boundary=B", related("B", PartKind::Zip)),
            ("application/dicom", Ok(Payload::One(PartKind::Instance))),
            ("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", Ok(Payload::One(PartKind::Instance))),
            ("application/zip", Ok(Payload::One(PartKind::Zip))),
            ("application/dicom+json", Ok(Payload::One(JSON))),
            ("multipart/form-data; boundary=B", Ok(Payload::Form { boundary: "B".into() })),
            ("multipart/related; type=\"application/dicom\"", Err(())),
            ("multipart/form-data", Err(())),
            ("multipart/related; type=\"image/jpeg\"; boundary=B", Err(())),
            ("multipart/mixed; boundary=B", Err(())),
            ("application/json", Err(())),
        ] {
            assert_eq!(Payload::of(Some(text)).map_err(|_| ()), expected, "{text}");
        }
        assert!(Payload::of(None).is_err());
    }

    #[test]
    fn parts_are_told_from_their_header_fields() {
        let content_type = |text| Payload::of(Some(text)).unwrap();
        let dicom = content_type("multipart/related; type=application/dicom; boundary=B");
        let json = content_type("multipart/related; type=application/dicom+json; boundary=B");
        let form = content_type("multipart/form-data; boundary=B");
        let bulk = |media_type: &str, transfer_syntax: Option<&str>| {
            let (location, media_type) = ("/1".to_owned(), media_type.to_owned());
            PartKind::Assembled(AssemblyPart::Bulk {
                location,
                media_type,
                transfer_syntax: transfer_syntax.map(str::to_owned),
            })
        };
        let other = |kind: &PartKind| matches!(kind, PartKind::Other(_));
        for (payload, head, expected) in [
            (&dicom, [None, None, None], PartKind::Instance),
            (&dicom, [Some("application/octet-stream"), Some("/1"), None], PartKind::Instance),
            (&dicom, [Some("text/plain"), None, None], PartKind::Other("")),
            (&dicom, [Some("application/dicom+json"), None, None], JSON),
            (&json, [Some("application/dicom+json"), None, None], JSON),
            (&json, [None, None, None], JSON),
            (&json, [None, Some("/1"), None], bulk("*/*", None)),
            (&json, [Some("application/octet-stream"), None, None], PartKind::Other("")),
            (
                &json,
                [Some("application/octet-stream"), Some("/1"), None],
                bulk("application/octet-stream", None),
            ),
            (
                &json,
                [Some("image/JPEG; transfer-syntax=1.2.3"), Some("/1"), None],
                bulk("image/jpeg", Some("1.2.3")),
            ),
            (&json, [Some("application/dicom"), None, None], PartKind::Instance),
            (&form, [None, None, Some("form-data; name=\"a\"")], PartKind::Field),
            (
                &form,
                [Some("image/png"), None, Some("form-data; name=\"a\"; filename=\"b.png\"")],
                PartKind::Instance,
            ),
            (
                &form,
                [Some("application/zip"), None, Some("form-data; name=\"a\"; filename=\"b\"")],
                PartKind::Zip,
            ),
        ] {
            let [content_type, content_location, content_disposition] =
                head.map(|text| text.map(str::to_owned));
            let head = PartHeaders { content_type, content_location, content_disposition };
            let found = payload.part(&head, false);
            assert!(found == expected || (other(&found) && other(&expected)), "{head:?}: {found:?}");
        }
    }
}
