//! Rendered resources: pictures of a study, a series, an instance or its frames (PS3.18 §10.4.1.1.3).
//!
//! Which form a client gets is decided in docs/decisions/0044.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::references::{Reference, is_presentation_state};
use crate::archive::derived::rendering::Format;
use crate::archive::read::Scope;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::path::{Instance, Target, frame_numbers};
use crate::http::request::rendering_parameters::{Wishes, wrong};
use crate::http::retrieve::pictures::{Drawing, Frame, Packing};
use crate::http::retrieve::{document, not_acceptable, pictures};

type Frames = BoxStream<'static, Result<Frame, ArchiveError>>;

/// `GET …/rendered` of a study, a series or an instance.
pub(crate) async fn rendered(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let wishes = wishes(archive, &head)?;
    let (Some(series), Some(instance)) = (&scope.series, &scope.instance) else {
        return collection(archive, caller, scope, &wishes, &head).await;
    };
    let record = archive.instance(&caller, &scope.study, series, instance).await?;
    if document::is_document(&record) {
        return document::answer(archive, caller, record, &head).await;
    }
    if is_presentation_state(&record) {
        return presented(archive, caller, record, wishes, &head).await;
    }
    let count = pictures::number_of_frames(&record);
    if count == 0 {
        return Err(Error::NotAcceptable(format!("instance {} has no pictures", record.instance)));
    }
    wishes.check_region(&record)?;
    let (packing, drawing) =
        negotiate(&wishes, &[Packing::Single, Packing::Parts], record.digest.clone(), &head)?;
    match packing {
        Packing::Parts => pictures::several(archive, caller, all_frames(record), false, drawing, &head).await,
        Packing::Single if count > 1 && drawing.rendering.format == Format::Gif => {
            pictures::animation(archive, &caller, &Arc::new(record), &drawing, &head).await
        }
        Packing::Single => {
            let first = Frame { record: Arc::new(record), number: 1 };
            pictures::one(archive, &caller, &first, &drawing, &head).await
        }
    }
}

/// `GET …/frames/{list}/rendered`.
pub(crate) async fn frames(
    State(service): State<Arc<Service>>,
    caller: Caller,
    path: Instance,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let wishes = wishes(archive, &head)?;
    let numbers = frame_numbers(&path.rest)?;
    let record = archive.instance(&caller, &path.study, &path.series, &path.instance).await?;
    for &number in &numbers {
        archive.frame(&record, number)?;
    }
    wishes.check_region(&record)?;
    // One body holds one picture only (Note 3 to Table 10.4.4-1).
    let packings: &[Packing] =
        if numbers.len() == 1 { &[Packing::Single, Packing::Parts] } else { &[Packing::Parts] };
    let state = format!("{} {numbers:?}", record.digest);
    let (packing, drawing) = negotiate(&wishes, packings, state, &head)?;
    let record = Arc::new(record);
    let mut frames = numbers.into_iter().map(move |number| Frame { record: Arc::clone(&record), number });
    match packing {
        Packing::Single => {
            let frame = frames.next().ok_or(Error::NoResource)?;
            pictures::one(archive, &caller, &frame, &drawing, &head).await
        }
        Packing::Parts => {
            let frames = stream::iter(frames.map(Ok)).boxed();
            pictures::several(archive, caller, frames, false, drawing, &head).await
        }
    }
}

/// A study or a series: a part for each frame of each image in it.
async fn collection(
    archive: &Arc<Archive>,
    caller: Caller,
    scope: Scope,
    wishes: &Wishes,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let state = archive.version(&caller, &scope).await?;
    let (_, drawing) = negotiate(wishes, &[Packing::Parts], format!("{scope:?} {state}"), head)?;
    let pages = archive.instances(&caller, &scope).await?;
    let frames = pages
        .map_ok(|page| {
            let images = page.into_iter().filter(|record| !document::is_document(record));
            stream::iter(images.map(all_frames)).flatten()
        })
        .try_flatten();
    pictures::several(archive, caller, frames.boxed(), true, drawing, head).await
}

