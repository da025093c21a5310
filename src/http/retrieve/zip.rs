//! Instances as a zip file: of a study, a series, a part of one, or one instance (docs/decisions/0060).
//! PS3.18 has no such representation of instances; clients request it by the media type, as elsewhere.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, WARNING};
use axum::http::response::Builder;
use axum::http::{Response, StatusCode};
use futures_util::TryStreamExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::archive::access::Caller;
use crate::archive::derived::deidentified_zip::copies_zip;
use crate::archive::read::zip_download::ZipContents;
use crate::archive::scope::Scope;
use crate::dicom::deidentify::Deidentifier;
use crate::dicom::uid::InstanceUid;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::{Accept, Offer};
use crate::http::response::instance::DICOM;
use crate::http::response::negotiation::not_acceptable;
use crate::http::response::ranged::{describe, finish};
use crate::http::retrieve::available_parts::{incomplete, log_end, omission_warning};
use crate::http::warning::warning;

pub(super) const ZIP: &str = "application/zip";
/// The most characters of the parameter `filename`.
const MAX_NAME_CHARACTERS: usize = 200;

/// Whether a client prefers a zip file to instances as such.
pub(super) fn is_asked_for(accept: &Accept) -> bool {
    let offer =
        |is_multipart, essence| Offer { is_multipart, essence, transfer_syntax: None, is_default: true };
    let offers = [offer(true, DICOM), offer(false, DICOM), offer(false, ZIP)];
    accept.choose(&offers).is_some_and(|chosen| chosen.essence == ZIP)
}

/// Answers with a zip file of what `scope` names.
pub(super) async fn answer(
    service: &Service,
    caller: &Caller,
    scope: Scope,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let (archive, limit) = (&service.archive, service.settings.max_zip_instances);
    let ZipParameters { positions, with_directory, file_name } = parameters(head, &scope)?;
    let part = part(positions.as_ref());
    let form = if with_directory { "fileset" } else { "zip" };
    let etag = format!("\"{}-{form}{part}\"", archive.version(caller, &scope).await?);
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let disposition = disposition(&uid_name(&scope, &part), file_name.as_deref());
    let zip = archive.zip(caller, &ZipContents { scope, positions, with_directory }, limit).await?;
    for stored in zip.transfer_syntaxes() {
        may_be_stored_in(&head.accept(), stored)?;
    }
    let length = zip.length();
    let (bytes, missing) = zip.read(archive, caller).await?;
    let response = begin(&missing, &etag)
        .header(CONTENT_TYPE, ZIP)
        .header(CONTENT_LENGTH, length)
        .header(CONTENT_DISPOSITION, disposition);
    finish(response, Body::from_stream(bytes.inspect_err(log_end)))
}

