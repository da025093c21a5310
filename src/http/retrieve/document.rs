//! Rendered instances without images: PDF and other encapsulated documents, video, structured reports (PS3.18
//! Table 8.7.4-1).

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::archive::access::Caller;
use crate::archive::read::document::{Document, DocumentBytes, DocumentKind, kind};
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, run_blocking};
use crate::dicom::report::{Report, html, plain_text};
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::Accept;
use crate::http::response::frame_list::FrameList;
use crate::http::response::instance::{boundary, etag, url};
use crate::http::response::media_types::{OCTET_STREAM, of_frames};
use crate::http::response::multipart as parts;
use crate::http::response::ranged::{RangedResponse, SegmentedBody, fingerprint};

const HTML: &str = "text/html";
const PLAIN: &str = "text/plain";
const XML: &str = "text/xml";
const PDF: &str = "application/pdf";
const H265: &str = "video/H265";

/// The permissions of a page with a report: its own style only.
static REPORT_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(html::STYLE));
    let policy =
        format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'");
    HeaderValue::try_from(policy).expect("base64 can stand in a header field")
});

/// The permissions of an encapsulated document, which may be a page with scripts by anybody: none.
const DOCUMENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// Whether a media type is that of PDF itself, and not one whose name begins so, as `application/pdf+xml`.
fn is_pdf(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|essence| essence.trim() == PDF)
}

/// Whether [`answer`] renders an instance, as a document or a video, and not as images.
pub(in crate::http) fn is_document(record: &InstanceRecord) -> bool {
    kind(record).is_some()
}

/// The rendered representation of a document: PDF and video as they are stored, with Range; a report as HTML,
/// text or XHTML.
pub(in crate::http) async fn answer(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let rendered = render(archive, &caller, &record, &head.accept(), head.base_url()).await?;
    let policy = match kind(&record) {
        Some(DocumentKind::Report) => Some(REPORT_POLICY.clone()),
        // A browser shows no PDF in a sandbox.
        Some(DocumentKind::Encapsulated) if !is_pdf(&rendered.content_type) => {
            Some(HeaderValue::from_static(DOCUMENT_POLICY))
        }
        _ => None,
    };
    let mut response = rendered.answer(archive, caller, record, head).await?;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(policy) = policy {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// The representation of a document that suits the client best.
///
/// # Errors
/// [`Error::NotAcceptable`] with the available media types; the archive's error if the document cannot be
/// read.
async fn render(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    accept: &Accept,
    base_url: &str,
) -> Result<RangedResponse, Error> {
    let document = archive.document(caller, record).await?;
    let essences = essences(&document, record);
    let essences: Vec<&str> = essences.iter().map(String::as_str).collect();
    let refused = || Error::NotAcceptable(format!("Accept: can be {}", essences.join(", ")));
    let (chosen, is_multipart) = accept.choose_type(&essences).ok_or_else(refused)?;
    let essence = essences[chosen];
    let form = if is_multipart { "m-rendered" } else { "s-rendered" };
    let content_type = match document {
        Document::Report(_) => format!("{essence}; charset=utf-8"),
        _ => essence.to_owned(),
    };
    let boundary = boundary(record);
    let mut content = SegmentedBody::default();
    if is_multipart {
        content.text(parts::located(&boundary, true, &content_type, None, &url(record, base_url)));
    }
    let mut tag = etag(record, form);
    match document {
        Document::Video => content.frames(FrameList::new(archive, record, &[1], None)?),
        Document::Encapsulated { bytes: DocumentBytes::At(range), .. } => content.value(range),
        Document::Encapsulated { bytes: DocumentBytes::Inline(bytes), .. } => content.text(bytes),
        Document::Report(report) => {
            let (write, base_url) = (writer(essence), base_url.to_owned());
            let work = run_blocking(None, move || {
                let text = write(&report, &base_url);
                (fingerprint(&text), text)
            });
            let (digest, text) = work.await?;
            // The page of a report changes with the version of the server, and its links with the server's
            // address.
            tag = format!("\"{digest}-{form}\"");
            content.text(text);
        }
    }
    if !is_multipart {
        return Ok(RangedResponse { content, content_type, etag: tag });
    }
    content.text(parts::tail(&boundary));
    Ok(RangedResponse { content, content_type: parts::content_type(essence, &boundary), etag: tag })
}

/// The media types of a document, the default first.
fn essences(document: &Document, record: &InstanceRecord) -> Vec<String> {
    let essences = match document {
        Document::Encapsulated { media_type, .. } => vec![media_type.as_str()],
        Document::Report(_) => vec![HTML, PLAIN, XML],
        Document::Video => match of_frames(&record.transfer_syntax) {
            // Browsers play a video by the type of its container only.
            Some(H265) => vec!["video/mp4", H265],
            essence => vec![essence.unwrap_or(OCTET_STREAM)],
        },
    };
    essences.into_iter().map(str::to_owned).collect()
}

/// The function that writes a report in a media type.
fn writer(essence: &str) -> fn(&Report, &str) -> String {
    match essence {
        PLAIN => plain_text::write,
        XML => xml,
        _ => html::write,
    }
}

/// The HTML document, which is well-formed XML.
fn xml(report: &Report, base_url: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", html::write(report, base_url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pdf_itself_is_shown_outside_of_a_sandbox() {
        for (content_type, expected) in [
            ("application/pdf", true),
            ("application/pdf; charset=utf-8", true),
            ("application/pdf+xml", false),
            ("application/pdfx+xml", false),
            ("application/xhtml+xml", false),
            ("text/html", false),
            ("image/svg+xml", false),
            ("multipart/related; type=\"application/pdf\"; boundary=b", false),
        ] {
            assert_eq!(is_pdf(content_type), expected, "{content_type}");
        }
    }
}
