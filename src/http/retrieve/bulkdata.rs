//! Bulk values that the metadata refers to (PS3.18 §10.4.1.5).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::records::InstanceRecord;
use crate::dicom::frames::FrameTable;
use crate::dicom::transfer_syntax;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::Offer;
use crate::http::request::path::InstancePath;
use crate::http::response::instance::{boundary, etag, url};
use crate::http::response::media_types::OCTET_STREAM;
use crate::http::response::multipart as parts;
use crate::http::response::negotiation::not_acceptable;
use crate::http::response::ranged::{RangedResponse, SegmentedBody};
use crate::http::retrieve::frames;

const PIXEL_DATA: &str = "7FE00010";

/// `GET …/bulkdata/{path}`, where the path leads through sequences to the attribute.
pub(crate) async fn bulkdata(
    State(service): State<Arc<Service>>,
    caller: Caller,
    path: InstancePath,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let record = archive.instance(&caller, &path.study, &path.series, &path.instance).await?;
    answer(archive, caller, record, &path.rest, &head).await
}

/// Answers with one bulk value.
pub(super) async fn answer(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    path: &str,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let value = archive.bulk_value(&record, path)?;
    let is_encapsulated = matches!(record.layout.frames, FrameTable::Encapsulated { .. });
    if is_encapsulated && value.path.eq_ignore_ascii_case(PIXEL_DATA) {
        // Without the delimiters of fragments (§8.7.3.3.2): a part for each frame.
        let count = record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames);
        return frames::answer(archive, caller, record, (1..=count).collect(), head).await;
    }
    let offers = [true, false].map(|is_multipart| Offer {
        is_multipart,
        essence: OCTET_STREAM,
        transfer_syntax: Some(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN.to_owned()),
        is_default: true,
    });
    let accept = head.accept();
    // Viewers request the value in the type that it has for them, as application/pdf; the bytes are the same.
    let is_multipart = accept.prefers_multipart().ok_or_else(|| not_acceptable(&offers))?;
    let range = value.offset..value.offset + value.length;
    let stable = if is_multipart {
        let boundary = boundary(&record);
        let mut content = SegmentedBody::default();
        let location = format!("{}/bulkdata/{}", url(&record, head.base_url()), value.path);
        let syntax = Some(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        content.text(parts::located(&boundary, true, OCTET_STREAM, syntax, &location));
        content.value(range);
        content.text(parts::tail(&boundary));
        let content_type = parts::content_type(OCTET_STREAM, &boundary);
        RangedResponse { content, content_type, etag: etag(&record, "m-bulk") }
    } else {
        let mut content = SegmentedBody::default();
        content.value(range);
        RangedResponse { content, content_type: OCTET_STREAM.to_owned(), etag: etag(&record, "s-bulk") }
    };
    stable.answer(archive, caller, record, head).await
}
