//! Text encoded in a character set that a peer reads (PS3.3 §C.12.1.1.2, PS3.5 §6.1).
//!
//! The counterpart of [`crate::dicom::charset`]. Only character sets in which a text has one form are
//! written; all others are replaced by UTF-8.

use encoding_rs::{
    EUC_KR, Encoding, GB18030, GBK, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5, ISO_8859_6,
    ISO_8859_7, ISO_8859_8, ISO_8859_15, UTF_8, WINDOWS_874, WINDOWS_1252, WINDOWS_1254,
};

/// The escape sequence that designates KS X 1001 as G1 (PS3.3 Table C.12-4).
const KOREAN: &[u8] = b"\x1B$)C";

/// A character set to write text in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repertoire {
    /// The value of Specific Character Set (0008,0005).
    pub term: &'static str,
    encoding: &'static Encoding,
    /// Whether bytes of 80H to 9FH, which are control characters in the sets of ISO 8859, must not occur.
    has_no_c1: bool,
    /// The escape sequence before a text that is not in ASCII.
    escape: &'static [u8],
}

impl Repertoire {
    /// UTF-8.
    pub const UNICODE: Self = Self { term: "ISO_IR 192", encoding: UTF_8, has_no_c1: false, escape: b"" };

    /// The repertoire for a peer that sent this value of Specific Character Set; UTF-8 if the value names no
    /// set, or one that is not written.
    pub fn of_peer(value: &str) -> Self {
        let terms: Vec<&str> = value.split('\\').map(str::trim).collect();
        let latin = |term, encoding| Self { term, encoding, has_no_c1: true, ..Self::UNICODE };
        let wide = |term, encoding| Self { term, encoding, ..Self::UNICODE };
        match terms[..] {
            ["ISO_IR 100" | "ISO 2022 IR 100"] => latin("ISO_IR 100", WINDOWS_1252),
            ["ISO_IR 101" | "ISO 2022 IR 101"] => latin("ISO_IR 101", ISO_8859_2),
            ["ISO_IR 109" | "ISO 2022 IR 109"] => latin("ISO_IR 109", ISO_8859_3),
            ["ISO_IR 110" | "ISO 2022 IR 110"] => latin("ISO_IR 110", ISO_8859_4),
            ["ISO_IR 144" | "ISO 2022 IR 144"] => latin("ISO_IR 144", ISO_8859_5),
            ["ISO_IR 127" | "ISO 2022 IR 127"] => latin("ISO_IR 127", ISO_8859_6),
            ["ISO_IR 126" | "ISO 2022 IR 126"] => latin("ISO_IR 126", ISO_8859_7),
            ["ISO_IR 138" | "ISO 2022 IR 138"] => latin("ISO_IR 138", ISO_8859_8),
            ["ISO_IR 148" | "ISO 2022 IR 148"] => latin("ISO_IR 148", WINDOWS_1254),
            ["ISO_IR 203" | "ISO 2022 IR 203"] => latin("ISO_IR 203", ISO_8859_15),
            ["ISO_IR 166" | "ISO 2022 IR 166"] => latin("ISO_IR 166", WINDOWS_874),
            ["GB18030"] => wide("GB18030", GB18030),
            ["GBK"] => wide("GBK", GBK),
            ["" | "ISO 2022 IR 6", "ISO 2022 IR 87"] => wide("\\ISO 2022 IR 87", ISO_2022_JP),
            ["" | "ISO 2022 IR 6", "ISO 2022 IR 149"] => {
                Self { escape: KOREAN, ..wide("\\ISO 2022 IR 149", EUC_KR) }
            }
            _ => Self::UNICODE,
        }
    }

    /// Encodes a text that holds no delimiters, so that every designation begins and ends within the bytes.
    /// `None` if a character is not in the repertoire.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        if text.is_ascii() {
            return Some(text.as_bytes().to_vec());
        }
        let (bytes, _, has_others) = self.encoding.encode(text);
        let has_c1 = bytes.iter().any(|byte| matches!(byte, 0x80..=0x9F));
        let is_lost = has_others || (self.has_no_c1 && has_c1);
        (!is_lost).then(|| [self.escape, &bytes].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::charset::{Charset, NAME_DELIMITERS};

    #[test]
    fn what_is_encoded_is_decoded_to_the_same_text() {
        for (value, text, term) in [
            ("ISO_IR 100", "Müller", "ISO_IR 100"),
            ("ISO_IR 101", "Dvořák", "ISO_IR 101"),
            ("ISO_IR 144", "Люкceмбypг", "ISO_IR 144"),
            ("ISO_IR 126", "Διονυσιος", "ISO_IR 126"),
            ("ISO_IR 192", "山田", "ISO_IR 192"),
            ("GB18030", "王小东", "GB18030"),
            ("\\ISO 2022 IR 87", "山田", "\\ISO 2022 IR 87"),
            ("\\ISO 2022 IR 149", "김희중", "\\ISO 2022 IR 149"),
            ("ISO_IR 13\\ISO 2022 IR 87", "山田", "ISO_IR 192"),
            ("nonsense", "ü", "ISO_IR 192"),
        ] {
            let repertoire = Repertoire::of_peer(value);
            assert_eq!(repertoire.term, term, "{value}");
            let bytes = repertoire.encode(text).unwrap();
            let (charset, is_known) = Charset::from_value(repertoire.term.as_bytes());
            assert!(is_known, "{value}");
            assert_eq!(charset.decode(&bytes, NAME_DELIMITERS), (text.into(), true), "{value}");
        }
    }

    #[test]
    fn what_is_not_in_the_repertoire_is_not_encoded() {
        for (value, text) in
            [("ISO_IR 100", "山田"), ("ISO_IR 100", "€"), ("\\ISO 2022 IR 87", "ü"), ("ISO_IR 144", "Müller")]
        {
            assert_eq!(Repertoire::of_peer(value).encode(text), None, "{value} {text}");
        }
    }
}
