//! Whole instances: of a study, of a series, or one (PS3.18 §10.4.1.1).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::explicit_vr::{ExplicitFile, explicit_file};
use crate::archive::derived::transcode::{self, Encoding, REVISION, encodings, read_transcoded};
use crate::archive::read::ahead::{AheadSize, holding};
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError, run_apart};
use crate::dicom::transfer_syntax;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::{Accept, Offer, Offers};
use crate::http::request::anonymize::Anonymize;
use crate::http::request::path::Target;
use crate::http::response::instance::{DICOM, boundary, etag, offers, url};
use crate::http::response::multipart as parts;
use crate::http::response::negotiation;
use crate::http::response::ranged::{RangedResponse, SegmentedBody, describe, fingerprint, finish};
use crate::http::retrieve::anonymized;
use crate::http::retrieve::available_parts::{
    AvailableParts, Omission, OpenPart, PartBytes, PartsOrOmissions, look_ahead, written,
};
use crate::http::retrieve::bulkdata_of_instances::{self, BulkSelection};
use crate::http::retrieve::zip;

/// `GET` of a study, a series or an instance.
pub(crate) async fn instances(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    if let Some(anonymize) = Anonymize::of(&head)? {
        return anonymized::answer(&service, caller, scope, &head, anonymize).await;
    }
    let accept = head.accept();
    if zip::is_asked_for(&accept) {
        return zip::answer(&service, &caller, scope, &head).await;
    }
    if bulkdata_of_instances::is_asked_for(&accept) {
        return bulkdata_of_instances::answer(archive, caller, scope, BulkSelection::All, &head).await;
    }
    if let (Some(series), Some(instance)) = (&scope.series, &scope.instance) {
        let record = archive.instance(&caller, &scope.study, series, instance).await?;
        return one(archive, caller, record, &accept, &head).await;
    }
    let version = archive.version(&caller, &scope).await?;
    let mut pages = archive.instances(&caller, &scope).await?;
    let first = pages.try_next().await?.unwrap_or_default();
    check_first(&accept, &first)?;
    let etag = format!("\"{version}-dicom-{}\"", suited_to(&accept));
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let (first, lost) = look_ahead(archive, &caller, first).await;
    let records =
        stream::iter([Ok(first)]).chain(pages).map_ok(|page| stream::iter(page).map(Ok)).try_flatten();
    let opened = opened(Arc::clone(archive), caller, accept, records.boxed(), head.base_url().into());
    let mut available = AvailableParts::new(lost, opened)?;
    let first = available.first().await?.ok_or(Error::NoResource)?;
    let boundary = parts::random_boundary();
    let response = available.begin(&etag).header(CONTENT_TYPE, parts::content_type(DICOM, &boundary));
    finish(response, Body::from_stream(written(first, available.rest(), boundary)))
}

