//! Values in the place of others: dummies, shifted dates, and descriptions of which only known words are
//! left.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use time::{Date, Duration, Month};

use crate::dicom::attributes::Vr;

/// The words that descriptions may keep: anatomy, modalities, techniques.
static WORDS: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| include_str!("safe_words.txt").split_whitespace().collect());

/// The text of dummies.
pub(super) const DUMMY: &[u8] = b"ANONYMIZED";

/// A value for an attribute that must have one, by its VR (action D).
pub(super) fn dummy(vr: Vr) -> Vec<u8> {
    match &vr.0 {
        b"DA" => b"19000101".to_vec(),
        b"TM" => b"000000".to_vec(),
        b"DT" => b"19000101000000".to_vec(),
        b"AS" => b"000Y".to_vec(),
        b"DS" | b"IS" => b"0".to_vec(),
        b"SS" | b"US" | b"OW" | b"OB" | b"UN" => vec![0; 2],
        b"AT" | b"FL" | b"OF" | b"OL" | b"SL" | b"UL" => vec![0; 4],
        b"FD" | b"OD" | b"OV" | b"SV" | b"UV" => vec![0; 8],
        b"UI" => b"2.25.0".to_vec(),
        _ => DUMMY.to_vec(),
    }
}

/// The values of DA or DT, all earlier by some days; TM stays. `None` if one of the values is no date or no
/// time, or a range of them.
///
/// A DT of a month or a year alone is that of its first day, shifted and cut to the same length.
pub(super) fn shifted(vr: Vr, value: &[u8], days: i64) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?.trim_matches(['\0', ' ']);
    let mut values = text.split('\\').map(str::trim);
    match &vr.0 {
        b"DA" | b"DT" => {
            let is_date = &vr.0 == b"DA";
            let dates = values.map(|date| shifted_date(date, days, is_date)).collect::<Option<Vec<_>>>()?;
            Some(dates.join("\\").into_bytes())
        }
        b"TM" => values.all(is_time).then(|| value.to_vec()),
        _ => None,
    }
}

/// Whether a text is a time: hours, minutes and seconds as far as they are there, and a fraction of a second.
fn is_time(text: &str) -> bool {
    // Files of before 1993 have times as 10:15:30.
    let plain = text.replace(':', "");
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    matches!(whole.len(), 0 | 2 | 4 | 6)
        && fraction.len() <= 6
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
}

/// A date or the date of a date and time, earlier by some days.
fn shifted_date(text: &str, days: i64, is_whole: bool) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    // Files of before 1993 have dates as 2010.04.05.
    let plain: String = if text.len() == 10 && text.as_bytes()[4] == b'.' && text.as_bytes()[7] == b'.' {
        text.replace('.', "")
    } else {
        text.to_owned()
    };
    let digits = plain.bytes().take_while(u8::is_ascii_digit).count().min(8);
    let number = |range: std::ops::Range<usize>| plain.get(range)?.parse::<u16>().ok();
    if is_whole && (digits, plain.len()) != (8, 8) {
        return None;
    }
    let year = number(0..4).filter(|_| matches!(digits, 4 | 6 | 8))?;
    let part = |range: std::ops::Range<usize>| match digits >= range.end {
        true => number(range).and_then(|part| u8::try_from(part).ok()),
        false => Some(1),
    };
    let date = Date::from_calendar_date(year.into(), Month::try_from(part(4..6)?).ok()?, part(6..8)?).ok()?;
    let date = date.checked_sub(Duration::days(days)).filter(|date| date.year() > 0)?;
    let shifted = format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day());
    // What follows is a time and the offset of its zone.
    let rest = plain.get(digits..)?;
    let (time, zone) = rest.split_at(rest.find(['+', '-']).unwrap_or(rest.len()));
    let is_zone = zone.is_empty() || (zone.len() == 5 && zone[1..].bytes().all(|byte| byte.is_ascii_digit()));
    (is_time(time) && is_zone).then(|| format!("{}{rest}", &shifted[..digits]))
}

