//! Text decoded by Specific Character Set (0008,0005), with code extensions by escape sequences.
//!
//! PS3.3 §C.12.1.1.2, PS3.5 §6.1.2.5. Damaged names of character sets and damaged bytes never fail: the
//! result is always text.

use std::borrow::Cow;

use encoding_rs::{
    EUC_JP, EUC_KR, Encoding, GB18030, GBK, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5, ISO_8859_6,
    ISO_8859_7, ISO_8859_8, ISO_8859_15, SHIFT_JIS, UTF_8, WINDOWS_874, WINDOWS_1252, WINDOWS_1254,
};

const ESCAPE: u8 = 0x1B;

/// Delimiters between the component groups and components of names, and between values (PN).
pub const NAME_DELIMITERS: &[u8] = b"\\^=";
/// Delimiters between values.
pub const VALUE_DELIMITERS: &[u8] = b"\\";
/// No delimiters but control characters (ST, LT, UT).
pub const TEXT_DELIMITERS: &[u8] = b"";

/// The character sets in force for a data set or an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Charset {
    scheme: Scheme,
}

#[derive(Debug, Clone, PartialEq)]
enum Scheme {
    /// No known character set is declared: UTF-8 if the text is valid UTF-8, else Latin-1.
    Guess,
    /// One encoding without code extensions.
    Whole(&'static Encoding),
    /// ISO 2022: the initial set of the upper half, and the set that is tried where none was designated.
    Extended { initial: Option<Upper>, fallback: Option<Upper> },
    /// ISO 2022 with Japanese sets for the lower half alone: what has no escape sequences and no UTF-8 is
    /// Shift JIS, as Windows writes it.
    Japanese,
}

/// The character set designated as G0, the lower half of the code table.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lower {
    Ascii,
    Jis0208,
    Jis0212,
}

/// The character set designated as G1, the upper half of the code table.
type Upper = &'static Encoding;

impl Default for Charset {
    /// The default repertoire, ISO_IR 6; what is beyond it is guessed.
    fn default() -> Self {
        Self { scheme: Scheme::Guess }
    }
}

impl Charset {
    /// Reads a value of Specific Character Set. The second result is whether every term is known.
    pub fn from_value(value: &[u8]) -> (Self, bool) {
        let terms: Vec<Term> = value.split(|&byte| byte == b'\\').map(term).collect();
        let all_known = !terms.contains(&Term::Unknown);
        let uppers = || terms.iter().filter_map(Term::upper);
        let scheme = match terms.first() {
            Some(&Term::Whole(encoding)) => Scheme::Whole(encoding),
            Some(Term::Default | Term::Unknown) | None if terms.len() <= 1 => Scheme::Guess,
            first => match (first.and_then(Term::upper), uppers().next()) {
                (None, None) if terms.contains(&Term::LowerOnly) => Scheme::Japanese,
                (initial, fallback) => Scheme::Extended { initial, fallback },
            },
        };
        (Self { scheme }, all_known)
    }

    /// Decodes text. The second result is false if bytes had to be guessed or replaced by U+FFFD.
    ///
    /// Designations end at control characters and at each of `delimiters` (PS3.5 §6.1.2.5.3), which count
    /// only where they are characters of their own: decoded text can be split at them.
    pub fn decode<'a>(&self, bytes: &'a [u8], delimiters: &[u8]) -> (Cow<'a, str>, bool) {
        if let Some(text) = plain_ascii(bytes) {
            return (Cow::Borrowed(text), true);
        }
        match self.scheme {
            Scheme::Whole(encoding) => {
                let (text, had_errors) = encoding.decode_without_bom_handling(bytes);
                (text, !had_errors)
            }
            Scheme::Guess if !bytes.contains(&ESCAPE) => (guess(bytes), false),
            Scheme::Guess => decode_extended(bytes, delimiters, None, None),
            Scheme::Extended { initial, fallback } => decode_extended(bytes, delimiters, initial, fallback),
            Scheme::Japanese => {
                let is_utf_8 = std::str::from_utf8(bytes).is_ok();
                decode_extended(bytes, delimiters, None, (!is_utf_8).then_some(SHIFT_JIS))
            }
        }
    }
}

