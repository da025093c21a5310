//! All bulk data, or all pixel data, of a study, a series or an instance: a part for each value, and for each
//! frame of compressed pixels (PS3.18 §10.4.1.1.5, §10.4.1.1.6).

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Response, StatusCode};
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::frames::frame_bytes;
use crate::archive::derived::transcode::REVISION;
use crate::archive::read::ahead::{AheadSize, holding};
use crate::archive::read::pass::ReadOrder;
use crate::archive::records::InstanceRecord;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error as ArchiveError, PartUnderWay, PartsUnderWay, ResponseMemory};
use crate::dicom::layout::BulkValue;
use crate::dicom::transfer_syntax;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::{Accept, Offer};
use crate::http::request::path::Target;
use crate::http::response::instance::url;
use crate::http::response::media_types::OCTET_STREAM;
use crate::http::response::multipart as parts;
use crate::http::response::negotiation::not_acceptable;
use crate::http::response::ranged::{describe, fingerprint, finish};
use crate::http::retrieve::available_parts::{
    AvailableParts, Omission, OpenPart, PartBytes, PartsOrOmissions, look_ahead, written,
};
use crate::http::retrieve::bulkdata;
use crate::http::retrieve::frames::{FrameForm, choose_form, stored_form, stores_native};
use crate::http::retrieve::rendered_images::number_of_frames;
use crate::http::retrieve::transcoded_frames;

/// The attributes that hold pixels, at the top level: Pixel Data first, then Float and Double Float Pixel
/// Data.
const PIXELS: [&str; 3] = ["7FE00010", "7FE00008", "7FE00009"];

/// `GET …/bulkdata` of a study, a series or an instance.
pub(crate) async fn bulkdata(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    answer(&service.archive, caller, scope, BulkSelection::All, &head).await
}

/// `GET …/pixeldata` of a study, a series or an instance.
pub(crate) async fn pixeldata(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    answer(&service.archive, caller, scope, BulkSelection::Pixels, &head).await
}

/// The selection of bulk values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BulkSelection {
    /// All values that the metadata refer to.
    All,
    /// The values of [`PIXELS`].
    Pixels,
}

impl BulkSelection {
    fn include(self, value: &BulkValue) -> bool {
        self == Self::All || PIXELS.contains(&value.path.as_str())
    }
}

/// Whether a client prefers bulk data, in parts, to instances as such (§10.4.4, Note 2).
pub(super) fn is_asked_for(accept: &Accept) -> bool {
    let [bytes, _] = octets();
    let instances = Offer { essence: "application/dicom", transfer_syntax: None, ..bytes.clone() };
    let one = Offer { is_multipart: false, ..instances.clone() };
    accept.choose(&[instances, one, bytes]).is_some_and(|best| best.essence == OCTET_STREAM)
}

/// Answers with bulk values, in the order of instances and of values in an instance.
///
/// # Errors
/// [`ArchiveError::NotFound`] if there are no values; [`Error::NotAcceptable`] if no value of the first page
/// can be given as requested. Later, such a value is given in its default representation.
pub(super) async fn answer(
    archive: &Arc<Archive>,
    caller: Caller,
    scope: Scope,
    values: BulkSelection,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let accept = head.accept();
    let version = archive.version(&caller, &scope).await?;
    let mut pages = archive.instances(&caller, &scope).await?;
    let (first, lost) = look_ahead(archive, &caller, pages.try_next().await?.unwrap_or_default()).await;
    let is_single =
        scope.instance.is_some() && accept.choose(&octets()).is_some_and(|best| !best.is_multipart);
    let (chosen_by, of_archive) = (accept.clone(), Arc::clone(archive));
    let pages = stream::iter([Ok(first)]).chain(pages).map_ok(move |page| {
        page.into_iter()
            .flat_map(|record| chosen(&of_archive, record, values, &chosen_by))
            .collect::<Vec<_>>()
    });
    let mut pages = pages.try_filter(|page| ready(!page.is_empty())).boxed();
    let Some(first) = pages.try_next().await? else {
        let none = "bulk data of this kind in the study, series or instance";
        let lost = lost.into_iter().next().map(|omission| omission.error);
        return Err(lost.unwrap_or_else(|| ArchiveError::NotFound(none.into())).into());
    };
    if let ([value], true) = (first.as_slice(), is_single) {
        return bulkdata::answer(archive, caller, InstanceRecord::clone(&value.record), &value.path, head)
            .await;
    }
    if !first.iter().any(|value| value.is_as_asked) {
        return Err(not_acceptable(&octets()[..1]));
    }
    let state = format!("{version} {values:?} {accept:?} {REVISION}");
    let etag = format!("\"{}\"", fingerprint(state));
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let values = stream::iter([Ok(first)]).chain(pages).map_ok(|page| stream::iter(page).map(Ok));
    let opened = opened(Arc::clone(archive), caller, values.try_flatten().boxed(), head.base_url().into());
    let mut available = AvailableParts::new(lost, opened)?;
    let first = available.first().await?.ok_or(Error::NoResource)?;
    let boundary = parts::random_boundary();
    let response = available.begin(&etag).header(CONTENT_TYPE, parts::content_type(first.essence, &boundary));
    finish(response, Body::from_stream(written(first, available.rest(), boundary)))
}

