//! Pictures as answers: one, or several as parts that are drawn while they are sent (PS3.18 §8.6.1, §8.7.4).

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LOCATION, CONTENT_TYPE, WARNING};
use axum::http::response::Builder;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use crate::archive::access::Caller;
use crate::archive::derived::rendering::{Format, Painter, Rendering};
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::Offer;
use crate::http::response::multipart as parts;
use crate::http::response::ranged::{begin, describe, fingerprint, finish};
use crate::http::retrieve::url;

/// Pictures that are drawn at the same time for one answer.
const DRAWN_AHEAD: usize = 2;

/// The formats of pictures, the default first (PS3.18 Table 8.7.4-1).
const FORMATS: [Format; 3] = [Format::Jpeg, Format::Png, Format::Gif];

/// The forms in which pictures can be given: as one body, as parts, or both, those first that are meant by `*/*`.
pub(in crate::http) fn offers(packings: &[Packing]) -> Vec<Offer> {
    let offer = |packing: &Packing, format| Offer {
        is_multipart: *packing == Packing::Parts,
        essence: essence(format),
        transfer_syntax: None,
        is_default: true,
    };
    packings.iter().flat_map(|packing| FORMATS.map(|format| offer(packing, format))).collect()
}

/// Whether pictures come as one body or as parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Packing {
    /// One picture, or an animated one.
    Single,
    /// `multipart/related`.
    Parts,
}

/// The format that has a media type.
pub(in crate::http) fn format(media_type: &str) -> Option<Format> {
    FORMATS.into_iter().find(|format| essence(*format) == media_type)
}

/// The media type of a format.
fn essence(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "image/jpeg",
        Format::Png => "image/png",
        Format::Gif => "image/gif",
    }
}

/// A frame of an instance.
#[derive(Debug, Clone)]
pub(in crate::http) struct Frame {
    pub(in crate::http) record: Arc<InstanceRecord>,
    /// From 1.
    pub(in crate::http) number: u32,
}

impl Frame {
    /// The URL of what the picture was made of (§8.6.1.2).
    fn location(&self, base_url: &str) -> String {
        let Self { record, number } = self;
        let url = url(record, base_url);
        if number_of_frames(record) > 1 { format!("{url}/frames/{number}") } else { url }
    }
}

/// How many frames an instance has.
pub(in crate::http) fn number_of_frames(record: &InstanceRecord) -> u32 {
    record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames)
}

/// How pictures are made, and what the answer says of it.
pub(in crate::http) struct Drawing {
    pub(in crate::http) rendering: Rendering,
    /// Changes whenever what is drawn does: the digest of the object, or the version of what holds it.
    pub(in crate::http) state: String,
    /// The value of a Warning field.
    pub(in crate::http) warning: Option<String>,
}

impl Drawing {
    /// The ETag of pictures: it depends on what is drawn and how, and on the program that draws.
    fn etag(&self, of: &str) -> String {
        let Self { rendering, state, .. } = self;
        let all = format!("{} {state} {of} {rendering:?}", env!("CARGO_PKG_VERSION"));
        format!("\"{}\"", fingerprint(all))
    }

    fn warned(&self, response: Builder) -> Builder {
        match &self.warning {
            Some(warning) => response.header(WARNING, warning),
            None => response,
        }
    }
}

/// Answers with the picture of one frame.
///
/// # Errors
/// Those of [`Archive::painter`] and of the frame.
pub(in crate::http) async fn one(
    archive: &Arc<Archive>,
    caller: &Caller,
    frame: &Frame,
    drawing: &Drawing,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = drawing.etag(&format!("{} {}", frame.record.digest, frame.number));
    if head.has(&etag) {
        return unchanged(drawing, &etag);
    }
    let painter = archive.painter(caller, &frame.record, &drawing.rendering).await?;
    let picture = painter.frame(frame.number).await?;
    whole(picture, drawing, &etag, &frame.location(head.base_url()), head)
}

/// Answers with all frames of an instance as one animated picture.
///
/// # Errors
/// Those of [`Archive::painter`] and of the animation.
pub(in crate::http) async fn animation(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &Arc<InstanceRecord>,
    drawing: &Drawing,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = drawing.etag("animation");
    if head.has(&etag) {
        return unchanged(drawing, &etag);
    }
    let picture = archive.painter(caller, record, &drawing.rendering).await?.animation().await?;
    whole(picture, drawing, &etag, &url(record, head.base_url()), head)
}

fn unchanged(drawing: &Drawing, etag: &str) -> Result<Response<Body>, Error> {
    finish(drawing.warned(describe(etag)).status(StatusCode::NOT_MODIFIED), Body::empty())
}

fn whole(
    picture: Bytes,
    drawing: &Drawing,
    etag: &str,
    location: &str,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let (response, picture) = begin_bytes(picture, essence(drawing.rendering.format), etag, head)?;
    finish(drawing.warned(response).header(CONTENT_LOCATION, location), Body::from(picture))
}

/// Begins the answer with a picture that is at hand: the whole, a range of it, or nothing if the client has it.
///
/// # Errors
/// [`Error::Range`] when the range lies beyond the end.
pub(super) fn begin_bytes(
    picture: Bytes,
    media_type: &str,
    etag: &str,
    head: &Head,
) -> Result<(Builder, Bytes), Error> {
    let (response, range) = begin(etag, media_type, picture.len() as u64, head)?;
    let sent = range.map(|range| picture.slice(range.start as usize..range.end as usize));
    Ok((response, sent.unwrap_or_default()))
}

