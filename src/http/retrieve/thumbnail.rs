//! Thumbnails: one small image that represents a study, a series, an instance or a frame (PS3.18
//! §10.4.1.1.4).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::archive::access::Caller;
use crate::archive::derived::rendering;
use crate::archive::scope::Scope;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::path::{InstancePath, Target, frame_numbers};
use crate::http::request::rendering_parameters::thumbnail_size;
use crate::http::response::negotiation::not_acceptable;
use crate::http::response::ranged::finish;
use crate::http::retrieve::rendered_images;
use crate::http::retrieve::rendered_images::Packing;

/// `GET …/thumbnail` of a study, a series or an instance.
pub(crate) async fn thumbnail(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    answer(&service, &caller, &scope, None, &head).await
}

/// `GET …/frames/{number}/thumbnail`. A thumbnail is one image: of a list of frames, the first one's.
pub(crate) async fn frame(
    State(service): State<Arc<Service>>,
    caller: Caller,
    path: InstancePath,
    head: Head,
) -> Result<Response<Body>, Error> {
    let first = frame_numbers(&path.rest)?.first().copied();
    let scope = Scope { study: path.study, series: Some(path.series), instance: Some(path.instance) };
    answer(&service, &caller, &scope, first, &head).await
}

async fn answer(
    service: &Service,
    caller: &Caller,
    scope: &Scope,
    frame: Option<u32>,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let viewport = head.query_pairs().into_iter().find(|(name, _)| name == "viewport");
    let size = match viewport {
        Some((_, text)) => thumbnail_size(&text)?,
        None => [rendering::thumbnail_px(&service.archive); 2],
    };
    let offers = rendered_images::offers(&[Packing::Single]);
    let accept = head.accept();
    let chosen = accept.choose(&offers).ok_or_else(|| not_acceptable(&offers))?;
    let format = rendered_images::format(chosen.essence).ok_or_else(|| not_acceptable(&offers))?;
    let thumbnail =
        rendering::thumbnail::thumbnail(&service.archive, caller, scope, frame, format, size).await?;
    let [width, height] = size;
    let subtype = chosen.essence.trim_start_matches("image/");
    let etag = format!("\"{}-{width}-{height}-{subtype}\"", thumbnail.version);
    let (response, bytes) = rendered_images::begin_bytes(thumbnail.bytes, chosen.essence, &etag, head)?;
    finish(response, Body::from(bytes))
}
