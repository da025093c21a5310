//! Instances that are no images: PDF and other encapsulated documents, video, structured reports (PS3.18 Table 8.7.4-1).

use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::records::InstanceRecord;
use crate::http::error::Error;
use crate::http::request::Head;

/// Whether an instance is rendered as a document or video, by [`answer`], and not as pictures.
pub(in crate::http) fn is_document(record: &InstanceRecord) -> bool {
    let _ = record;
    unimplemented!()
}

/// The rendered representation of a document: PDF and video as they are stored, with Range; a report as HTML or text.
pub(in crate::http) async fn answer(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let _ = (archive, caller, record, head);
    unimplemented!()
}
