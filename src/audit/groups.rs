//! Groups of events that have one record: the events of one kind by one participant on one study, within a
//! period. The lookup is in memory alone.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The most groups that are remembered. Beyond it, old ones are forgotten: more records are written then.
const MAX_GROUPS: usize = 65_536;

/// The groups of this process.
pub(super) struct Groups {
    hashers: [RandomState; 2],
    groups: Mutex<HashMap<u128, Group>>,
}

enum Group {
    /// The record is durable, and stands for the group until this time.
    Written(Instant),
    /// The record is being written.
    Writing(watch::Receiver<Option<bool>>),
}

/// The state of a group for an event.
pub(super) enum Entry {
    /// The record is durable.
    Written,
    /// Another event of the group is writing the record.
    Writing(watch::Receiver<Option<bool>>),
    /// The event must write the record, and says by this sender whether it could.
    New(watch::Sender<Option<bool>>),
}

impl Groups {
    pub(super) fn new() -> Self {
        Self { hashers: [RandomState::new(), RandomState::new()], groups: Mutex::default() }
    }

    /// The key of a group. The hashes are keyed by random numbers, so that no client can make two groups
    /// meet.
    pub(super) fn key(&self, group: &impl Hash) -> u128 {
        let [high, low] = &self.hashers;
        u128::from(high.hash_one(group)) << 64 | u128::from(low.hash_one(group))
    }

    /// The state of a group for an event.
    pub(super) fn enter(&self, key: u128) -> Entry {
        let now = Instant::now();
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        match groups.get(&key) {
            Some(Group::Written(until)) if now < *until => return Entry::Written,
            // A sender that is gone was dropped before it could write.
            Some(Group::Writing(writing)) if writing.has_changed().is_ok() => {
                return Entry::Writing(writing.clone());
            }
            _ => {}
        }
        if groups.len() >= MAX_GROUPS {
            make_room(&mut groups, now);
        }
        let (sender, receiver) = watch::channel(None);
        groups.insert(key, Group::Writing(receiver));
        Entry::New(sender)
    }

    /// Ends the writing of a group's record: the record stands for the group for a period, or was not
    /// written.
    pub(super) fn settle(&self, key: u128, written_for: Option<Duration>) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        match written_for {
            Some(period) => groups.insert(key, Group::Written(Instant::now() + period)),
            None => groups.remove(&key),
        };
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.groups.lock().unwrap().len()
    }
}

/// Forgets the groups that have ended, and, if that is not enough, those that end first.
fn make_room(groups: &mut HashMap<u128, Group>, now: Instant) {
    let end = |group: &Group| match group {
        Group::Written(until) => Some(*until),
        Group::Writing(_) => None,
    };
    groups.retain(|_, group| end(group).is_none_or(|until| until > now));
    if groups.len() < MAX_GROUPS * 3 / 4 {
        return;
    }
    let mut ends: Vec<Instant> = groups.values().filter_map(end).collect();
    let half = ends.len() / 2;
    if half > 0 {
        let (_, median, _) = ends.select_nth_unstable(half);
        let median = *median;
        groups.retain(|_, group| end(group).is_none_or(|until| until > median));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_newest_groups_are_remembered() {
        let groups = Groups::new();
        for number in 0..MAX_GROUPS + 10 {
            let key = groups.key(&number);
            assert!(matches!(groups.enter(key), Entry::New(_)), "{number}");
            groups.settle(key, Some(Duration::from_secs(60)));
            assert!(matches!(groups.enter(key), Entry::Written));
        }
        assert!(groups.len() <= MAX_GROUPS);
        assert!(matches!(groups.enter(groups.key(&(MAX_GROUPS + 9))), Entry::Written));
        assert!(matches!(groups.enter(groups.key(&0)), Entry::New(_)));
    }

    #[test]
    fn a_group_whose_record_was_not_written_begins_anew() {
        let groups = Groups::new();
        let Entry::New(sender) = groups.enter(1) else { panic!("the group is new") };
        assert!(matches!(groups.enter(1), Entry::Writing(_)));
        drop(sender);
        assert!(matches!(groups.enter(1), Entry::New(_)), "the first was dropped");
        groups.settle(1, None);
        assert!(matches!(groups.enter(1), Entry::New(_)), "the second failed");
        groups.settle(1, Some(Duration::ZERO));
        assert!(matches!(groups.enter(1), Entry::New(_)), "the period has ended");
    }
}
