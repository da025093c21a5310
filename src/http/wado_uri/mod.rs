//! WADO-URI: an instance or a rendered image of it, by query parameters alone (PS3.18 §9).
//!
//! The names of parameters differ from those of WADO-RS; `query.rs` parses them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LOCATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};

use crate::archive::access::Caller;
use crate::archive::derived::deidentified::deidentifier;
use crate::archive::derived::references::{is_presentation_state, referenced_images};
use crate::archive::derived::rendering::{self, Format};
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::Offer;
use crate::http::request::anonymize::Anonymize;
use crate::http::request::rendering_parameters::wrong;
use crate::http::response::instance::{DICOM, url};
use crate::http::response::negotiation::not_acceptable;
use crate::http::retrieve::rendered::presented_frames;
use crate::http::retrieve::rendered_images::{ImageFrame, Packing, RenderingPlan};
use crate::http::retrieve::{anonymized, document, instances, rendered_images};
use crate::http::wado_uri::query::UriQuery;

mod query;

/// A placeholder for the media type of a document, which [`document::answer`] negotiates.
const ANY_DOCUMENT: &str = "application/x-any-document";

/// `GET ?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…`.
pub(crate) async fn retrieve(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
) -> Result<Response<Body>, Error> {
    let query = UriQuery(head.query_pairs());
    if !query.required("requestType")?.eq_ignore_ascii_case("WADO") {
        return Err(wrong("requestType", "is not `WADO`"));
    }
    let study: StudyUid = query.required_uid("studyUID")?;
    let series: SeriesUid = query.required_uid("seriesUID")?;
    let instance: InstanceUid = query.required_uid("objectUID")?;
    let anonymize = Anonymize::of(&head)?;
    let head = if let Some(list) = query.content_type()? { head.accepting(&list) } else { head };
    let archive = &service.archive;
    let record = archive.instance(&caller, &study, &series, &instance).await?;
    if let Some(anonymize) = anonymize {
        return copy(archive, &caller, &record, &query, (&head, anonymize)).await;
    }
    match UriResponse::of(&record, &head)? {
        UriResponse::Dicom => dicom(archive, caller, record, &query, &head).await,
        UriResponse::Document => document::answer(archive, caller, record, &head).await,
        UriResponse::Image(format) => image(archive, caller, record, format, &query, &head).await,
    }
}

/// The representation of an instance (§9.3, §8.7.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UriResponse {
    Dicom,
    Document,
    Image(Format),
}

impl UriResponse {
    fn of(record: &InstanceRecord, head: &Head) -> Result<Self, Error> {
        let accept = head.accept();
        let offer = |essence| Offer { is_multipart: false, essence, transfer_syntax: None, is_default: true };
        if document::is_document(record) {
            let offers = [ANY_DOCUMENT, DICOM].map(offer);
            let is_instance = accept.choose(&offers).is_some_and(|chosen| chosen.essence == DICOM);
            return Ok(if is_instance { Self::Dicom } else { Self::Document });
        }
        let is_shown = rendered_images::number_of_frames(record) > 0 || is_presentation_state(record);
        let mut offers = if is_shown { rendered_images::offers(&[Packing::Single]) } else { Vec::new() };
        offers.push(offer(DICOM));
        let chosen = accept.choose(&offers).ok_or_else(|| not_acceptable(&offers))?;
        Ok(rendered_images::format(chosen.essence).map_or(Self::Dicom, Self::Image))
    }
}

/// The de-identified copy of the instance (§9.4), as WADO-RS gives it. The parameter is for
/// `application/dicom` alone: what is rendered shows the stored pixels.
async fn copy(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    query: &UriQuery,
    (head, anonymize): (&Head, Anonymize),
) -> Result<Response<Body>, Error> {
    if UriResponse::of(record, head)? != UriResponse::Dicom {
        return Err(wrong("anonymize", format!("needs contentType={DICOM}")));
    }
    query.refuse_window()?;
    let deidentifier = deidentifier(archive, caller, anonymize.options).await?;
    let mut response =
        anonymized::one(archive, caller, record, &query.transfer_syntax()?, head, &deidentifier).await?;
    without_transfer_syntax(&mut response);
    Ok(response)
}