/// Refuses a request if no instance of the first page can be given as requested. If some can, the others, as
/// a report in a study that is to be compressed, get their default representation.
fn check_first(accept: &Accept, first: &[InstanceRecord]) -> Result<(), Error> {
    let mut refused = None;
    for record in first {
        match choose(accept, record, false) {
            Ok(_) => return Ok(()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The part of the ETag that depends on the client: each instance is given in the representation that suits
/// it.
fn suited_to(accept: &Accept) -> String {
    fingerprint(format!("{accept:?} {REVISION}"))
}

/// One instance: alone or as the only part.
///
/// # Errors
/// [`Error::NotAcceptable`] if the instance has no representation that `accept` names.
pub(in crate::http) async fn one(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    accept: &Accept,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let mut chosen = choose(accept, &record, true)?;
    match form(&record, &chosen) {
        // Transcoding reads the whole instance, so a client that has it already is answered first.
        InstanceForm::Explicit if head.has(&explicit_etag(&record, &chosen)) => {
            let response = describe(&explicit_etag(&record, &chosen)).status(StatusCode::NOT_MODIFIED);
            return finish(response, Body::empty());
        }
        InstanceForm::Stored => {}
        InstanceForm::Transcoded(encoding) => {
            return transcoded(archive, caller, record, &chosen, encoding, head).await;
        }
        InstanceForm::Explicit => match explicit_file(archive, &caller, &record).await {
            Ok(file) => return explicit(&record, &chosen, file, head),
            // A client that names no transfer syntax gets the stored one where there is no other, also one
            // that web services should not use.
            Err(error)
                if error.is_about_form()
                    && (!accept.names_transfer_syntax() || is_stored(&record, &chosen)) =>
            {
                chosen.transfer_syntax = Some(record.transfer_syntax.clone());
            }
            Err(error) => return Err(error.into()),
        },
    }
    let form = if record.file_header.is_some() { "file" } else { "dicom" };
    let etag = etag(&record, &format!("{}-{form}", if chosen.is_multipart { "m" } else { "s" }));
    let mut file = SegmentedBody::default();
    file.file(0..record.file_bytes());
    whole(&record, &chosen, file, etag, head.base_url()).answer(archive, caller, record, head).await
}

/// One instance in a transfer syntax to which the archive transcodes whole files, and caches them.
async fn transcoded(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    chosen: &Offer,
    encoding: Encoding,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let packing = if chosen.is_multipart { "m" } else { "s" };
    let etag = etag(&record, &format!("{packing}-{}-{REVISION}", encoding.transfer_syntax()));
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let mut file = SegmentedBody::default();
    file.transcoded(transcode::transcoded(archive, &caller, &record, encoding).await?);
    whole(&record, chosen, file, etag, head.base_url()).answer(archive, caller, record, head).await
}

/// A file as a response, alone or as the only part.
fn whole(
    record: &InstanceRecord,
    chosen: &Offer,
    file: SegmentedBody,
    etag: String,
    base_url: &str,
) -> RangedResponse {
    let syntax = chosen.transfer_syntax.as_deref();
    if !chosen.is_multipart {
        return RangedResponse { content: file, content_type: parts::type_of(DICOM, syntax), etag };
    }
    let boundary = boundary(record);
    let mut content = SegmentedBody::default();
    content.text(parts::located(&boundary, true, DICOM, syntax, &url(record, base_url)));
    content.append(file);
    content.text(parts::tail(&boundary));
    RangedResponse { content, content_type: parts::content_type(DICOM, &boundary), etag }
}

fn explicit_etag(record: &InstanceRecord, chosen: &Offer) -> String {
    etag(record, if chosen.is_multipart { "m-explicit" } else { "s-explicit" })
}

/// One instance in Explicit VR Little Endian, if it is stored otherwise. The file is transcoded while it is
/// sent: it has a length but no ranges.
fn explicit(
    record: &InstanceRecord,
    chosen: &Offer,
    file: ExplicitFile,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = explicit_etag(record, chosen);
    let (mut before, mut after) = (Bytes::new(), Bytes::new());
    let mut content_type = parts::type_of(DICOM, Some(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN));
    if chosen.is_multipart {
        let boundary = boundary(record);
        let location = url(record, head.base_url());
        let syntax = Some(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        before = parts::located(&boundary, true, DICOM, syntax, &location).into();
        after = parts::tail(&boundary).into();
        content_type = parts::content_type(DICOM, &boundary);
    }
    let length = before.len() as u64 + file.length() + after.len() as u64;
    let body = stream::iter([Ok(before)]).chain(file.read()).chain(stream::iter([Ok(after)]));
    let response = describe(&etag).header(CONTENT_TYPE, content_type).header(CONTENT_LENGTH, length);
    finish(response, Body::from_stream(body))
}

/// Opens instances as parts. An instance that cannot be given as requested is given as it is stored: every
/// part names its transfer syntax.
fn opened(
    archive: Arc<Archive>,
    caller: Caller,
    accept: Accept,
    records: BoxStream<'static, Result<InstanceRecord, ArchiveError>>,
    base_url: Arc<str>,
) -> PartsOrOmissions<OpenPart> {
    let reader = Arc::new((archive.clone(), caller.clone(), accept));
    let for_size = reader.clone();
    let size = move |record: &Result<InstanceRecord, ArchiveError>| match record {
        Ok(record) if matches!(form_of_part(&for_size.2, record), InstanceForm::Stored) => {
            AheadSize::Stored(record.size_bytes)
        }
        _ => AheadSize::Made,
    };
    let open = move |record: Result<InstanceRecord, ArchiveError>, memory| {
        let (reader, base_url) = (Arc::clone(&reader), Arc::clone(&base_url));
        run_apart(async move {
            let (archive, caller, accept) = &*reader;
            let record = record?;
            Ok(match archive.retried(|| part(archive, caller, accept, &record)).await {
                Ok((bytes, transfer_syntax)) => {
                    let (location, bytes) = (url(&record, &base_url), holding(bytes, memory));
                    Ok(OpenPart { essence: DICOM, transfer_syntax, location, bytes })
                }
                Err(error) => Err(Omission { instance: record.instance, error }),
            })
        })
    };
    archive.opened_ahead(caller, records, size, open)
}

/// The representation of an instance among others: the default one if the instance has none that the client
/// accepts.
fn form_of_part(accept: &Accept, record: &InstanceRecord) -> InstanceForm {
    choose(accept, record, false).map_or_else(|_| default_form(record), |offer| form(record, &offer))
}

async fn part(
    archive: &Arc<Archive>,
    caller: &Caller,
    accept: &Accept,
    record: &InstanceRecord,
) -> Result<(PartBytes, String), ArchiveError> {
    let outcome = match form_of_part(accept, record) {
        InstanceForm::Stored => None,
        InstanceForm::Explicit => Some(
            explicit_file(archive, caller, record)
                .await
                .map(|file| (file.read(), transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)),
        ),
        InstanceForm::Transcoded(encoding) => Some(transcoded_part(archive, caller, record, encoding).await),
    };
    match outcome {
        Some(Ok((bytes, transfer_syntax))) => return Ok((bytes, transfer_syntax.to_owned())),
        Some(Err(error)) if !error.is_about_form() => return Err(error),
        None | Some(Err(_)) => {}
    }
    let bytes = archive.open_whole(caller, record).await?;
    Ok((bytes.map_err(ArchiveError::from).boxed(), record.transfer_syntax.clone()))
}

async fn transcoded_part(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    encoding: Encoding,
) -> Result<(PartBytes, &'static str), ArchiveError> {
    let file = transcode::transcoded(archive, caller, record, encoding).await?;
    let bytes = read_transcoded(archive, &file, 0..file.size_bytes).await?;
    Ok((bytes.map_err(ArchiveError::from).boxed(), encoding.transfer_syntax()))
}

/// The representation of an instance.
enum InstanceForm {
    /// As it is stored, with a file header.
    Stored,
    /// In Explicit VR Little Endian, transcoded while it is sent.
    Explicit,
    /// In another transfer syntax, transcoded as a whole file.
    Transcoded(Encoding),
}

/// The representation that suits the client best.
///
/// The default is Explicit VR Little Endian, but for instances that were compressed with loss. Instances that
/// are stored in a transfer syntax that web services shall not use are given in Explicit VR Little Endian
/// too, whatever the client accepts (PS3.18 §8.7.3.4).
fn choose(accept: &Accept, record: &InstanceRecord, is_single: bool) -> Result<Offer, Error> {
    let offers = |transfer_syntax: &str, is_default| offers(transfer_syntax, is_default, is_single);
    let stored = record.transfer_syntax.as_str();
    let is_default_stored =
        is_to_be_rewritten(record) || matches!(default_form(record), InstanceForm::Stored);
    let mut all = Offers::default();
    if transfer_syntax::is_of_web_services(stored) {
        all.stored = offers(stored, is_default_stored);
    }
    if stored != transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN {
        all.converted = offers(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, !is_default_stored);
    }
    let encoded = encodings(record).into_iter();
    all.encoded = encoded.flat_map(|encoding| offers(encoding.transfer_syntax(), false)).collect();
    negotiation::choose(accept, &all)
}

fn default_form(record: &InstanceRecord) -> InstanceForm {
    let stored = record.transfer_syntax.as_str();
    let is_stored =
        stored == transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN || transfer_syntax::may_be_lossy(stored);
    if is_stored && !is_to_be_rewritten(record) { InstanceForm::Stored } else { InstanceForm::Explicit }
}

fn form(record: &InstanceRecord, chosen: &Offer) -> InstanceForm {
    let encoding = encodings(record)
        .into_iter()
        .find(|encoding| chosen.transfer_syntax.as_deref() == Some(encoding.transfer_syntax()));
    match encoding {
        _ if is_to_be_rewritten(record) && is_stored(record, chosen) => InstanceForm::Explicit,
        _ if is_stored(record, chosen) => InstanceForm::Stored,
        Some(encoding) => InstanceForm::Transcoded(encoding),
        None => InstanceForm::Explicit,
    }
}

/// Whether an instance is stored in Explicit VR Little Endian with an encoding that breaks a rule in a place,
/// and is given with an encoding that breaks none.
fn is_to_be_rewritten(record: &InstanceRecord) -> bool {
    record.is_irregular && record.transfer_syntax == transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN
}

fn is_stored(record: &InstanceRecord, chosen: &Offer) -> bool {
    chosen.transfer_syntax.as_ref() == Some(&record.transfer_syntax)
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::archive::injected::panic_after;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::Config;
    use crate::dicom::build::DataSet;
    use crate::http::error::Cause;
    use crate::http::resources::router;
    use crate::index::Index;
    use crate::telemetry;

    const SERIES: &str = "/dicom-web/studies/1.2/series/1.3";

    /// An image of 2 x 4 pixels in one RLE segment.
    fn image() -> Vec<u8> {
        let mut frame = vec![0; 64];
        (frame[0], frame[4]) = (1, 64);
        frame.extend([7, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
        let data_set = DataSet::explicit()
            .text(0x0008_0016, "UI", "1.2.840.10008.5.1.4.1.1.7")
            .text(0x0008_0018, "UI", "1.3.1")
            .text(0x0020_000D, "UI", "1.2")
            .text(0x0020_000E, "UI", "1.3")
            .us(0x0028_0002, &[1])
            .text(0x0028_0004, "CS", "MONOCHROME2")
            .us(0x0028_0010, &[2])
            .us(0x0028_0011, &[4])
            .us(0x0028_0100, &[8])
            .us(0x0028_0101, &[8])
            .us(0x0028_0102, &[7])
            .us(0x0028_0103, &[0]);
        data_set.encapsulated(&[&[], &frame]).file(transfer_syntax::RLE_LOSSLESS)
    }

    async fn service() -> Arc<Service> {
        let config = Config::defaults();
        let archive = Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &config);
        let mut upload = archive.receive(&Caller::anonymous(), None).await;
        upload.write(image().into()).await;
        upload.finish().await.await.result.unwrap();
        Arc::new(Service::new(archive, &config, telemetry::metrics()).unwrap())
    }

    async fn get(service: &Arc<Service>, path: &str, accept: &str) -> Response<Body> {
        let request = axum::http::Request::get(path).header("host", "127.0.0.1").header("accept", accept);
        let request = request.body(Body::empty()).unwrap();
        router(service).oneshot(request).await.unwrap()
    }

    async fn length(response: Response<Body>) -> Result<usize, axum::Error> {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.map(|bytes| bytes.len())
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_the_server_goes_on() {
        let service = service().await;
        let instance = format!("{SERIES}/instances/1.3.1");
        let dicom = "application/dicom";
        let jpeg_2000 = "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90";
        for (path, accept, blocking_work) in [
            // The scan of the object and the decoding of the first frame; then those of a transcoded
            // instance.
            (instance.clone(), dicom, 2),
            (instance.clone(), jpeg_2000, 2),
            (format!("{instance}/frames/1"), "multipart/related; type=\"application/octet-stream\"", 1),
            (format!("{instance}/rendered"), "image/jpeg", 1),
            (format!("{instance}/thumbnail"), "image/jpeg", 1),
        ] {
            for work_before in 0..blocking_work {
                panic_after(work_before);
                let response = get(&service, &path, accept).await;
                assert_eq!(response.status(), 500, "{path} {accept} {work_before}");
                // The panic is in the log already.
                assert!(response.extensions().get::<Cause>().is_none());
            }
            let response = get(&service, &path, accept).await;
            assert_eq!(response.status(), 200, "{path} {accept}");
            assert!(length(response).await.unwrap() > 0);
        }
    }

    #[tokio::test]
    async fn no_instance_of_a_series_is_given_in_another_form_after_a_panic() {
        let service = service().await;
        for work_before in [0, 1] {
            panic_after(work_before);
            let response = get(&service, SERIES, "multipart/related; type=\"application/dicom\"").await;
            assert_eq!(response.status(), 500);
        }
        let response = get(&service, SERIES, "multipart/related; type=\"application/dicom\"").await;
        assert!(length(response).await.is_ok());
    }
}
