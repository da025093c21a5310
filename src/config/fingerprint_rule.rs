//! The certificates by which AE titles may call (setting `dimse.tls_fingerprints`).

use serde::Deserialize;

use crate::config::MAX_AE_TITLE_CHARACTERS;
use crate::digest::{DigestAlgorithm, ObjectDigest};

/// An entry of `dimse.tls_fingerprints`: `TITLE=SHA-256`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FingerprintRule {
    /// The AE title.
    pub ae_title: String,
    /// The SHA-256 of the certificate in DER form.
    pub fingerprint: ObjectDigest,
}

/// A text that is no entry of `dimse.tls_fingerprints`.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` cannot be in dimse.tls_fingerprints: an entry is TITLE=FINGERPRINT, the SHA-256 of a certificate in 64 \
     hexadecimal digits"
)]
pub struct NotAFingerprintRule(String);

impl TryFrom<String> for FingerprintRule {
    type Error = NotAFingerprintRule;

    fn try_from(text: String) -> Result<Self, NotAFingerprintRule> {
        read(&text).ok_or(NotAFingerprintRule(text))
    }
}

fn read(text: &str) -> Option<FingerprintRule> {
    let (title, digits) = text.rsplit_once('=')?;
    let title = title.trim();
    let is_title = !title.is_empty() && title.len() <= MAX_AE_TITLE_CHARACTERS && title.is_ascii();
    let digits = digits.trim().replace(':', "").to_ascii_lowercase();
    let fingerprint: ObjectDigest = digits.parse().ok()?;
    let is_valid = is_title && fingerprint.algorithm() == DigestAlgorithm::Sha256;
    is_valid.then(|| FingerprintRule { ae_title: title.to_owned(), fingerprint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_a_title_and_a_digest() {
        let plain = "0a".repeat(32);
        let with_colons = vec!["0A"; 32].join(":");
        for text in [format!("CT 1={plain}"), format!(" CT 1 = {with_colons}")] {
            let rule = FingerprintRule::try_from(text).unwrap();
            assert_eq!((rule.ae_title.as_str(), rule.fingerprint.to_string()), ("CT 1", plain.clone()));
        }
        let short = "0a".repeat(31);
        for text in [
            plain.clone(),
            format!("={plain}"),
            format!("CT={short}"),
            format!("CT={plain}0a"),
            "CT=zz".into(),
        ] {
            assert!(FingerprintRule::try_from(text.clone()).is_err(), "{text}");
        }
    }
}
