//! Unique identifiers of studies, series and instances (PS3.5 §9), as types that cannot be mixed up.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Serialize};

/// A UID of a `Kind` of object: 1 to 64 digits and full stops, neither first nor last a full stop.
///
/// Leading zeros in a component are against PS3.5 §9.1 but occur, and are accepted. Every UID is safe
/// as a file name and as a URL segment.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid<Kind> {
    text: Box<str>,
    kind: PhantomData<fn() -> Kind>,
}

/// Marks the UID of a study.
pub enum StudyMarker {}
/// Marks the UID of a series.
pub enum SeriesMarker {}
/// Marks the UID of a SOP instance.
pub enum InstanceMarker {}

/// A Study Instance UID (0020,000D).
pub type StudyUid = Uid<StudyMarker>;
/// A Series Instance UID (0020,000E).
pub type SeriesUid = Uid<SeriesMarker>;
/// A SOP Instance UID (0008,0018).
pub type InstanceUid = Uid<InstanceMarker>;

/// The error of a text that is not a UID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a UID: 1 to 64 digits and full stops")]
pub struct InvalidUid(pub String);

impl<Kind> Uid<Kind> {
    /// The UID that is made of a hash, in the form of one that is made of a UUID (PS3.5 §B.2).
    pub fn of_hash(hash: [u8; 16]) -> Self {
        let number = uuid::Builder::from_custom_bytes(hash).into_uuid().as_u128();
        Self { text: format!("2.25.{number}").into(), kind: PhantomData }
    }

    /// The UID's characters.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<Kind> FromStr for Uid<Kind> {
    type Err = InvalidUid;

    fn from_str(text: &str) -> Result<Self, InvalidUid> {
        let well_formed = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && !text.starts_with('.')
            && !text.ends_with('.')
            && !text.contains("..");
        if well_formed {
            Ok(Self { text: text.into(), kind: PhantomData })
        } else {
            Err(InvalidUid(text.chars().take(80).collect()))
        }
    }
}

impl<Kind> TryFrom<String> for Uid<Kind> {
    type Error = InvalidUid;

    fn try_from(text: String) -> Result<Self, InvalidUid> {
        text.parse()
    }
}

impl<Kind> From<Uid<Kind>> for String {
    fn from(uid: Uid<Kind>) -> Self {
        uid.text.into()
    }
}

impl<Kind> Clone for Uid<Kind> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), kind: PhantomData }
    }
}

impl<Kind> fmt::Display for Uid<Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<Kind> fmt::Debug for Uid<Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<Kind> PartialEq for Uid<Kind> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<Kind> Eq for Uid<Kind> {}

impl<Kind> PartialOrd for Uid<Kind> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<Kind> Ord for Uid<Kind> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl<Kind> std::hash::Hash for Uid<Kind> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_of_a_hash_is_a_uid() {
        for hash in [[0; 16], [255; 16]] {
            let uid = StudyUid::of_hash(hash);
            assert_eq!(uid.as_str().parse::<StudyUid>().unwrap(), uid);
        }
    }

    #[test]
    fn what_could_leave_its_directory_is_no_uid() {
        for text in ["", ".", "..", "1..2", ".1", "1.", "../1", "1/2", "1.2\\3", "1.2\0", &"1".repeat(65)] {
            assert!(text.parse::<StudyUid>().is_err(), "{text:?}");
        }
        assert_eq!("1.2.840.010".parse::<StudyUid>().unwrap().as_str(), "1.2.840.010");
    }
}
