//! QIDO-RS: finding studies, series and instances (PS3.18 §10.6).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LINK, VARY, WARNING};
use axum::http::{Response, StatusCode};

use crate::archive::access::Caller;
use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::dicom::tags;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::path::ParentPath;
use crate::http::response::compressed_buffer::CompressedBuffer;
use crate::http::response::holding_body::HoldingBody;
use crate::http::response::ranged::finish;
use crate::http::search::cursor::CursorScope;
use crate::http::search::result_format::ResultFormat;
use crate::query::parameters::{self, ResultLimits, SearchTarget};
use crate::query::{Level, Query, ResultPlace};

mod cursor;
mod paging;
mod result_format;

/// The maximal size of a response in memory, compressed; a longer one ends here, and its results continue on
/// the next page.
const MAX_HELD_BYTES: usize = 64 << 20;

/// The size of a response for which there must be memory before the search begins.
const LEAST_MEMORY_BYTES: usize = 64 * 1024;

/// `GET /studies`.
pub(crate) async fn studies(
    service: State<Arc<Service>>,
    caller: Caller,
    within: ParentPath,
    head: Head,
) -> Result<Response<Body>, Error> {
    search(service, caller, within, head, Level::Study).await
}

/// `GET /series`, also of one study.
pub(crate) async fn series(
    service: State<Arc<Service>>,
    caller: Caller,
    within: ParentPath,
    head: Head,
) -> Result<Response<Body>, Error> {
    search(service, caller, within, head, Level::Series).await
}

/// `GET /instances`, also of one study or series.
pub(crate) async fn instances(
    service: State<Arc<Service>>,
    caller: Caller,
    within: ParentPath,
    head: Head,
) -> Result<Response<Body>, Error> {
    search(service, caller, within, head, Level::Instance).await
}

async fn search(
    State(service): State<Arc<Service>>,
    caller: Caller,
    within: ParentPath,
    head: Head,
    level: Level,
) -> Result<Response<Body>, Error> {
    let pairs = head.query_pairs();
    service.archive.note_base_url(head.base_url());
    let resource = resource_url(head.base_url(), &within, level);
    let scope = CursorScope::new(caller.tenant.as_str(), &resource_url("", &within, level), &pairs);
    let mut query = read(&service, &pairs, within, level)?;
    query.after = read_cursor(&scope, &pairs, &query)?;
    let format = ResultFormat::choose(&head.accept(), &query)?;
    let mut memory = service.archive.response_memory_in_time(&caller, LEAST_MEMORY_BYTES).await?;
    let mut text = CompressedBuffer::new();
    format.begin(&mut text);
    let mut is_first = true;
    let mut write = |mut result: Attributes| {
        let url = retrieve_url(head.base_url(), level, &result);
        result.insert(tags::RETRIEVE_URL, Attribute::text(b"UR", url));
        format.result(&result, std::mem::take(&mut is_first), &mut text);
        // Without memory for more results, the page ends here as well.
        text.held_bytes() < MAX_HELD_BYTES && memory.grow_to(text.held_bytes())
    };
    let mut found = service.archive.search(&caller, &query, &mut write).await?;
    let ignored = query.ignored.iter();
    found.warnings.extend(ignored.map(|name| format!("the parameter {name} is unknown and was ignored")));
    format.end(&mut text);
    let mut response = Response::builder().header(VARY, "Accept, Accept-Encoding");
    if let Some(warning) = paging::warnings(&found, &query) {
        response = response.header(WARNING, warning);
    }
    let cursor = found.next.as_ref().and_then(|next| scope.write(next));
    if let Some(links) = paging::links(&resource, &pairs, &query, &found, cursor) {
        response = response.header(LINK, links);
    }
    if found.count == 0 && format.needs_results() {
        return finish(response.status(StatusCode::NO_CONTENT), Body::empty());
    }
    let response = text.answer(response.header(CONTENT_TYPE, format.content_type()), &head).await?;
    Ok(response.map(|body| HoldingBody::wrap(body, memory)))
}

/// Parses the parameters, except the cursor and those of the representation: `accept` was read before, and
/// `charset` is always UTF-8.
fn read(
    service: &Service,
    pairs: &[(String, String)],
    within: ParentPath,
    level: Level,
) -> Result<Query, Error> {
    let (default, max) = service.archive.search_limits();
    let target =
        SearchTarget { joins_dates_and_times: true, level, study: within.study, series: within.series };
    let is_search = |(name, _): &&(String, String)| !["accept", "charset", cursor::NAME].contains(&&**name);
    let pairs: Vec<_> = pairs.iter().filter(is_search).cloned().collect();
    parameters::read(&pairs, target, ResultLimits { default, max })
        .map_err(|error| Error::Parameter { name: error.name, reason: error.problem })
}

/// The place from which the search goes on, if it has a cursor.
fn read_cursor(
    scope: &CursorScope,
    pairs: &[(String, String)],
    query: &Query,
) -> Result<Option<ResultPlace>, Error> {
    let wrong = |reason: &str| Error::Parameter { name: cursor::NAME.into(), reason: reason.into() };
    let mut cursors = pairs.iter().filter(|(name, _)| name == cursor::NAME);
    let Some((_, text)) = cursors.next() else { return Ok(None) };
    if cursors.next().is_some() {
        return Err(wrong("is there more than once"));
    }
    if !query.order.is_empty() {
        return Err(wrong("cannot be combined with this `orderby`"));
    }
    scope.read(text).map(Some).map_err(wrong)
}

/// The URL of the resource that is searched (PS3.18 Table 10.6.1-1).
fn resource_url(base_url: &str, within: &ParentPath, level: Level) -> String {
    let mut url = format!("{base_url}/");
    if let Some(study) = &within.study {
        url += &format!("studies/{study}/");
    }
    if let Some(series) = &within.series {
        url += &format!("series/{series}/");
    }
    url + match level {
        Level::Study => "studies",
        Level::Series => "series",
        Level::Instance => "instances",
    }
}

/// The URL at which a result can be retrieved (PS3.18 §10.6.3.3).
fn retrieve_url(base_url: &str, level: Level, result: &Attributes) -> String {
    let uid = |tag: Tag| result.get(&tag).and_then(Attribute::first_text).unwrap_or_default();
    let mut url = format!("{base_url}/studies/{}", uid(tags::STUDY_INSTANCE_UID));
    if level >= Level::Series {
        url += &format!("/series/{}", uid(tags::SERIES_INSTANCE_UID));
    }
    if level >= Level::Instance {
        url += &format!("/instances/{}", uid(tags::SOP_INSTANCE_UID));
    }
    url
}