/// The text if it is in ASCII and without escape sequences, which is the same in every character set.
fn plain_ascii(bytes: &[u8]) -> Option<&str> {
    let is_plain = bytes.is_ascii() && memchr::memchr(ESCAPE, bytes).is_none();
    if is_plain { std::str::from_utf8(bytes).ok() } else { None }
}

fn guess(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

/// A defined term of Specific Character Set.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Term {
    Default,
    Whole(&'static Encoding),
    Upper(Upper),
    /// Designated as G0 only, by escape sequences.
    LowerOnly,
    Unknown,
}

impl Term {
    fn upper(&self) -> Option<Upper> {
        match *self {
            Self::Upper(upper) => Some(upper),
            _ => None,
        }
    }
}

/// Reads a term in any punctuation: `ISO_IR 100`, `ISO-IR 100`, `iso ir100`, `UTF8`.
fn term(bytes: &[u8]) -> Term {
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).take(24);
    let name: String = letters.map(|byte| byte.to_ascii_uppercase() as char).collect();
    let number = ["ISO2022IR", "ISOIR", "IR"].iter().find_map(|prefix| name.strip_prefix(prefix));
    match number.unwrap_or(&name) {
        "" | "6" => Term::Default,
        "192" | "UTF8" => Term::Whole(UTF_8),
        "GB18030" => Term::Whole(GB18030),
        "GBK" => Term::Whole(GBK),
        "100" | "ISO88591" | "LATIN1" => Term::Upper(WINDOWS_1252),
        "101" | "ISO88592" | "LATIN2" => Term::Upper(ISO_8859_2),
        "109" | "ISO88593" => Term::Upper(ISO_8859_3),
        "110" | "ISO88594" => Term::Upper(ISO_8859_4),
        "144" | "ISO88595" => Term::Upper(ISO_8859_5),
        "127" | "ISO88596" => Term::Upper(ISO_8859_6),
        "126" | "ISO88597" => Term::Upper(ISO_8859_7),
        "138" | "ISO88598" => Term::Upper(ISO_8859_8),
        "148" | "ISO88599" => Term::Upper(WINDOWS_1254),
        "203" | "ISO885915" => Term::Upper(ISO_8859_15),
        "166" => Term::Upper(WINDOWS_874),
        "13" => Term::Upper(SHIFT_JIS),
        "149" => Term::Upper(EUC_KR),
        "58" | "GB2312" => Term::Upper(GBK),
        "87" | "159" => Term::LowerOnly,
        _ => Term::Unknown,
    }
}

/// Decodes ISO 2022 text run by run, a run being what lies between escapes, delimiters and changes of half.
fn decode_extended<'a>(
    bytes: &'a [u8],
    delimiters: &[u8],
    initial: Option<Upper>,
    fallback: Option<Upper>,
) -> (Cow<'a, str>, bool) {
    let (mut text, mut ok) = (String::with_capacity(bytes.len() * 2), true);
    let (mut lower, mut upper) = (Lower::Ascii, initial);
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let run = match first {
            ESCAPE => match designation(&rest[1..]) {
                Some((length, designated)) => {
                    designated.apply(&mut lower, &mut upper);
                    rest = &rest[1 + length..];
                    continue;
                }
                None => {
                    ok = false;
                    1
                }
            },
            0..0x20 => {
                (lower, upper) = (Lower::Ascii, initial);
                text.push(char::from(first));
                1
            }
            0x20..0x80 => lower_run(rest, lower, &mut text, &mut ok),
            0x80.. => upper_run(rest, upper.or(fallback), &mut text, &mut ok),
        };
        if lower == Lower::Ascii && delimiters.contains(&first) {
            upper = initial;
        }
        ok &= first < 0x80 || upper.is_some();
        rest = &rest[run..];
    }
    (Cow::Owned(text), ok)
}

