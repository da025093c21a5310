//! The settings of S3 that are more than a number or a text. They are checked while they are read.

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use serde::Deserialize;

use crate::blobs::{Bucket, Key};

/// The placeholder for the name of a class in [`BucketNames`].
const CLASS: &str = "{class}";

/// The bucket and key prefix of each class of objects: `s3.bucket`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BucketNames {
    bucket: String,
    /// Empty, or ending in `/`.
    prefix: String,
}

impl BucketNames {
    /// Whether the setting is empty.
    pub fn are_unset(&self) -> bool {
        self.bucket.is_empty()
    }

    /// The bucket of a class.
    pub(super) fn bucket(&self, class: Bucket) -> String {
        self.bucket.replace(CLASS, class.name())
    }

    /// The prefix of keys in the bucket of a class.
    pub(super) fn prefix(&self, class: Bucket) -> String {
        self.prefix.replace(CLASS, class.name())
    }

    /// The bucket of an object and its key there.
    pub(super) fn of(&self, key: &Key) -> (String, String) {
        (self.bucket(key.bucket), self.prefix(key.bucket) + &key.path)
    }
}

impl TryFrom<String> for BucketNames {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let because = |reason: &str| Err(format!("s3.bucket cannot be `{text}`: {reason}"));
        if text.matches(CLASS).count() != 1 {
            return because("it holds {class} once, as in `clinic-{class}` or `clinic/{class}`");
        }
        let (bucket, prefix) = text.split_once('/').unwrap_or((&text, ""));
        let is_safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        for class in Bucket::ALL {
            let name = bucket.replace(CLASS, class.name());
            let is_name = (3..=63).contains(&name.len()) && name.chars().all(is_safe);
            if !is_name || name.starts_with(['-', '.']) || name.ends_with(['-', '.']) {
                return because("a bucket's name has 3 to 63 lower case letters, digits, dots and hyphens");
            }
        }
        let segments = || prefix.replace(CLASS, "class");
        let is_segment = |segment: &str| {
            let is_safe = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            !matches!(segment, "" | "." | "..") && segment.chars().all(is_safe)
        };
        if text.contains('/') && !segments().split('/').all(is_segment) {
            return because(
                "what follows the bucket is letters, digits, `-`, `.` and `_` between single slashes",
            );
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

/// The storage class of each class of objects: `s3.storage_classes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct StorageClasses(Vec<(Bucket, StorageClass)>);

impl StorageClasses {
    /// The storage class of objects of `class`; `None` for the bucket's own.
    pub(super) fn of(&self, class: Bucket) -> Option<StorageClass> {
        self.0.iter().find(|(of, _)| *of == class).map(|(_, storage)| storage.clone())
    }
}

impl TryFrom<Vec<String>> for StorageClasses {
    type Error = String;

    fn try_from(entries: Vec<String>) -> Result<Self, String> {
        let mut classes = Vec::new();
        for entry in entries {
            let because = |reason: &str| format!("s3.storage_classes cannot have `{entry}`: {reason}");
            let parts = entry.split_once('=').map(|(class, storage)| (class.trim(), storage.trim()));
            let (class, storage) = parts.ok_or_else(|| because("it is written class=STORAGE_CLASS"))?;
            let class = Bucket::ALL.into_iter().find(|bucket| bucket.name() == class);
            let class = class
                .ok_or_else(|| because("the classes are originals, previews, thumbnails and temporary"))?;
            if storage.is_empty() || !storage.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                return Err(because("a storage class is written as in INTELLIGENT_TIERING"));
            }
            if classes.iter().any(|(known, _)| *known == class) {
                return Err(because("the class has another one already"));
            }
            classes.push((class, StorageClass::from(storage)));
        }
        Ok(Self(classes))
    }
}

/// The encryption of stored objects: `s3.encryption`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// By the default of the bucket.
    Bucket,
    /// With keys of S3.
    S3,
    /// With a key of a key management service.
    Kms,
}

impl Encryption {
    pub(super) fn header(self) -> Option<ServerSideEncryption> {
        match self {
            Self::Bucket => None,
            Self::S3 => Some(ServerSideEncryption::Aes256),
            Self::Kms => Some(ServerSideEncryption::AwsKms),
        }
    }
}

/// The checksum that is sent with an object's bytes, for the service to compare: `s3.checksum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// CRC-32.
    Crc32,
    /// SHA-256.
    Sha256,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket_names(text: &str) -> Result<BucketNames, String> {
        BucketNames::try_from(text.to_owned())
    }

    #[test]
    fn each_class_has_a_bucket_or_a_prefix_of_its_own() {
        let key = Key { bucket: Bucket::Previews, path: "t/1.2/3".into() };
        for (text, bucket, name) in [
            ("clinic-{class}", "clinic-previews", "t/1.2/3"),
            ("clinic/{class}", "clinic", "previews/t/1.2/3"),
            ("{class}.clinic/a/b_c", "previews.clinic", "a/b_c/t/1.2/3"),
            ("clinic/a/x-{class}/b", "clinic", "a/x-previews/b/t/1.2/3"),
        ] {
            let found = bucket_names(text).unwrap().of(&key);
            assert_eq!(found, (bucket.to_owned(), name.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_invalid_bucket_is_refused_by_name() {
        let long = format!("{}-{{class}}", "x".repeat(60));
        for text in [
            "clinic",
            "{class}{class}",
            "Clinic-{class}",
            "-{class}",
            "clinic_{class}",
            "clinic/{class}/",
            "clinic//{class}",
            "clinic/../{class}",
            "/{class}",
            "clinic/{class}/ü",
            &long,
        ] {
            let error = bucket_names(text).unwrap_err();
            assert!(error.starts_with(&format!("s3.bucket cannot be `{text}`")), "{error}");
        }
    }

    #[test]
    fn storage_classes_are_given_by_class() {
        let classes = |entries: &[&str]| {
            StorageClasses::try_from(entries.iter().map(|entry| entry.to_string()).collect::<Vec<_>>())
        };
        let set = classes(&["originals=INTELLIGENT_TIERING", "temporary = STANDARD_IA"]).unwrap();
        assert_eq!(set.of(Bucket::Originals), Some(StorageClass::IntelligentTiering));
        assert_eq!(set.of(Bucket::Temporary), Some(StorageClass::StandardIa));
        assert_eq!(set.of(Bucket::Previews), None);
        for entry in
            ["originals", "orginals=STANDARD", "archive=STANDARD", "originals=", "originals=standard"]
        {
            let error = classes(&[entry]).unwrap_err();
            assert!(error.starts_with(&format!("s3.storage_classes cannot have `{entry}`")), "{error}");
        }
        assert!(classes(&["temporary=STANDARD", "temporary=STANDARD_IA"]).is_err());
    }
}
