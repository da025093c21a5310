//! The feed of changes and its events. Not of the standard; see docs/changes.md.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Response};
use axum::response::IntoResponse;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::archive::access::Caller;
use crate::archive::change_json::change_json;
use crate::archive::changes::{
    Change, ChangeFilter, ChangeListener, FeedCursor, FeedEntry, FeedRead, ListeningEnd,
};
use crate::clock::now_millis;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::middleware::forwarding::Client;
use crate::http::request::Head;
use crate::http::response::holding_body::HoldingBody;
use crate::telemetry;

/// The media type of events (HTML Living Standard §9.2).
const EVENT_STREAM: &str = "text/event-stream";
/// The entries of a page without `limit`, and the most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// The text that stands for the place after the last change.
const NOW: &str = "now";
/// The milliseconds after which a client comes back whose events ended.
const RETRY_MILLIS: u32 = 3000;
/// The field with the place after the last event that a client has got.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Marks a response without end, for whose sake no other request is kept waiting.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Endless;

/// Whether a path has responses without end, which have places of their own.
pub(in crate::http) fn is_endless(path: &str) -> bool {
    path == "/events"
}

/// The parameters of both resources.
struct ChangeParameters {
    /// The place; `None` for the beginning of the feed.
    after: Option<FeedPlace>,
    limit: usize,
    filter: ChangeFilter,
}

enum FeedPlace {
    After(FeedCursor),
    Now,
}

impl ChangeParameters {
    fn of(head: &Head) -> Result<Self, Error> {
        let mut found = Self { after: None, limit: DEFAULT_LIMIT, filter: ChangeFilter::default() };
        for (name, value) in head.query_pairs() {
            let wrong = |reason: &str| Error::Parameter { name: name.clone(), reason: reason.to_owned() };
            match name.as_str() {
                "after" => found.after = Some(FeedPlace::of(&value).ok_or_else(|| wrong(NO_PLACE))?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    let limit: usize = limit.ok_or_else(|| wrong("is no number from 1"))?;
                    found.limit = limit.min(MAX_LIMIT);
                }
                "study" => found.filter = ChangeFilter::of_study(&value).map_err(|_| wrong("is no UID"))?,
                // A filter that is mistyped must not show everything.
                _ => return Err(wrong("is no parameter of the changes")),
            }
        }
        Ok(found)
    }

    /// The wanted changes of an entry: the names of their events, and their descriptions.
    fn described(&self, entry: &FeedEntry) -> Vec<(&'static str, Value)> {
        let described = |change: &Change| Some((change.kind.event()?, change_json(entry, change)));
        self.filter.select(entry).filter_map(described).collect()
    }
}

/// The reason why a text is no place.
const NO_PLACE: &str = "is neither `now` nor a place of the feed";

impl FeedPlace {
    fn of(text: &str) -> Option<Self> {
        if text == NOW { Some(Self::Now) } else { text.parse().ok().map(Self::After) }
    }
}

/// `GET /changes[?after=][&limit=][&study=]`.
pub(in crate::http) async fn changes(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
) -> Result<Response<Body>, Error> {
    let parameters = ChangeParameters::of(&head)?;
    let after = match &parameters.after {
        Some(FeedPlace::Now) => Some(service.archive.end_of_changes(&caller).await?),
        Some(FeedPlace::After(cursor)) => Some(cursor.clone()),
        None => None,
    };
    let page = match service.archive.changes(&caller, after.as_ref(), parameters.limit).await? {
        FeedRead::Page(page) => page,
        FeedRead::Expired => return Err(Error::Gone(ListeningEnd::Expired.to_string())),
    };
    let described = page.entries.iter().flat_map(|entry| parameters.described(entry));
    let changes: Vec<Value> = described.map(|(_, change)| change).collect();
    let body = json!({ "changes": changes, "next": page.next.to_string(), "more": page.has_more });
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((headers, body.to_string()).into_response())
}

