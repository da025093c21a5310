//! Replacements that are the same each time: they depend on a secret of the tenant and on the value that is
//! replaced, and nothing of the value can be found without the secret.

use crate::dicom::uid::InstanceUid;

/// The most days by which dates move, and the least.
const MAX_DAYS: u64 = 3650;
const MIN_DAYS: u64 = 365;
/// Characters that are not mistaken for each other.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Characters of a pseudonym, of 5 bits each.
const PSEUDONYM_CHARACTERS: usize = 12;

/// The secret of a tenant: 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PseudonymSecret(pub [u8; 32]);

/// Shows nothing of the secret.
impl std::fmt::Debug for PseudonymSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PseudonymSecret(…)")
    }
}

impl PseudonymSecret {
    /// A keyed hash (BLAKE3) of a text, different for each purpose.
    fn hash(&self, purpose: &str, text: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(purpose.as_bytes());
        hasher.update(&[0]);
        hasher.update(text);
        *hasher.finalize().as_bytes()
    }

    /// The UID in the place of another: `2.25.` and a number of 122 random bits (PS3.5 §B.2).
    pub fn uid(&self, uid: &str) -> String {
        let hash = self.hash("uid", uid.as_bytes());
        InstanceUid::of_hash(hash.first_chunk().copied().unwrap_or_default()).to_string()
    }

    /// The name and the ID in the place of those of a patient.
    pub fn patient(&self, patient: &[u8]) -> String {
        let hash = self.hash("patient", patient);
        let letters = hash.iter().take(PSEUDONYM_CHARACTERS);
        let letters = letters.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
        format!("ANON-{}", letters.collect::<String>())
    }

    /// The days by which the dates of a patient are earlier.
    pub fn days(&self, patient: &[u8]) -> i64 {
        let hash = self.hash("dates", patient);
        let number = u64::from_le_bytes(hash.first_chunk().copied().unwrap_or_default());
        (MIN_DAYS + number % (MAX_DAYS - MIN_DAYS + 1)) as i64
    }

    /// A text that stands for a representation of something, and tells nothing of it.
    pub fn opaque(&self, text: &str) -> String {
        blake3::Hash::from_bytes(self.hash("validator", text.as_bytes())).to_hex()[..32].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_are_the_same_for_the_same_secret_only() {
        let (one, other) = (PseudonymSecret([1; 32]), PseudonymSecret([2; 32]));
        for uid in ["1.2.3", "1.2.4", ""] {
            assert_eq!(one.uid(uid), one.uid(uid));
            assert_ne!(one.uid(uid), other.uid(uid));
            assert!(one.uid(uid).parse::<InstanceUid>().is_ok());
        }
        assert_ne!(one.uid("1.2.3"), one.uid("1.2.4"));
        assert_ne!(one.patient(b"P1"), one.patient(b"P2"));
        assert_ne!(one.patient(b"P1"), other.patient(b"P1"));
        let days: Vec<i64> = (0..200_u8).map(|patient| one.days(&[patient])).collect();
        assert!(days.iter().all(|days| (365..=3650).contains(days)));
        assert!(days.iter().collect::<std::collections::BTreeSet<_>>().len() > 150);
        assert_eq!(format!("{one:?}"), "PseudonymSecret(…)");
    }
}
