//! Rendered images of a study, a series, an instance or its frames (PS3.18 §10.4.1.1.3).
//!
//! docs/decisions/0044 describes the choice of the representation.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::references::{Reference, is_presentation_state, referenced_images};
use crate::archive::derived::rendering::{self, Format};
use crate::archive::read::pass::ReadOrder;
use crate::archive::records::InstanceRecord;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error as ArchiveError};
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::path::{InstancePath, Target, frame_numbers};
use crate::http::request::rendering_parameters::{RenderingParameters, wrong};
use crate::http::response::negotiation::not_acceptable;
use crate::http::retrieve::available_parts::look_ahead;
use crate::http::retrieve::rendered_images::{ImageFrame, OnFailure, Packing, RenderingPlan};
use crate::http::retrieve::{document, rendered_images};

type ImageFrames = BoxStream<'static, Result<ImageFrame, ArchiveError>>;

/// `GET …/rendered` of a study, a series or an instance.
pub(crate) async fn rendered(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let parameters = parameters(archive, &head)?;
    let (Some(series), Some(instance)) = (&scope.series, &scope.instance) else {
        return collection(archive, caller, scope, &parameters, &head).await;
    };
    let record = archive.instance(&caller, &scope.study, series, instance).await?;
    if document::is_document(&record) {
        return document::answer(archive, caller, record, &head).await;
    }
    if is_presentation_state(&record) {
        return presented(archive, caller, record, parameters, &head).await;
    }
    let count = rendered_images::number_of_frames(&record);
    if count == 0 {
        return Err(Error::NotAcceptable(format!("instance {} has no images", record.instance)));
    }
    parameters.check_region(&record)?;
    let (packing, plan) =
        negotiate(&parameters, &[Packing::Single, Packing::Parts], record.digest.to_string(), &head)?;
    match packing {
        Packing::Parts => {
            archive.check_frames(&record, 1..=count, ReadOrder::Apart)?;
            rendered_images::several(archive, caller, all_frames(record), OnFailure::End, plan, &head).await
        }
        Packing::Single if count > 1 && plan.rendering.format == Format::Gif => {
            archive.check_frames(&record, 1..=count, ReadOrder::Apart)?;
            rendered_images::animation(archive, &caller, &Arc::new(record), &plan, &head).await
        }
        Packing::Single => {
            let first = ImageFrame { record: Arc::new(record), number: 1 };
            rendered_images::one(archive, &caller, &first, &plan, &head).await
        }
    }
}

/// `GET …/frames/{list}/rendered`.
pub(crate) async fn frames(
    State(service): State<Arc<Service>>,
    caller: Caller,
    path: InstancePath,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let parameters = parameters(archive, &head)?;
    let numbers = frame_numbers(&path.rest)?;
    let record = archive.instance(&caller, &path.study, &path.series, &path.instance).await?;
    for &number in &numbers {
        archive.frame(&record, number)?;
    }
    archive.check_frames(&record, numbers.iter().copied(), ReadOrder::Apart)?;
    parameters.check_region(&record)?;
    // One body holds one image only (Note 3 to Table 10.4.4-1).
    let packings: &[Packing] =
        if numbers.len() == 1 { &[Packing::Single, Packing::Parts] } else { &[Packing::Parts] };
    let state = format!("{} {numbers:?}", record.digest);
    let (packing, plan) = negotiate(&parameters, packings, state, &head)?;
    let record = Arc::new(record);
    let mut frames =
        numbers.into_iter().map(move |number| ImageFrame { record: Arc::clone(&record), number });
    match packing {
        Packing::Single => {
            let frame = frames.next().ok_or(Error::NoResource)?;
            rendered_images::one(archive, &caller, &frame, &plan, &head).await
        }
        Packing::Parts => {
            let frames = stream::iter(frames.map(Ok)).boxed();
            rendered_images::several(archive, caller, frames, OnFailure::End, plan, &head).await
        }
    }
}

