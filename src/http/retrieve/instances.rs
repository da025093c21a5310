//! Whole instances: of a study, of a series, or one (PS3.18 §10.4.1.1).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::archive::access::Caller;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::http::Service;
use crate::http::accept::{Accept, Offer};
use crate::http::content::{Content, Stable, describe, finish};
use crate::http::error::Error;
use crate::http::path::Target;
use crate::http::request::Head;
use crate::http::retrieve::{digest_prefix, etag, not_acceptable, parts};

const DICOM: &str = "application/dicom";

/// Objects that are opened ahead of the one that is being sent.
const OPEN_AHEAD: usize = 2;

/// `GET` of a study, a series or an instance.
pub(crate) async fn instances(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let accept = head.accept();
    if let (Some(series), Some(instance)) = (&scope.series, &scope.instance) {
        let record = archive.instance(&caller, &scope.study, series, instance).await?;
        return one(archive, caller, record, &accept, &head).await;
    }
    let etag = format!("\"{}-dicom\"", archive.version(&caller, &scope).await?);
    let response = describe(&etag);
    if head.has(&etag) {
        return finish(response.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let mut pages = archive.instances(&caller, &scope).await?;
    // What is asked for must be possible for the first page; nothing is known of the rest before it is read.
    let first = pages.try_next().await?.unwrap_or_default();
    for record in &first {
        choose(&accept, record, false)?;
    }
    let boundary = format!("cuspid-{}", Uuid::new_v4().simple());
    let response = response.header(CONTENT_TYPE, parts::content_type(DICOM, &boundary));
    let records =
        stream::iter([Ok(first)]).chain(pages).map_ok(|page| stream::iter(page).map(Ok)).try_flatten();
    let parts = many(Arc::clone(archive), caller, records.boxed(), boundary);
    finish(response, Body::from_stream(parts))
}

/// One instance: alone or as the only part, in its stored transfer syntax.
async fn one(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    accept: &Accept,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let chosen = choose(accept, &record, true)?;
    let mut content = Content::default();
    let stable = if chosen.is_multipart {
        let boundary = format!("cuspid-{}", digest_prefix(&record));
        content.text(parts::head(&boundary, true, DICOM, Some(&record.transfer_syntax)));
        content.stored(0..record.size_bytes);
        content.text(parts::tail(&boundary));
        let content_type = parts::content_type(DICOM, &boundary);
        Stable { content, content_type, etag: etag(&record, "m-dicom") }
    } else {
        content.stored(0..record.size_bytes);
        let content_type = format!("{DICOM}; transfer-syntax={}", record.transfer_syntax);
        Stable { content, content_type, etag: etag(&record, "s-dicom") }
    };
    stable.answer(archive, caller, record, head).await
}

/// Instances as parts of one body.
fn many(
    archive: Arc<Archive>,
    caller: Caller,
    records: BoxStream<'static, Result<InstanceRecord, ArchiveError>>,
    boundary: String,
) -> BoxStream<'static, Result<Bytes, ArchiveError>> {
    let tail = Bytes::from(parts::tail(&boundary));
    let parts = records
        .enumerate()
        .map(move |(index, record)| {
            let (archive, caller, boundary) = (Arc::clone(&archive), caller.clone(), boundary.clone());
            async move {
                let record = record?;
                let bytes = archive.read(&caller, &record, 0..record.size_bytes).await?;
                let head = parts::head(&boundary, index == 0, DICOM, Some(&record.transfer_syntax));
                let head = stream::once(async { Ok(Bytes::from(head)) });
                Ok::<_, ArchiveError>(head.chain(bytes.map_err(ArchiveError::from)))
            }
        })
        .buffered(OPEN_AHEAD)
        .try_flatten();
    parts.chain(stream::once(async { Ok(tail) })).boxed()
}

/// The form in which an instance is given.
fn choose(accept: &Accept, record: &InstanceRecord, is_single: bool) -> Result<Offer, Error> {
    let stored = &record.transfer_syntax;
    let mut offers = Vec::new();
    for is_multipart in [true, false] {
        if is_multipart || is_single {
            let transfer_syntax = Some(stored.clone());
            // A client that names no transfer syntax gets the stored one where there is no other
            // (PS3.18 §8.7.3.4).
            offers.push(Offer { is_multipart, essence: DICOM, transfer_syntax, is_default: true });
        }
    }
    accept.choose(&offers).cloned().ok_or_else(|| not_acceptable(&offers))
}
