//! Values of elements, read from bytes one by one (PS3.5 §6.2) in the forms of DICOM JSON (PS3.18 §F.2.3).

use std::borrow::Cow;
use std::fmt::Write;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::charset::{Charset, NAME_DELIMITERS, TEXT_DELIMITERS, VALUE_DELIMITERS};

/// One value, borrowed from the bytes where it can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    /// An empty value among others.
    Absent,
    /// A string, padding removed.
    Text(&'a str),
    /// A number, as the text of a JSON number.
    Number(&'a str),
    /// A person name: alphabetic, ideographic and phonetic group, at least one of them not empty.
    Name([&'a str; 3]),
}

/// A fault of values that were read in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueWarning {
    /// Bytes that are not of the declared character set.
    Characters,
    /// A DS or IS that is no number.
    Number,
}

impl ValueWarning {
    /// The fault in words.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Characters => "characters outside the declared character set",
            Self::Number => "not a number",
        }
    }
}

/// Whether a value of this representation is bytes without further form: base64 in JSON.
pub(crate) fn is_binary(vr: Vr) -> bool {
    matches!(&vr.0, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"UN")
}

/// Bytes of one binary number of this representation, of those with a fixed size.
pub(crate) fn number_bytes(vr: Vr) -> Option<usize> {
    match &vr.0 {
        b"SS" | b"US" => Some(2),
        b"AT" | b"FL" | b"SL" | b"UL" => Some(4),
        b"FD" | b"SV" | b"UV" => Some(8),
        _ => None,
    }
}

/// Whether PS3.5 §6.2 knows this representation.
pub(crate) fn is_known(vr: Vr) -> bool {
    is_binary(vr) || number_bytes(vr).is_some() || is_text(vr) || &vr.0 == b"SQ"
}

fn is_text(vr: Vr) -> bool {
    matches!(
        &vr.0,
        b"AE"
            | b"AS"
            | b"CS"
            | b"DA"
            | b"DS"
            | b"DT"
            | b"IS"
            | b"LO"
            | b"LT"
            | b"PN"
            | b"SH"
            | b"ST"
            | b"TM"
            | b"UC"
            | b"UI"
            | b"UR"
            | b"UT"
    )
}

/// Whether the bytes can be a value of this representation, for a value that was sent as UN.
pub(crate) fn is_plausible(vr: Vr, bytes: &[u8]) -> bool {
    if let Some(size) = number_bytes(vr) {
        return bytes.len().is_multiple_of(size);
    }
    let is_letter = |&byte: &u8| byte >= 0x20 || matches!(byte, b'\t' | b'\n' | 0x0C | b'\r' | 0x1B);
    let without_padding = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    is_binary(vr) || (is_text(vr) && without_padding.iter().all(is_letter))
}

/// Calls `sink` with each value of an element, in order; never if the element is empty.
///
/// `vr` is neither binary nor SQ, and `bytes` is a multiple of [`number_bytes`].
pub(crate) fn visit(
    vr: Vr,
    bytes: &[u8],
    is_big_endian: bool,
    charset: &Charset,
    sink: &mut dyn FnMut(Token<'_>),
) -> Option<ValueWarning> {
    if let Some(size) = number_bytes(vr) {
        visit_numbers(vr, bytes.chunks_exact(size), is_big_endian, sink);
        return None;
    }
    let delimiters = match &vr.0 {
        b"PN" => NAME_DELIMITERS,
        b"ST" | b"LT" | b"UT" | b"UR" => TEXT_DELIMITERS,
        _ => VALUE_DELIMITERS,
    };
    let (text, is_certain) = charset.decode(bytes, delimiters);
    let text = text.trim_end_matches(is_padding);
    let mut warning = (!is_certain).then_some(ValueWarning::Characters);
    match &vr.0 {
        _ if text.is_empty() => {}
        b"ST" | b"LT" | b"UT" | b"UR" => sink(Token::Text(text)),
        _ if text.trim_start_matches(' ').is_empty() => {}
        b"PN" => text.split('\\').for_each(|name| sink(name_token(name))),
        b"DS" | b"IS" => {
            for number in text.split('\\') {
                let text = number.trim_matches(is_padding);
                // Readers of JSON take longer integers for floating point numbers.
                let is_too_long = &vr.0 == b"IS" && text.len() > 18 && text.parse::<i64>().is_err();
                warning = visit_decimal(text, is_too_long, sink).or(warning);
            }
        }
        b"UC" => text.split('\\').for_each(|value| sink(text_token(value.trim_end_matches(is_padding)))),
        _ => text.split('\\').for_each(|value| sink(text_token(value.trim_matches(is_padding)))),
    }
    warning
}

fn is_padding(letter: char) -> bool {
    letter == ' ' || letter == '\0'
}

fn text_token(text: &str) -> Token<'_> {
    if text.is_empty() { Token::Absent } else { Token::Text(text) }
}