/// A study or a series: a part for each frame of each image in it.
async fn collection(
    archive: &Arc<Archive>,
    caller: Caller,
    scope: Scope,
    parameters: &RenderingParameters,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let state = archive.version(&caller, &scope).await?;
    let (_, plan) = negotiate(parameters, &[Packing::Parts], format!("{scope:?} {state}"), head)?;
    let mut pages = archive.instances(&caller, &scope).await?;
    let (first, lost) = look_ahead(archive, &caller, pages.try_next().await?.unwrap_or_default()).await;
    let frames = stream::iter([Ok(first)])
        .chain(pages)
        .map_ok(|page| {
            let images = page.into_iter().filter(|record| !document::is_document(record));
            stream::iter(images.map(all_frames)).flatten()
        })
        .try_flatten();
    rendered_images::several(archive, caller, frames.boxed(), OnFailure::LeaveOut(lost), plan, head).await
}

/// A presentation state: the images that it refers to, rendered by it (§8.3.5.1.6).
async fn presented(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    mut parameters: RenderingParameters,
    head: &Head,
) -> Result<Response<Body>, Error> {
    if parameters.window.is_some() {
        return Err(wrong("window", "cannot be given for a presentation state, which has its own"));
    }
    if parameters.viewport.is_some_and(|viewport| viewport.has_region()) {
        return Err(wrong(
            "viewport",
            "is `width,height` for a presentation state, which has its own region",
        ));
    }
    parameters.presentation_state = Some((record.series.clone(), record.instance.clone()));
    // The images can change as well.
    let study = Scope { study: record.study.clone(), series: None, instance: None };
    let state = format!("{} {}", record.digest, archive.version(&caller, &study).await?);
    let (packing, plan) = negotiate(&parameters, &[Packing::Single, Packing::Parts], state, head)?;
    let (first, rest) = presented_frames(archive, &caller, &record).await?;
    match packing {
        Packing::Single => rendered_images::one(archive, &caller, &first, &plan, head).await,
        Packing::Parts => {
            let frames = stream::iter([Ok(first)]).chain(rest).boxed();
            rendered_images::several(archive, caller, frames, OnFailure::LeaveOut(Vec::new()), plan, head)
                .await
        }
    }
}

/// The frames that a presentation state refers to, the first of them apart. Missing images are left out.
///
/// # Errors
/// [`ArchiveError::Unsupported`] if the presentation state refers to no frame, [`ArchiveError::NotFound`]
/// if no frame is stored.
pub(in crate::http) async fn presented_frames(
    archive: &Arc<Archive>,
    caller: &Caller,
    state: &InstanceRecord,
) -> Result<(ImageFrame, ImageFrames), Error> {
    let references = referenced_images(state).await?;
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
                let count = rendered_images::number_of_frames(&record);
                let record = Arc::new(record);
                let there = frames.into_iter().filter(move |number| (1..=count).contains(number));
                let frames = there.map(move |number| Ok(ImageFrame { record: Arc::clone(&record), number }));
                Ok(stream::iter(frames).boxed())
            }
        })
        .try_flatten()
        .boxed();
    let first = frames.try_next().await?;
    let none = || ArchiveError::NotFound(format!("image that {} refers to", state.instance));
    Ok((first.ok_or_else(none)?, frames))
}

fn all_frames(record: InstanceRecord) -> ImageFrames {
    let count = rendered_images::number_of_frames(&record);
    let record = Arc::new(record);
    stream::iter((1..=count).map(move |number| Ok(ImageFrame { record: Arc::clone(&record), number })))
        .boxed()
}

fn parameters(archive: &Archive, head: &Head) -> Result<RenderingParameters, Error> {
    let parameters = RenderingParameters::read(&head.query_pairs())?;
    parameters.limit_area("viewport", rendering::max_viewport_pixels(archive))?;
    Ok(parameters)
}

/// The representation that suits the client, and the rendering for it.
fn negotiate(
    parameters: &RenderingParameters,
    packings: &[Packing],
    state: String,
    head: &Head,
) -> Result<(Packing, RenderingPlan), Error> {
    let offers = rendered_images::offers(packings);
    let accept = head.accept();
    let chosen = accept.choose(&offers).ok_or_else(|| not_acceptable(&offers))?;
    let format = rendered_images::format(chosen.essence).ok_or_else(|| not_acceptable(&offers))?;
    let packing = if chosen.is_multipart { Packing::Parts } else { Packing::Single };
    let rendering = parameters.rendering(format)?;
    Ok((packing, RenderingPlan { rendering, state, warning: parameters.warning.clone() }))
}
