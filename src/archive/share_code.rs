//! The codes of links: short secrets that people type, stored as a slow hash, with a limit on tries.

use std::num::NonZero;

use aws_lc_rs::pbkdf2;
use unicode_normalization::UnicodeNormalization;

use crate::archive::signing::random_bytes;
use crate::archive::{Error, run_blocking};
use crate::config::SharingSettings;
use crate::index::shares::{CodeHash, CodeTries};

/// The iterations of PBKDF2-HMAC-SHA-256: a tenth of a second for one guess.
const ITERATIONS: u32 = if cfg!(test) { 1000 } else { 210_000 };
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// The most characters of a code.
const MAX_CHARACTERS: usize = 64;
const MILLIS_OF_MINUTE: i64 = 60 * 1000;

/// The outcome of counting a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum CodeTry {
    /// The try was counted, and the code may be compared.
    Counted,
    /// There were too many tries in this minute.
    TooMany,
    /// There were too many wrong codes.
    Locked,
}

/// The outcome of comparing a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum CodeCheck {
    /// The code is right.
    Right,
    /// The code is another.
    Wrong,
}

impl CodeTry {
    /// Counts a try, as one with a wrong code until the code was compared.
    pub(in crate::archive) fn count(tries: &mut CodeTries, now: i64, settings: &SharingSettings) -> Self {
        if tries.failed >= settings.max_wrong_codes {
            return Self::Locked;
        }
        let minute = now.div_euclid(MILLIS_OF_MINUTE);
        if tries.minute != minute {
            (tries.minute, tries.in_minute) = (minute, 0);
        }
        if tries.in_minute >= settings.code_tries_per_minute {
            return Self::TooMany;
        }
        tries.in_minute += 1;
        tries.failed += 1;
        Self::Counted
    }
}

/// The code without spaces around it, in the composed form of Unicode (NFC): systems differ in how they
/// compose what a person types.
fn normalized(code: &str) -> String {
    code.trim().nfc().collect()
}

/// The code as it is hashed, if it has a length that is allowed; or the reason.
pub(in crate::archive) fn check_form(code: &str, settings: &SharingSettings) -> Result<String, String> {
    let code = normalized(code);
    let (least, count) = (settings.min_code_characters.min(MAX_CHARACTERS), code.chars().count());
    if (least..=MAX_CHARACTERS).contains(&count) {
        return Ok(code);
    }
    Err(format!("has {least} to {MAX_CHARACTERS} characters (sharing.min_code_characters)"))
}

/// Hashes a code in the form of [`check_form`].
pub(in crate::archive) async fn hashed(code: String) -> Result<CodeHash, Error> {
    let salt = random_bytes::<SALT_BYTES>()?.to_vec();
    run_blocking(None, move || {
        let mut hash = vec![0; HASH_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds(ITERATIONS), &salt, code.as_bytes(), &mut hash);
        CodeHash { salt, hash, iterations: ITERATIONS }
    })
    .await
}

/// Compares a code with a hash.
pub(in crate::archive) async fn check(
    code: &str,
    CodeHash { salt, hash, iterations }: CodeHash,
) -> Result<CodeCheck, Error> {
    let code = normalized(code).chars().take(MAX_CHARACTERS + 1).collect::<String>();
    let verified = run_blocking(None, move || {
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, rounds(iterations), &salt, code.as_bytes(), &hash)
    });
    Ok(if verified.await?.is_ok() { CodeCheck::Right } else { CodeCheck::Wrong })
}

fn rounds(iterations: u32) -> NonZero<u32> {
    NonZero::new(iterations).unwrap_or(NonZero::<u32>::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_code_is_right_or_wrong() {
        let hash = hashed("482913".into()).await.unwrap();
        assert_ne!(hash.salt, hashed("482913".into()).await.unwrap().salt);
        for (code, expected) in [
            ("482913", CodeCheck::Right),
            (" 482913\n", CodeCheck::Right),
            ("482914", CodeCheck::Wrong),
            ("", CodeCheck::Wrong),
            ("4829130", CodeCheck::Wrong),
        ] {
            assert_eq!(check(code, hash.clone()).await.unwrap(), expected, "{code:?}");
        }
    }

    #[tokio::test]
    async fn a_code_is_right_however_its_characters_are_composed() {
        let (composed, decomposed) =
            ("\u{ae40}\u{bbfc}\u{c900}caf\u{e9}", "\u{1100}\u{1175}\u{11b7}민준cafe\u{301}");
        for (stored, typed) in [(composed, decomposed), (decomposed, composed)] {
            let code = check_form(stored, &Config::defaults().sharing).unwrap();
            assert_eq!(
                check(typed, hashed(code).await.unwrap()).await.unwrap(),
                CodeCheck::Right,
                "{typed:?}"
            );
        }
    }

    #[test]
    fn tries_are_limited_in_a_minute_and_in_all() {
        let settings =
            SharingSettings { code_tries_per_minute: 3, max_wrong_codes: 7, ..Config::defaults().sharing };
        let mut tries = CodeTries::default();
        let mut outcomes = Vec::new();
        for minute in 0..3 {
            for _ in 0..5 {
                outcomes.push(CodeTry::count(&mut tries, minute * MILLIS_OF_MINUTE, &settings));
            }
        }
        use CodeTry::{Counted, Locked, TooMany};
        let first = [Counted, Counted, Counted, TooMany, TooMany];
        let last = [Counted, Locked, Locked, Locked, Locked];
        assert_eq!(outcomes, [first, first, last].concat());
    }

    #[test]
    fn codes_have_a_length() {
        let settings = Config::defaults().sharing;
        assert_eq!(check_form(" abcdef ", &settings).unwrap(), "abcdef");
        for code in ["", "12345", &"1".repeat(65)] {
            assert!(check_form(code, &settings).is_err(), "{code}");
        }
    }
}
