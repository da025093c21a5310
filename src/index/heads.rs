//! The rows of studies and series that this process has just written. While instances of a study arrive, each
//! commit needs the rows that the commit before has written: over a remote table, these are taken from here
//! instead of being read. The versions in the conditions of the transaction show whether they are out of
//! date.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::table::{Item, ItemKey};

/// The age from which a row is not used any more: another process, or the maker of previews, may have changed
/// it by then.
const MAX_AGE: Duration = Duration::from_secs(5);
/// The time after a conflict for which the rows of a study are read: another process stores in it too.
const CONTENDED: Duration = Duration::from_secs(10);
/// The bounds of the memory for all rows.
const MAX_ROWS: usize = 1024;
const MAX_ROW_BYTES: usize = 16 * 1024;

/// The rows that this process has just written.
#[derive(Default)]
pub(crate) struct WrittenHeads {
    state: Mutex<HeadsState>,
}

#[derive(Default)]
struct HeadsState {
    rows: HashMap<ItemKey, (Item, Instant)>,
    /// The partitions of studies in which a conflict was met, with its time.
    contended: HashMap<String, Instant>,
}

impl WrittenHeads {
    /// The rows among these keys that may be used without a read.
    pub(crate) fn get(&self, keys: &[ItemKey]) -> HashMap<ItemKey, Item> {
        self.with(|state| {
            let is_contended = |key: &ItemKey| {
                state.contended.get(&key.partition).is_some_and(|at| at.elapsed() < CONTENDED)
            };
            let usable = keys.iter().filter(|key| !is_contended(key)).filter_map(|key| {
                let (item, at) = state.rows.get(key)?;
                (at.elapsed() < MAX_AGE).then(|| (key.clone(), item.clone()))
            });
            usable.collect()
        })
    }

    /// Remembers rows that were just written.
    pub(crate) fn remember(&self, rows: Vec<Item>) {
        self.with(|state| {
            if state.rows.len() + rows.len() > MAX_ROWS {
                state.rows.retain(|_, (_, at)| at.elapsed() < MAX_AGE);
            }
            if state.rows.len() + rows.len() > MAX_ROWS {
                state.rows.clear();
            }
            let now = Instant::now();
            let small = rows.into_iter().filter(|row| row.body.len() <= MAX_ROW_BYTES).take(MAX_ROWS);
            state.rows.extend(small.map(|row| (row.key.clone(), (row, now))));
        });
    }

    /// Forgets the rows of a study, by its partition. After a conflict, they are read for some time.
    pub(crate) fn forget(&self, partition: &str, is_conflict: bool) {
        self.with(|state| {
            state.rows.retain(|key, _| key.partition != partition);
            if is_conflict {
                state.contended.retain(|_, at| at.elapsed() < CONTENDED);
                state.contended.insert(partition.to_owned(), Instant::now());
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut HeadsState) -> T) -> T {
        // Each statement leaves the state valid, so that a lock that a panic poisoned may still be used.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partition: &str, sort: &str, bytes: usize) -> Item {
        let key = ItemKey { partition: partition.into(), sort: sort.into() };
        Item { key, version: 1, secondary: Vec::new(), body: vec![0; bytes] }
    }

    #[test]
    fn rows_are_used_until_a_conflict_in_their_study_and_large_ones_never() {
        let heads = WrittenHeads::default();
        let rows = [row("a", "STUDY", 1), row("a", "SERIES", MAX_ROW_BYTES + 1), row("b", "STUDY", 1)];
        let keys = rows.clone().map(|row| row.key);
        heads.remember(rows.to_vec());
        assert_eq!(heads.get(&keys).len(), 2);
        heads.forget("b", false);
        assert_eq!(heads.get(&keys).into_keys().collect::<Vec<_>>(), [keys[0].clone()]);
        heads.forget("a", true);
        heads.remember(rows.to_vec());
        assert_eq!(heads.get(&keys).into_keys().collect::<Vec<_>>(), [keys[2].clone()]);
    }

    #[test]
    fn the_number_of_rows_is_bounded() {
        let heads = WrittenHeads::default();
        for number in 0..3 * MAX_ROWS {
            heads.remember(vec![row(&number.to_string(), "STUDY", 1)]);
            assert!(heads.with(|state| state.rows.len()) <= MAX_ROWS);
        }
    }
}
