//! QIDO-RS: finding studies, series and instances (PS3.18 §10.6).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::header::WARNING;

use crate::archive::access::Caller;
use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::http::Service;
use crate::http::error::Error;
use crate::http::json;
use crate::http::path::Within;
use crate::http::request::Head;
use crate::query::parameters::{self, Limits, Target};
use crate::query::{Found, Level};

const RETRIEVE_URL: Tag = Tag(0x0008_1190);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020_000D);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020_000E);
const SOP_INSTANCE_UID: Tag = Tag(0x0008_0018);

/// `GET /studies`.
pub(crate) async fn studies(
    service: State<Arc<Service>>,
    caller: Caller,
    within: Within,
    head: Head,
) -> Result<Response<Body>, Error> {
    search(service, caller, within, head, Level::Study).await
}

/// `GET /series`, also of one study.
pub(crate) async fn series(
    service: State<Arc<Service>>,
    caller: Caller,
    within: Within,
    head: Head,
) -> Result<Response<Body>, Error> {
    search(service, caller, within, head, Level::Series).await
}

/// `GET /instances`, also of one study or series.
pub(crate) async fn instances(
    service: State<Arc<Service>>,
    caller: Caller,
    within: Within,
    head: Head,
) -> Result<Response<Body>, Error> {
    search(service, caller, within, head, Level::Instance).await
}

async fn search(
    State(service): State<Arc<Service>>,
    caller: Caller,
    within: Within,
    head: Head,
    level: Level,
) -> Result<Response<Body>, Error> {
    let media_type = json::media_type(&head)?;
    let pairs: Vec<_> = head.query_pairs().into_iter().filter(|(name, _)| name != "accept").collect();
    let (default, max) = service.archive.search_limits();
    let target = Target { level, study: within.study, series: within.series };
    let query = parameters::read(&pairs, target, Limits { default, max })
        .map_err(|error| Error::Parameter { name: error.name, reason: error.problem })?;
    let mut found = service.archive.search(&caller, &query).await?;
    for result in &mut found.results {
        let url = retrieve_url(head.base_url(), level, result);
        result.insert(RETRIEVE_URL, Attribute::text(b"UR", url));
    }
    let mut text = Vec::with_capacity(2048 * found.results.len().min(4096));
    json::write_array(&found.results, &mut text);
    let mut response = Response::builder();
    for warning in warnings(&found, query.offset) {
        response = response.header(WARNING, warning);
    }
    json::answer(response, media_type, text, &head)
}

/// Where a result can be retrieved (PS3.18 §10.6.3.3).
fn retrieve_url(base_url: &str, level: Level, result: &Attributes) -> String {
    let uid = |tag: Tag| result.get(&tag).and_then(Attribute::first_text).unwrap_or_default();
    let mut url = format!("{base_url}/studies/{}", uid(STUDY_INSTANCE_UID));
    if level >= Level::Series {
        url += &format!("/series/{}", uid(SERIES_INSTANCE_UID));
    }
    if level >= Level::Instance {
        url += &format!("/instances/{}", uid(SOP_INSTANCE_UID));
    }
    url
}

/// The values of Warning fields: more results than given, and what was not done as asked (PS3.18 §8.3.4.4).
fn warnings(found: &Found, offset: usize) -> Vec<String> {
    let next = offset + found.results.len();
    let more = found.has_more.then(|| format!("there are more results; ask again with offset={next}"));
    more.iter().chain(&found.warnings).map(|text| warning(text)).collect()
}

/// A Warning field by RFC 7234 §5.5, in characters that a field may hold.
pub(crate) fn warning(text: &str) -> String {
    let printable = |c: char| {
        if c == '"' || c == '\\' {
            '\''
        } else if (' '..='~').contains(&c) {
            c
        } else {
            '?'
        }
    };
    format!("299 cuspid \"{}\"", text.chars().map(printable).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_cannot_break_out_of_its_field() {
        assert_eq!(warning("a \"b\"\r\nc\u{e9}"), "299 cuspid \"a 'b'??c?\"");
    }

    #[test]
    fn the_next_offset_is_told() {
        let found = Found { results: vec![Attributes::new(); 2], has_more: true, warnings: vec!["x".into()] };
        let texts = warnings(&found, 10);
        assert_eq!(
            texts,
            ["299 cuspid \"there are more results; ask again with offset=12\"", "299 cuspid \"x\""]
        );
    }
}
