//! Answers in DICOM JSON (PS3.18 §F.2).

use std::io::Write;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use axum::http::response::Builder;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::dicom::attributes::Attributes;
use crate::dicom::json;
use crate::http::accept::Offer;
use crate::http::content;
use crate::http::error::Error;
use crate::http::request::Head;

/// Answers smaller than this are not worth compressing: they fit into a few packets.
const MIN_GZIP_BYTES: usize = 4096;

/// The media types in which JSON is given, the standard's own first.
pub(crate) fn offers() -> [Offer; 2] {
    let offer = |essence| Offer { is_multipart: false, essence, transfer_syntax: None, is_default: true };
    [offer("application/dicom+json"), offer("application/json")]
}

/// The media type for JSON that the client accepts.
///
/// # Errors
/// [`Error::NotAcceptable`] if it accepts none.
pub(crate) fn media_type(head: &Head) -> Result<&'static str, Error> {
    let chosen = head.accept().choose(&offers()).map(|offer| offer.essence);
    chosen
        .ok_or_else(|| Error::NotAcceptable("Accept: can be application/dicom+json, application/json".into()))
}

/// Ends a response with JSON text, compressed if the client can take that and it pays.
pub(crate) fn answer(
    response: Builder,
    media_type: &'static str,
    text: Vec<u8>,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let mut response = response.header(CONTENT_TYPE, media_type).header(VARY, "Accept, Accept-Encoding");
    let body = if text.len() >= MIN_GZIP_BYTES && head.takes_gzip() {
        response = response.header(CONTENT_ENCODING, "gzip");
        gzip(&text)
    } else {
        text
    };
    content::finish(response.header(CONTENT_LENGTH, body.len()), Body::from(Bytes::from(body)))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.expect("a vector takes every byte")
}

/// Appends an array of objects.
pub(crate) fn write_array(results: &[Attributes], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, attributes) in results.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write(attributes, out);
    }
    out.push(b']');
}
