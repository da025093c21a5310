//! The parameter `cursor` of a link to the next page: the place from which the search goes on. An extension.
//!
//! A cursor belongs to a tenant, a resource and a query. A checksum over all of them finds a cursor that was
//! altered, or that was given for another query. The checksum has no secret, because a cursor gives no right:
//! it holds a place, and the search looks for results of the caller's tenant alone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::query::ResultPlace;

/// The name of the parameter.
pub(super) const NAME: &str = "cursor";
/// The parameters that a page may change: they do not decide which results there are.
const CHANGEABLE: [&str; 6] = [NAME, "limit", "offset", "includefield", "accept", "charset"];
/// The version of the format.
const VERSION: u8 = 1;
/// The bytes of a checksum.
const CHECKSUM_BYTES: usize = 16;
/// The maximum length of a cursor. The longest place is that of two UIDs and an order with another.
const MAX_LENGTH: usize = 600;
/// The maximum length of the order in a place.
const MAX_ORDER_LENGTH: usize = 128;

/// The search that cursors are for.
pub(super) struct CursorScope(Sha256);

impl CursorScope {
    /// The search of a tenant, in a resource, with these parameters.
    pub(super) fn new(tenant: &str, resource: &str, parameters: &[(String, String)]) -> Self {
        let mut kept: Vec<_> = parameters
            .iter()
            .filter(|(name, _)| !CHANGEABLE.contains(&name.as_str()))
            .flat_map(|(name, value)| [name.as_str(), value.as_str()])
            .collect();
        kept.splice(..0, [tenant, resource]);
        let mut hash = Sha256::new_with_prefix([VERSION]);
        for text in kept {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        Self(hash)
    }

    fn checksum(&self, place: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let hash = self.0.clone().chain_update(place).finalize();
        std::array::from_fn(|at| hash[at])
    }

    /// The cursor of a place; `None` if it would be too long.
    pub(super) fn write(&self, place: &ResultPlace) -> Option<String> {
        let place = rmp_serde::to_vec(place).ok()?;
        let bytes = [&[VERSION], self.checksum(&place).as_slice(), &place].concat();
        let text = URL_SAFE_NO_PAD.encode(bytes);
        (text.len() <= MAX_LENGTH).then_some(text)
    }

    /// The place of a cursor.
    ///
    /// # Errors
    /// A description of the problem, for the client.
    pub(super) fn read(&self, text: &str) -> Result<ResultPlace, &'static str> {
        const INVALID: &str = "is no cursor of this server";
        let bytes = if text.len() > MAX_LENGTH { None } else { URL_SAFE_NO_PAD.decode(text).ok() };
        let bytes = bytes.ok_or(INVALID)?;
        let (version, rest) = bytes.split_first().ok_or(INVALID)?;
        let (checksum, place) = rest.split_first_chunk::<CHECKSUM_BYTES>().ok_or(INVALID)?;
        if *version != VERSION {
            return Err(INVALID);
        }
        if *checksum != self.checksum(place) {
            return Err("is not of this search: only `limit` and `includefield` may differ");
        }
        let place: ResultPlace = rmp_serde::from_slice(place).map_err(|_| INVALID)?;
        let is_order = |order: &str| {
            order.len() <= MAX_ORDER_LENGTH && order.bytes().all(|byte| byte.is_ascii_graphic())
        };
        (is_order(&place.order) && !place.order.is_empty()).then_some(place).ok_or(INVALID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn place() -> ResultPlace {
        ResultPlace {
            order: "20240103#083000000000#1.2.3".into(),
            series: Some("1.2.4".parse().unwrap()),
            instance: None,
            number: 70,
        }
    }

    #[test]
    fn a_cursor_is_of_its_tenant_resource_and_query() {
        let scope = |tenant: &str, resource: &str, list: &[(&str, &str)]| {
            CursorScope::new(tenant, resource, &pairs(list))
        };
        let text = scope("a", "/studies", &[("PatientID", "1"), ("limit", "5")]).write(&place()).unwrap();
        for (tenant, resource, list, is_valid) in [
            ("a", "/studies", &[("PatientID", "1"), ("limit", "5")][..], true),
            ("a", "/studies", &[("limit", "9"), ("PatientID", "1"), ("includefield", "all")], true),
            ("a", "/studies", &[("PatientID", "2")], false),
            ("a", "/studies", &[("PatientID", "1"), ("StudyDate", "20240101")], false),
            ("a", "/studies", &[("PatientID1", "")], false),
            ("a", "/series", &[("PatientID", "1")], false),
            ("b", "/studies", &[("PatientID", "1")], false),
        ] {
            let read = scope(tenant, resource, list).read(&text);
            assert_eq!(read.ok(), is_valid.then(place), "{tenant} {resource} {list:?}");
        }
    }

    #[test]
    fn a_cursor_that_was_altered_is_refused() {
        let scope = CursorScope::new("a", "/studies", &[]);
        let text = scope.write(&place()).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(scope.read(&URL_SAFE_NO_PAD.encode(altered)).is_err(), "{at}");
            assert!(scope.read(&URL_SAFE_NO_PAD.encode(&bytes[..at])).is_err(), "{at}");
        }
        let long = "A".repeat(MAX_LENGTH + 1);
        for text in ["", "x", "ÄÖ", "====", long.as_str()] {
            assert!(scope.read(text).is_err(), "{text}");
        }
        // Whoever computes the checksum still names no place that a table does not take.
        for order in ["", "2024\0", &"1".repeat(1000)] {
            let text = scope.write(&ResultPlace { order: order.into(), ..place() });
            assert!(text.is_none_or(|text| scope.read(&text).is_err()), "{order:?}");
        }
    }

    #[test]
    fn the_longest_place_has_a_cursor() {
        let uid = format!("1.{}", "2".repeat(62));
        let longest = ResultPlace {
            order: format!("20240103#083000000000#{uid}"),
            series: Some(uid.parse().unwrap()),
            instance: Some(uid.parse().unwrap()),
            number: usize::MAX,
        };
        let scope = CursorScope::new("a", "/instances", &[]);
        assert_eq!(scope.read(&scope.write(&longest).unwrap()), Ok(longest));
    }
}
