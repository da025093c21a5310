//! Writing `multipart/related` (RFC 2387, PS3.18 §8.6.1.2).

use uuid::Uuid;

/// The media type of the Native DICOM Model.
pub(in crate::http) const DICOM_XML: &str = "application/dicom+xml";

/// The boundary between Native DICOM Models. It cannot occur in a model, where every line end is an entity.
pub(in crate::http) const MODEL_BOUNDARY: &str = "native-dicom-model";

/// A boundary that no part holds: it is random.
pub(in crate::http) fn random_boundary() -> String {
    format!("cuspid-{}", Uuid::new_v4().simple())
}

/// The Content-Type of a multipart body. The boundary comes last: some clients read it up to the end.
pub(in crate::http) fn content_type(part_essence: &str, boundary: &str) -> String {
    format!("multipart/related; type=\"{part_essence}\"; boundary={boundary}")
}

/// The delimiter and header fields of a part. Viewers look for `Content-Type:` in this spelling, with the
/// transfer syntax unquoted and all of it within the first 1000 bytes.
pub(in crate::http) fn head(
    boundary: &str,
    is_first: bool,
    essence: &str,
    transfer_syntax: Option<&str>,
) -> String {
    let line_end = if is_first { "" } else { "\r\n" };
    let content_type = type_of(essence, transfer_syntax);
    format!("{line_end}--{boundary}\r\nContent-Type: {content_type}\r\n\r\n")
}

/// The delimiter and header fields of a part that represents the resource at a URL (PS3.18 Table 8.6.1-1).
pub(in crate::http) fn located(
    boundary: &str,
    is_first: bool,
    essence: &str,
    transfer_syntax: Option<&str>,
    location: &str,
) -> String {
    let mut head = head(boundary, is_first, essence, transfer_syntax);
    head.truncate(head.len() - "\r\n".len());
    head + &format!("Content-Location: {location}\r\n\r\n")
}

/// The Content-Type of one representation.
pub(in crate::http) fn type_of(essence: &str, transfer_syntax: Option<&str>) -> String {
    match transfer_syntax {
        Some(uid) => format!("{essence}; transfer-syntax={uid}"),
        None => essence.to_owned(),
    }
}

/// The closing delimiter.
pub(in crate::http) fn tail(boundary: &str) -> String {
    format!("\r\n--{boundary}--\r\n")
}
