//! Digests of stored objects, which prove that an object is whole.
//!
//! New objects have a BLAKE3 digest, which takes a fifth of the time of SHA-256. Objects of earlier versions
//! have a SHA-256 digest, and keep it (docs/decisions/0108).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The number of bytes of a digest.
const DIGEST_BYTES: usize = 32;
/// The beginning of the text of a BLAKE3 digest. The full stop is no hexadecimal digit, so that the text of a
/// SHA-256 digest never begins like this.
const BLAKE3_PREFIX: &str = "b3.";

/// The algorithm of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// BLAKE3 with its usual length of 256 bits.
    Blake3,
}

impl DigestAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Blake3];
    /// The algorithm for new objects.
    pub const OF_NEW_OBJECTS: Self = Self::Blake3;

    /// The digest of some bytes.
    pub fn digest(self, bytes: &[u8]) -> ObjectDigest {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// The digest of an object.
///
/// As text, a SHA-256 digest is its lower case hexadecimal digits, and a BLAKE3 digest is `b3.` and its
/// digits. The text stands in rows, in names of objects and in validators of responses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ObjectDigest {
    algorithm: DigestAlgorithm,
    bytes: [u8; DIGEST_BYTES],
}

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a digest of a known algorithm")]
pub struct NotADigest;

impl ObjectDigest {
    /// The algorithm of the digest.
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// A beginning of the text, 32 characters, which is long enough to be unique.
    pub fn prefix(&self) -> String {
        let mut text = self.to_string();
        text.truncate(32);
        text
    }
}

impl fmt::Display for ObjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.algorithm {
            DigestAlgorithm::Sha256 => "",
            DigestAlgorithm::Blake3 => BLAKE3_PREFIX,
        };
        write!(f, "{prefix}{}", hexadecimal(&self.bytes))
    }
}

impl fmt::Debug for ObjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectDigest {
    type Err = NotADigest;

    /// Reads the text that [`fmt::Display`] writes, and no other.
    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let (algorithm, digits) = match text.strip_prefix(BLAKE3_PREFIX) {
            Some(digits) => (DigestAlgorithm::Blake3, digits),
            None => (DigestAlgorithm::Sha256, text),
        };
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return Err(NotADigest) };
        if pairs.len() != DIGEST_BYTES {
            return Err(NotADigest);
        }
        let mut bytes = [0; DIGEST_BYTES];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Ok(Self { algorithm, bytes })
    }
}

impl From<ObjectDigest> for String {
    fn from(digest: ObjectDigest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for ObjectDigest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

/// Computes a digest from bytes that come piece by piece.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// BLAKE3, whose state is large.
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// A hasher without bytes.
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        match algorithm {
            DigestAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            DigestAlgorithm::Blake3 => Self::Blake3(Box::default()),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> DigestAlgorithm {
        match self {
            Self::Sha256(_) => DigestAlgorithm::Sha256,
            Self::Blake3(_) => DigestAlgorithm::Blake3,
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// The digest of all bytes.
    pub fn finish(self) -> ObjectDigest {
        let (algorithm, bytes) = match self {
            Self::Sha256(hasher) => (DigestAlgorithm::Sha256, hasher.finalize().into()),
            Self::Blake3(hasher) => (DigestAlgorithm::Blake3, hasher.finalize().into()),
        };
        ObjectDigest { algorithm, bytes }
    }
}

/// Bytes in lower case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn digit(character: u8) -> Result<u8, NotADigest> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(NotADigest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests of `abc` by other programs.
    const ABC: [&str; 2] = [
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "b3.6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    ];

    #[test]
    fn a_digest_is_written_and_read_as_text() {
        for (algorithm, text) in DigestAlgorithm::ALL.into_iter().zip(ABC) {
            let digest = algorithm.digest(b"abc");
            assert_eq!((digest.to_string().as_str(), digest.algorithm()), (text, algorithm));
            assert_eq!(text.parse(), Ok(digest));
            assert_eq!(serde_json::to_value(digest).unwrap(), text);
            assert_eq!(serde_json::from_value::<ObjectDigest>(text.into()).unwrap(), digest);
            assert_eq!(digest.prefix(), text[..32]);
            let mut hasher = Hasher::new(algorithm);
            for byte in b"abc" {
                hasher.update(&[*byte]);
            }
            assert_eq!(hasher.finish(), digest);
            assert_ne!(algorithm.digest(b"abd"), digest);
        }
    }

    #[test]
    fn no_text_has_two_meanings() {
        for text in ABC {
            let other_form = text
                .strip_prefix(BLAKE3_PREFIX)
                .map_or_else(|| format!("{BLAKE3_PREFIX}{text}"), str::to_owned);
            let digests: [ObjectDigest; 2] = [text.parse().unwrap(), other_form.parse().unwrap()];
            assert_ne!(digests[0], digests[1]);
            for wrong in [
                text.to_uppercase(),
                text[1..].to_owned(),
                format!("{text}0"),
                format!("{text}00"),
                format!(" {text}"),
                text.replace('b', "g"),
                text.replacen('a', "é", 1),
            ] {
                assert_eq!(wrong.parse::<ObjectDigest>(), Err(NotADigest), "{wrong}");
            }
        }
        for wrong in ["", "b3.", "b3", "b4.00", "-"] {
            assert_eq!(wrong.parse::<ObjectDigest>(), Err(NotADigest), "{wrong}");
        }
    }
}