/// A presentation state: what it refers to, as it says (§8.3.5.1.6).
async fn presented(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    mut wishes: Wishes,
    head: &Head,
) -> Result<Response<Body>, Error> {
    if wishes.window.is_some() {
        return Err(wrong("window", "cannot be given for a presentation state, which has its own"));
    }
    if wishes.viewport.is_some_and(|viewport| viewport.left_top != [0.0; 2] || viewport.size != [None; 2]) {
        return Err(wrong(
            "viewport",
            "is `width,height` for a presentation state, which has its own region",
        ));
    }
    wishes.presentation_state = Some((record.series.clone(), record.instance.clone()));
    // The images may change as well.
    let study = Scope { study: record.study.clone(), series: None, instance: None };
    let state = format!("{} {}", record.digest, archive.version(&caller, &study).await?);
    let (packing, drawing) = negotiate(&wishes, &[Packing::Single, Packing::Parts], state, head)?;
    let (first, rest) = presented_frames(archive, &caller, &record).await?;
    match packing {
        Packing::Single => pictures::one(archive, &caller, &first, &drawing, head).await,
        Packing::Parts => {
            let frames = stream::iter([Ok(first)]).chain(rest).boxed();
            pictures::several(archive, caller, frames, true, drawing, head).await
        }
    }
}

/// The frames that a presentation state refers to, the first of them apart. What is not stored is left out.
///
/// # Errors
/// [`ArchiveError::Unsupported`] if it refers to none, [`ArchiveError::NotFound`] if none is stored.
pub(in crate::http) async fn presented_frames(
    archive: &Arc<Archive>,
    caller: &Caller,
    state: &InstanceRecord,
) -> Result<(Frame, Frames), Error> {
    let references = archive.presented(state).await?;
    let (archive, caller, study) = (Arc::clone(archive), caller.clone(), state.study.clone());
    let mut frames = stream::iter(references)
        .then(move |Reference { series, instance, frames }| {
            let (archive, caller, study) = (Arc::clone(&archive), caller.clone(), study.clone());
            async move {
                let record = match archive.instance(&caller, &study, &series, &instance).await {
                    Ok(record) => record,
                    Err(ArchiveError::NotFound(_)) => return Ok(stream::empty().boxed()),
                    Err(error) => return Err(error),
                };
                if frames.is_empty() {
                    return Ok(all_frames(record));
                }
                let count = pictures::number_of_frames(&record);
                let record = Arc::new(record);
                let there = frames.into_iter().filter(move |number| (1..=count).contains(number));
                let frames = there.map(move |number| Ok(Frame { record: Arc::clone(&record), number }));
                Ok(stream::iter(frames).boxed())
            }
        })
        .try_flatten()
        .boxed();
    let first = frames.try_next().await?;
    let none = || ArchiveError::NotFound(format!("image that {} refers to", state.instance));
    Ok((first.ok_or_else(none)?, frames))
}

fn all_frames(record: InstanceRecord) -> Frames {
    let count = pictures::number_of_frames(&record);
    let record = Arc::new(record);
    stream::iter((1..=count).map(move |number| Ok(Frame { record: Arc::clone(&record), number }))).boxed()
}

fn wishes(archive: &Archive, head: &Head) -> Result<Wishes, Error> {
    let wishes = Wishes::read(&head.query_pairs())?;
    wishes.limit_area("viewport", archive.max_viewport_pixels())?;
    Ok(wishes)
}

/// The form that suits the client, and how to draw for it.
fn negotiate(
    wishes: &Wishes,
    packings: &[Packing],
    state: String,
    head: &Head,
) -> Result<(Packing, Drawing), Error> {
    let offers = pictures::offers(packings);
    let accept = head.accept();
    let chosen = accept.choose(&offers).ok_or_else(|| not_acceptable(&offers))?;
    let format = pictures::format(chosen.essence).ok_or_else(|| not_acceptable(&offers))?;
    let packing = if chosen.is_multipart { Packing::Parts } else { Packing::Single };
    let rendering = wishes.rendering(format)?;
    Ok((packing, Drawing { rendering, state, warning: wishes.warning.clone() }))
}
