//! STOW-RS: taking in instances (PS3.18 §10.5), each part of the body as it arrives.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::store::{Outcome, Upload};
use crate::dicom::uid::StudyUid;
use crate::http::Service;
use crate::http::accept::MediaType;
use crate::http::error::Error;
use crate::http::multipart::{self, Event, Scanner};
use crate::http::path::Within;
use crate::http::request::Head;
use crate::http::store_response::{Item, respond};

/// Instances of one request that may be on their way to the disk while the next ones come in.
const MAX_FINISHING: usize = 64;

/// `POST /studies` and `POST /studies/{study}`.
pub(crate) async fn store(
    State(service): State<Arc<Service>>,
    caller: Caller,
    within: Within,
    head: Head,
    body: Body,
) -> Result<Response<Body>, Error> {
    let boundary = boundary(&head.headers)?;
    let (max_bytes, max_parts) = service.archive.request_limits();
    refuse_announced(&head.headers, max_bytes)?;
    let idle = Duration::from_secs(service.settings.idle_timeout_seconds);
    let mut chunks = Chunks { body: body.into_data_stream(), idle, max_bytes, read_bytes: 0 };
    let mut intake = Intake::new(Arc::clone(&service.archive), caller, within.study, max_parts);
    // The answer is always JSON, whatever the client accepts: an instance is worth more than the form of its receipt.
    let ended = match boundary {
        Some(boundary) => intake.take_parts(&mut chunks, &boundary).await,
        None => intake.take_one(&mut chunks).await,
    };
    respond(head.base_url(), intake.finish().await, ended)
}

/// The boundary of a multipart body; `None` if the body is one instance.
fn boundary(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(media_type) = text.and_then(MediaType::parse) else {
        return Err(unsupported("the request has no Content-Type"));
    };
    let essence = media_type.essence.as_str();
    match (media_type.is_multipart, essence) {
        // Some leave out the type parameter, or name that of raw bytes; the parts are looked at anyway.
        (true, "application/dicom" | "application/octet-stream" | "*/*") => match media_type.boundary {
            Some(boundary) => Ok(Some(boundary)),
            None => Err(Error::Parameter { name: "Content-Type".into(), reason: "has no boundary".into() }),
        },
        (false, "application/dicom") => Ok(None),
        _ => Err(unsupported(&format!("`{essence}` cannot be stored"))),
    }
}

fn unsupported(what: &str) -> Error {
    let known = r#"multipart/related; type="application/dicom", application/dicom"#;
    Error::UnsupportedMediaType(format!("Content-Type: {what}; can be {known}"))
}

/// Refuses a body that is too large before it is sent.
fn refuse_announced(headers: &HeaderMap, limit: u64) -> Result<(), Error> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) { Err(Error::TooLarge { limit }) } else { Ok(()) }
}

/// The body's chunks, within the limits.
struct Chunks {
    body: BodyDataStream,
    idle: Duration,
    max_bytes: u64,
    read_bytes: u64,
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = timeout(self.idle, self.body.next()).await;
        let chunk = chunk.map_err(|_| Error::TimedOut { seconds: self.idle.as_secs() })?;
        let chunk = chunk.transpose().map_err(|_| Error::Body("the body ends too early".into()))?;
        self.read_bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.read_bytes > self.max_bytes {
            return Err(Error::TooLarge { limit: self.max_bytes });
        }
        Ok(chunk)
    }
}

/// Where the bytes of the part under way go.
enum Part {
    /// Into the archive.
    Taken(Upload),
    /// Nowhere: its Content-Type says that it is no instance.
    Refused,
}

/// The instances of one request.
struct Intake {
    archive: Arc<Archive>,
    caller: Caller,
    study: Option<StudyUid>,
    max_parts: usize,
    parts: usize,
    finishing: FuturesUnordered<BoxFuture<'static, (usize, Outcome)>>,
    /// What became of each part, by its place in the request.
    items: Vec<(usize, Item)>,
}

impl Intake {
    fn new(archive: Arc<Archive>, caller: Caller, study: Option<StudyUid>, max_parts: usize) -> Self {
        let (finishing, items) = (FuturesUnordered::new(), Vec::new());
        Self { archive, caller, study, max_parts, parts: 0, finishing, items }
    }

