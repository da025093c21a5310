//! The keys of all items of the audit log. The key of a partition starts with the tenant.
//!
//! | item | partition | sort key | secondary keys |
//! |---|---|---|---|
//! | tenant with a log | `AUDIT` | tenant | |
//! | record | `T#{tenant}#AUDIT#{day}` | `{time}#{chain}#{number}` | by study, patient, user |
//! | head of a chain | `T#{tenant}#AUDIT` | `CHAIN#{chain}` | |
//! | day with records | `T#{tenant}#AUDIT` | `DAY#{day}` | |
//! | end of what was swept from a chain | `T#{tenant}#AUDIT` | `SWEPT#{chain}` | |
//! | time before which records were swept | `T#{tenant}#AUDIT` | `SWEPT_BEFORE` | |

use time::{Date, Month, OffsetDateTime};

use crate::audit::event::AuditEntry;
use crate::table::{ItemKey, Secondary, SecondaryKey};

/// The partition of the items that name the tenants.
pub(super) const TENANTS: &str = "AUDIT";
/// The prefix of the sort keys of heads.
pub(super) const HEAD_PREFIX: &str = "CHAIN#";
/// The prefix of the sort keys of days.
pub(super) const DAY_PREFIX: &str = "DAY#";
/// The prefix of the sort keys of the ends of what was swept.
pub(super) const SWEPT_PREFIX: &str = "SWEPT#";
/// The maximum number of characters of a value in a key.
const MAX_KEY_CHARS: usize = 64;

/// The place of a record in the log of a tenant, which is the order by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPlace {
    /// The time, in milliseconds since 1970 UTC.
    pub at: i64,
    /// The chain.
    pub chain: String,
    /// The number in the chain.
    pub number: u64,
}

impl AuditPlace {
    /// The sort key.
    pub fn sort(&self) -> String {
        format!("{:015}#{}#{:012}", self.at.max(0), self.chain, self.number)
    }

    /// The place of a sort key.
    pub fn of_sort(sort: &str) -> Option<Self> {
        let mut parts = sort.split('#');
        let (at, chain, number) = (parts.next()?, parts.next()?, parts.next()?);
        let is_chain = chain.len() == 32 && chain.bytes().all(|byte| byte.is_ascii_hexdigit());
        let place = Self { at: at.parse().ok()?, chain: chain.to_owned(), number: number.parse().ok()? };
        (is_chain && place.sort() == sort).then_some(place)
    }
}

/// The item that names a tenant.
pub(super) fn tenant(tenant: &str) -> ItemKey {
    ItemKey { partition: TENANTS.into(), sort: tenant.into() }
}

/// The partition of the heads and marks of a tenant's log.
pub(super) fn root(tenant: &str) -> String {
    format!("T#{tenant}#AUDIT")
}

/// The head of a chain.
pub(super) fn head(tenant: &str, chain: &str) -> ItemKey {
    ItemKey { partition: root(tenant), sort: format!("{HEAD_PREFIX}{chain}") }
}

/// The end of what was swept from a chain.
pub(super) fn swept(tenant: &str, chain: &str) -> ItemKey {
    ItemKey { partition: root(tenant), sort: format!("{SWEPT_PREFIX}{chain}") }
}

/// The time before which records were swept.
pub(super) fn swept_before(tenant: &str) -> ItemKey {
    ItemKey { partition: root(tenant), sort: "SWEPT_BEFORE".into() }
}

/// The mark of a day with records.
pub(super) fn day_mark(tenant: &str, day: &str) -> ItemKey {
    ItemKey { partition: root(tenant), sort: format!("{DAY_PREFIX}{day}") }
}

/// The day (UTC) of a time in milliseconds since 1970 UTC, as `20261130`.
pub(super) fn day(at: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{:04}{:02}{:02}", time.year(), u8::from(time.month()), time.day())
}

/// The time after the last of a day, in milliseconds since 1970 UTC.
pub(super) fn end_of_day(day: &str) -> Option<i64> {
    let (year, rest) = day.split_at_checked(4)?;
    let (month, of_month) = rest.split_at_checked(2)?;
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, of_month.parse().ok()?).ok()?;
    Some((date.midnight().assume_utc().unix_timestamp() + 24 * 60 * 60) * 1000)
}

/// The partition of the records of a day.
pub(super) fn records(tenant: &str, day: &str) -> String {
    format!("T#{tenant}#AUDIT#{day}")
}

/// The record at a place.
pub(super) fn record(tenant: &str, place: &AuditPlace) -> ItemKey {
    ItemKey { partition: records(tenant, &day(place.at)), sort: place.sort() }
}

/// The partition, in [`Secondary::First`], of the records of a study.
pub(super) fn of_study(tenant: &str, study: &str) -> String {
    format!("T#{tenant}#AUDIT#S#{}", key_text(study))
}

/// The partition, in [`Secondary::Second`], of the records of a patient ID.
pub(super) fn of_patient(tenant: &str, patient: &str) -> String {
    format!("T#{tenant}#AUDIT#P#{}", key_text(patient))
}

/// The partition, in [`Secondary::Third`], of the records of a user.
pub(super) fn of_user(tenant: &str, user: &str) -> String {
    format!("T#{tenant}#AUDIT#U#{}", key_text(user))
}

/// The keys of a record in the secondary indexes.
pub(super) fn secondary(tenant: &str, place: &AuditPlace, entry: &AuditEntry) -> Vec<SecondaryKey> {
    let sort = place.sort();
    let key = |index, partition| SecondaryKey { index, partition, sort: sort.clone() };
    let study = entry.study.as_ref().map(|study| key(Secondary::First, of_study(tenant, study)));
    let patient = entry.patient.as_ref().map(|patient| key(Secondary::Second, of_patient(tenant, patient)));
    let user = &entry.user.user;
    let user = (!user.is_empty()).then(|| key(Secondary::Third, of_user(tenant, user)));
    [study, patient, user].into_iter().flatten().collect()
}

/// Shortens a value for use in a key. Different values may give the same text, so the records found by the
/// key must still be matched.
fn key_text(value: &str) -> String {
    value.chars().filter(|character| !character.is_control()).take(MAX_KEY_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_its_sort_key_alone() {
        let place = AuditPlace { at: 1_764_509_040_000, chain: "0af".repeat(11)[..32].into(), number: 7 };
        assert_eq!(AuditPlace::of_sort(&place.sort()), Some(place.clone()));
        let later = AuditPlace { at: place.at + 1, number: 1, ..place.clone() };
        assert!(later.sort() > place.sort());
        let sort = place.sort();
        for wrong in ["", "1", "1#2#3", &sort[1..], &format!("{sort}#"), &sort.replace('f', "g")] {
            assert_eq!(AuditPlace::of_sort(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn days_are_those_of_utc() {
        assert_eq!(day(1_764_547_199_999), "20251130");
        assert_eq!(day(1_764_547_200_000), "20251201");
        assert_eq!(end_of_day("20251130"), Some(1_764_547_200_000));
        assert_eq!(end_of_day("20240228"), Some(1_709_164_800_000));
        for wrong in ["", "2025", "202511", "20251301", "20250230", "2025113x", "\u{e9}"] {
            assert_eq!(end_of_day(wrong), None, "{wrong}");
        }
    }
}
