//! Changes: the contents of a feed, as the transactions that make the changes write them.

use serde::{Deserialize, Serialize};

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::amounts::DailyTurnover;
use crate::index::feed_position::FeedPosition;
use crate::index::records::InstanceRecord;
use crate::index::{Error, rows};
use crate::query::Level;
use crate::table::ItemKey;

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// Instances were stored.
    #[serde(rename = "s")]
    Stored,
    /// Instances were stored in place of others of the same UID.
    #[serde(rename = "r")]
    Replaced,
    /// Instances were deleted.
    #[serde(rename = "d")]
    Deleted,
    /// A series with images has not changed for `preview.quiet_seconds`.
    #[serde(rename = "q")]
    Complete,
    /// The preview of a series was made.
    #[serde(rename = "p")]
    Preview,
    /// The preview of a series cannot be made.
    #[serde(rename = "f")]
    PreviewFailed,
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

/// A change of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The kind.
    pub kind: ChangeKind,
    /// The study.
    pub study: StudyUid,
    /// The series.
    pub series: SeriesUid,
    /// The instances that were stored, replaced or deleted, in the order in which that was done; empty for a
    /// change of the series itself.
    pub instances: Vec<InstanceUid>,
    /// Of a deletion: the level of what does not exist any more, the study or the series; `None` if both
    /// still have instances.
    pub emptied: Option<Level>,
}

impl ChangeKind {
    /// The name of the event for clients; `None` for a kind of a later version.
    pub fn event(self) -> Option<&'static str> {
        match self {
            Self::Stored => Some("stored"),
            Self::Replaced => Some("replaced"),
            Self::Deleted => Some("deleted"),
            Self::Complete => Some("complete"),
            Self::Preview | Self::PreviewFailed => Some("preview"),
            Self::Unknown => None,
        }
    }
}

impl Change {
    /// The name of the level that does not exist any more after a deletion, `study` or `series`.
    pub fn gone(&self) -> Option<&'static str> {
        self.emptied.map(|level| if level == Level::Study { "study" } else { "series" })
    }

    /// A change of a series itself.
    pub(crate) fn of_series(kind: ChangeKind, study: &StudyUid, series: &SeriesUid) -> Self {
        Self { kind, study: study.clone(), series: series.clone(), instances: Vec::new(), emptied: None }
    }
}

/// Adds an instance to the changes of a transaction.
pub(crate) fn add(changes: &mut Vec<Change>, kind: ChangeKind, record: &InstanceRecord) {
    let InstanceRecord { study, series, instance, .. } = record;
    match changes.iter_mut().find(|change| change.kind == kind && change.series == *series) {
        Some(change) => change.instances.push(instance.clone()),
        None => {
            let change = Change::of_series(kind, study, series);
            changes.push(Change { instances: vec![instance.clone()], ..change });
        }
    }
}

/// The changes of one transaction: an entry of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEntry {
    /// The position.
    pub position: FeedPosition,
    /// The time of the change, in milliseconds since 1970 UTC.
    pub at: i64,
    /// The changes; none if the entry only fills the place of a transaction that failed.
    pub changes: Vec<Change>,
    /// The amounts that were stored and deleted (see [`super::usage`]).
    pub(crate) turnover: DailyTurnover,
    /// The entries that this one comes after.
    pub(crate) before: EntriesBefore,
}

/// The entries of other lanes that come before an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EntriesBefore {
    /// The entries with the last changes of the study and its series.
    pub(crate) follows: Vec<FeedPosition>,
    /// Whether the study did not exist. An entry that deleted a study of the same UID is not known.
    pub(crate) is_new_study: bool,
}

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
struct EntryRow {
    #[serde(rename = "t")]
    at: i64,
    #[serde(rename = "f", default, skip_serializing_if = "Vec::is_empty")]
    follows: Vec<FeedPosition>,
    #[serde(rename = "n", default, skip_serializing_if = "std::ops::Not::not")]
    is_new_study: bool,
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<ChangeRow>,
    #[serde(rename = "a", default, skip_serializing_if = "DailyTurnover::is_empty")]
    turnover: DailyTurnover,
}

/// A change as it is written.
#[derive(Serialize, Deserialize)]
struct ChangeRow {
    #[serde(rename = "k")]
    kind: ChangeKind,
    /// The UIDs of the study, the series and the instances: for each the number of characters that it shares
    /// with the one before, and the rest. UIDs of a series differ in their last characters.
    #[serde(rename = "u")]
    uids: Vec<(u8, String)>,
    /// Whether the series, and whether the study, has no instance any more.
    #[serde(rename = "e", default, skip_serializing_if = "is_nothing")]
    emptied: (bool, bool),
}

fn is_nothing(emptied: &(bool, bool)) -> bool {
    *emptied == (false, false)
}