/// Takes one character of G0, or one delimiter, and returns how many bytes it has.
fn lower_run(bytes: &[u8], lower: Lower, text: &mut String, ok: &mut bool) -> usize {
    // A space is a space in every set: a name in kanji may be padded without a switch back to ASCII.
    if lower == Lower::Ascii || bytes[0] == b' ' {
        text.push(char::from(bytes[0]));
        return 1;
    }
    let Some(&[first, second]) = bytes.first_chunk::<2>() else {
        *ok = false;
        text.push(char::REPLACEMENT_CHARACTER);
        return 1;
    };
    let euc = [0x8F, first | 0x80, second | 0x80];
    let from = if lower == Lower::Jis0212 { 0 } else { 1 };
    push_decoded(EUC_JP, &euc[from..], text, ok);
    2
}

/// Takes the characters of G1 that follow one another and returns how many bytes they have.
fn upper_run(bytes: &[u8], upper: Option<Upper>, text: &mut String, ok: &mut bool) -> usize {
    let mut length = 0;
    while length < bytes.len() && bytes[length] >= 0x80 {
        length += upper.map_or(1, |encoding| character_bytes(&bytes[length..], encoding));
    }
    match upper {
        Some(encoding) => push_decoded(encoding, &bytes[..length], text, ok),
        None => text.push_str(&guess(&bytes[..length])),
    }
    length
}

/// Bytes of the first character of G1. Windows writes its own extensions of the sets that are declared, in
/// which bytes of ASCII, a backslash too, follow the first byte of a character: code page 932 (Shift JIS) for
/// JIS X 0201 and 0208, code page 949 for KS X 1001, GBK and GB18030 for GB 2312.
fn character_bytes(bytes: &[u8], encoding: &'static Encoding) -> usize {
    let Some(&[first, second]) = bytes.first_chunk() else { return 1 };
    let is_pair = if encoding == SHIFT_JIS {
        matches!(first, 0x81..=0x9F | 0xE0..=0xFC) && second >= 0x40
    } else if encoding == EUC_KR {
        let is_letter = matches!(first, 0x81..=0xC6) && second.is_ascii_alphabetic();
        first != 0x80 && (second >= 0x81 || is_letter)
    } else if encoding == GBK {
        if second.is_ascii_digit() && bytes.len() >= 4 && bytes[2] >= 0x81 && bytes[3].is_ascii_digit() {
            return 4;
        }
        first != 0x80 && second >= 0x40 && second != 0x7F
    } else {
        false
    };
    if is_pair { 2 } else { 1 }
}

fn push_decoded(encoding: &'static Encoding, bytes: &[u8], text: &mut String, ok: &mut bool) {
    let (decoded, had_errors) = encoding.decode_without_bom_handling(bytes);
    text.push_str(&decoded);
    *ok &= !had_errors;
}

/// The character set that an escape sequence designates.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Designated {
    Lower(Lower),
    Upper(Upper),
}

impl Designated {
    fn apply(self, lower: &mut Lower, upper: &mut Option<Upper>) {
        match self {
            Self::Lower(set) => *lower = set,
            Self::Upper(set) => *upper = Some(set),
        }
    }
}

