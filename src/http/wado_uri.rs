//! WADO-URI: one instance or a picture of it, by query parameters alone (PS3.18 §9).
//!
//! Names are case-sensitive. Clients repeat parameters and send empty ones: the first that has a value counts.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_LOCATION};
use axum::http::{HeaderMap, HeaderValue, Response};

use crate::archive::access::Caller;
use crate::archive::records::InstanceRecord;
use crate::archive::references::is_presentation_state;
use crate::archive::rendering::{Format, Function, Viewport, Window};
use crate::archive::{Archive, Error as ArchiveError};
use crate::dicom::uid::{InstanceUid, NotAUid, SeriesUid, StudyUid};
use crate::http::Service;
use crate::http::accept::{Accept, Offer};
use crate::http::error::Error;
use crate::http::rendering_parameters::{MAX_SIDE, Wishes, checked_window, decimal, quality, side, wrong};
use crate::http::request::Head;
use crate::http::retrieve::pictures::{Drawing, Frame, Packing};
use crate::http::retrieve::rendered::presented_frames;
use crate::http::retrieve::{document, instances, not_acceptable, pictures};

const DICOM: &str = "application/dicom";

/// Media types that documents may have, for what takes the place of a picture; which of them is for
/// [`document::answer`] to say.
const OF_DOCUMENTS: [&str; 5] = ["text/html", "text/plain", "application/pdf", "video/mp4", "video/mpeg"];

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
    let listed = query.content_type()?;
    let head = listed.map_or(head, |list| head.accepting(&list));
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
        let offer =
            |essence| Offer { is_multipart: false, essence, transfer_syntax: None, is_default: true };
        let is_document = document::is_document(record);
        let mut offers = if is_document {
            OF_DOCUMENTS.map(offer).to_vec()
        } else if pictures::number_of_frames(record) > 0 || is_presentation_state(record) {
            pictures::offers(&[Packing::Single])
        } else {
            Vec::new()
        };
        offers.push(offer(DICOM));
        let accept = head.accept();
        let chosen = accept.choose(&offers).ok_or_else(|| not_acceptable(&offers))?;
        Ok(match pictures::format(chosen.essence) {
            Some(format) => Self::Picture(format),
            None if chosen.essence == DICOM => Self::Dicom,
            None => Self::Document,
        })
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
    let location = location(&record, head.base_url());
    let accept = query.transfer_syntax()?;
    let mut response = instances::one(archive, caller, record, &accept, head).await?;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(CONTENT_LOCATION, location);
    }
    Ok(response)
}

fn location(record: &InstanceRecord, base_url: &str) -> String {
    let InstanceRecord { study, series, instance, .. } = record;
    format!("{base_url}/studies/{study}/series/{series}/instances/{instance}")
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
        if let Some((series, instance)) = query.presentation_state()? {
            query.refuse_with_presentation_state("presentationUID")?;
            state += &presentation_digest(archive, &caller, &record.study, &series, &instance).await?;
            wishes.presentation_state = Some((series, instance));
        }
        Frame { record: Arc::new(record), number: number.unwrap_or(1) }
    };
    wishes.viewport = query.viewport(&frame.record)?;
    let drawing = Drawing { rendering: wishes.rendering(format)?, state, warning: wishes.warning };
    let is_animated =
        format == Format::Gif && number.is_none() && pictures::number_of_frames(&frame.record) > 1;
    if is_animated && drawing.rendering.presentation_state.is_none() {
        return pictures::animation(archive, &caller, &frame.record, &drawing, head).await;
    }
    pictures::one(archive, &caller, &frame, &drawing, head).await
}

