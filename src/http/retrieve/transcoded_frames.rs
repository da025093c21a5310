//! Transcoded frames: decoded to samples, or encoded in another transfer syntax (PS3.18 §8.7.3.3).

use std::borrow::Borrow;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::frames::{decoded_frame, frame_bytes};
use crate::archive::derived::transcode::{Codec, REVISION, encoded_frame};
use crate::archive::read::pass::ReadOrder;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::Offer;
use crate::http::response::frame_list::FramePartHeads;
use crate::http::response::instance::{boundary, etag, url};
use crate::http::response::multipart as parts;
use crate::http::response::ranged::{RangedResponse, SegmentedBody, describe, finish};

/// The number of frames that are transcoded ahead of the one that is sent.
const TRANSCODE_AHEAD: usize = 2;

/// Answers with frames that a codec encodes, or that are decoded (without a codec). All but the first are
/// transcoded while the response is sent.
///
/// # Errors
/// The archive's error for the first frame; an error about the form ([`ArchiveError::is_about_form`]) if the
/// frame cannot be transcoded.
pub(super) async fn answer(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    numbers: Vec<u32>,
    (chosen, codec): (&Offer, Option<Codec>),
    head: &Head,
) -> Result<Response<Body>, Error> {
    let kind = codec.map(|codec| format!("{}-{REVISION}", codec.transfer_syntax()));
    let etag = etag(record, &etag_form(kind.as_deref().unwrap_or("decoded"), chosen));
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    archive.check_frames(record, numbers.iter().copied(), ReadOrder::Apart)?;
    let Some((&first_number, rest)) = numbers.split_first() else { return Err(Error::NoResource) };
    let reader = Arc::new((Arc::clone(archive), caller.clone(), record.clone()));
    let memory = archive.response_memory_in_time(caller, frame_bytes(record)).await?;
    let first = memory.fill(frame(Arc::clone(&reader), first_number, codec)).await?;
    let syntax = chosen.transfer_syntax.as_deref();
    let boundary = boundary(record);
    let heads = FramePartHeads::new(chosen, boundary.clone(), url(record, head.base_url()));
    let content_type = parts::content_type(chosen.essence, &boundary);
    if rest.is_empty() {
        let mut content = SegmentedBody::default();
        let content_type = if chosen.is_multipart {
            content.text(heads.head(true, first_number));
            content.text(first);
            content.text(parts::tail(&boundary));
            content_type
        } else {
            content.text(first);
            parts::type_of(chosen.essence, syntax)
        };
        let stable = RangedResponse { content, content_type, etag };
        return stable.answer(archive, caller.clone(), record.clone(), head).await;
    }
    let start = stream::iter([Ok(Bytes::from(heads.head(true, first_number))), Ok(first)]);
    let for_memory = Arc::clone(&reader);
    let others = stream::iter(rest.to_vec()).then(move |number| {
        let reader = Arc::clone(&for_memory);
        async move {
            let (archive, caller, record) = &*reader;
            (number, archive.response_memory(caller, frame_bytes(record)).await)
        }
    });
    let others = others.map(move |(number, memory)| {
        let between = Bytes::from(heads.head(false, number));
        let frame = memory.fill(frame(Arc::clone(&reader), number, codec));
        async move {
            let part = [between, frame.await?];
            Ok::<_, ArchiveError>(stream::iter(part.map(Ok::<_, ArchiveError>)))
        }
    });
    let others = others.buffered(TRANSCODE_AHEAD).try_flatten();
    let end = stream::iter([Ok(Bytes::from(parts::tail(&boundary)))]);
    let body = Body::from_stream(start.chain(others).chain(end));
    finish(describe(&etag).header(CONTENT_TYPE, content_type), body)
}

/// The representation of frames as their ETag names it.
pub(super) fn etag_form(kind: &str, offer: &Offer) -> String {
    let essence: String = offer.essence.chars().filter(char::is_ascii_alphanumeric).collect();
    let packing = if offer.is_multipart { "parts" } else { "single" };
    format!("{kind}-{packing}-{essence}")
}

/// One frame (from 1), encoded by a codec, or decoded (without a codec).
///
/// # Errors
/// An error about the form ([`ArchiveError::is_about_form`]) if the frame cannot be transcoded.
pub(super) async fn frame<R: Borrow<InstanceRecord>>(
    reader: Arc<(Arc<Archive>, Caller, R)>,
    number: u32,
    codec: Option<Codec>,
) -> Result<Bytes, ArchiveError> {
    let (archive, caller, record) = (&reader.0, &reader.1, reader.2.borrow());
    Ok(Bytes::from(match codec {
        None => decoded_frame(archive, caller, record, number).await?.bytes,
        Some(codec) => encoded_frame(archive, caller, record, number, codec).await?,
    }))
}
