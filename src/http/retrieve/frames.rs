//! Frames, by their numbers from 1 (PS3.18 §10.4.1.6): an index row and ranges of the stored object.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::records::InstanceRecord;
use crate::dicom::frames::Frames;
use crate::http::Service;
use crate::http::accept::{Accept, Offer};
use crate::http::content::{Content, Stable};
use crate::http::error::Error;
use crate::http::path::{Instance, frame_numbers};
use crate::http::request::Head;
use crate::http::retrieve::media_types::{EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM, of_frames};
use crate::http::retrieve::{digest_prefix, etag, not_acceptable, parts};

/// `GET …/frames/{list}`.
pub(crate) async fn frames(
    State(service): State<Arc<Service>>,
    caller: Caller,
    path: Instance,
    head: Head,
) -> Result<Response<Body>, Error> {
    let numbers = frame_numbers(&path.rest)?;
    let archive = &service.archive;
    let record = archive.instance(&caller, &path.study, &path.series, &path.instance).await?;
    let stable = stored(archive, &record, &numbers, &head)?;
    stable.answer(archive, caller, record, &head).await
}

/// Frames as they are stored, in the form that suits the client best.
pub(super) fn stored(
    archive: &Archive,
    record: &InstanceRecord,
    numbers: &[u32],
    head: &Head,
) -> Result<Stable, Error> {
    let mut ranges = Vec::with_capacity(numbers.len());
    for &number in numbers {
        ranges.push(archive.frame(record, number)?);
    }
    let offers = offers(record, numbers.len() == 1);
    let chosen = choose(&head.accept(), &offers).ok_or_else(|| not_acceptable(&offers))?;
    let syntax = chosen.transfer_syntax.as_deref();
    let mut content = Content::default();
    if !chosen.is_multipart {
        ranges.into_iter().flatten().for_each(|range| content.stored(range));
        let content_type = syntax.map(|uid| format!("{}; transfer-syntax={uid}", chosen.essence));
        let content_type = content_type.unwrap_or_else(|| chosen.essence.to_owned());
        return Ok(Stable { content, content_type, etag: etag(record, &form("s", chosen)) });
    }
    let boundary = format!("cuspid-{}", digest_prefix(record));
    for (index, frame) in ranges.into_iter().enumerate() {
        content.text(parts::head(&boundary, index == 0, chosen.essence, syntax));
        frame.into_iter().for_each(|range| content.stored(range));
    }
    content.text(parts::tail(&boundary));
    let content_type = parts::content_type(chosen.essence, &boundary);
    Ok(Stable { content, content_type, etag: etag(record, &form("m", chosen)) })
}

/// The form of an answer, for its ETag.
fn form(kind: &str, offer: &Offer) -> String {
    let named: String = offer.essence.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{kind}-{named}")
}

/// The forms in which stored frames can be given.
fn offers(record: &InstanceRecord, is_single: bool) -> Vec<Offer> {
    let is_native = matches!(record.layout.frames, Frames::Native { .. });
    let syntax = if is_native { EXPLICIT_VR_LITTLE_ENDIAN } else { &record.transfer_syntax };
    let compressed = if is_native { None } else { of_frames(syntax) };
    let offer = |is_multipart, essence, is_default| {
        let transfer_syntax = Some(syntax.to_owned());
        Offer { is_multipart, essence, transfer_syntax, is_default }
    };
    let mut offers = Vec::new();
    for is_multipart in [true, false] {
        if is_multipart || is_single {
            offers.extend(compressed.map(|essence| offer(is_multipart, essence, true)));
            // Compressed bytes in this type must be asked for by their syntax: by default it means samples.
            offers.push(offer(is_multipart, OCTET_STREAM, is_native));
        }
    }
    offers
}

/// The offer that suits best. A client that names no transfer syntax gets the stored one rather than nothing
/// (PS3.18 §8.7.3.4).
fn choose<'a>(accept: &Accept, offers: &'a [Offer]) -> Option<&'a Offer> {
    accept.choose(offers).or_else(|| {
        let relaxed: Vec<Offer> = offers.iter().map(|offer| Offer { is_default: true, ..offer.clone() }).collect();
        let chosen = accept.choose(&relaxed)?;
        offers.iter().find(|offer| (offer.is_multipart, offer.essence) == (chosen.is_multipart, chosen.essence))
    })
}