    /// Takes a body that is one instance.
    async fn take_one(&mut self, chunks: &mut Chunks) -> Result<(), Error> {
        let mut part = self.begin(None).await?;
        while let Some(bytes) = chunks.next().await? {
            write(&mut part, bytes).await;
        }
        self.end(part).await;
        Ok(())
    }

    /// Takes the parts of a body; a part that the body's end cuts off is dropped.
    async fn take_parts(&mut self, chunks: &mut Chunks, boundary: &str) -> Result<(), Error> {
        let mut scanner = Scanner::new(boundary);
        let mut part = None;
        while let Some(chunk) = chunks.next().await? {
            scanner.push(chunk);
            while let Some(event) = scanner.event().map_err(malformed)? {
                match event {
                    Event::Part { content_type } => part = Some(self.begin(content_type.as_deref()).await?),
                    Event::Bytes(bytes) => {
                        if let Some(part) = &mut part {
                            write(part, bytes).await;
                        }
                    }
                    Event::End => {
                        if let Some(part) = part.take() {
                            self.end(part).await;
                        }
                    }
                }
            }
        }
        scanner.finish().map_err(malformed)
    }

    async fn begin(&mut self, content_type: Option<&str>) -> Result<Part, Error> {
        self.parts += 1;
        if self.parts > self.max_parts {
            return Err(Error::Body(format!("more than {} parts (ingest.max_parts)", self.max_parts)));
        }
        if !may_be_instance(content_type) {
            return Ok(Part::Refused);
        }
        Ok(Part::Taken(self.archive.receive(&self.caller, self.study.clone()).await))
    }

    async fn end(&mut self, part: Part) {
        let place = self.parts;
        match part {
            Part::Refused => self.items.push((place, Item::NotDicom)),
            Part::Taken(upload) => {
                let finishing = upload.finish().await;
                self.finishing.push(Box::pin(async move { (place, finishing.await) }));
            }
        }
        while self.finishing.len() > MAX_FINISHING {
            self.next_outcome().await;
        }
    }

    async fn next_outcome(&mut self) {
        if let Some((place, outcome)) = self.finishing.next().await {
            self.items.push((place, Item::Outcome(outcome)));
        }
    }

    /// What became of the parts, in the order of the request.
    async fn finish(mut self) -> Vec<Item> {
        while !self.finishing.is_empty() {
            self.next_outcome().await;
        }
        self.items.sort_by_key(|(place, _)| *place);
        self.items.into_iter().map(|(_, item)| item).collect()
    }
}

async fn write(part: &mut Part, bytes: Bytes) {
    if let Part::Taken(upload) = part {
        upload.write(bytes).await;
    }
}

/// Whether a part of this Content-Type is looked at: unless it clearly is something else, its bytes decide.
fn may_be_instance(content_type: Option<&str>) -> bool {
    let known = ["application/dicom", "application/octet-stream", "application/x-dicom", "*/*"];
    content_type
        .and_then(MediaType::parse)
        .is_none_or(|media_type| known.contains(&media_type.essence.as_str()))
}

fn malformed(error: multipart::Error) -> Error {
    Error::Body(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_stored_is_told_from_the_content_type() {
        for (text, expected) in [
            ("multipart/related; type=\"application/dicom\"; boundary=B", Ok(Some("B"))),
            ("multipart/related; type=application/dicom; boundary=\"B:1\"", Ok(Some("B:1"))),
            ("multipart/related; boundary=B", Ok(Some("B"))),
            ("application/dicom", Ok(None)),
            ("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", Ok(None)),
            ("multipart/related; type=\"application/dicom\"", Err(())),
            ("multipart/related; type=\"application/dicom+json\"; boundary=B", Err(())),
            ("multipart/form-data; boundary=B", Err(())),
            ("application/json", Err(())),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, text.parse().unwrap());
            let found = boundary(&headers).map_err(|_| ());
            assert_eq!(found, expected.map(|boundary| boundary.map(str::to_owned)), "{text}");
        }
    }
}
