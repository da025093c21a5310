//! The choice of a representation, and the error that lists all of them (PS3.18 §8.7).

use crate::http::error::Error;
use crate::http::request::accept::{Accept, Offer, Offers};

/// The offer that suits the client best (see [`Accept::choose_by_cost`]), or the error that lists all offers.
pub(in crate::http) fn choose(accept: &Accept, offers: &Offers) -> Result<Offer, Error> {
    let chosen = accept.choose_by_cost(offers).cloned();
    chosen.ok_or_else(|| not_acceptable(&offers.all().cloned().collect::<Vec<_>>()))
}

/// The error that lists the representations of a resource (PS3.18 §8.7.5).
pub(in crate::http) fn not_acceptable(offers: &[Offer]) -> Error {
    let list: Vec<String> = offers.iter().map(describe).collect();
    Error::NotAcceptable(format!("Accept: can be {}", list.join(", ")))
}

fn describe(offer: &Offer) -> String {
    let essence = offer.essence;
    let media_type = if offer.is_multipart {
        format!("multipart/related; type=\"{essence}\"")
    } else {
        essence.to_owned()
    };
    match &offer.transfer_syntax {
        Some(uid) => format!("{media_type}; transfer-syntax={uid}"),
        None => media_type,
    }
}
