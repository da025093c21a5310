//! The system clock.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// The milliseconds of a day.
pub const MILLIS_OF_DAY: i64 = 24 * 60 * 60 * 1000;
/// The tolerated difference between the clocks of two machines, in milliseconds.
const MAX_SKEW: i64 = 5 * 60 * 1000;

/// The time since the Unix epoch (1970-01-01 00:00 UTC), in milliseconds.
///
/// The time may go backwards when the system clock is set. A time before the epoch reads as 0.
pub fn now_millis() -> i64 {
    millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// A duration in milliseconds, [`i64::MAX`] if there are more.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the time `at` has come at the time `now`, both in milliseconds since 1970 UTC, if no wait is
/// longer than `longest`.
///
/// A time later than the longest wait allows was written by a wrong clock, and counts as come: otherwise the
/// work would be put off until that time.
pub fn has_come(at: i64, now: i64, longest: Duration) -> bool {
    at <= now || at > latest(now, longest)
}

/// The latest time that a process with a right clock writes at the time `now`, if no wait is longer than
/// `longest`. In milliseconds since 1970 UTC.
pub fn latest(now: i64, longest: Duration) -> i64 {
    now.saturating_add(millis(longest)).saturating_add(MAX_SKEW)
}

/// A time in milliseconds since 1970 UTC, as in RFC 3339.
pub fn rfc3339(at: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, millis) = (time.date(), at.rem_euclid(1000));
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(date.month());
    format!("{:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", date.year(), date.day())
}

/// The date in UTC of a time in milliseconds since 1970, as `2026-11-30`.
pub fn date(at: i64) -> String {
    let mut text = rfc3339(at);
    text.truncate(text.find('T').unwrap_or(text.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_709_210_096_007), "2024-02-29T12:34:56.007Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(date(1_709_251_199_999), "2024-02-29");
        assert_eq!(date(1_709_251_200_000), "2024-03-01");
    }

    #[test]
    fn a_time_beyond_the_longest_wait_has_come() {
        let (now, longest) = (1_800_000_000_000, Duration::from_secs(60));
        for (at, expected) in [
            (0, true),
            (now, true),
            (now + 1, false),
            (now + 60_000, false),
            (now + 60_000 + MAX_SKEW, false),
            (now + 60_001 + MAX_SKEW, true),
            (i64::MAX, true),
        ] {
            assert_eq!(has_come(at, now, longest), expected, "{at}");
        }
        assert!(!has_come(now + 1, now, Duration::MAX));
    }
}