/// Answers with a zip file of the de-identified copies of what `scope` names. The name of the file is the UID
/// of the copy, whatever the client calls it: a name may be that of the patient.
pub(super) async fn answer_copies(
    service: &Service,
    caller: &Caller,
    scope: Scope,
    head: &Head,
    deidentifier: &Arc<Deidentifier>,
) -> Result<Response<Body>, Error> {
    let (archive, limit) = (&service.archive, service.settings.max_zip_instances);
    let ZipParameters { positions, with_directory, .. } = parameters(head, &scope)?;
    if with_directory {
        return Err(wrong("dicomdir", "cannot be given together with anonymize"));
    }
    let part = part(positions.as_ref());
    let version = deidentifier.validator(&archive.version(caller, &scope).await?);
    let etag = format!("\"{version}-zip{part}\"");
    if head.has(&etag) {
        return finish(describe(&etag).status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let uid = scope.instance.as_ref().map(|uid| uid.as_str().to_owned());
    let uid = uid.or_else(|| scope.series.as_ref().map(|uid| uid.as_str().to_owned()));
    let uid = deidentifier.uid(&uid.unwrap_or_else(|| scope.study.as_str().to_owned()));
    let copies = copies_zip(archive, caller, &scope, positions.as_ref(), limit, deidentifier).await?;
    let mut response = begin(&copies.missing, &etag);
    if let Some(message) = copies.survey.message() {
        response = response.header(WARNING, warning(&message));
    }
    let response = response
        .header(CONTENT_TYPE, ZIP)
        .header(
            CONTENT_LOCATION,
            format!("{}/studies/{}", head.base_url(), deidentifier.uid(scope.study.as_str())),
        )
        .header(CONTENT_DISPOSITION, disposition(&format!("{uid}{part}.zip"), None));
    finish(response, Body::from_stream(copies.bytes.inspect_err(log_end)))
}

/// The text for positions in names and validators.
fn part(positions: Option<&RangeInclusive<usize>>) -> String {
    positions.map_or_else(String::new, |part| format!("-{}-{}", part.start(), part.end()))
}

/// The response, whose head says whether instances are missing. The status is 200 in any case: browsers end a
/// download with 206 that they did not request in parts.
fn begin(missing: &[InstanceUid], etag: &str) -> Builder {
    match missing {
        [] => describe(etag),
        missing => incomplete().header(WARNING, omission_warning(missing.len(), missing)),
    }
}

/// Refuses a transfer syntax that the client excludes: a zip file holds instances as they are stored.
fn may_be_stored_in(accept: &Accept, stored: &str) -> Result<(), Error> {
    let transfer_syntax = Some(stored.to_owned());
    let offers = [Offer { is_multipart: false, essence: ZIP, transfer_syntax, is_default: true }];
    accept.choose(&offers).map(drop).ok_or_else(|| not_acceptable(&offers))
}

/// The query parameters of a zip file.
#[derive(Debug, Default)]
struct ZipParameters {
    /// The positions of the instances of a series, from 1; `None` for all.
    positions: Option<RangeInclusive<usize>>,
    /// Whether the file has a DICOMDIR.
    with_directory: bool,
    /// The name of the file.
    file_name: Option<String>,
}

/// Reads the query parameters `instances`, `dicomdir` and `filename`.
fn parameters(head: &Head, scope: &Scope) -> Result<ZipParameters, Error> {
    let mut found = ZipParameters::default();
    for (name, value) in head.query_pairs() {
        match name.as_str() {
            "instances" if scope.series.is_none() || scope.instance.is_some() => {
                return Err(wrong(&name, "is for a series"));
            }
            "instances" => {
                found.positions = Some(
                    read_positions(&value)
                        .ok_or_else(|| wrong(&name, "is not a range of positions from 1, as in 10-60"))?,
                );
            }
            "dicomdir" => {
                found.with_directory = match value.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(wrong(&name, "is neither true nor false")),
                }
            }
            "filename" if value.chars().count() > MAX_NAME_CHARACTERS => {
                return Err(wrong(&name, "is too long"));
            }
            "filename"
                if value.contains(|character: char| character.is_control() || "/\\".contains(character)) =>
            {
                return Err(wrong(&name, "holds a character that names of files cannot have"));
            }
            "filename" => found.file_name = Some(value).filter(|name| !name.is_empty()),
            _ => {}
        }
    }
    Ok(found)
}

fn wrong(name: &str, reason: &str) -> Error {
    Error::Parameter { name: name.into(), reason: reason.into() }
}

/// `first-last`, `first-` or one position, from 1.
fn read_positions(text: &str) -> Option<RangeInclusive<usize>> {
    let position = |text: &str| text.trim().parse::<usize>().ok().filter(|position| *position > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first = position(first)?;
    let last = if last.trim().is_empty() { usize::MAX } else { position(last)? };
    (first <= last).then_some(first..=last)
}

/// Content-Disposition of a file with a name of ASCII characters, and another name that browsers prefer
/// (RFC 6266 §4.3, RFC 8187).
pub(super) fn disposition(name: &str, preferred: Option<&str>) -> String {
    let preferred = preferred.map_or_else(String::new, |preferred| {
        format!("; filename*=UTF-8''{}", utf8_percent_encode(preferred, NON_ALPHANUMERIC))
    });
    format!("attachment; filename=\"{name}\"{preferred}")
}

/// The name of the file without the parameter `filename`.
fn uid_name(scope: &Scope, part: &str) -> String {
    let instance = scope.instance.as_ref().map(ToString::to_string);
    let series = scope.series.as_ref().map(ToString::to_string);
    let uid = instance.or(series).unwrap_or_else(|| scope.study.to_string());
    format!("{uid}{part}.zip")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_field() {
        assert_eq!(disposition("1.2.zip", None), "attachment; filename=\"1.2.zip\"");
        assert_eq!(
            disposition("1.2.zip", Some("김 \"x\"; a=b.zip")),
            "attachment; filename=\"1.2.zip\"; filename*=UTF-8''%EA%B9%80%20%22x%22%3B%20a%3Db%2Ezip"
        );
    }

    #[test]
    fn positions_are_read() {
        for (text, expected) in [
            ("10-60", Some(10..=60)),
            ("7", Some(7..=7)),
            ("7-", Some(7..=usize::MAX)),
            ("1-1", Some(1..=1)),
            ("0-3", None),
            ("3-2", None),
            ("", None),
            ("-3", None),
            ("a-b", None),
            ("1-2-3", None),
            ("1-99999999999999999999999", None),
        ] {
            assert_eq!(read_positions(text), expected, "{text}");
        }
    }
}
