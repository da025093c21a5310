//! Whole instances: of a study, of a series, or one (PS3.18 §10.4.1.1).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::archive::access::Caller;
use crate::archive::explicit::ExplicitFile;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::http::Service;
use crate::http::accept::{Accept, Offer};
use crate::http::content::{Content, Stable, describe, finish};
use crate::http::error::Error;
use crate::http::path::Target;
use crate::http::request::Head;
use crate::http::retrieve::media_types::{EXPLICIT_VR_LITTLE_ENDIAN, may_be_lossy};
use crate::http::retrieve::{digest_prefix, etag, not_acceptable, parts, zip};

const DICOM: &str = "application/dicom";

/// Objects that are opened ahead of the one that is being sent.
const OPEN_AHEAD: usize = 2;

type ByteStream = BoxStream<'static, Result<Bytes, ArchiveError>>;

/// `GET` of a study, a series or an instance.
pub(crate) async fn instances(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let accept = head.accept();
    if zip::is_asked_for(&accept) {
        return zip::answer(&service, &caller, scope, &head).await;
    }
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
    let parts = many(Arc::clone(archive), caller, accept, records.boxed(), boundary);
    finish(response, Body::from_stream(parts))
}

/// One instance: alone or as the only part.
async fn one(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    accept: &Accept,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let mut chosen = choose(accept, &record, true)?;
    if !is_stored(&record, &chosen) {
        match archive.explicit(&caller, &record).await {
            Ok(file) => return made(&record, &chosen, file, head),
            // A client that names no transfer syntax gets the stored one where there is no other.
            Err(ArchiveError::NotAcceptable(_)) if !accept.names_transfer_syntax() => {
                chosen.transfer_syntax = Some(record.transfer_syntax.clone());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut content = Content::default();
    let stable = if chosen.is_multipart {
        let boundary = format!("cuspid-{}", digest_prefix(&record));
        content.text(parts::head(&boundary, true, DICOM, Some(&record.transfer_syntax)));
        content.object(0..record.size_bytes);
        content.text(parts::tail(&boundary));
        let content_type = parts::content_type(DICOM, &boundary);
        Stable { content, content_type, etag: etag(&record, "m-dicom") }
    } else {
        content.object(0..record.size_bytes);
        let content_type = parts::type_of(DICOM, Some(&record.transfer_syntax));
        Stable { content, content_type, etag: etag(&record, "s-dicom") }
    };
    stable.answer(archive, caller, record, head).await
}

/// One instance in a transfer syntax that it is not stored in. Made while it is sent, it has a length but no ranges.
fn made(
    record: &InstanceRecord,
    chosen: &Offer,
    file: ExplicitFile,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = etag(record, if chosen.is_multipart { "m-explicit" } else { "s-explicit" });
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let (mut before, mut after) = (Bytes::new(), Bytes::new());
    let mut content_type = parts::type_of(DICOM, Some(EXPLICIT_VR_LITTLE_ENDIAN));
    if chosen.is_multipart {
        let boundary = format!("cuspid-{}", digest_prefix(record));
        before = parts::head(&boundary, true, DICOM, Some(EXPLICIT_VR_LITTLE_ENDIAN)).into();
        after = parts::tail(&boundary).into();
        content_type = parts::content_type(DICOM, &boundary);
    }
    let length = before.len() as u64 + file.length() + after.len() as u64;
    let body = stream::iter([Ok(before)]).chain(file.read()).chain(stream::iter([Ok(after)]));
    let response = describe(&etag).header(CONTENT_TYPE, content_type).header(CONTENT_LENGTH, length);
    finish(response, Body::from_stream(body))
}

/// Instances as parts of one body. What cannot be given as asked is given as it is stored: every part says
/// what it is in.
fn many(
    archive: Arc<Archive>,
    caller: Caller,
    accept: Accept,
    records: BoxStream<'static, Result<InstanceRecord, ArchiveError>>,
    boundary: String,
) -> ByteStream {
    let tail = Bytes::from(parts::tail(&boundary));
    let parts = records
        .enumerate()
        .map(move |(index, record)| {
            let (archive, caller, boundary) = (Arc::clone(&archive), caller.clone(), boundary.clone());
            let accept = accept.clone();
            async move {
                let record = record?;
                let (bytes, transfer_syntax) = part(&archive, &caller, &accept, &record).await?;
                let head = parts::head(&boundary, index == 0, DICOM, Some(&transfer_syntax));
                let head = stream::once(async { Ok(Bytes::from(head)) });
                Ok::<_, ArchiveError>(head.chain(bytes))
            }
        })
        .buffered(OPEN_AHEAD)
        .try_flatten();
    parts.chain(stream::once(async { Ok(tail) })).boxed()
}

async fn part(
    archive: &Arc<Archive>,
    caller: &Caller,
    accept: &Accept,
    record: &InstanceRecord,
) -> Result<(ByteStream, String), ArchiveError> {
    if choose(accept, record, false).is_ok_and(|chosen| !is_stored(record, &chosen)) {
        match archive.explicit(caller, record).await {
            Ok(file) => return Ok((file.read(), EXPLICIT_VR_LITTLE_ENDIAN.to_owned())),
            Err(ArchiveError::NotAcceptable(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let bytes = archive.read_object(caller, record, 0..record.size_bytes).await?;
    Ok((bytes.map_err(ArchiveError::from).boxed(), record.transfer_syntax.clone()))
}

/// The form in which an instance is given, those first that cost least.
///
/// By default that is Explicit VR Little Endian, but for what was compressed with loss (PS3.18 §8.7.3.4).
fn choose(accept: &Accept, record: &InstanceRecord, is_single: bool) -> Result<Offer, Error> {
    let stored = record.transfer_syntax.as_str();
    let is_default_stored = stored == EXPLICIT_VR_LITTLE_ENDIAN || may_be_lossy(stored);
    let mut offers = Vec::new();
    for is_multipart in [true, false].into_iter().filter(|is_multipart| *is_multipart || is_single) {
        let offer = |transfer_syntax: &str, is_default| Offer {
            is_multipart,
            essence: DICOM,
            transfer_syntax: Some(transfer_syntax.to_owned()),
            is_default,
        };
        offers.push(offer(stored, is_default_stored));
        if stored != EXPLICIT_VR_LITTLE_ENDIAN {
            offers.push(offer(EXPLICIT_VR_LITTLE_ENDIAN, !is_default_stored));
        }
    }
    accept.choose(&offers).cloned().ok_or_else(|| not_acceptable(&offers))
}

fn is_stored(record: &InstanceRecord, chosen: &Offer) -> bool {
    chosen.transfer_syntax.as_ref() == Some(&record.transfer_syntax)
}
