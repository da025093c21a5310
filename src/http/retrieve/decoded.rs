//! Frames as samples, decoded from what is stored (PS3.18 §8.7.3.3.1).

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::http::accept::Offer;
use crate::http::content::{Content, Stable, describe, finish};
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::retrieve::frames::form;
use crate::http::retrieve::media_types::{EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM};
use crate::http::retrieve::{digest_prefix, etag, parts};

/// Answers with decoded frames; all but the first are decoded while the answer is sent.
///
/// # Errors
/// What the archive says of the first frame, [`ArchiveError::NotAcceptable`] if it cannot be decoded.
pub(super) async fn answer(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    numbers: Vec<u32>,
    chosen: &Offer,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = etag(record, &form("decoded", chosen));
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let Some((&first, rest)) = numbers.split_first() else { return Err(Error::NoResource) };
    let first = Bytes::from(archive.decoded_frame(caller, record, first).await?.bytes);
    let boundary = format!("cuspid-{}", digest_prefix(record));
    let part_head = |is_first| {
        Bytes::from(parts::head(&boundary, is_first, OCTET_STREAM, Some(EXPLICIT_VR_LITTLE_ENDIAN)))
    };
    let content_type = parts::content_type(OCTET_STREAM, &boundary);
    if rest.is_empty() {
        let mut content = Content::default();
        let content_type = if chosen.is_multipart {
            content.text(part_head(true));
            content.text(first);
            content.text(parts::tail(&boundary));
            content_type
        } else {
            content.text(first);
            parts::type_of(OCTET_STREAM, Some(EXPLICIT_VR_LITTLE_ENDIAN))
        };
        let stable = Stable { content, content_type, etag };
        return stable.answer(archive, caller.clone(), record.clone(), head).await;
    }
    let reader = Arc::new((Arc::clone(archive), caller.clone(), record.clone()));
    let between = part_head(false);
    let others = stream::iter(rest.to_vec()).then(move |number| {
        let (reader, between) = (Arc::clone(&reader), between.clone());
        async move {
            let (archive, caller, record) = &*reader;
            let frame = archive.decoded_frame(caller, record, number).await?;
            let part = [between, Bytes::from(frame.bytes)];
            Ok::<_, ArchiveError>(stream::iter(part.map(Ok::<_, ArchiveError>)))
        }
    });
    let start = stream::iter([Ok(part_head(true)), Ok(first)]);
    let end = stream::iter([Ok(Bytes::from(parts::tail(&boundary)))]);
    let body = Body::from_stream(start.chain(others.try_flatten()).chain(end));
    finish(describe(&etag).header(CONTENT_TYPE, content_type), body)
}
