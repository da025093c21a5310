//! Comparison of dates and times (PS3.4 §C.2.2.2.5; PS3.5 §6.2 for DA, TM, DT).
//!
//! A value of less than full precision stands for a range of moments. A stored value is compared as the first
//! of them, the bound of a range as the first or the last.

use std::ops::RangeInclusive;

use time::{Date, Duration, Month, PrimitiveDateTime, Time};

/// The length of the longest range: two values of DT and a hyphen. A longer text is no value, and no time is
/// spent on it.
const MAX_SPAN_BYTES: usize = 2 * 26 + 1;

/// A range of moments, both bounds included. A bound of `None` is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span<T> {
    /// The first moment.
    pub from: Option<T>,
    /// The last moment.
    pub to: Option<T>,
    /// Whether the value was a range with a hyphen, and not a single value.
    pub is_range: bool,
}

impl<T: Ord> Span<T> {
    /// Whether a moment lies in the range.
    pub fn contains(&self, moment: &T) -> bool {
        self.from.as_ref().is_none_or(|from| from <= moment) && self.to.as_ref().is_none_or(|to| moment <= to)
    }
}

/// Normalises a date (DA), also of the old form `YYYY.MM.DD`, to `YYYYMMDD`. `None` if the text is no date.
pub fn normal_date(text: &str) -> Option<String> {
    date(text)
}

/// Normalises a time (TM), also of the old form `HH:MM:SS`, to `HHMMSSFFFFFF`. `None` if the text is no time.
pub fn normal_time(text: &str) -> Option<String> {
    time_bounds(text).map(|bounds| bounds.into_inner().0)
}

/// Converts a date and time (DT) to microseconds since 1970 UTC. `timezone` is the offset from UTC in minutes
/// of a text without offset.
pub fn normal_date_time(text: &str, timezone: i32) -> Option<i64> {
    date_time_bounds(text, timezone).map(|bounds| *bounds.start())
}

/// Parses an offset from UTC such as `-0130` to minutes. The plus sign may be missing: in a URL it decodes to
/// a space.
pub fn offset_minutes(text: &str) -> Option<i32> {
    let text = text.trim();
    let signed = if text.starts_with(['+', '-']) { text.to_owned() } else { format!("+{text}") };
    let micros = (signed.len() == 5).then(|| offset_micros(&signed)).flatten()?;
    i32::try_from(micros / 60_000_000).ok()
}

/// Adds minutes to a date and a time in the forms of [`normal_date`] and [`normal_time`].
pub fn add_minutes(date: &str, time: &str, minutes: i32) -> Option<(String, String)> {
    let (moment, fraction) = (date_time(date, time)?, time.get(6..12)?);
    let moment = moment.checked_add(Duration::minutes(minutes.into()))?;
    let (date, clock) = (moment.date(), moment.time());
    let date = format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day());
    let time = format!("{:02}{:02}{:02}{fraction}", clock.hour(), clock.minute(), clock.second());
    Some((date, time))
}

/// Adds days to a date of the form `YYYYMMDD`. `None` if the result is out of range.
pub fn add_days(date: &str, days: i64) -> Option<String> {
    if days == 0 {
        return Some(date.to_owned());
    }
    let moment = date_time(date, "000000000000")?.checked_add(Duration::days(days))?;
    Some(format!("{:04}{:02}{:02}", moment.year(), u8::from(moment.month()), moment.day()))
}

/// Parses a date or a range of dates. A year or a month alone is no date (PS3.5 §6.2, DA).
pub fn date_span(text: &str) -> Option<Span<String>> {
    span(text, |text| date(text).map(|date| date.clone()..=date))
}

/// Parses a time or a range of times.
pub fn time_span(text: &str) -> Option<Span<String>> {
    span(text, time_bounds)
}

/// Parses a date and time or a range of them. `timezone` is the offset from UTC in minutes of values without
/// offset.
pub fn date_time_span(text: &str, timezone: i32) -> Option<Span<i64>> {
    span(text, |text| date_time_bounds(text, timezone))
}

