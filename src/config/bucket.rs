//! Buckets, the classes of objects; and the names that buckets have in S3.

use serde::Deserialize;

/// A class of objects; a bucket on S3, a directory on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// Instances as they were sent, byte for byte.
    Originals,
    /// JPEG 2000 previews of series.
    Previews,
    /// Small rendered images.
    Thumbnails,
    /// Derived objects that may be removed at any time.
    Temporary,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Self; 4] = [Self::Originals, Self::Previews, Self::Thumbnails, Self::Temporary];

    /// The name of the bucket, in lower case letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Originals => "originals",
            Self::Previews => "previews",
            Self::Thumbnails => "thumbnails",
            Self::Temporary => "temporary",
        }
    }
}

/// The placeholder for the name of a class in a [`BucketNames`].
const CLASS: &str = "{class}";

/// The bucket of each class of objects, and the prefix of its keys there (setting `s3.bucket`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BucketNames {
    bucket: String,
    /// Empty, or ending in `/`.
    prefix: String,
}

impl BucketNames {
    /// Whether there is no bucket.
    pub fn is_empty(&self) -> bool {
        self.bucket.is_empty()
    }

    /// The bucket of a class.
    pub fn bucket(&self, class: Bucket) -> String {
        self.bucket.replace(CLASS, class.name())
    }

    /// The prefix of the keys of a class in its bucket.
    pub fn prefix(&self, class: Bucket) -> String {
        self.prefix.replace(CLASS, class.name())
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
            return because("it must hold {class} once, as in `clinic-{class}` or `clinic/{class}`");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket_names(text: &str) -> Result<BucketNames, String> {
        BucketNames::try_from(text.to_owned())
    }

    #[test]
    fn each_class_has_a_bucket_or_a_prefix_of_its_own() {
        for (text, bucket, prefix) in [
            ("clinic-{class}", "clinic-previews", ""),
            ("clinic/{class}", "clinic", "previews/"),
            ("{class}.clinic/a/b_c", "previews.clinic", "a/b_c/"),
            ("clinic/a/x-{class}/b", "clinic", "a/x-previews/b/"),
        ] {
            let names = bucket_names(text).unwrap();
            let found = (names.bucket(Bucket::Previews), names.prefix(Bucket::Previews));
            assert_eq!(found, (bucket.to_owned(), prefix.to_owned()), "{text}");
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
}
