//! WADO-URI: one instance or a picture of it, by query parameters alone (PS3.18 §9).
//!
//! The names of parameters are unlike those of WADO-RS; they are read in `query.rs`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_LOCATION;
use axum::http::{HeaderValue, Response};

use crate::archive::access::Caller;
use crate::archive::derived::references::is_presentation_state;
use crate::archive::derived::rendering::Format;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::Offer;
use crate::http::request::rendering_parameters::wrong;
use crate::http::retrieve::pictures::{Drawing, Frame, Packing};
use crate::http::retrieve::rendered::presented_frames;
use crate::http::retrieve::{document, instances, not_acceptable, pictures, url};
use crate::http::wado_uri::query::Query;

mod query;

const DICOM: &str = "application/dicom";

/// Stands for the media type of a document, which [`document::answer`] knows.
const ANY_DOCUMENT: &str = "application/x-any-document";

/// `GET ?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…`.
pub(crate) async fn retrieve(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
) -> Result<Response<Body>, Error> {
    let query = Query(head.query_pairs());
    if !query.required("requestType")?.eq_ignore_ascii_case("WADO") {
        return Err(wrong("requestType", "is not `WADO`"));
    }
    let study: StudyUid = query.required_uid("studyUID")?;
    let series: SeriesUid = query.required_uid("seriesUID")?;
    let instance: InstanceUid = query.required_uid("objectUID")?;
    query.refuse_anonymize()?;
    let head = if let Some(list) = query.content_type()? { head.accepting(&list) } else { head };
    let archive = &service.archive;
    let record = archive.instance(&caller, &study, &series, &instance).await?;
    match Selected::of(&record, &head)? {
        Selected::Dicom => dicom(archive, caller, record, &query, &head).await,
        Selected::Document => document::answer(archive, caller, record, &head).await,
        Selected::Picture(format) => picture(archive, caller, record, format, &query, &head).await,
    }
}

/// The form in which an instance is given (§9.3, §8.7.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selected {
    Dicom,
    Document,
    Picture(Format),
}

impl Selected {
    fn of(record: &InstanceRecord, head: &Head) -> Result<Self, Error> {
        let accept = head.accept();
        let offer = |essence| Offer { is_multipart: false, essence, transfer_syntax: None, is_default: true };
        if document::is_document(record) {
            let offers = [ANY_DOCUMENT, DICOM].map(offer);
            let is_instance = accept.choose(&offers).is_some_and(|chosen| chosen.essence == DICOM);
            return Ok(if is_instance { Self::Dicom } else { Self::Document });
        }
        let is_shown = pictures::number_of_frames(record) > 0 || is_presentation_state(record);
        let mut offers = if is_shown { pictures::offers(&[Packing::Single]) } else { Vec::new() };
        offers.push(offer(DICOM));
        let chosen = accept.choose(&offers).ok_or_else(|| not_acceptable(&offers))?;
        Ok(pictures::format(chosen.essence).map_or(Self::Dicom, Self::Picture))
    }
}

/// The instance itself (§9.4), as WADO-RS gives it.
async fn dicom(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    query: &Query,
    head: &Head,
) -> Result<Response<Body>, Error> {
    for name in ["windowCenter", "windowWidth"] {
        if query.value(name).is_some() {
            return Err(wrong(name, format!("cannot be given together with {DICOM}")));
        }
    }
    let location = url(&record, head.base_url());
    let accept = query.transfer_syntax()?;
    let mut response = instances::one(archive, caller, record, &accept, head).await?;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(CONTENT_LOCATION, location);
    }
    Ok(response)
}

/// A picture of the instance (§9.5): of its first frame unless another is asked for, or of all as one animated GIF.
async fn picture(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    format: Format,
    query: &Query,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let mut wishes = query.wishes()?;
    let number = query.frame_number(&record)?;
    let mut state = record.digest.clone();
    let frame = if is_presentation_state(&record) {
        query.refuse_with_presentation_state("objectUID")?;
        wishes.presentation_state = Some((record.series.clone(), record.instance.clone()));
        presented_frames(archive, &caller, &record).await?.0
    } else {
        let mut shown = number.unwrap_or(1);
        if let Some(presentation_state) = query.presentation_state()? {
            query.refuse_with_presentation_state("presentationUID")?;
            let applied = applied_to(archive, &caller, &record, &presentation_state).await?;
            (state, shown) = (state + &applied.digest, applied.number);
            wishes.presentation_state = Some(presentation_state);
        }
        Frame { record: Arc::new(record), number: shown }
    };
    wishes.viewport = query.viewport(&frame.record)?;
    wishes.limit_area("rows", archive.max_viewport_pixels())?;
    let drawing = Drawing { rendering: wishes.rendering(format)?, state, warning: wishes.warning };
    let is_animated =
        format == Format::Gif && number.is_none() && pictures::number_of_frames(&frame.record) > 1;
    if is_animated && drawing.rendering.presentation_state.is_none() {
        return pictures::animation(archive, &caller, &frame.record, &drawing, head).await;
    }
    pictures::one(archive, &caller, &frame, &drawing, head).await
}

/// A presentation state that is applied to an image.
struct Applied {
    digest: String,
    /// The frame, from 1, that it refers to first.
    number: u32,
}

/// Looks at a presentation state that is to be applied to an image. One that is not there is a mistake in the request
/// (§8.3.5.1.6), unlike an object that is not there.
async fn applied_to(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    (series, instance): &(SeriesUid, InstanceUid),
) -> Result<Applied, Error> {
    const NAME: &str = "presentationUID";
    let state = match archive.instance(caller, &record.study, series, instance).await {
        Ok(state) if is_presentation_state(&state) => state,
        Ok(_) => return Err(wrong(NAME, "is no presentation state")),
        Err(ArchiveError::NotFound(_)) => {
            return Err(wrong(NAME, "is not stored in presentationSeriesUID of this study"));
        }
        Err(error) => return Err(error.into()),
    };
    let mut references = archive.presented(&state).await?.into_iter();
    let reference = references.find(|reference| reference.instance == record.instance);
    let reference = reference.ok_or_else(|| wrong(NAME, "does not refer to the image"))?;
    let number = reference.frames.first().copied().unwrap_or(1);
    Ok(Applied { digest: state.digest, number })
}
