//! The storage classes of S3 that objects have.

use serde::Deserialize;

use crate::config::Bucket;

/// The storage class of each class of objects (setting `s3.storage_classes`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct StorageClasses(Vec<(Bucket, String)>);

impl StorageClasses {
    /// The storage class of objects of `class`; `None` for the bucket's own.
    pub fn of(&self, class: Bucket) -> Option<&str> {
        self.0.iter().find(|(of, _)| *of == class).map(|(_, storage)| storage.as_str())
    }
}

impl TryFrom<Vec<String>> for StorageClasses {
    type Error = String;

    fn try_from(entries: Vec<String>) -> Result<Self, String> {
        let mut classes = Vec::new();
        for entry in entries {
            let because = |reason: &str| format!("s3.storage_classes cannot have `{entry}`: {reason}");
            let parts = entry.split_once('=').map(|(class, storage)| (class.trim(), storage.trim()));
            let (class, storage) = parts.ok_or_else(|| because("the form is class=STORAGE_CLASS"))?;
            let class = Bucket::ALL.into_iter().find(|bucket| bucket.name() == class);
            let class = class
                .ok_or_else(|| because("the classes are originals, previews, thumbnails and temporary"))?;
            if storage.is_empty() || !storage.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                return Err(because("a storage class is written as in INTELLIGENT_TIERING"));
            }
            if classes.iter().any(|(known, _)| *known == class) {
                return Err(because("the class occurs twice"));
            }
            classes.push((class, storage.to_owned()));
        }
        Ok(Self(classes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_classes_are_given_by_class() {
        let classes = |entries: &[&str]| {
            StorageClasses::try_from(entries.iter().map(|entry| entry.to_string()).collect::<Vec<_>>())
        };
        let set = classes(&["originals=INTELLIGENT_TIERING", "temporary = STANDARD_IA"]).unwrap();
        assert_eq!(set.of(Bucket::Originals), Some("INTELLIGENT_TIERING"));
        assert_eq!(set.of(Bucket::Temporary), Some("STANDARD_IA"));
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
