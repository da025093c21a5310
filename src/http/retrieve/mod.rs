//! WADO-RS: giving back (PS3.18 §10.4). A file is the last word of its URLs.

use crate::archive::records::InstanceRecord;
use crate::http::error::Error;
use crate::http::request::accept::{Accept, Offer};

pub(crate) mod bulk_values;
pub(crate) mod bulkdata;
pub(in crate::http) mod document;
pub(crate) mod frames;
pub(crate) mod instances;
pub(crate) mod metadata;
mod metadata_writer;
pub(in crate::http) mod pictures;
pub(crate) mod rendered;
pub(crate) mod thumbnail;
mod transcoded_frames;
mod zip;

/// The ETag of one form of an instance or of what is in it; the stored bytes decide, and so does the form.
fn etag(record: &InstanceRecord, form: &str) -> String {
    format!("\"{}-{form}\"", digest_prefix(record))
}

/// Enough of the digest to tell objects apart, and to serve as a boundary that cannot occur in the object: it
/// would have to contain its own digest.
fn digest_prefix(record: &InstanceRecord) -> &str {
    record.digest.get(..32).unwrap_or(&record.digest)
}

/// The offer that suits the client best (see [`Accept::choose_encoded`]), or the error that lists them all.
fn choose(accept: &Accept, at_hand: &[Offer], encoded: &[Offer]) -> Result<Offer, Error> {
    let chosen = accept.choose_encoded(at_hand, encoded).cloned();
    chosen.ok_or_else(|| not_acceptable(&[at_hand, encoded].concat()))
}

/// The URL of an instance.
pub(in crate::http) fn url(record: &InstanceRecord, base_url: &str) -> String {
    let InstanceRecord { study, series, instance, .. } = record;
    format!("{base_url}/studies/{study}/series/{series}/instances/{instance}")
}

/// The error that lists the forms in which a resource can be given (PS3.18 §8.7.5).
pub(in crate::http) fn not_acceptable(offers: &[Offer]) -> Error {
    let list: Vec<String> = offers.iter().map(describe).collect();
    Error::NotAcceptable(format!("Accept: can be {}", list.join(", ")))
}

fn describe(offer: &Offer) -> String {
    let essence = offer.essence;
    let form = if offer.is_multipart {
        format!("multipart/related; type=\"{essence}\"")
    } else {
        essence.to_owned()
    };
    match &offer.transfer_syntax {
        Some(uid) => format!("{form}; transfer-syntax={uid}"),
        None => form,
    }
}