/// Bytes in parts, and as one body.
fn octets() -> [Offer; 2] {
    [true, false].map(|is_multipart| Offer {
        is_multipart,
        essence: OCTET_STREAM,
        transfer_syntax: Some(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN.to_owned()),
        is_default: true,
    })
}

/// A bulk value and its representation.
struct SelectedValue {
    record: Arc<InstanceRecord>,
    path: String,
    range: Range<u64>,
    /// The representation frame by frame; `None` gives the value as one part.
    frames: Option<(Offer, FrameForm)>,
    /// Whether the client accepts the representation.
    is_as_asked: bool,
    /// The reason if the values of the instance cannot be read in bounded time.
    excess: Option<Arc<str>>,
}

/// The selected values of an instance, each in the representation that suits the client best.
fn chosen(
    archive: &Archive,
    record: InstanceRecord,
    values: BulkSelection,
    accept: &Accept,
) -> Vec<SelectedValue> {
    let record = Arc::new(record);
    let read = record.layout.bulk.iter().filter(|value| values.include(value));
    let ranges = read.map(|value| value.offset..value.offset + value.length);
    let excess = archive.check_inflation(&record, ranges, ReadOrder::Apart).err();
    let excess: Option<Arc<str>> = excess.map(|error| error.to_string().into());
    let takes_octets = accept.choose(&octets()[..1]).is_some();
    let choose = |value: &BulkValue| {
        let (mut frames, mut is_as_asked) = (None, takes_octets);
        if value.path == PIXELS[0] {
            let form = choose_form(accept, &record, false);
            is_as_asked = form.is_ok();
            let form = form.unwrap_or_else(|_| stored_form(&record));
            frames = Some(form)
                .filter(|(_, form)| !stores_native(&record) || matches!(form, FrameForm::Encoded(_)));
        }
        let range = value.offset..value.offset + value.length;
        let (record, path) = (Arc::clone(&record), value.path.clone());
        SelectedValue { record, path, range, frames, is_as_asked, excess: excess.clone() }
    };
    record.layout.bulk.iter().filter(|value| values.include(value)).map(choose).collect()
}