/// Reads an escape sequence after ESC: the number of its bytes, and the set that it designates (PS3.3 Table
/// C.12-3 and C.12-4).
fn designation(bytes: &[u8]) -> Option<(usize, Designated)> {
    use Designated::{Lower as G0, Upper as G1};
    Some(match bytes {
        [b'(', b'B' | b'J', ..] => (2, G0(Lower::Ascii)),
        [b'$', b'B' | b'@', ..] => (2, G0(Lower::Jis0208)),
        [b'$', b'(', b'D', ..] => (3, G0(Lower::Jis0212)),
        [b'$', b')', b'C', ..] => (3, G1(EUC_KR)),
        [b'$', b')', b'A', ..] => (3, G1(GBK)),
        [b')', b'I', ..] => (2, G1(SHIFT_JIS)),
        [b'-', b'A', ..] => (2, G1(WINDOWS_1252)),
        [b'-', b'B', ..] => (2, G1(ISO_8859_2)),
        [b'-', b'C', ..] => (2, G1(ISO_8859_3)),
        [b'-', b'D', ..] => (2, G1(ISO_8859_4)),
        [b'-', b'L', ..] => (2, G1(ISO_8859_5)),
        [b'-', b'G', ..] => (2, G1(ISO_8859_6)),
        [b'-', b'F', ..] => (2, G1(ISO_8859_7)),
        [b'-', b'H', ..] => (2, G1(ISO_8859_8)),
        [b'-', b'M', ..] => (2, G1(WINDOWS_1254)),
        [b'-', b'b', ..] => (2, G1(ISO_8859_15)),
        [b'-', b'T', ..] => (2, G1(WINDOWS_874)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_by_the_declared_sets() {
        // The names are those of PS3.5 annexes H, I, J and K and PS3.3 §C.12.1.1.2.
        let table: &[(&str, &[u8], &str)] = &[
            ("", b"Doe^John", "Doe^John"),
            ("ISO_IR 100", b"Buc^J\xE9r\xF4me", "Buc^J\u{e9}r\u{f4}me"),
            ("ISO_IR 101", b"W\xB3adys\xB3aw", "W\u{142}adys\u{142}aw"),
            ("ISO_IR 144", b"\xBB\xEEkce\xDC\xD1yp\xD3", "\u{41b}\u{44e}kce\u{43c}\u{431}yp\u{433}"),
            ("ISO_IR 126", b"\xC4\xE9\xEF", "\u{394}\u{3b9}\u{3bf}"),
            ("ISO_IR 148", b"\xD0", "\u{11e}"),
            ("ISO_IR 203", b"\xA4", "\u{20ac}"),
            ("ISO_IR 166", b"\xA1", "\u{e01}"),
            ("ISO_IR 192", "Wang^XiaoDong=王^小东".as_bytes(), "Wang^XiaoDong=王^小东"),
            ("GB18030", b"Wang=\xCD\xF5^\xD0\xA1\xB6\xAB", "Wang=王^小东"),
            ("GBK", b"\xB6\xAB\x81\x5C\\x", "东乗\\x"),
            (
                "\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ),
            (
                "ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            ),
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF",
                "Hong^Gildong=洪^吉洞=홍^길동",
            ),
            ("\\ISO 2022 IR 58", b"Zhang=\x1B$)A\xD5\xC5^\x1B$)A\xD0\xA1\xB6\xAB", "Zhang=张^小东"),
            // As Windows writes: syllables that only code page 949 has.
            ("\\ISO 2022 IR 149", b"\x1B$)C\x8C\x63\xB9\xE6\xB0\xA2\xC7\xCF=\x1B$)C\x81\x41", "똠방각하=갂"),
            ("ISO 2022 IR 149", b"\x8C\x63\xB9\xE6^\x81\x41", "똠방^갂"),
            // Characters of code page 932 beyond JIS X 0208, with and without escape sequences.
            ("\\ISO 2022 IR 87", b"\x1B$B\x2D\x21\x2D\x6A\x7C\x62\x1B(B^A", "①㈱髙^A"),
            ("ISO 2022 IR 13\\ISO 2022 IR 87", b"\xFB\xFC\x8B\xB4=\x87\x40\xED\x95=\x95\x5C\xFA\x5C", "髙橋=①﨑=表纊"),
            ("ISO_IR 13", b"\xD4\xCF\xFB\xFC", "ﾔﾏ髙"),
            // GBK and GB18030 where GB 2312 is declared.
            ("\\ISO 2022 IR 58", b"\x1B$)A\x96\x7C^\x1B$)A\xE9\x46\x81\x39\xEF\x31x", "東^镕㐂x"),
        ];
        for &(sets, bytes, expected) in table {
            let (charset, known) = Charset::from_value(sets.as_bytes());
            assert!(known, "{sets}");
            assert_eq!(charset.decode(bytes, NAME_DELIMITERS), (Cow::Borrowed(expected), true), "{sets}");
        }
    }

    #[test]
    fn shift_jis_without_escape_sequences_is_read_with_a_warning() {
        for sets in ["\\ISO 2022 IR 87", "ISO 2022 IR 6\\ISO 2022 IR 159", "ISO_IR 87"] {
            let (charset, _) = Charset::from_value(sets.as_bytes());
            let decoded = charset.decode(b"Yamada=\x8E\x52\x93\x63^\x95\x5C\xFB\xFC", NAME_DELIMITERS);
            assert_eq!(decoded, (Cow::Borrowed("Yamada=山田^表髙"), false), "{sets}");
            let decoded = charset.decode("Yamada=山田".as_bytes(), NAME_DELIMITERS);
            assert_eq!(decoded, (Cow::Borrowed("Yamada=山田"), false), "{sets}");
        }
    }

    #[test]
    fn a_backslash_inside_a_character_is_no_delimiter() {
        let table: &[(&str, &[u8], usize)] = &[
            ("GB18030", b"\x81\x5C\\x", 2),
            ("GBK", b"\x81\x5C\\x", 2),
            ("\\ISO 2022 IR 87", b"\x1B$B\x30\x5C\x1B(B\\x", 2),
            ("ISO_IR 13", b"\x95\x5C\\x", 2),
            ("ISO_IR 100", b"\xE9\\x", 2),
            ("\\ISO 2022 IR 58", b"\x1B$)A\x81\x5C\\x", 2),
            ("\\ISO 2022 IR 149", b"\x1B$)C\x8C\x63\\x", 2),
        ];
        for &(sets, bytes, values) in table {
            let (text, ok) = Charset::from_value(sets.as_bytes()).0.decode(bytes, VALUE_DELIMITERS);
            assert!(ok, "{sets}");
            assert_eq!(text.split('\\').count(), values, "{sets}");
        }
    }

    #[test]
    fn names_of_sets_are_read_however_they_are_punctuated() {
        for name in ["ISO_IR 100", "ISO IR 100", "ISO_IR_100", "ISO-IR 100 ", "iso_ir100", "ISO 2022 IR 100"]
        {
            let (charset, known) = Charset::from_value(name.as_bytes());
            assert!(known, "{name}");
            assert_eq!(charset.decode(b"\xE9", b"").0, "\u{e9}", "{name}");
        }
        for name in ["UTF8", "UTF-8", "ISO_IR 192", "ISO 2022 IR 192"] {
            assert_eq!(Charset::from_value(name.as_bytes()).0.scheme, Scheme::Whole(UTF_8), "{name}");
        }
    }

    #[test]
    fn an_unknown_set_is_told_and_its_text_guessed() {
        let (charset, known) = Charset::from_value(b"KLINGON");
        assert!(!known);
        assert_eq!(charset.decode("é".as_bytes(), b""), (Cow::Borrowed("é"), false));
        assert_eq!(charset.decode(b"\xE9", b""), (Cow::Borrowed("é"), false));
    }

    #[test]
    fn designations_end_at_delimiters() {
        let (charset, _) = Charset::from_value(b"ISO 2022 IR 100\\ISO 2022 IR 144");
        let decoded = charset.decode(b"\x1B-L\xBB^\xE9", NAME_DELIMITERS);
        assert_eq!(decoded, (Cow::Borrowed("\u{41b}^\u{e9}"), true));
        let decoded = charset.decode(b"\x1B-L\xBB^\xBB\r\n\xE9", TEXT_DELIMITERS);
        assert_eq!(decoded, (Cow::Borrowed("\u{41b}^\u{41b}\r\n\u{e9}"), true));
    }

    #[test]
    fn no_bytes_panic() {
        for sets in [
            "",
            "GB18030",
            "\\ISO 2022 IR 87",
            "ISO_IR 13",
            "ISO_IR 192",
            "\\ISO 2022 IR 149",
            "\\ISO 2022 IR 58",
            "x\\y",
        ] {
            let charset = Charset::from_value(sets.as_bytes()).0;
            for a in 0..=255u8 {
                for b in [0, 0x1B, b'$', b'(', b'B', 0x5C, 0x80, 0xFF] {
                    charset.decode(&[0x1B, b'$', b'B', a, b], b"\\");
                    charset.decode(&[a, b, a], b"\\");
                }
            }
        }
    }
}
