//! The keys by which a provider signs (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::http::auth::token::Header;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Public keys that signatures can be checked by.
pub(super) struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    /// What it may be used for: the algorithm that it names, or those that go with its type.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Keys {
    /// Reads a JWK Set. Members that are for something else, symmetric, of unknown types or damaged are passed over.
    ///
    /// # Errors
    /// It is no JWK Set at all.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes)?;
        Ok(Self(set.keys.into_iter().filter_map(usable).collect()))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that a token says it is signed by. A token that names none is checked by the only one that suits.
    pub(super) fn find(&self, header: &Header) -> Option<&DecodingKey> {
        let suits = |key: &&Key| {
            key.algorithms.contains(&header.algorithm) && (header.key_id.is_none() || key.id == header.key_id)
        };
        let mut found = self.0.iter().filter(suits);
        let key = found.next()?;
        (header.key_id.is_some() || found.next().is_none()).then_some(&key.key)
    }
}

fn usable(member: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(member).ok()?;
    let common = &jwk.common;
    let is_for_signatures =
        common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies =
        common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_signatures || !verifies {
        return None;
    }
    let of_type: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        // A symmetric key among public ones is one that everybody knows.
        _ => &[],
    };
    let named = common.key_algorithm;
    let allowed =
        |algorithm: &Algorithm| named.is_none_or(|named| Algorithm::try_from(named).ok() == Some(*algorithm));
    let algorithms: Vec<_> = of_type.iter().copied().filter(allowed).collect();
    if algorithms.is_empty() {
        return None;
    }
    Some(Key { id: jwk.common.key_id.clone(), algorithms, key: DecodingKey::from_jwk(&jwk).ok()? })
}