fn name_token(name: &str) -> Token<'_> {
    let mut groups = name.splitn(4, '=').map(|group| group.trim_matches(is_padding));
    let name = [(); 3].map(|()| groups.next().unwrap_or_default());
    if name.iter().all(|group| group.is_empty()) { Token::Absent } else { Token::Name(name) }
}

fn visit_decimal(text: &str, is_text: bool, sink: &mut dyn FnMut(Token<'_>)) -> Option<ValueWarning> {
    if text.is_empty() {
        sink(Token::Absent);
        return None;
    }
    match json_number(text).filter(|_| !is_text) {
        Some(number) => {
            sink(Token::Number(&number));
            None
        }
        None => {
            sink(Token::Text(text));
            Some(ValueWarning::Number)
        }
    }
}

/// A decimal string as a JSON number (RFC 8259 §6): all its digits, without what JSON does not allow: a plus,
/// zeros in front, a point with no digit before or after it. None if it is no number, or one that no double
/// can hold, which many readers of JSON refuse together with all that surrounds it.
pub(crate) fn json_number(text: &str) -> Option<Cow<'_, str>> {
    let (is_negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_digits = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent_digits.is_none_or(|digits| !digits.is_empty() && all_digits(digits));
    // Only an exponent or very many digits can lead beyond a double.
    let may_be_infinite = exponent.is_some() || whole.len() > f64::MAX_10_EXP as usize;
    if !is_number || (may_be_infinite && unsigned.parse::<f64>().is_ok_and(f64::is_infinite)) {
        return None;
    }
    let digits = whole.trim_start_matches('0');
    let is_clean = !text.starts_with('+')
        && !whole.is_empty()
        && (digits.len() == whole.len() || whole == "0")
        && fraction.is_empty() != mantissa.contains('.');
    if is_clean {
        return Some(Cow::Borrowed(text));
    }
    let sign = if is_negative { "-" } else { "" };
    let whole = if digits.is_empty() { "0" } else { digits };
    let point = if fraction.is_empty() { "" } else { "." };
    let exponent = exponent.map(|exponent| format!("e{exponent}")).unwrap_or_default();
    Some(Cow::Owned(format!("{sign}{whole}{point}{fraction}{exponent}")))
}

fn visit_numbers<'a>(
    vr: Vr,
    numbers: impl Iterator<Item = &'a [u8]>,
    is_big_endian: bool,
    sink: &mut dyn FnMut(Token<'_>),
) {
    let mut text = String::with_capacity(24);
    for bytes in numbers {
        text.clear();
        let raw = raw_number(bytes, is_big_endian);
        // Writing to a string cannot fail.
        let _ = match &vr.0 {
            b"SS" => write!(text, "{}", raw as u16 as i16),
            b"SL" => write!(text, "{}", raw as u32 as i32),
            b"SV" => write!(text, "{}", raw as i64),
            b"FL" => {
                write_float(&mut text, f64::from(f32::from_bits(raw as u32)), f32::from_bits(raw as u32))
            }
            b"FD" => write_float(&mut text, f64::from_bits(raw), f64::from_bits(raw)),
            b"AT" => write!(text, "{}", attribute_tag(bytes, is_big_endian)),
            _ => write!(text, "{raw}"),
        };
        let is_number = text.ends_with(|last: char| last.is_ascii_digit()) && &vr.0 != b"AT";
        sink(if is_number { Token::Number(&text) } else { Token::Text(&text) });
    }
}

/// Writes the shortest digits that come back as the same float; NaN and infinities, which JSON lacks, as
/// words.
fn write_float(text: &mut String, wide: f64, exact: impl std::fmt::Debug) -> std::fmt::Result {
    if wide.is_finite() {
        return write!(text, "{exact:?}");
    }
    text.write_str(match wide {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    })
}

fn raw_number(bytes: &[u8], is_big_endian: bool) -> u64 {
    let shift_in = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
    if is_big_endian { bytes.iter().fold(0, shift_in) } else { bytes.iter().rev().fold(0, shift_in) }
}

/// A tag is two 16-bit numbers, group first in either byte order (PS3.5 §6.2, AT).
fn attribute_tag(bytes: &[u8], is_big_endian: bool) -> Tag {
    let (group, element) = bytes.split_at(2);
    Tag((raw_number(group, is_big_endian) << 16 | raw_number(element, is_big_endian)) as u32)
}

/// Bytes in little endian order, as base64 in DICOM JSON has them (PS3.18 §F.2.7).
pub(crate) fn little_endian(vr: Vr, bytes: &[u8], is_big_endian: bool) -> Cow<'_, [u8]> {
    let size = match &vr.0 {
        b"OW" => 2,
        b"OF" | b"OL" => 4,
        b"OD" | b"OV" => 8,
        _ => 1,
    };
    if !is_big_endian || size == 1 {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(bytes.chunks(size).flat_map(|number| number.iter().rev().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vr: &[u8; 2], bytes: &[u8]) -> (String, Option<ValueWarning>) {
        let mut seen = Vec::new();
        let mut sink = |token: Token<'_>| {
            seen.push(match token {
                Token::Absent => "null".to_owned(),
                Token::Text(text) => format!("'{text}'"),
                Token::Number(number) => number.to_owned(),
                Token::Name(groups) => format!("<{}>", groups.join("|")),
            });
        };
        let warning = visit(Vr(*vr), bytes, false, &Charset::default(), &mut sink);
        (seen.join(","), warning)
    }

    #[test]
    fn values_lose_their_padding_and_keep_their_digits() {
        let table: &[(&[u8; 2], &[u8], &str)] = &[
            (b"CS", b"ORIGINAL\\PRIMARY\\\\AXIAL ", "'ORIGINAL','PRIMARY',null,'AXIAL'"),
            (b"CS", b"  ", ""),
            (b"LO", b" x ", "'x'"),
            (b"UI", b"1.2.3\0", "'1.2.3'"),
            (b"LT", b" a\\b  ", "' a\\b'"),
            (b"UC", b" a\\b ", "' a','b'"),
            (b"PN", b"Doe^John^^ \\A=B=C", "<Doe^John^^||>,<A|B|C>"),
            (b"PN", b"\\A", "null,<A||>"),
            (b"DS", b"1.50\\+2\\.5\\-.5\\3.\\007\\-0\\1E+02\\0.0 ", "1.50,2,0.5,-0.5,3,7,-0,1E+02,0.0"),
            (b"IS", b" 12 \\\\-01", "12,null,-1"),
            (b"US", b"\x01\x00\xFF\xFF", "1,65535"),
            (b"SS", b"\xFF\xFF", "-1"),
            (b"AT", b"\x10\x00\x20\x00", "'00100020'"),
            (b"FL", b"\xCD\xCC\xCC\x3D", "0.1"),
            (b"FL", b"\x00\x00\xC0\x7F\x00\x00\x80\xFF", "'NaN','-Infinity'"),
            (b"UV", b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "18446744073709551615"),
        ];
        for &(vr, bytes, expected) in table {
            assert_eq!(read(vr, bytes), (expected.to_owned(), None), "{}", Vr(*vr).as_str());
        }
    }

    #[test]
    fn what_is_no_number_stays_text_and_is_told() {
        let long = "9".repeat(400);
        for text in
            ["x", "1,5", "1e", "e5", ".", "--1", "1.2.3", "0x10", "+", "1 2", "1e400", "-1E+309", &long]
        {
            assert_eq!(read(b"DS", text.as_bytes()), (format!("'{text}'"), Some(ValueWarning::Number)));
        }
    }

    #[test]
    fn an_integer_beyond_64_bits_stays_text() {
        let table: &[(&[u8], &str, bool)] = &[
            (b"99999999999", "99999999999", false),
            (b"-9223372036854775808", "-9223372036854775808", false),
            (b"9223372036854775808", "'9223372036854775808'", true),
            (b"99999999999999999999999999999", "'99999999999999999999999999999'", true),
        ];
        for (text, expected, is_warned) in table {
            let (seen, warning) = read(b"IS", text);
            assert_eq!((seen.as_str(), warning.is_some()), (*expected, *is_warned));
        }
    }

    #[test]
    fn base64_input_is_little_endian() {
        assert_eq!(little_endian(Vr(*b"OW"), b"\x01\x02\x03\x04", true).as_ref(), b"\x02\x01\x04\x03");
        assert_eq!(little_endian(Vr(*b"OB"), b"\x01\x02", true).as_ref(), b"\x01\x02");
        assert_eq!(little_endian(Vr(*b"OW"), b"\x01\x02", false).as_ref(), b"\x01\x02");
    }
}