impl FeedEntry {
    /// Encodes the entry as the body of its row.
    pub(crate) fn encode(&self, key: &ItemKey) -> Result<Vec<u8>, Error> {
        let changes = self.changes.iter().map(ChangeRow::of).collect();
        let EntriesBefore { follows, is_new_study } = self.before.clone();
        let turnover = self.turnover.clone();
        rows::encode(key, &EntryRow { at: self.at, follows, is_new_study, changes, turnover })
    }

    /// Decodes the entry from the body of its row.
    pub(crate) fn decode(position: FeedPosition, key: &ItemKey, body: &[u8]) -> Result<Self, Error> {
        let EntryRow { at, follows, is_new_study, changes, turnover } = rows::decode(key, body)?;
        let changes: Option<Vec<Change>> = changes.into_iter().map(ChangeRow::change).collect();
        let changes = changes.ok_or_else(|| rows::record_error(key, "the UIDs of a change are damaged"))?;
        Ok(Self { position, at, changes, turnover, before: EntriesBefore { follows, is_new_study } })
    }
}

impl ChangeRow {
    fn of(change: &Change) -> Self {
        let emptied = (change.emptied.is_some(), change.emptied == Some(Level::Study));
        let instances = change.instances.iter().map(InstanceUid::as_str);
        let all = [change.study.as_str(), change.series.as_str()].into_iter().chain(instances);
        let mut before = "";
        let uids = all.map(|uid| {
            let shared = before.bytes().zip(uid.bytes()).take_while(|(one, other)| one == other).count();
            before = uid;
            // A UID has at most 64 characters, all of them ASCII.
            (u8::try_from(shared).unwrap_or(0), uid.get(shared..).unwrap_or(uid).to_owned())
        });
        Self { kind: change.kind, uids: uids.collect(), emptied }
    }

    fn change(self) -> Option<Change> {
        let mut before = String::new();
        let mut all = Vec::with_capacity(self.uids.len());
        for (shared, rest) in self.uids {
            before.truncate(before.len().min(shared.into()));
            before.push_str(&rest);
            all.push(before.clone());
        }
        let mut all = all.into_iter();
        let emptied = match self.emptied {
            (_, true) => Some(Level::Study),
            (true, false) => Some(Level::Series),
            (false, false) => None,
        };
        Some(Change {
            kind: self.kind,
            study: all.next()?.parse().ok()?,
            series: all.next()?.parse().ok()?,
            instances: all.map(|uid| uid.parse().ok()).collect::<Option<_>>()?,
            emptied,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::amounts::{Amount, Turnover};

    fn entry(instances: usize, emptied: Option<Level>) -> FeedEntry {
        let root = "1.2.826.0.1.3680043.8.498.11019923";
        let instances = (0..instances).map(|number| format!("{root}.2.{number}").parse().unwrap()).collect();
        let change = Change {
            kind: ChangeKind::Deleted,
            study: root.parse().unwrap(),
            series: format!("{root}.2").parse().unwrap(),
            instances,
            emptied,
        };
        let before = EntriesBefore { follows: vec![FeedPosition(3, 77)], is_new_study: true };
        let amount = Amount { studies: 1, instances: 47, bytes: 25 << 20 };
        let turnover = Turnover { deleted: amount, ..Turnover::default() };
        FeedEntry {
            position: FeedPosition(1, 2),
            at: 1_800_000_000_000,
            changes: vec![change],
            turnover: [("2027-01-15".to_owned(), turnover)].into(),
            before,
        }
    }

    #[test]
    fn an_entry_is_read_back_as_it_was_written_and_is_small() {
        let key = ItemKey { partition: "p".into(), sort: "s".into() };
        for emptied in [None, Some(Level::Series), Some(Level::Study)] {
            let entry = entry(47, emptied);
            let body = entry.encode(&key).unwrap();
            assert!(body.len() < 400, "{} bytes", body.len());
            assert_eq!(FeedEntry::decode(entry.position, &key, &body).unwrap(), entry);
        }
        let one = entry(1, None).encode(&key).unwrap();
        assert!(one.len() < 130, "{} bytes", one.len());
    }

    #[test]
    fn a_kind_of_a_later_version_is_read_and_damage_is_an_error() {
        let key = ItemKey { partition: "p".into(), sort: "s".into() };
        let row = |kind: &str, uids: serde_json::Value| {
            rows::encode(&key, &serde_json::json!({"t": 1, "c": [{"k": kind, "u": uids}]})).unwrap()
        };
        let later = row("later", serde_json::json!([[0, "1.2"], [3, ".3"]]));
        let read = FeedEntry::decode(FeedPosition(0, 1), &key, &later).unwrap();
        assert_eq!(read.changes[0].kind, ChangeKind::Unknown);
        assert_eq!(read.changes[0].series.as_str(), "1.2.3");
        for damaged in [serde_json::json!([[0, "1.2"]]), serde_json::json!([[0, "1.2"], [200, "x"]])] {
            assert!(FeedEntry::decode(FeedPosition(0, 1), &key, &row("s", damaged)).is_err());
        }
    }
}