/// Parses a single value or a range. A hyphen may also begin an offset from UTC, so every hyphen is tried as
/// separator.
fn span<T>(text: &str, bounds: impl Fn(&str) -> Option<RangeInclusive<T>>) -> Option<Span<T>> {
    let text = text.trim();
    if text.len() > MAX_SPAN_BYTES {
        return None;
    }
    if let Some(only) = bounds(text) {
        let (from, to) = only.into_inner();
        return Some(Span { from: Some(from), to: Some(to), is_range: false });
    }
    text.match_indices('-').find_map(|(at, _)| {
        let (before, after) = (text[..at].trim(), text[at + 1..].trim());
        let from = if before.is_empty() { None } else { Some(bounds(before)?.into_inner().0) };
        let to = if after.is_empty() { None } else { Some(bounds(after)?.into_inner().1) };
        (from.is_some() || to.is_some()).then_some(Span { from, to, is_range: true })
    })
}

/// A date (DA), also of the old form `YYYY.MM.DD`, as `YYYYMMDD`.
fn date(text: &str) -> Option<String> {
    if text.len() > MAX_SPAN_BYTES {
        return None;
    }
    let digits = match text.trim().split('.').collect::<Vec<_>>()[..] {
        [digits] => digits.to_owned(),
        [year, month, day] if year.len() == 4 && month.len() == 2 => [year, month, day].concat(),
        _ => return None,
    };
    (digits.len() == 8 && is_date(&digits)).then_some(digits)
}

/// The first and the last day of the date in a DT, which may be a year or a month.
fn date_bounds(digits: &str) -> Option<RangeInclusive<String>> {
    is_date(digits).then(|| fill(digits, "00000101")..=fill(digits, "00001231"))
}

/// Whether digits are a year, a year and a month, or a date.
fn is_date(digits: &str) -> bool {
    matches!(digits.len(), 4 | 6 | 8)
        && number(digits).is_some()
        && field(digits, 4, 1..=12)
        && field(digits, 6, 1..=31)
}

fn time_bounds(text: &str) -> Option<RangeInclusive<String>> {
    if text.len() > MAX_SPAN_BYTES {
        return None;
    }
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let whole = if whole.len() == 8 { whole.replace(':', "") } else { whole.to_owned() };
    let is_time = matches!(whole.len(), 2 | 4 | 6)
        && number(&whole).is_some()
        && field(&whole, 0, 0..=23)
        && field(&whole, 2, 0..=59)
        && field(&whole, 4, 0..=60)
        && fraction.len() <= 6
        && (fraction.is_empty() || (whole.len() == 6 && number(fraction).is_some()));
    let digits = whole + fraction;
    is_time.then(|| fill(&digits, "000000000000")..=fill(&digits, "235959999999"))
}

fn date_time_bounds(text: &str, timezone: i32) -> Option<RangeInclusive<i64>> {
    if text.len() > MAX_SPAN_BYTES {
        return None;
    }
    let text = text.trim();
    let (local, offset) = match text.len().checked_sub(5).and_then(|at| text.split_at_checked(at)) {
        Some((local, offset)) if offset.starts_with(['+', '-']) => (local, offset_micros(offset)?),
        _ => (text, i64::from(timezone) * 60_000_000),
    };
    let date = local.get(..local.len().min(8))?;
    let time = local.get(date.len()..)?;
    let (first_date, last_date) = date_bounds(date)?.into_inner();
    let (first_time, last_time) = if time.is_empty() {
        ("000000000000".to_owned(), "235959999999".to_owned())
    } else {
        time_bounds(time)?.into_inner()
    };
    let first = micros(&first_date, &first_time)? - offset;
    Some(first..=micros(&last_date, &last_time)? - offset)
}

fn offset_micros(offset: &str) -> Option<i64> {
    let (hours, minutes) = (number(offset.get(1..3)?)?, number(offset.get(3..5)?)?);
    let micros = (hours * 60 + minutes) * 60_000_000;
    (hours <= 14 && minutes < 60).then_some(if offset.starts_with('-') { -micros } else { micros })
}

/// Converts a date and time of full precision to microseconds since 1970, without regard to the time zone.
fn micros(date: &str, time: &str) -> Option<i64> {
    let seconds = date_time(date, time)?.assume_utc().unix_timestamp();
    Some(seconds * 1_000_000 + number(time.get(6..12)?)?)
}

