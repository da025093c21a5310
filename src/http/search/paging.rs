//! Warnings, and links to the next and the previous page of results (PS3.18 §8.3.4.4.1; RFC 8288).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::warning::warning;
use crate::query::{Query, SearchSummary};

/// The characters that a query must encode (RFC 3986 §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Links longer than this are left out: proxies bound the size of header fields.
const MAX_LINK_BYTES: usize = 4096;

/// The value of the Warning field: more results than the page holds, and parameters that were not followed.
/// `None` without warnings.
pub(super) fn warnings(found: &SearchSummary, offset: usize) -> Option<String> {
    let next = offset + found.count;
    let more = found
        .has_more
        .then(|| format!("There are additional results that can be requested, from offset={next}"));
    let all: Vec<String> = more.iter().chain(&found.warnings).map(|text| warning(text)).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The value of the Link field: the next and the previous page, if they exist. `url` is the resource's,
/// `parameters` those of the request.
pub(super) fn links(
    url: &str,
    parameters: &[(String, String)],
    query: &Query,
    found: &SearchSummary,
) -> Option<String> {
    let link = |offset: usize, limit: usize, relation: &str| {
        let kept = parameters.iter().filter(|(name, _)| name != "offset" && name != "limit");
        let mut target = format!("{url}?");
        for (name, value) in kept {
            target +=
                &format!("{}={}&", utf8_percent_encode(name, ENCODED), utf8_percent_encode(value, ENCODED));
        }
        format!("<{target}offset={offset}&limit={limit}>; rel=\"{relation}\"")
    };
    let mut links = Vec::new();
    if found.has_more && found.count > 0 {
        links.push(link(query.offset + found.count, query.limit, "next"));
    }
    if query.offset > 0 && query.limit > 0 {
        let limit = query.limit.min(query.offset);
        links.push(link(query.offset - limit, limit, "prev"));
    }
    links.retain(|link| link.len() <= MAX_LINK_BYTES);
    (!links.is_empty()).then(|| links.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Level;
    use crate::query::parameters::{self, ResultLimits, SearchTarget};

    #[test]
    fn a_warning_cannot_break_out_of_its_field() {
        assert_eq!(warning("a \"b\"\r\nc\u{e9}"), "299 cuspid \"a 'b'??c?\"");
    }

    #[test]
    fn warnings_are_one_field() {
        let found = SearchSummary { count: 2, has_more: true, warnings: vec!["x".into(), "y".into()] };
        assert_eq!(
            warnings(&found, 10).unwrap(),
            "299 cuspid \"There are additional results that can be requested, from offset=12\", \
             299 cuspid \"x\", 299 cuspid \"y\""
        );
        assert_eq!(warnings(&SearchSummary::default(), 0), None);
    }

    #[test]
    fn links_lead_to_the_pages_beside() {
        let pairs = |query: &str| -> Vec<(String, String)> {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(a, b)| (a.into(), b.into()))
                .collect()
        };
        let long = format!("_={}&limit=1", "x".repeat(5000));
        for (query, count, has_more, expected) in [
            ("PatientID=1&limit=5", 5, true, Some(r#"<u?PatientID=1&offset=5&limit=5>; rel="next""#)),
            (
                "PatientName=M\u{fc} *&limit=5",
                5,
                true,
                Some(r#"<u?PatientName=M%C3%BC%20%2A&offset=5&limit=5>; rel="next""#),
            ),
            (
                "offset=10&limit=5",
                5,
                true,
                Some(r#"<u?offset=15&limit=5>; rel="next", <u?offset=5&limit=5>; rel="prev""#),
            ),
            ("offset=3&limit=5", 1, false, Some(r#"<u?offset=0&limit=3>; rel="prev""#)),
            ("limit=5", 5, false, None),
            ("limit=0", 0, true, None),
            ("offset=2&limit=0", 0, true, None),
            (&long, 1, true, None),
        ] {
            let parameters = pairs(query);
            let target = SearchTarget { level: Level::Study, study: None, series: None };
            let read =
                parameters::read(&parameters, target, ResultLimits { default: 100, max: 1000 }).unwrap();
            let found = SearchSummary { count, has_more, warnings: Vec::new() };
            assert_eq!(links("u", &parameters, &read, &found).as_deref(), expected, "{query}");
        }
    }
}
