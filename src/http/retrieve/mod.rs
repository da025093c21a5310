//! WADO-RS: giving back (PS3.18 §10.4). A file is the last word of its URLs.

use crate::archive::records::InstanceRecord;
use crate::http::accept::{Accept, Offer};
use crate::http::error::Error;

pub(crate) mod bulkdata;
pub(in crate::http) mod document;
pub(crate) mod frames;
pub(crate) mod instances;
mod made_frames;
mod media_types;
pub(crate) mod metadata;
mod parts;

/// The ETag of one form of an instance or of what is in it; the stored bytes decide, and so does the form.
fn etag(record: &InstanceRecord, form: &str) -> String {
    format!("\"{}-{form}\"", digest_prefix(record))
}

/// Enough of the digest to tell objects apart, and to serve as a boundary that cannot occur in the object: it
/// would have to contain its own digest.
fn digest_prefix(record: &InstanceRecord) -> &str {
    record.digest.get(..32).unwrap_or(&record.digest)
}

/// The offer that suits the client best. What must be encoded for it is given if the client names its transfer syntax,
/// or if nothing else will do: those who take anything are not made to wait.
fn choose(accept: &Accept, at_hand: Vec<Offer>, encoded: Vec<Offer>) -> Result<Offer, Error> {
    let is_named = |offer: &Offer| offer.transfer_syntax.as_ref().is_some_and(|uid| accept.names(uid));
    let offers = [at_hand.as_slice(), &encoded].concat();
    let best = accept.choose(&offers).ok_or_else(|| not_acceptable(&offers))?;
    let instead = accept.choose(&at_hand).filter(|_| !is_named(best));
    Ok(instead.unwrap_or(best).clone())
}

/// The error that lists the forms in which a resource can be given (PS3.18 §8.7.5).
fn not_acceptable(offers: &[Offer]) -> Error {
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::http::header::ACCEPT;

    use super::*;

    #[test]
    fn frames_are_encoded_for_those_who_name_it_and_those_who_take_nothing_else() {
        let offer = |essence, transfer_syntax: &str, is_default| Offer {
            is_multipart: false,
            essence,
            transfer_syntax: Some(transfer_syntax.to_owned()),
            is_default,
        };
        let at_hand = vec![offer("application/octet-stream", "1.2.840.10008.1.2.1", true)];
        let encoded = vec![
            offer("image/jls", "1.2.840.10008.1.2.4.80", true),
            offer("image/jls", "1.2.840.10008.1.2.4.81", false),
        ];
        for (header, expected) in [
            ("image/jls; transfer-syntax=*, application/octet-stream; transfer-syntax=*", Some("1")),
            ("image/jls, application/octet-stream;q=0.5", Some("1")),
            ("*/*", Some("1")),
            ("image/jls", Some("4.80")),
            ("image/jls; transfer-syntax=*", Some("4.80")),
            ("image/jls; transfer-syntax=1.2.840.10008.1.2.4.81, application/octet-stream", Some("4.81")),
            ("image/jls; transfer-syntax=1.2.840.10008.1.2.4.81;q=0.5, application/octet-stream", Some("1")),
            ("image/jp2", None),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, header.parse().unwrap())]);
            let chosen = choose(&Accept::of(&headers, None), at_hand.clone(), encoded.clone()).ok();
            let chosen = chosen.and_then(|offer| offer.transfer_syntax);
            assert_eq!(chosen, expected.map(|leaf| format!("1.2.840.10008.1.2.{leaf}")), "{header}");
        }
    }
}
