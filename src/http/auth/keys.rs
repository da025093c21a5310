//! The keys with which a provider signs tokens (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::http::auth::token::TokenHeader;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Public keys that check signatures.
pub(super) struct KeySet(Vec<SigningKey>);

struct SigningKey {
    id: Option<String>,
    /// The algorithms that the key may be used for: the one that the key names, or those of its type.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Parses a JWK Set. Members that are for another use, symmetric, of unknown types or damaged are
    /// skipped.
    ///
    /// # Errors
    /// If the text is no JWK Set.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes)?;
        Ok(Self(set.keys.into_iter().filter_map(usable).collect()))
    }

    /// Whether there are no keys.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that a token names. A token without a key ID is checked by the only key that fits its
    /// algorithm.
    pub(super) fn find(&self, header: &TokenHeader) -> Option<&DecodingKey> {
        let suits = |key: &&SigningKey| {
            key.algorithms.contains(&header.algorithm) && (header.key_id.is_none() || key.id == header.key_id)
        };
        let mut found = self.0.iter().filter(suits);
        let key = found.next()?;
        (header.key_id.is_some() || found.next().is_none()).then_some(&key.key)
    }
}

fn usable(member: Value) -> Option<SigningKey> {
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
        // A symmetric key in a public set is no secret.
        _ => &[],
    };
    let named = common.key_algorithm;
    let allowed =
        |algorithm: &Algorithm| named.is_none_or(|named| Algorithm::try_from(named).ok() == Some(*algorithm));
    let algorithms: Vec<_> = of_type.iter().copied().filter(allowed).collect();
    if algorithms.is_empty() {
        return None;
    }
    Some(SigningKey { id: jwk.common.key_id.clone(), algorithms, key: DecodingKey::from_jwk(&jwk).ok()? })
}
