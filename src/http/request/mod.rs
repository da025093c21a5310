//! Requests: the parts that several handlers read, as types.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::IF_NONE_MATCH;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use percent_encoding::NON_ALPHANUMERIC;

use crate::http::Service;
use crate::http::request::accept::Accept;
use crate::http::request::accept_encoding::{AcceptEncoding, ContentCoding};

pub mod accept;
pub(in crate::http) mod accept_encoding;
pub(in crate::http) mod anonymize;
pub(in crate::http) mod base_url;
pub(in crate::http) mod cut_out;
pub(in crate::http) mod json_body;
pub mod multipart;
pub(in crate::http) mod path;
pub(in crate::http) mod rendering_parameters;

/// The beginning of the name of each parameter of a signed URL (see `http/auth/credentials.rs`). No resource
/// has such a parameter of its own.
pub(in crate::http) const SIGNATURE_PREFIX: &str = "cuspid-";

/// The header fields and the query of a request.
pub(crate) struct Head {
    pub(crate) headers: HeaderMap,
    query: Option<String>,
    base_url: String,
}

impl FromRequestParts<Arc<Service>> for Head {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Infallible> {
        Ok(Self {
            headers: parts.headers.clone(),
            query: parts.uri.query().map(str::to_owned),
            base_url: base_url::of(&parts.headers, &service.settings.public_url),
        })
    }
}

impl Head {
    /// A head without header fields.
    #[cfg(test)]
    pub(crate) fn for_tests(base_url: &str) -> Self {
        Self { headers: HeaderMap::new(), query: None, base_url: base_url.to_owned() }
    }

    /// The media types that the client accepts.
    pub(crate) fn accept(&self) -> Accept {
        Accept::of(&self.headers, self.query.as_deref())
    }

    /// The same request with a list of media types in its query parameter `accept` (PS3.18 §8.3.3.1).
    pub(crate) fn accepting(&self, list: &str) -> Self {
        let listed = percent_encoding::utf8_percent_encode(list, NON_ALPHANUMERIC);
        let query = Some(format!("accept={listed}"));
        Self { headers: self.headers.clone(), query, base_url: self.base_url.clone() }
    }

    /// The URL of the service, to which `/studies/…` can be appended.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The query parameters in order, decoded.
    pub(crate) fn query_pairs(&self) -> Vec<(String, String)> {
        query_pairs(self.query.as_deref())
    }

    /// The text of a header field; `None` without the field or if the value is not text.
    pub(crate) fn text(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the client has this representation already (RFC 9110 §13.1.2). `etag` includes its quotation
    /// marks.
    pub(crate) fn has(&self, etag: &str) -> bool {
        let listed = self.text(IF_NONE_MATCH).unwrap_or_default().split(',').map(str::trim);
        listed.into_iter().any(|known| known == "*" || known.trim_start_matches("W/") == etag)
    }

    /// The content codings that the client accepts.
    pub(crate) fn accept_encoding(&self) -> AcceptEncoding {
        AcceptEncoding::of(&self.headers)
    }

    /// Whether the client prefers a response that is compressed by gzip to one that is not compressed.
    pub(crate) fn takes_gzip(&self) -> bool {
        let offers = [ContentCoding::Gzip, ContentCoding::Identity];
        self.accept_encoding().choose(&offers) == Some(ContentCoding::Gzip)
    }
}

/// The parameters of a query in order, decoded.
fn query_pairs(query: Option<&str>) -> Vec<(String, String)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// Decodes a name or value of a query: percent signs, and plus signs for spaces.
pub(in crate::http) fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: &'static str, value: &str, query: &str) -> Head {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        Head { headers, query: Some(query.to_owned()), base_url: String::new() }
    }

    #[test]
    fn query_pairs_are_decoded() {
        let head = head("x", "", "PatientName=M%C3%BCller%5E*&&StudyInstanceUID=1%5C2&a+b&c=d=e");
        let pairs = [("PatientName", "Müller^*"), ("StudyInstanceUID", "1\\2"), ("a b", ""), ("c", "d=e")];
        assert_eq!(head.query_pairs(), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn known_states_are_recognised() {
        for (value, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
        ] {
            assert_eq!(head("if-none-match", value, "").has("\"a\""), expected, "{value}");
        }
    }
}