/// Opens values as parts.
fn opened(
    archive: Arc<Archive>,
    caller: Caller,
    values: BoxStream<'static, Result<SelectedValue, ArchiveError>>,
    base_url: Arc<str>,
) -> PartsOrOmissions<OpenPart> {
    let reader = Arc::new((archive, caller));
    let pieces = values.map_ok(|value| {
        let count = if value.frames.is_some() { number_of_frames(&value.record) } else { 1 };
        let value = Arc::new(value);
        stream::iter(1..=count).map(move |number| Ok::<_, ArchiveError>((Arc::clone(&value), number)))
    });
    let (for_memory, under_way) = (Arc::clone(&reader), PartsUnderWay::default());
    let pieces = pieces.try_flatten().and_then(move |(value, number)| {
        let (reader, under_way) = (Arc::clone(&for_memory), under_way.clone());
        async move {
            let (archive, caller) = &*reader;
            // A frame that is transcoded is held in memory.
            let is_made = value.frames.as_ref().is_some_and(|(_, form)| !matches!(form, FrameForm::Stored));
            let bytes = if is_made { Some(frame_bytes(&value.record)) } else { None };
            let part = archive.response_part(caller, bytes, &under_way).await?;
            Ok((value, number, part))
        }
    });
    let size = |piece: &Result<(Arc<SelectedValue>, u32, PartUnderWay), ArchiveError>| match piece {
        Ok((_, _, PartUnderWay { memory: Some(_), .. })) | Err(_) => AheadSize::Made,
        Ok((value, _, _)) if value.frames.is_some() => AheadSize::Stored(frame_bytes(&value.record) as u64),
        Ok((value, _, _)) => AheadSize::Stored(value.range.end - value.range.start),
    };
    let opener = Arc::clone(&reader);
    let open = move |piece, ahead| {
        let (reader, base_url) = (Arc::clone(&opener), Arc::clone(&base_url));
        async move {
            let (archive, caller) = &*reader;
            let (value, number, held): (Arc<SelectedValue>, u32, PartUnderWay) = piece?;
            let PartUnderWay { memory, mark } = held;
            Ok(match part(archive, caller, &value, number, memory).await {
                Ok(ValuePart { essence, transfer_syntax, bytes }) => {
                    mark.keep();
                    let location = format!("{}/bulkdata/{}", url(&value.record, &base_url), value.path);
                    Ok(OpenPart { essence, transfer_syntax, location, bytes: holding(bytes, ahead) })
                }
                Err(error) => Err(Omission { instance: value.record.instance.clone(), error }),
            })
        }
    };
    reader.0.opened_ahead(reader.1.clone(), pieces.boxed(), size, open)
}

struct ValuePart {
    essence: &'static str,
    transfer_syntax: String,
    bytes: PartBytes,
}

/// A value, or frame `number` (from 1) of it. A frame that cannot be transcoded is given as it is stored.
async fn part(
    archive: &Arc<Archive>,
    caller: &Caller,
    value: &SelectedValue,
    number: u32,
    memory: Option<ResponseMemory>,
) -> Result<ValuePart, ArchiveError> {
    let record = &value.record;
    if let Some(reason) = &value.excess {
        return Err(ArchiveError::TooLarge(reason.to_string()));
    }
    let Some((offer, form)) = &value.frames else {
        return archive.retried(|| whole_value(archive, caller, value)).await;
    };
    let codec = match form {
        FrameForm::Stored => None,
        FrameForm::Decoded => Some(None),
        FrameForm::Encoded(codec) => Some(Some(*codec)),
    };
    let Some((codec, memory)) = codec.zip(memory) else {
        return archive.retried(|| stored(archive, caller, record, number)).await;
    };
    let reader = Arc::new((Arc::clone(archive), caller.clone(), Arc::clone(record)));
    let frame = async move {
        reader.0.retried(|| transcoded_frames::frame(Arc::clone(&reader), number, codec)).await
    };
    match memory.fill(frame).await {
        Err(error) if error.is_about_form() => {
            archive.retried(|| stored(archive, caller, record, number)).await
        }
        frame => Ok(ValuePart {
            essence: offer.essence,
            transfer_syntax: offer.transfer_syntax.clone().unwrap_or_default(),
            bytes: stream::iter([Ok(frame?)]).boxed(),
        }),
    }
}

/// A value as one part.
async fn whole_value(
    archive: &Arc<Archive>,
    caller: &Caller,
    value: &SelectedValue,
) -> Result<ValuePart, ArchiveError> {
    let bytes = archive.read_value(caller, &value.record, value.range.clone()).await?;
    Ok(ValuePart {
        essence: OCTET_STREAM,
        transfer_syntax: transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN.into(),
        bytes: begun(bytes.map_err(ArchiveError::from).boxed()).await?,
    })
}

/// A frame as it is stored.
async fn stored(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &Arc<InstanceRecord>,
    number: u32,
) -> Result<ValuePart, ArchiveError> {
    let frame_bytes = archive.frame(record, number)?.bytes;
    let bytes = archive.read_frame(caller, record, number, 0..frame_bytes).await?;
    let (offer, _) = stored_form(record);
    Ok(ValuePart {
        essence: offer.essence,
        transfer_syntax: offer.transfer_syntax.unwrap_or_default(),
        bytes: begun(bytes.map_err(ArchiveError::from).boxed()).await?,
    })
}

/// The same bytes, the first of them read, so that a part that cannot be read is not begun.
async fn begun(mut bytes: PartBytes) -> Result<PartBytes, ArchiveError> {
    let first = bytes.try_next().await?;
    Ok(stream::iter(first.map(Ok)).chain(bytes).boxed())
}