/// `GET /events[?study=]`, with `Last-Event-ID` or `?after=` to go on from a place.
pub(in crate::http) async fn events(
    State(service): State<Arc<Service>>,
    caller: Caller,
    client: Option<axum::Extension<Client>>,
    head: Head,
) -> Result<Response<Body>, Error> {
    let parameters = ChangeParameters::of(&head)?;
    let client = client.map(|axum::Extension(Client(address))| address.to_string()).unwrap_or_default();
    let place = service.listeners.try_take(&client, 1);
    let place = place.ok_or(Error::TooManyListeners { limit: service.changes.max_listeners })?;
    let after = match (head.text(LAST_EVENT_ID), &parameters.after) {
        (Some(id), _) => Some(id.parse::<FeedCursor>().map_err(|_| Error::Parameter {
            name: "Last-Event-ID".into(),
            reason: "is no place of the feed".into(),
        })?),
        (None, Some(FeedPlace::After(cursor))) => Some(cursor.clone()),
        (None, Some(FeedPlace::Now) | None) => None,
    };
    let listener = service.archive.listen(&caller, after).await.map_err(|end| match end {
        ListeningEnd::Expired => Error::Gone(end.to_string()),
        ListeningEnd::Archive(error) => error.into(),
    })?;
    let heartbeat = Duration::from_secs(service.changes.heartbeat_seconds);
    let now = Instant::now();
    let events = EventStream {
        waiting: VecDeque::from([format!("retry: {RETRY_MILLIS}\nid: {}\n\n", listener.cursor())]),
        listener,
        parameters,
        heartbeat,
        beat_at: now + heartbeat,
        end_at: caller.expires_at.map(|at| now + until(at)),
        stop: service.stop.clone(),
    };
    let body = Body::from_stream(stream::unfold(Box::new(events), next_event));
    let mut response = HoldingBody::wrap(body, place).into_response();
    response.extensions_mut().insert(Endless);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that gathers responses would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The time until a moment in seconds since 1970 UTC.
fn until(at: i64) -> Duration {
    let millis = at.saturating_mul(1000).saturating_sub(now_millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// The state of a stream of events.
struct EventStream {
    listener: ChangeListener,
    parameters: ChangeParameters,
    /// Texts to be sent.
    waiting: VecDeque<String>,
    heartbeat: Duration,
    /// The time of the next heartbeat.
    beat_at: Instant,
    /// The end of the caller's token.
    end_at: Option<Instant>,
    stop: CancellationToken,
}

type NextEvent = Option<(Result<Bytes, std::convert::Infallible>, Box<EventStream>)>;

/// The next text of a stream of events; `None` at its end.
async fn next_event(mut events: Box<EventStream>) -> NextEvent {
    loop {
        if let Some(text) = events.waiting.pop_front() {
            return Some((Ok(text.into()), events));
        }
        let EventStream { listener, stop, end_at, beat_at, .. } = events.as_mut();
        let end = async {
            match end_at {
                Some(at) => sleep_until(*at).await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            next = timeout_at(*beat_at, listener.next()) => next,
            () = end => return None,
            () = stop.cancelled() => return None,
        };
        match next {
            Ok(Ok(entry)) => events.write(&entry),
            Ok(Err(error)) => {
                if let ListeningEnd::Archive(error) = &error {
                    tracing::warn!(error = telemetry::chain(error), "a stream of events ended");
                }
                return None;
            }
            // The place alone is no event: the client comes back to it, however few changes it has asked for.
            Err(_) => {
                events.beat_at = Instant::now() + events.heartbeat;
                let place = format!("id: {}\n\n", events.listener.cursor());
                events.waiting.push_back(place);
            }
        }
    }
}

impl EventStream {
    /// Writes the events of an entry. Only the last has the place after the entry, so that a client that
    /// comes back between two gets all of them again.
    fn write(&mut self, entry: &FeedEntry) {
        let changes = self.parameters.described(entry);
        let events = changes.iter().map(|(name, change)| format!("event: {name}\ndata: {change}\n"));
        let mut text = events.collect::<Vec<_>>().join("\n");
        if !text.is_empty() {
            text.push_str(&format!("id: {}\n\n", self.listener.cursor()));
            self.waiting.push_back(text);
        }
    }
}
