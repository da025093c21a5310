//! Frames, by their numbers from 1 (PS3.18 §10.4.1.6): an index row and ranges of the stored object, or
//! transcoded frames on request.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::derived::transcode::{Codec, codecs};
use crate::archive::records::InstanceRecord;
use crate::dicom::frames::FrameTable;
use crate::dicom::transfer_syntax;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::{Accept, Offer, Offers};
use crate::http::request::path::{InstancePath, frame_numbers};
use crate::http::response::frame_list::{FrameList, FramePartHeads};
use crate::http::response::instance::{boundary, etag, url};
use crate::http::response::media_types::{OCTET_STREAM, of_frames};
use crate::http::response::multipart as parts;
use crate::http::response::negotiation::choose;
use crate::http::response::ranged::{RangedResponse, SegmentedBody};
use crate::http::retrieve::transcoded_frames::{self, etag_form};

/// `GET …/frames/{list}`.
pub(crate) async fn frames(
    State(service): State<Arc<Service>>,
    caller: Caller,
    path: InstancePath,
    head: Head,
) -> Result<Response<Body>, Error> {
    let numbers = frame_numbers(&path.rest)?;
    let record = service.archive.instance(&caller, &path.study, &path.series, &path.instance).await?;
    answer(&service.archive, caller, record, numbers, &head).await
}

/// Answers with frames in the representation that suits the client best.
pub(super) async fn answer(
    archive: &Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    numbers: Vec<u32>,
    head: &Head,
) -> Result<Response<Body>, Error> {
    // A missing frame is not found, whatever its representation.
    for &number in &numbers {
        archive.frame(&record, number)?;
    }
    let accept = head.accept();
    let (mut chosen, form) = choose_form(&accept, &record, numbers.len() == 1)?;
    match form {
        FrameForm::Stored => {}
        FrameForm::Encoded(codec) => {
            return transcoded_frames::answer(
                archive,
                &caller,
                &record,
                numbers,
                (&chosen, Some(codec)),
                head,
            )
            .await;
        }
        FrameForm::Decoded => {
            let answer =
                transcoded_frames::answer(archive, &caller, &record, numbers.clone(), (&chosen, None), head)
                    .await;
            let can_be_transcoded = !matches!(&answer, Err(Error::Archive(error)) if error.is_about_form());
            if can_be_transcoded || accept.names_transfer_syntax() || stores_native(&record) {
                return answer;
            }
            // A client that names no transfer syntax gets the stored one where there is no other (§8.7.3.4).
            chosen.transfer_syntax = Some(record.transfer_syntax.clone());
        }
    }
    let syntax = chosen.transfer_syntax.as_deref();
    let mut content = SegmentedBody::default();
    let content_type = if chosen.is_multipart {
        let boundary = boundary(&record);
        let heads = FramePartHeads::new(&chosen, boundary.clone(), url(&record, head.base_url()));
        content.frames(FrameList::new(archive, &record, &numbers, Some(heads))?);
        content.text(parts::tail(&boundary));
        parts::content_type(chosen.essence, &boundary)
    } else {
        content.frames(FrameList::new(archive, &record, &numbers, None)?);
        parts::type_of(chosen.essence, syntax)
    };
    let etag = etag(&record, &etag_form("stored", &chosen));
    RangedResponse { content, content_type, etag }.answer(archive, caller, record, head).await
}

/// The representation of frames.
#[derive(Debug, Clone, Copy)]
pub(super) enum FrameForm {
    /// As they are stored.
    Stored,
    /// As samples, if they are not stored as samples.
    Decoded,
    /// In another encoding.
    Encoded(Codec),
}

/// The representation that suits a client best; `is_single` says whether one body is possible.
///
/// # Errors
/// [`Error::NotAcceptable`] if the client accepts no representation. Transcoding to the chosen one can still
/// fail.
pub(super) fn choose_form(
    accept: &Accept,
    record: &InstanceRecord,
    is_single: bool,
) -> Result<(Offer, FrameForm), Error> {
    let chosen = choose(accept, &offers(record, is_single))?;
    let codec = codecs(record)
        .into_iter()
        .find(|codec| chosen.transfer_syntax.as_deref() == Some(codec.transfer_syntax()));
    let form = match codec {
        Some(codec) => FrameForm::Encoded(codec),
        None if is_decoded(record, &chosen) => FrameForm::Decoded,
        None => FrameForm::Stored,
    };
    Ok((chosen, form))
}

/// Frames as they are stored, in parts.
pub(super) fn stored_form(record: &InstanceRecord) -> (Offer, FrameForm) {
    let essence = of_frames(&record.transfer_syntax).unwrap_or(OCTET_STREAM);
    let transfer_syntax = Some(transfer_syntax::of_web_services(&record.transfer_syntax).to_owned());
    (Offer { is_multipart: true, essence, transfer_syntax, is_default: true }, FrameForm::Stored)
}

/// The representations of frames.
fn offers(record: &InstanceRecord, is_single: bool) -> Offers {
    let stored = record.transfer_syntax.as_str();
    let native = (OCTET_STREAM, transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, true);
    let (mut as_stored, mut converted, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
    if !stores_native(record) {
        as_stored.extend(of_frames(stored).map(|essence| (essence, stored, true)));
        // Compressed bytes of this type must be requested by their transfer syntax: by default, the type
        // means samples.
        as_stored.push((OCTET_STREAM, stored, false));
    }
    if stores_plain(record) {
        as_stored.push(native)
    } else {
        converted.push(native)
    }
    // The lossy ones are last.
    for codec in codecs(record) {
        let transfer_syntax = codec.transfer_syntax();
        // Without a transfer syntax, an image type means its lossless one (Table 8.7.3-5).
        let is_default = !transfer_syntax::may_be_lossy(transfer_syntax);
        encoded.extend(of_frames(transfer_syntax).map(|essence| (essence, transfer_syntax, is_default)));
        encoded.push((OCTET_STREAM, transfer_syntax, false));
    }
    Offers {
        stored: in_packings(&as_stored, is_single),
        converted: in_packings(&converted, is_single),
        encoded: in_packings(&encoded, is_single),
    }
}

fn in_packings(forms: &[(&'static str, &str, bool)], is_single: bool) -> Vec<Offer> {
    let packings = [true, false].into_iter().filter(|is_multipart| *is_multipart || is_single);
    let offer = |is_multipart, &(essence, transfer_syntax, is_default): &(&'static str, &str, bool)| {
        let transfer_syntax = Some(transfer_syntax.to_owned());
        Offer { is_multipart, essence, transfer_syntax, is_default }
    };
    packings.flat_map(|is_multipart| forms.iter().map(move |form| offer(is_multipart, form))).collect()
}

/// Whether an instance is stored with native samples, not with compressed frames.
pub(super) fn stores_native(record: &InstanceRecord) -> bool {
    matches!(record.layout.frames, FrameTable::Native { .. })
}

/// Whether a representation differs from the stored bytes: samples that are stored compressed, in big endian,
/// or not at the start of a byte.
fn is_decoded(record: &InstanceRecord, offer: &Offer) -> bool {
    let is_explicit = offer.transfer_syntax.as_deref() == Some(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
    is_explicit && !stores_plain(record)
}

/// Whether frames are stored as native samples in little endian, each frame from the start of a byte.
fn stores_plain(record: &InstanceRecord) -> bool {
    match record.layout.frames {
        FrameTable::Native { frame_bits, is_big_endian, .. } => frame_bits % 8 == 0 && !is_big_endian,
        FrameTable::Encapsulated { .. } | FrameTable::None => false,
    }
}
