//! Warnings, and links to the next and the previous page of results (PS3.18 §8.3.4.4.1; RFC 8288).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::search::cursor;
use crate::http::warning::warning;
use crate::query::{Query, SearchSummary};

/// The characters that a query must encode (RFC 3986 §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Links longer than this are left out: proxies bound the size of header fields.
const MAX_LINK_BYTES: usize = 4096;

/// The value of the Warning field: more results than the page holds, and parameters that were not followed.
/// `None` without warnings.
pub(super) fn warnings(found: &SearchSummary, query: &Query) -> Option<String> {
    let next = number_before(query).saturating_add(query.offset).saturating_add(found.count);
    let more = found
        .has_more
        .then(|| format!("There are additional results that can be requested, from offset={next}"));
    let all: Vec<String> = more.iter().chain(&found.warnings).map(|text| warning(text)).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The number of results before the place from which a search goes on.
fn number_before(query: &Query) -> usize {
    query.after.as_ref().map_or(0, |after| after.number)
}

/// The value of the Link field: the next and the previous page, if they exist. `url` is the resource's,
/// `parameters` those of the request, `cursor` that of the next page. The next page may have no results: a
/// search ends after a bounded work, and goes on there.
pub(super) fn links(
    url: &str,
    parameters: &[(String, String)],
    query: &Query,
    found: &SearchSummary,
    cursor: Option<String>,
) -> Option<String> {
    let link = |place: String, limit: usize, relation: &str| {
        let kept =
            parameters.iter().filter(|(name, _)| !["offset", "limit", cursor::NAME].contains(&&**name));
        let mut target = format!("{url}?");
        for (name, value) in kept {
            target +=
                &format!("{}={}&", utf8_percent_encode(name, ENCODED), utf8_percent_encode(value, ENCODED));
        }
        format!("<{target}{place}&limit={limit}>; rel=\"{relation}\"")
    };
    let offset = |offset: usize| format!("offset={offset}");
    let mut links = Vec::new();
    if let Some(cursor) = cursor.filter(|_| query.limit > 0) {
        let place = match query.offset.saturating_sub(found.skipped) {
            0 => format!("{}={cursor}", cursor::NAME),
            left => format!("{}={cursor}&{}", cursor::NAME, offset(left)),
        };
        links.push(link(place, query.limit, "next"));
    } else if found.has_more && found.count > 0 {
        links.push(link(offset(query.offset + found.count), query.limit, "next"));
    }
    let start = number_before(query).saturating_add(query.offset);
    if start > 0 && query.limit > 0 {
        let limit = query.limit.min(start);
        links.push(link(offset(start - limit), limit, "prev"));
    }
    links.retain(|link| link.len() <= MAX_LINK_BYTES);
    (!links.is_empty()).then(|| links.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::parameters::{self, ResultLimits, SearchTarget};
    use crate::query::{Level, ResultPlace};

    #[test]
    fn a_warning_cannot_break_out_of_its_field() {
        assert_eq!(warning("a \"b\"\r\nc\u{e9}"), "299 cuspid \"a 'b'??c?\"");
    }

    #[test]
    fn warnings_are_one_field() {
        let found = SearchSummary {
            count: 2,
            has_more: true,
            warnings: vec!["x".into(), "y".into()],
            ..SearchSummary::default()
        };
        let query = read(&[("offset".into(), "10".into())]);
        assert_eq!(
            warnings(&found, &query).unwrap(),
            "299 cuspid \"There are additional results that can be requested, from offset=12\", \
             299 cuspid \"x\", 299 cuspid \"y\""
        );
        assert_eq!(warnings(&SearchSummary::default(), &query), None);
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
            let query_read = read(&parameters);
            let found = SearchSummary { count, has_more, ..SearchSummary::default() };
            let links = links("u", &parameters, &query_read, &found, None);
            assert_eq!(links.as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn a_link_has_the_cursor_and_what_is_left_of_the_offset() {
        let mut parameters: Vec<(String, String)> =
            [("PatientID", "1*"), ("offset", "10"), ("limit", "5")].map(|(a, b)| (a.into(), b.into())).into();
        let query = read(&parameters);
        let prev = r#"<u?PatientID=1%2A&offset=5&limit=5>; rel="prev""#;
        for (skipped, place) in [(10, "cursor=C"), (4, "cursor=C&offset=6")] {
            let found = SearchSummary { skipped, ..SearchSummary::default() };
            let links = links("u", &parameters, &query, &found, Some("C".into())).unwrap();
            assert_eq!(links, format!(r#"<u?PatientID=1%2A&{place}&limit=5>; rel="next", {prev}"#));
        }
        // The page after has the number of results before it from its own cursor.
        parameters = [("cursor", "C"), ("limit", "5")].map(|(a, b)| (a.into(), b.into())).into();
        let after = ResultPlace { order: "1".into(), series: None, instance: None, number: 15 };
        let query = Query { after: Some(after), ..read(&[("limit".into(), "5".into())]) };
        let found = SearchSummary { count: 5, has_more: true, ..SearchSummary::default() };
        let links = links("u", &parameters, &query, &found, Some("D".into())).unwrap();
        assert_eq!(links, r#"<u?cursor=D&limit=5>; rel="next", <u?offset=10&limit=5>; rel="prev""#);
        assert!(warnings(&found, &query).unwrap().contains("offset=20"));
    }

    fn read(parameters: &[(String, String)]) -> Query {
        let target =
            SearchTarget { joins_dates_and_times: true, level: Level::Study, study: None, series: None };
        let is_search = |(name, _): &&(String, String)| name != cursor::NAME;
        let parameters: Vec<_> = parameters.iter().filter(is_search).cloned().collect();
        parameters::read(&parameters, target, ResultLimits { default: 100, max: 1000 }).unwrap()
    }
}