/// The instance itself (§9.4), as WADO-RS gives it.
async fn dicom(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    query: &UriQuery,
    head: &Head,
) -> Result<Response<Body>, Error> {
    query.refuse_window()?;
    let location = url(&record, head.base_url());
    let accept = query.transfer_syntax()?;
    let mut response = instances::one(archive, caller, record, &accept, head).await?;
    without_transfer_syntax(&mut response);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(CONTENT_LOCATION, location);
    }
    Ok(response)
}

/// Removes the parameter of the transfer syntax from the media type: the parameter is forbidden in responses
/// of URI services (§8.7.3.5.2), and the file names its transfer syntax itself.
fn without_transfer_syntax(response: &mut Response<Body>) {
    if response.headers().contains_key(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(DICOM));
    }
}

/// A rendered image of the instance (§9.5): the requested frame or the first one, or all frames as an
/// animated GIF.
async fn image(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    format: Format,
    query: &UriQuery,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let mut parameters = query.parameters()?;
    let number = query.frame_number(&record)?;
    let mut state = record.digest.to_string();
    let frame = if is_presentation_state(&record) {
        query.refuse_with_presentation_state("objectUID")?;
        parameters.presentation_state = Some((record.series.clone(), record.instance.clone()));
        presented_frames(archive, &caller, &record).await?.0
    } else {
        let mut shown = number.unwrap_or(1);
        if let Some(presentation_state) = query.presentation_state()? {
            query.refuse_with_presentation_state("presentationUID")?;
            let applied = applied_to(archive, &caller, &record, &presentation_state).await?;
            (state, shown) = (state + &applied.digest, applied.number);
            parameters.presentation_state = Some(presentation_state);
        }
        ImageFrame { record: Arc::new(record), number: shown }
    };
    let size = match &parameters.presentation_state {
        // The region is one of the image as the presentation state shows it (§9.5.2.4).
        Some(state) if query.has_area() => {
            rendering::presented_size(archive, &caller, &frame.record, frame.number, state).await?
        }
        _ => frame.record.layout.pixels.as_ref().map_or([1; 2], |pixels| [pixels.columns, pixels.rows]),
    };
    parameters.viewport = query.viewport(size)?;
    parameters.limit_area("rows", rendering::max_viewport_pixels(archive))?;
    let plan = RenderingPlan { rendering: parameters.rendering(format)?, state, warning: parameters.warning };
    let is_animated =
        format == Format::Gif && number.is_none() && rendered_images::number_of_frames(&frame.record) > 1;
    if is_animated && plan.rendering.presentation_state.is_none() {
        return rendered_images::animation(archive, &caller, &frame.record, &plan, head).await;
    }
    rendered_images::one(archive, &caller, &frame, &plan, head).await
}

/// A presentation state for an image.
struct AppliedState {
    digest: String,
    /// The first frame, from 1, that the presentation state refers to.
    number: u32,
}

/// Checks a presentation state for an image. A missing presentation state is an error of the request
/// (§8.3.5.1.6), unlike a missing image.
async fn applied_to(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    (series, instance): &(SeriesUid, InstanceUid),
) -> Result<AppliedState, Error> {
    const NAME: &str = "presentationUID";
    let state = match archive.instance(caller, &record.study, series, instance).await {
        Ok(state) if is_presentation_state(&state) => state,
        Ok(_) => return Err(wrong(NAME, "is no presentation state")),
        Err(ArchiveError::NotFound(_)) => {
            return Err(wrong(NAME, "is not stored in presentationSeriesUID of this study"));
        }
        Err(error) => return Err(error.into()),
    };
    let mut references = referenced_images(&state).await?.into_iter();
    let reference = references.find(|reference| reference.instance == record.instance);
    let reference = reference.ok_or_else(|| wrong(NAME, "does not refer to the image"))?;
    let number = reference.frames.first().copied().unwrap_or(1);
    Ok(AppliedState { digest: state.digest.to_string(), number })
}