/// Answers with pictures as parts; all but the first are drawn while the answer is sent.
///
/// `leaves_out` says what becomes of a frame that cannot be drawn: it is left out, so that a study is not refused for
/// one instance, or ends the answer.
///
/// # Errors
/// What the archive says of the first frame; if frames are left out, [`Error::NotAcceptable`] if that is all of them.
pub(in crate::http) async fn several(
    archive: &Arc<Archive>,
    caller: Caller,
    frames: BoxStream<'static, Result<Frame, ArchiveError>>,
    leaves_out: bool,
    drawing: Drawing,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = drawing.etag("parts");
    if head.has(&etag) {
        return unchanged(&drawing, &etag);
    }
    let media_type = essence(drawing.rendering.format);
    let response = drawing.warned(describe(&etag));
    let base_url = head.base_url().to_owned();
    let mut painters = Painters::new(archive, caller, drawing.rendering);
    let pictures = frames
        .map(move |frame| {
            let base_url = base_url.clone();
            let frame = frame.map(|frame| (painters.of(&frame.record), frame));
            async move {
                let (painter, frame) = frame?;
                Ok((frame.location(&base_url), painter.paint(&frame).await?))
            }
        })
        .buffered(DRAWN_AHEAD);
    let mut pictures = pictures.boxed();
    let first = first_that_can_be_drawn(&mut pictures, leaves_out).await?;
    let rest = pictures.filter(move |picture| ready(!(leaves_out && is_refused(picture))));
    // The same each time, as ranges and caches want it, and in no picture: it would have to hold its own ETag.
    let boundary = format!("cuspid-{}", etag.trim_matches('"'));
    let response = response.header(CONTENT_TYPE, parts::content_type(media_type, &boundary));
    let pictures = stream::iter([Ok(first)]).chain(rest).boxed();
    finish(response, Body::from_stream(written(pictures, media_type, boundary)))
}

/// The painters of one answer: frames of an instance that follow each other share one.
struct Painters {
    context: Arc<(Arc<Archive>, Caller, Rendering)>,
    last: Option<(Arc<InstanceRecord>, Arc<OnceCell<Painter>>)>,
}

/// A painter that is made for the first of its frames.
struct LazyPainter {
    context: Arc<(Arc<Archive>, Caller, Rendering)>,
    painter: Arc<OnceCell<Painter>>,
}

impl Painters {
    fn new(archive: &Arc<Archive>, caller: Caller, rendering: Rendering) -> Self {
        Self { context: Arc::new((Arc::clone(archive), caller, rendering)), last: None }
    }

    fn of(&mut self, record: &Arc<InstanceRecord>) -> LazyPainter {
        let last = self.last.take().filter(|(last, _)| Arc::ptr_eq(last, record));
        let (_, painter) = self.last.insert(last.unwrap_or_else(|| (Arc::clone(record), Arc::default())));
        LazyPainter { context: Arc::clone(&self.context), painter: Arc::clone(painter) }
    }
}

impl LazyPainter {
    async fn paint(&self, frame: &Frame) -> Result<Bytes, ArchiveError> {
        let (archive, caller, rendering) = &*self.context;
        let painter =
            self.painter.get_or_try_init(|| archive.painter(caller, &frame.record, rendering)).await?;
        painter.frame(frame.number).await
    }
}

/// Writes pictures as the parts of one body.
fn written(
    pictures: BoxStream<'static, Picture>,
    media_type: &'static str,
    boundary: String,
) -> impl Stream<Item = Result<Bytes, ArchiveError>> {
    let tail = Bytes::from(parts::tail(&boundary));
    let parts = pictures.enumerate().map(move |(index, picture)| {
        let (location, picture) = picture?;
        let line_end = if index == 0 { "" } else { "\r\n" };
        let length = picture.len();
        // Clients look for `Content-Type:` first.
        let head = format!(
            "{line_end}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\
             Content-Location: {location}\r\n\r\n"
        );
        let pieces = [Bytes::from(head), picture].map(Ok::<_, ArchiveError>);
        Ok::<_, ArchiveError>(stream::iter(pieces))
    });
    parts.try_flatten().chain(stream::iter([Ok(tail)]))
}

type Picture = Result<(String, Bytes), ArchiveError>;

/// The first picture, so that what cannot be drawn at all is an error and no empty answer.
async fn first_that_can_be_drawn(
    pictures: &mut BoxStream<'static, Picture>,
    leaves_out: bool,
) -> Result<(String, Bytes), Error> {
    let mut refusal = None;
    while let Some(picture) = pictures.next().await {
        match picture {
            Err(error) if leaves_out && error.is_about_form() => {
                refusal.get_or_insert(error.to_string());
            }
            picture => return Ok(picture?),
        }
    }
    Err(Error::NotAcceptable(refusal.unwrap_or_else(|| "there is nothing in it to make pictures of".into())))
}

fn is_refused(picture: &Picture) -> bool {
    picture.as_ref().is_err_and(ArchiveError::is_about_form)
}
