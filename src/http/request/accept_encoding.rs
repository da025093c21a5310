//! The content codings that a client accepts (RFC 9110 §12.5.3).

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;

use crate::http::request::accept::weight;

/// A content coding that the server can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentCoding {
    /// No coding.
    Identity,
    /// `gzip` (RFC 1952).
    Gzip,
    /// `zstd` (RFC 8878, RFC 9659).
    Zstd,
}

impl ContentCoding {
    /// The value of Content-Encoding; `None` for no coding.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    fn is_named(self, name: &str) -> bool {
        match self {
            Self::Identity => name.eq_ignore_ascii_case("identity"),
            Self::Gzip => ["gzip", "x-gzip"].iter().any(|known| name.eq_ignore_ascii_case(known)),
            Self::Zstd => name.eq_ignore_ascii_case("zstd"),
        }
    }
}

/// The codings of Accept-Encoding with their weights in thousandths, in the client's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcceptEncoding(Vec<(String, u16)>);

impl AcceptEncoding {
    /// Reads the header fields of a request. A request without the field accepts every coding; it gets none,
    /// as a client that does not name a coding may not decode it.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let fields = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let codings = fields.flat_map(|field| field.split(',')).map(|coding| {
            let (name, parameter) = coding.split_once(';').unwrap_or((coding, ""));
            let (key, value) = parameter.split_once('=').unwrap_or_default();
            let weight = if key.trim().eq_ignore_ascii_case("q") { weight(value.trim()) } else { 1000 };
            (name.trim().to_owned(), weight)
        });
        Self(codings.filter(|(name, _)| !name.is_empty()).collect())
    }

    /// The accepted coding of the highest weight; of equal ones, the first of `offers`. `None` if the client
    /// accepts none of them.
    pub(crate) fn choose(&self, offers: &[ContentCoding]) -> Option<ContentCoding> {
        let weighed = offers.iter().filter_map(|&offer| Some((self.weight(offer)?, offer)));
        // Of equal elements, the last is the maximum.
        weighed.rev().max_by_key(|(weight, _)| *weight).map(|(_, offer)| offer)
    }

    /// Whether the client accepts a coding.
    pub(crate) fn accepts(&self, coding: ContentCoding) -> bool {
        self.weight(coding).is_some()
    }

    /// The weight of a coding; `None` if the client does not accept the coding. No coding at all is accepted
    /// unless it is excluded, but after all that are listed. `*` stands for a coding that all clients decode,
    /// not for zstd.
    fn weight(&self, coding: ContentCoding) -> Option<u16> {
        let named = self.0.iter().find(|(name, _)| coding.is_named(name));
        let any = self.0.iter().find(|(name, _)| name == "*");
        match (named, any, coding) {
            (Some((_, weight)), _, _) => Some(*weight).filter(|weight| *weight > 0),
            (None, Some((_, 0)), _) => None,
            (None, Some((_, weight)), ContentCoding::Gzip) => Some(*weight),
            (None, _, ContentCoding::Identity) => Some(0),
            (None, _, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ContentCoding::{Gzip, Identity, Zstd};
    use super::*;

    #[test]
    fn the_weights_decide_and_of_equal_ones_the_server() {
        for (value, expected) in [
            (None, Some(Identity)),
            (Some(""), Some(Identity)),
            (Some("gzip, deflate, br"), Some(Gzip)),
            (Some("gzip, deflate, br, zstd"), Some(Zstd)),
            (Some("br;q=1.0, gzip;q=0.8, *;q=0.1"), Some(Gzip)),
            (Some("zstd;q=0.5, gzip;q=0.8"), Some(Gzip)),
            (Some("ZSTD ; Q=0.9 , GZip; q=0.8"), Some(Zstd)),
            (Some("x-gzip"), Some(Gzip)),
            (Some("*"), Some(Gzip)),
            (Some("gzip;q=0, *"), Some(Identity)),
            (Some("gzip;q=0"), Some(Identity)),
            (Some("gzip;q=0.000, zstd;q=0"), Some(Identity)),
            (Some("identity"), Some(Identity)),
            (Some("identity, gzip;q=0.5"), Some(Identity)),
            (Some("identity;q=0.5, gzip;q=0.5"), Some(Gzip)),
            (Some("gzip;q=0.001"), Some(Gzip)),
            (Some("br, x-unknown"), Some(Identity)),
            (Some("identity;q=0"), None),
            (Some("*;q=0"), None),
            (Some("br, *;q=0"), None),
            (Some("identity;q=0, br"), None),
            (Some("identity;q=0, *"), Some(Gzip)),
            (Some("*;q=0, zstd"), Some(Zstd)),
            (Some("*;q=0, identity"), Some(Identity)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            }
            assert_eq!(AcceptEncoding::of(&headers).choose(&[Zstd, Gzip, Identity]), expected, "{value:?}");
        }
    }
}
