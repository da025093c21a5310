//! Every URL of the server, each group under its section of PS3.18.

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::get;

use crate::http::Service;
use crate::http::error::Error;
use crate::http::middleware::every_answer;
use crate::http::retrieve::{bulk_values, bulkdata, frames, instances, metadata, rendered, thumbnail};
use crate::http::web::{console, viewer};
use crate::http::{auth, capabilities, delete, ops, preview_stream, search, store, wado_uri};

/// All resources.
pub(crate) fn router(service: Arc<Service>) -> Router {
    let resources = Router::new()
        // §8.9 Retrieve Capabilities, and the same of all resources in OpenAPI.
        .route("/dicom-web", get(capabilities::capabilities).options(capabilities::capabilities))
        .route("/dicom-web/", get(capabilities::capabilities).options(capabilities::capabilities))
        .route("/openapi.json", get(capabilities::openapi))
        .nest("/dicom-web", dicom_web())
        // §9 URI Service (WADO-URI), here and below the base URL of the other services.
        .route("/wado", get(wado_uri::retrieve))
        // The fast stream (docs/fast-stream.md).
        .route("/stream/studies/{study}/series/{series}", get(preview_stream::stream))
        // The built-in web page.
        .route("/", get(console::page))
        .route("/console/console.css", get(console::style))
        .route("/console/console.js", get(console::script))
        .route("/console/sign-in.js", get(console::sign_in))
        // The OHIF viewer (docs/viewer.md).
        .route("/viewer", get(viewer::enter))
        .route("/viewer/", get(viewer::file))
        .route("/viewer/app-config.js", get(viewer::configuration))
        .route("/viewer/{*path}", get(viewer::file))
        // Operations.
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .fallback(async || Error::NoResource)
        .with_state(Arc::clone(&service));
    // Around the whole router, so that the list of a resource's methods passes through it too.
    Router::new()
        .fallback_service(resources)
        .layer(middleware::from_fn_with_state(Arc::clone(&service), auth::gate))
        .layer(middleware::from_fn_with_state(service, every_answer::wrap))
}

#[rustfmt::skip]
fn dicom_web() -> Router<Arc<Service>> {
    Router::new()
        // §10.5 Store and §10.6 Search share these URLs with §10.4 Retrieve.
        .route("/studies", get(search::studies).post(store::store))
        .route("/studies/{study}", get(instances::instances).post(store::store).delete(delete::delete))
        // §10.6 Search.
        .route("/studies/{study}/series", get(search::series))
        .route("/studies/{study}/series/{series}/instances", get(search::instances))
        .route("/studies/{study}/instances", get(search::instances))
        .route("/series", get(search::series))
        .route("/instances", get(search::instances))
        // §10.4 Retrieve: instances.
        .route("/studies/{study}/series/{series}", get(instances::instances).delete(delete::delete))
        .route("/studies/{study}/series/{series}/instances/{instance}", get(instances::instances).delete(delete::delete))
        // §10.4 Retrieve: metadata.
        .route("/studies/{study}/metadata", get(metadata::metadata))
        .route("/studies/{study}/series/{series}/metadata", get(metadata::metadata))
        .route("/studies/{study}/series/{series}/instances/{instance}/metadata", get(metadata::metadata))
        // §9 URI Service.
        .route("/wado", get(wado_uri::retrieve))
        // §10.4 Retrieve: rendered resources.
        .route("/studies/{study}/rendered", get(rendered::rendered))
        .route("/studies/{study}/series/{series}/rendered", get(rendered::rendered))
        .route("/studies/{study}/series/{series}/instances/{instance}/rendered", get(rendered::rendered))
        .route("/studies/{study}/series/{series}/instances/{instance}/frames/{rest}/rendered", get(rendered::frames))
        // §10.4 Retrieve: thumbnails.
        .route("/studies/{study}/thumbnail", get(thumbnail::thumbnail))
        .route("/studies/{study}/series/{series}/thumbnail", get(thumbnail::thumbnail))
        .route("/studies/{study}/series/{series}/instances/{instance}/thumbnail", get(thumbnail::thumbnail))
        .route("/studies/{study}/series/{series}/instances/{instance}/frames/{rest}/thumbnail", get(thumbnail::frame))
        // §10.4 Retrieve: frames, bulk data and pixel data.
        .route("/studies/{study}/series/{series}/instances/{instance}/frames/{rest}", get(frames::frames))
        .route("/studies/{study}/bulkdata", get(bulk_values::bulkdata))
        .route("/studies/{study}/series/{series}/bulkdata", get(bulk_values::bulkdata))
        .route("/studies/{study}/series/{series}/instances/{instance}/bulkdata", get(bulk_values::bulkdata))
        .route("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{*rest}", get(bulkdata::bulkdata))
        .route("/studies/{study}/pixeldata", get(bulk_values::pixeldata))
        .route("/studies/{study}/series/{series}/pixeldata", get(bulk_values::pixeldata))
        .route("/studies/{study}/series/{series}/instances/{instance}/pixeldata", get(bulk_values::pixeldata))
}
