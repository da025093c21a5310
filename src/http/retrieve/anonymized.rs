//! De-identified copies of instances: of a study, of a series, or of one (PS3.15 §E). PS3.18 §9.4 has the
//! parameter `anonymize` for the URI service; here it is for WADO-RS too.
//!
//! Nothing in a response names an original: neither locations, nor validators, nor warnings.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::deidentified::{
    self, CopyForm, CopySurvey, CopyUids, copy_of, deidentified_file, deidentified_file_in_any_form,
    is_kept_encapsulated,
};
use crate::archive::read::ahead::AheadSize;
use crate::archive::records::InstanceRecord;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error as ArchiveError, run_apart};
use crate::dicom::deidentify::Deidentifier;
use crate::dicom::transfer_syntax;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::{Accept, Offer, Offers};
use crate::http::request::anonymize::Anonymize;
use crate::http::response::instance::{DICOM, offers};
use crate::http::response::multipart as parts;
use crate::http::response::negotiation;
use crate::http::response::ranged::{describe, fingerprint, finish};
use crate::http::retrieve::available_parts::{AvailableParts, Omission, OpenPart, PartsOrOmissions, written};
use crate::http::retrieve::zip;
use crate::http::warning::warning;

/// Answers with copies of what `scope` names.
pub(super) async fn answer(
    service: &Service,
    caller: Caller,
    scope: Scope,
    head: &Head,
    anonymize: Anonymize,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    let deidentifier = deidentified::deidentifier(archive, &caller, anonymize.options).await?;
    let accept = head.accept();
    if zip::is_asked_for(&accept) {
        return zip::answer_copies(service, &caller, scope, head, &deidentifier).await;
    }
    if let (Some(series), Some(instance)) = (&scope.series, &scope.instance) {
        let record = archive.instance(&caller, &scope.study, series, instance).await?;
        return one(archive, &caller, &record, &accept, head, &deidentifier).await;
    }
    many(archive, caller, scope, accept, head, deidentifier).await
}

/// The copy of one instance: alone or as the only part.
///
/// # Errors
/// [`Error::NotAcceptable`] if the copy has no representation that `accept` names;
/// [`ArchiveError::NotDeidentified`].
pub(in crate::http) async fn one(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    accept: &Accept,
    head: &Head,
    deidentifier: &Arc<Deidentifier>,
) -> Result<Response<Body>, Error> {
    let (chosen, form) = choose(accept, record, true)?;
    let packing = if chosen.is_multipart { "m" } else { "s" };
    let syntax = chosen.transfer_syntax.as_deref().unwrap_or_default();
    let version = deidentifier.validator(&record.digest.to_string());
    let etag = format!("\"{version}-{packing}-{syntax}\"");
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let file = deidentified_file(archive, caller, record, deidentifier, form).await?;
    if Some(&file.transfer_syntax) != chosen.transfer_syntax.as_ref() {
        // The frames have to be changed, and cannot be given as they are stored.
        let offers = [Offer { transfer_syntax: Some(file.transfer_syntax.clone()), ..chosen.clone() }];
        accept.choose(&offers).ok_or_else(|| negotiation::not_acceptable(&offers))?;
    }
    let location = url(&deidentified::uids(deidentifier, record), head.base_url());
    let (mut before, mut after) = (Bytes::new(), Bytes::new());
    let mut content_type = parts::type_of(DICOM, Some(&file.transfer_syntax));
    if chosen.is_multipart {
        let boundary = parts::random_boundary();
        before = parts::located(&boundary, true, DICOM, Some(&file.transfer_syntax), &location).into();
        after = parts::tail(&boundary).into();
        content_type = parts::content_type(DICOM, &boundary);
    }
    let length = before.len() as u64 + file.length() + after.len() as u64;
    let body = stream::iter([Ok(before)]).chain(file.read()).chain(stream::iter([Ok(after)]));
    let response = describe(&etag)
        .header(CONTENT_TYPE, content_type)
        .header(CONTENT_LENGTH, length)
        .header(CONTENT_LOCATION, location);
    finish(response, Body::from_stream(body))
}