/// Converts a date and time of full precision, to the second. A day after the end of its month becomes the
/// month's last.
fn date_time(date: &str, time: &str) -> Option<PrimitiveDateTime> {
    let part = |text: &str, range: std::ops::Range<usize>| number(text.get(range)?);
    let year = i32::try_from(part(date, 0..4)?).ok()?;
    let month = Month::try_from(u8::try_from(part(date, 4..6)?).ok()?).ok()?;
    let day = u8::try_from(part(date, 6..8)?).ok()?.min(month.length(year));
    let [hour, minute, second] =
        [0, 2, 4].map(|at| part(time, at..at + 2).and_then(|value| u8::try_from(value).ok()));
    let clock = Time::from_hms(hour?, minute?, second?.min(59)).ok()?;
    Some(Date::from_calendar_date(year, month, day).ok()?.with_time(clock))
}

/// Appends the missing digits from a template.
fn fill(digits: &str, template: &str) -> String {
    format!("{digits}{}", &template[digits.len()..])
}

/// Whether the two digits at `at` are within bounds; true if the text ends before them.
fn field(digits: &str, at: usize, bounds: RangeInclusive<i64>) -> bool {
    digits.get(at..at + 2).is_none_or(|two| number(two).is_some_and(|value| bounds.contains(&value)))
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_of_old_forms_are_read_and_others_are_none() {
        for (text, expected) in [
            ("20240229", Some("20240229")),
            ("2024.02.29", Some("20240229")),
            (" 20240229 ", Some("20240229")),
            ("202402", None),
            ("20241301", None),
            ("2024-02-29", None),
            ("é0240229", None),
        ] {
            assert_eq!(normal_date(text).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("10", Some("100000000000")),
            ("103015.5", Some("103015500000")),
            ("10:30:15", Some("103015000000")),
            ("24", None),
            ("1030.5", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(normal_time(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_range_of_dates_has_whole_dates() {
        for (text, expected) in [
            ("20200101-20201231", Some((Some("20200101"), Some("20201231")))),
            ("20200101-", Some((Some("20200101"), None))),
            ("-2020.12.31", Some((None, Some("20201231")))),
            ("20200101", Some((Some("20200101"), Some("20200101")))),
            ("20200101-2020", None),
            ("2020-20201231", None),
            ("202001-202002", None),
            ("2020", None),
            ("202001", None),
            ("2020-", None),
            ("-202012", None),
            ("20200101-20201301", None),
            ("-", None),
        ] {
            let found = date_span(text).map(|span| (span.from, span.to));
            let expected = expected.map(|(from, to)| (from.map(str::to_owned), to.map(str::to_owned)));
            assert_eq!(found, expected, "{text}");
        }
        assert!(date_time_span("2020-202106", 0).is_some(), "a DT may be a year or a month");
    }

    #[test]
    fn date_times_with_offsets_compare_in_utc() {
        assert_eq!(normal_date_time("19700101010000+0100", 0), Some(0));
        assert_eq!(normal_date_time("19700101010000", 60), Some(0));
        assert_eq!(normal_date_time("1970", 0), Some(0));
        let span = date_time_span("2020-0500-2021-0500", 0).unwrap();
        assert_eq!((span.from, span.is_range), (normal_date_time("20200101050000", 0), true));
        let single = date_time_span("202002-0500", 0).unwrap();
        assert_eq!(single.to, normal_date_time("20200301045959.999999", 0));
        let moment = "20200101050000.123456-0500";
        assert!(date_time_span(&format!("{moment}-{moment}"), 0).is_some());
    }

    #[test]
    fn moments_move_between_time_zones() {
        for (text, expected) in [
            ("+0100", Some(60)),
            ("0100", Some(60)),
            (" 0100", Some(60)),
            ("-0930", Some(-570)),
            ("+1", None),
            ("+0160", None),
            ("+éa0", None),
            ("UTC", None),
        ] {
            assert_eq!(offset_minutes(text), expected, "{text}");
        }
        for (date, time, minutes, expected) in [
            ("20240301", "003000000005", -60, Some(("20240229", "233000000005"))),
            ("20231231", "233000000000", 90, Some(("20240101", "010000000000"))),
            ("99991231", "233000000000", 90, None),
            ("20240101", "10", 0, None),
        ] {
            let expected = expected.map(|(date, time)| (date.to_owned(), time.to_owned()));
            assert_eq!(add_minutes(date, time, minutes), expected, "{date} {time}");
        }
    }
}