/// What tells versions of a presentation state apart. One that is not there is a mistake in the request
/// (§8.3.5.1.6), unlike an object that is not there.
async fn presentation_digest(
    archive: &Arc<Archive>,
    caller: &Caller,
    study: &StudyUid,
    series: &SeriesUid,
    instance: &InstanceUid,
) -> Result<String, Error> {
    match archive.instance(caller, study, series, instance).await {
        Ok(state) if is_presentation_state(&state) => Ok(state.digest),
        Ok(_) => Err(wrong("presentationUID", "is no presentation state")),
        Err(ArchiveError::NotFound(_)) => {
            Err(wrong("presentationUID", "is not stored in presentationSeriesUID of this study"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The query parameters, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    /// The first value of a parameter that is not empty.
    fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.trim());
        values.find(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, Error> {
        self.value(name).ok_or_else(|| wrong(name, "is missing"))
    }

    fn required_uid<U: FromStr>(&self, name: &str) -> Result<U, Error>
    where
        U::Err: ToString,
    {
        self.required(name)?.parse().map_err(|error: U::Err| wrong(name, error.to_string()))
    }

    /// Refuses to de-identify (§9.4.2.3): an instance that is given as it is although the client asked for one
    /// without names would be the worst answer.
    fn refuse_anonymize(&self) -> Result<(), Error> {
        match self.value("anonymize") {
            None => Ok(()),
            Some("yes") => Err(wrong("anonymize", "is not supported: nothing is de-identified by this server")),
            Some(_) => Err(wrong("anonymize", "is not `yes`, and is not supported")),
        }
    }

    /// The media types asked for (§9.1.2.2.1): one of DICOM, or rendered ones.
    fn content_type(&self) -> Result<Option<String>, Error> {
        const NAME: &str = "contentType";
        let values = self.0.iter().filter(|(key, _)| key == NAME).map(|(_, value)| value.trim());
        let list = values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(",");
        let lower = list.to_ascii_lowercase();
        if lower.contains("transfer-syntax") || lower.contains("charset") {
            return Err(wrong(NAME, "cannot have parameters; there are transferSyntax and charset"));
        }
        let is_dicom =
            |media_type: &str| media_type.split(';').next().is_some_and(|name| name.trim() == DICOM);
        let (dicom, others): (Vec<&str>, Vec<&str>) = lower.split(',').partition(|name| is_dicom(name));
        if !dicom.is_empty() && !others.is_empty() {
            return Err(wrong(NAME, format!("is either {DICOM} or a list of rendered media types")));
        }
        Ok((!list.is_empty()).then_some(list))
    }

    /// The transfer syntaxes that an instance may be given in (§9.4.2.4).
    fn transfer_syntax(&self) -> Result<Accept, Error> {
        const NAME: &str = "transferSyntax";
        let media_type = match self.value(NAME) {
            None => DICOM.to_owned(),
            Some(text) => {
                let uid: InstanceUid = text.parse().map_err(|error: NotAUid| wrong(NAME, error.to_string()))?;
                format!("{DICOM}; transfer-syntax={uid}")
            }
        };
        let header = HeaderValue::try_from(media_type).map_err(|_| wrong(NAME, "is no UID"))?;
        Ok(Accept::of(&HeaderMap::from_iter([(ACCEPT, header)]), None))
    }

    /// How the picture is to be made, but for its viewport.
    fn wishes(&self) -> Result<Wishes, Error> {
        let mut wishes = Wishes { window: self.window()?, ..Wishes::default() };
        if let Some(text) = self.value("imageQuality") {
            wishes.quality = Some(quality("imageQuality", text)?);
        }
        // The standard has both names (Tables 9.4.1-1 and 9.5.1-1).
        for name in ["annotation", "imageAnnotation"] {
            if let Some(list) = self.value(name) {
                wishes.annotate(name, list)?;
            }
        }
        Ok(wishes)
    }

    /// The window (§9.5.1.2.6), whose function cannot be named.
    fn window(&self) -> Result<Option<Window>, Error> {
        let Some([center, width]) = self.both(["windowCenter", "windowWidth"])? else { return Ok(None) };
        let (center, width) = (decimal("windowCenter", center)?, decimal("windowWidth", width)?);
        checked_window("windowWidth", Window { center, width, function: Function::Linear }).map(Some)
    }

    /// The frame asked for, from 1 (§9.5.2.1).
    fn frame_number(&self, record: &InstanceRecord) -> Result<Option<u32>, Error> {
        const NAME: &str = "frameNumber";
        let Some(text) = self.value(NAME) else { return Ok(None) };
        let count = pictures::number_of_frames(record);
        match text.parse() {
            Ok(number) if (1..=count).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(NAME, format!("is not a frame number from 1 to {count}"))),
        }
    }

    /// A presentation state to apply (§9.5.1.2.7).
    fn presentation_state(&self) -> Result<Option<(SeriesUid, InstanceUid)>, Error> {
        const NAMES: [&str; 2] = ["presentationSeriesUID", "presentationUID"];
        if self.both(NAMES)?.is_none() {
            return Ok(None);
        }
        Ok(Some((self.required_uid(NAMES[0])?, self.required_uid(NAMES[1])?)))
    }

    /// Refuses what a presentation state decides itself (§8.3.5.1.6, §9.5.1.2.7).
    fn refuse_with_presentation_state(&self, state: &str) -> Result<(), Error> {
        for name in ["windowCenter", "windowWidth", "frameNumber"] {
            if self.value(name).is_some() {
                return Err(wrong(name, format!("cannot be given where {state} is a presentation state")));
            }
        }
        Ok(())
    }

    /// The area of the picture (§9.5.2.4, §9.5.2.5). With one of `rows` and `columns`, the other follows from the
    /// shape of the region; with neither, the region keeps its pixels.
    fn viewport(&self, record: &InstanceRecord) -> Result<Option<Viewport>, Error> {
        let size = |name| self.value(name).map(|text| side(name, text)).transpose();
        let (rows, columns, region) = (size("rows")?, size("columns")?, self.region()?);
        if rows.is_none() && columns.is_none() && region.is_none() {
            return Ok(None);
        }
        let pixels = record.layout.pixels.as_ref();
        let image = pixels.map_or([1.0; 2], |pixels| [pixels.columns, pixels.rows].map(f64::from));
        let [left, top, right, bottom] = region.unwrap_or([0.0, 0.0, 1.0, 1.0]);
        let (region_width, region_height) = ((right - left) * image[0], (bottom - top) * image[1]);
        let whole = |pixels: f64| (pixels.round() as u32).clamp(1, MAX_SIDE);
        let (width, height) = match (columns, rows) {
            (Some(columns), Some(rows)) => (columns, rows),
            (Some(columns), None) => (columns, whole(f64::from(columns) * region_height / region_width)),
            (None, Some(rows)) => (whole(f64::from(rows) * region_width / region_height), rows),
            (None, None) => (whole(region_width), whole(region_height)),
        };
        let size = region.map_or([None; 2], |_| [Some(region_width), Some(region_height)]);
        Ok(Some(Viewport { width, height, left_top: [left * image[0], top * image[1]], size }))
    }

    /// `region=xmin,ymin,xmax,ymax`, each from 0 to 1 (§9.5.1.2.5).
    fn region(&self) -> Result<Option<[f64; 4]>, Error> {
        const NAME: &str = "region";
        let Some(text) = self.value(NAME) else { return Ok(None) };
        let numbers = text.split(',').map(|text| decimal(NAME, text)).collect::<Result<Vec<_>, _>>()?;
        match numbers.as_slice() {
            &[left, top, right, bottom]
                if 0.0 <= left && left < right && right <= 1.0 && 0.0 <= top && top < bottom && bottom <= 1.0 =>
            {
                Ok(Some([left, top, right, bottom]))
            }
            _ => Err(wrong(NAME, "is not `xmin,ymin,xmax,ymax` with 0 <= min < max <= 1")),
        }
    }

    /// The values of two parameters that go together.
    fn both(&self, names: [&str; 2]) -> Result<Option<[&str; 2]>, Error> {
        match names.map(|name| self.value(name)) {
            [Some(first), Some(second)] => Ok(Some([first, second])),
            [None, None] => Ok(None),
            [first, _] => {
                let (missing, given) =
                    if first.is_none() { (names[0], names[1]) } else { (names[1], names[0]) };
                Err(wrong(missing, format!("is missing: it goes together with {given}")))
            }
        }
    }
}