/// The copies of a study or a series, each as a part. Instances that cannot be de-identified are left out,
/// and the head says so.
async fn many(
    archive: &Arc<Archive>,
    caller: Caller,
    scope: Scope,
    accept: Accept,
    head: &Head,
    deidentifier: Arc<Deidentifier>,
) -> Result<Response<Body>, Error> {
    let version = deidentifier.validator(&archive.version(&caller, &scope).await?);
    let etag = format!("\"{version}-dicom-{}\"", fingerprint(format!("{accept:?}")));
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let survey = deidentified::survey(archive, &caller, &scope, &deidentifier).await?;
    let worker = deidentifier.clone();
    let pages = archive.instances(&caller, &scope).await?;
    let mut pages = pages
        .and_then(move |page| {
            let worker = worker.clone();
            async move { deidentified::suitable(&worker, page, &mut CopySurvey::default()).await }
        })
        .try_filter(|page| std::future::ready(!page.is_empty()))
        .boxed();
    let first = pages.try_next().await?.unwrap_or_default();
    if !first.iter().any(|record| choose(&accept, record, false).is_ok())
        && let Some(record) = first.first()
    {
        choose(&accept, record, false)?;
    }
    let records =
        stream::iter([Ok(first)]).chain(pages).map_ok(|page| stream::iter(page).map(Ok)).try_flatten();
    let base_url: Arc<str> = head.base_url().into();
    let opened = opened(archive, caller, accept, records.boxed(), base_url, &deidentifier);
    let mut available = AvailableParts::new(Vec::new(), opened)?;
    let first = available.first().await?.ok_or(Error::NoResource)?;
    let boundary = parts::random_boundary();
    let response = available
        .begin_without(&etag, survey.message().map(|message| warning(&message)))
        .header(CONTENT_TYPE, parts::content_type(DICOM, &boundary))
        .header(CONTENT_LOCATION, scope_url(&deidentifier, &scope, head.base_url()));
    finish(response, Body::from_stream(written(first, available.rest(), boundary)))
}

/// Opens copies as parts. One that cannot be given as requested is given in the other form.
fn opened(
    archive: &Arc<Archive>,
    caller: Caller,
    accept: Accept,
    records: BoxStream<'static, Result<InstanceRecord, ArchiveError>>,
    base_url: Arc<str>,
    deidentifier: &Arc<Deidentifier>,
) -> PartsOrOmissions<OpenPart> {
    let reader = Arc::new((archive.clone(), caller.clone(), accept, deidentifier.clone()));
    let open = move |record: Result<InstanceRecord, ArchiveError>, _| {
        let (reader, base_url) = (Arc::clone(&reader), Arc::clone(&base_url));
        run_apart(async move {
            let (archive, caller, accept, deidentifier) = &*reader;
            let record = record?;
            let form = choose(accept, &record, false).map_or(CopyForm::Explicit, |(_, form)| form);
            let file = archive
                .retried(|| deidentified_file_in_any_form(archive, caller, &record, deidentifier, form));
            Ok(match file.await {
                Ok(file) => {
                    let location = url(&deidentified::uids(deidentifier, &record), &base_url);
                    let transfer_syntax = file.transfer_syntax.clone();
                    Ok(OpenPart { essence: DICOM, transfer_syntax, location, bytes: file.read() })
                }
                Err(error) => Err(Omission { instance: copy_of(deidentifier, &record.instance), error }),
            })
        })
    };
    archive.opened_ahead(caller, records, |_| AheadSize::Made, open)
}

/// The representation of a copy that suits the client best: Explicit VR Little Endian, or the stored transfer
/// syntax of compressed frames, which is the default if they were compressed with loss.
fn choose(accept: &Accept, record: &InstanceRecord, is_single: bool) -> Result<(Offer, CopyForm), Error> {
    let offers = |transfer_syntax: &str, is_default| offers(transfer_syntax, is_default, is_single);
    let stored = record.transfer_syntax.as_str();
    let can_be_kept = is_kept_encapsulated(record) && transfer_syntax::is_of_web_services(stored);
    let is_kept_by_default = can_be_kept && transfer_syntax::may_be_lossy(stored);
    let mut all = Offers::default();
    let explicit = offers(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, !is_kept_by_default);
    if can_be_kept {
        all.stored = offers(stored, is_kept_by_default);
        all.converted = explicit;
    } else {
        all.stored = explicit;
    }
    let chosen = negotiation::choose(accept, &all)?;
    let is_kept = can_be_kept && chosen.transfer_syntax.as_deref() == Some(stored);
    Ok((chosen, if is_kept { CopyForm::Encapsulated } else { CopyForm::Explicit }))
}

/// The URL that the copy of an instance would have.
fn url(uids: &CopyUids, base_url: &str) -> String {
    let CopyUids { study, series, instance } = uids;
    format!("{base_url}/studies/{study}/series/{series}/instances/{instance}")
}

/// The URL that the copy of a study or a series would have.
fn scope_url(deidentifier: &Deidentifier, scope: &Scope, base_url: &str) -> String {
    let series = scope.series.as_ref().map(|series| format!("/series/{}", deidentifier.uid(series.as_str())));
    let study = deidentifier.uid(scope.study.as_str());
    format!("{base_url}/studies/{study}{}", series.unwrap_or_default())
}
