//! Cut-outs of a volume: some slices of a series, of each a box of pixels, as instances of a series of their
//! own. Not of the standard; see docs/mini.md.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{Response, StatusCode};
use futures_util::stream::{StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::mini;
use crate::archive::scope::Scope;
use crate::dicom::transfer_syntax;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::Offer;
use crate::http::request::cut_out::CutOutParameters;
use crate::http::request::path::Target;
use crate::http::response::instance::DICOM;
use crate::http::response::multipart as parts;
use crate::http::response::negotiation::not_acceptable;
use crate::http::response::ranged::{describe, fingerprint, finish};
use crate::http::retrieve::available_parts::{OpenPart, log_end, written};
use crate::http::retrieve::zip::{ZIP, disposition};

/// `GET …/series/{series}/mini[?slices=first-last][&box=x,y,width,height][&binning=1|2|4]`.
pub(crate) async fn mini(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let parameters = CutOutParameters::of(&head.query_pairs())?;
    if parameters.is_stored {
        return Err(Error::Parameter { name: "store".into(), reason: "is for POST".into() });
    }
    let offers = offers();
    let chosen = head.accept().choose(&offers).ok_or_else(|| not_acceptable(&offers))?.clone();
    let version = archive.version(&caller, &scope).await?;
    let Scope { study, series: Some(series), .. } = &scope else { return Err(Error::NoResource) };
    let form = if chosen.is_multipart { "parts" } else { "zip" };
    let part = fingerprint(format!("{:?} {}", parameters.request, mini::REVISION));
    let etag = format!("\"{version}-mini-{form}-{part}\"");
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let cut_out = Arc::new(mini::plan(archive, &caller, (study, series), &parameters.request).await?);
    let response = describe(&etag);
    if !chosen.is_multipart {
        let bytes = cut_out.zip(archive, &caller).await?.inspect_err(log_end);
        let response = response
            .header(CONTENT_TYPE, ZIP)
            .header(CONTENT_DISPOSITION, disposition(&format!("{}.zip", cut_out.series), None));
        return finish(response, Body::from_stream(bytes));
    }
    let mut files = cut_out.files(archive, &caller).await?;
    let base_url = head.base_url().to_owned();
    let part = move |(instance, bytes)| OpenPart {
        essence: DICOM,
        transfer_syntax: transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
        location: format!("{base_url}{}", cut_out.path_of(&instance)),
        bytes: futures_util::stream::iter([Ok(bytes)]).boxed(),
    };
    let first = files.try_next().await?.map(&part).ok_or(Error::NoResource)?;
    let boundary = parts::random_boundary();
    let response = response.header(CONTENT_TYPE, parts::content_type(DICOM, &boundary));
    let rest = files.map_ok(part).inspect_err(log_end).boxed();
    finish(response, Body::from_stream(written(first, rest, boundary)))
}

/// The representations of a cut-out, the default first.
fn offers() -> [Offer; 2] {
    let syntax = transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN.to_owned();
    let offer = |is_multipart, essence, transfer_syntax| Offer {
        is_multipart,
        essence,
        transfer_syntax,
        is_default: true,
    };
    [offer(true, DICOM, Some(syntax)), offer(false, ZIP, None)]
}
