//! Writing `multipart/related` (RFC 2387, PS3.18 §8.6.1.2).

/// The Content-Type of a multipart answer. The boundary stands last: some clients read it up to the end.
pub(super) fn content_type(part_essence: &str, boundary: &str) -> String {
    format!("multipart/related; type=\"{part_essence}\"; boundary={boundary}")
}

/// The head of a part. Viewers look for `Content-Type:` in this spelling, with the transfer syntax unquoted and
/// all of it within the first 1000 bytes.
pub(super) fn head(boundary: &str, is_first: bool, essence: &str, transfer_syntax: Option<&str>) -> String {
    let line_end = if is_first { "" } else { "\r\n" };
    let syntax = transfer_syntax.map(|uid| format!("; transfer-syntax={uid}")).unwrap_or_default();
    format!("{line_end}--{boundary}\r\nContent-Type: {essence}{syntax}\r\n\r\n")
}

/// What follows the last part.
pub(super) fn tail(boundary: &str) -> String {
    format!("\r\n--{boundary}--\r\n")
}
