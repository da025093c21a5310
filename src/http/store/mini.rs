//! Storing a cut-out of a volume as a new series of its study. Not of the standard; see docs/mini.md.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use futures_util::TryStreamExt;

use crate::archive::Error as ArchiveError;
use crate::archive::access::{Caller, Right};
use crate::archive::derived::mini;
use crate::archive::scope::Scope;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::cut_out::CutOutParameters;
use crate::http::request::path::Target;
use crate::http::store::response::{PartResult, StoreResults, respond};

/// `POST …/series/{series}/mini?store=true[&slices=first-last][&box=x,y,width,height][&binning=1|2|4]`: the
/// instances are stored as if a client had sent them, one after the other. A request that is repeated finds
/// those that are there already.
pub(crate) async fn mini(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let parameters = CutOutParameters::of(&head.query_pairs())?;
    if !parameters.is_stored {
        return Err(Error::Parameter { name: "store".into(), reason: "is not `true`".into() });
    }
    let Scope { study, series: Some(series), .. } = &scope else { return Err(Error::NoResource) };
    // What is stored is read before. For a caller who may not read, no series is there.
    if !caller.rights.include(Right::Read) {
        let series = format!("series {series} in study {study} that the caller has the right to read");
        return Err(ArchiveError::NotFound(series).into());
    }
    archive.note_store_url(head.base_url());
    let cut_out = Arc::new(mini::plan(archive, &caller, (study, series), &parameters.request).await?);
    let mut files = cut_out.files(archive, &caller).await?;
    let mut results = StoreResults::default();
    let ended = loop {
        let bytes = match files.try_next().await {
            Ok(Some((_, bytes))) => bytes,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        };
        let mut upload = archive.receive(&caller, Some(study.clone())).await;
        upload.write(bytes).await;
        let outcome = upload.finish().await.await;
        results.items.push(PartResult::Outcome { outcome, name: None });
    };
    respond(&head, results, ended)
}
