//! Seals: the hashes by which a change of a record, of a head or of a mark is found.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The use of a seal. Bytes that are sealed for one use are not valid for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SealUse {
    /// A record.
    Record,
    /// The head of a chain.
    Head,
    /// The beginning of a chain.
    Beginning,
    /// A mark of what was swept.
    Mark,
}

impl SealUse {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Record => b"cuspid audit record\n",
            Self::Head => b"cuspid audit head\n",
            Self::Beginning => b"cuspid audit chain\n",
            Self::Mark => b"cuspid audit mark\n",
        }
    }
}

/// The hash of a record.
pub(super) type SealHash = blake3::Hash;

/// Makes and checks seals: BLAKE3 of the bytes after a prefix, with a key if `audit.hash_key` is set.
pub(super) struct Sealer {
    key: Option<[u8; 32]>,
    /// A name for the key, from which the key cannot be found; empty without a key.
    key_id: String,
}

/// The fault of a sealed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SealFault {
    /// The hash is not that of the content.
    Changed,
    /// The content cannot be read.
    Unreadable,
}

impl Sealer {
    /// A sealer with the key of the settings; none if the text is empty.
    pub(super) fn new(text: &str) -> Self {
        if text.is_empty() {
            return Self { key: None, key_id: String::new() };
        }
        let id = blake3::derive_key("cuspid audit log, name of the key", text.as_bytes());
        let key = blake3::derive_key("cuspid audit log, seals", text.as_bytes());
        Self { key: Some(key), key_id: blake3::Hash::from(id).to_hex()[..16].to_owned() }
    }

    /// The name of the key.
    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The hash of bytes for a use.
    pub(super) fn hash(&self, seal_use: SealUse, bytes: &[u8]) -> SealHash {
        let mut hasher = match &self.key {
            Some(key) => blake3::Hasher::new_keyed(key),
            None => blake3::Hasher::new(),
        };
        hasher.update(seal_use.prefix()).update(bytes).finalize()
    }

    /// The body of an item with a value: its hash, then the value as JSON.
    pub(super) fn seal(&self, seal_use: SealUse, value: &impl Serialize) -> (Vec<u8>, SealHash) {
        let json = serde_json::to_vec(value).expect("keys are texts, and no map has others");
        let hash = self.hash(seal_use, &json);
        ([hash.as_bytes().as_slice(), &json].concat(), hash)
    }

    /// The value in the body of an item, with its hash.
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        seal_use: SealUse,
        body: &[u8],
    ) -> Result<(T, SealHash), SealFault> {
        let (hash, json) = parts(body).ok_or(SealFault::Unreadable)?;
        if self.hash(seal_use, json) != hash {
            return Err(SealFault::Changed);
        }
        let value = serde_json::from_slice(json).map_err(|_| SealFault::Unreadable)?;
        Ok((value, hash))
    }
}

/// The hash and the JSON in the body of an item, unchecked.
pub(super) fn parts(body: &[u8]) -> Option<(SealHash, &[u8])> {
    let (hash, json) = body.split_first_chunk::<32>()?;
    Some((blake3::Hash::from_bytes(*hash), json))
}