/// The words of a description that are known to identify nobody. Everything else, numbers too, is left out.
pub(super) fn known_words(value: &[u8], of_site: &BTreeSet<String>) -> Vec<u8> {
    let words = |value: &[u8]| {
        // Words of other scripts have no spaces around them that could be relied on.
        let words = value.split(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric());
        let known = words.filter(|word| {
            let Ok(word) = std::str::from_utf8(word) else { return false };
            let lower = word.to_lowercase();
            WORDS.contains(lower.as_str()) || of_site.contains(&lower)
        });
        known.collect::<Vec<_>>().join(&b' ')
    };
    let values: Vec<_> = value.split(|&byte| byte == b'\\').map(words).collect();
    if values.iter().all(Vec::is_empty) { Vec::new() } else { values.join(&b'\\') }
}

/// Whether a value can be kept: numbers in text are digits, and UIDs digits and full stops, so that nothing
/// else hides in them.
pub(super) fn is_what_it_says(vr: Vr, value: &[u8]) -> bool {
    let allowed: &[u8] = match &vr.0 {
        b"DS" => b"0123456789+-.eE \\\0",
        b"IS" => b"0123456789+- \\\0",
        b"UI" => b"0123456789.\\\0 ",
        b"DA" | b"DT" | b"TM" => b"0123456789.:+- \\\0",
        b"AS" => b"0123456789DWMYdwmy \\\0",
        _ => return true,
    };
    value.iter().all(|byte| allowed.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_move_and_keep_their_form() {
        for (vr, value, days, expected) in [
            (b"DA", "20240301", 1, Some("20240229")),
            (b"DA", "20240301 ", 366, Some("20230301")),
            (b"DA", "2024.03.01", 1, Some("20240229")),
            (b"DA", "20240301\\20240302", 1, Some("20240229\\20240301")),
            (b"DA", "", 1, Some("")),
            (b"DA", "Smith", 1, None),
            (b"DA", "20241301", 1, None),
            (b"DA", "00010101", 1, None),
            (b"DA", "2024-01-15", 1, None),
            (b"DA", "20240115-20240120", 1, None),
            (b"DA", "2024", 1, None),
            (b"DT", "20240115-20240120", 1, None),
            (b"TM", "10:15:30", 1, Some("10:15:30")),
            (b"TM", "101530.123456", 1, Some("101530.123456")),
            (b"TM", "20240115", 1, None),
            (b"TM", "1015-1020", 1, None),
            (b"DT", "20240301123456.789+0900", 1, Some("20240229123456.789+0900")),
            (b"DT", "202403", 1, Some("202402")),
            (b"DT", "2024", 1, Some("2023")),
            (b"DT", "20240301 Smith", 1, None),
            (b"TM", "123456", 1, Some("123456")),
        ] {
            let shifted = shifted(Vr(*vr), value.as_bytes(), days);
            assert_eq!(shifted.as_deref(), expected.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn descriptions_keep_known_words_alone() {
        let of_site = BTreeSet::from(["cbct".to_owned(), "흉부".to_owned()]);
        for (value, expected) in [
            ("CT chest abdomen pelvis - 55F Dr. Smith", "CT chest abdomen pelvis"),
            ("Smith", ""),
            ("T1 AXIAL\\Hong^Gildong", "T1 AXIAL\\"),
            ("흉부 CBCT 홍길동", "흉부 CBCT"),
            ("chestSmith 0123", ""),
        ] {
            assert_eq!(known_words(value.as_bytes(), &of_site), expected.as_bytes(), "{value}");
        }
    }

    #[test]
    fn dummies_are_of_their_representation() {
        for vr in [b"PN", b"SH", b"CS", b"AE", b"LT", b"UT"] {
            assert_eq!(dummy(Vr(*vr)), DUMMY);
        }
        assert!(is_what_it_says(Vr(*b"DS"), &dummy(Vr(*b"DS"))));
        assert!(!is_what_it_says(Vr(*b"IS"), b"12 Smith"));
    }
}
