//! The progress of forwarding: for each destination a place in the feed of changes with a lease, and the
//! instances that are forwarded later or could not be.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::leased::LeasedState;
use crate::index::read::whole_partition;
use crate::index::{Error, Index, keys, rows};
use crate::table::{Expect, Item, ItemKey, MAX_WRITES, Range, Write};

/// The progress of forwarding to a destination. All times are in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardState {
    /// The place in the feed of changes: all entries before it are dealt with.
    pub cursor: String,
    /// The number of instances that were sent.
    pub sent: u64,
    /// The time of the last one.
    pub sent_at: Option<i64>,
    /// The number of instances that could not be sent and are not tried any more.
    pub failed: u64,
    /// The number of rows of those instances.
    pub kept_failures: u64,
    /// The number of instances that are known to wait.
    pub waiting: u64,
    /// The time at which the first of them was stored.
    pub waiting_since: Option<i64>,
    /// The last error, and its time.
    pub error: Option<(String, i64)>,
    /// The process that has the lease.
    pub holder: String,
    /// The end of the lease.
    pub leased_until: i64,
}

impl LeasedState for ForwardState {
    fn key(tenant: &str, title: &str) -> ItemKey {
        keys::forwarding_to(tenant, title)
    }

    fn leased_until(&self) -> i64 {
        self.leased_until
    }

    fn set_holder(&mut self, holder: String) {
        self.holder = holder;
    }

    fn set_end(&mut self, until: i64) {
        self.leased_until = until;
    }
}

/// An instance that is forwarded later, or could not be forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsentInstance {
    /// The study.
    pub study: StudyUid,
    /// The series.
    pub series: SeriesUid,
    /// The instance.
    pub instance: InstanceUid,
    /// The time at which the instance was stored, in milliseconds since 1970 UTC.
    pub since: i64,
    /// The number of attempts.
    pub attempts: u32,
    /// The time of the next attempt, or the time at which the last one failed.
    pub at: i64,
    /// The cause of the last failure.
    pub error: String,
}

impl UnsentInstance {
    /// An instance that was stored at a time, before the first attempt.
    pub fn new(study: StudyUid, series: SeriesUid, instance: InstanceUid, since: i64) -> Self {
        Self { study, series, instance, since, attempts: 0, at: since, error: String::new() }
    }
}

impl Index {
    /// The progress of forwarding to all destinations of a tenant's instances.
    pub async fn forward_states(
        &self,
        tenant: &str,
        limit: usize,
    ) -> Result<Vec<(String, ForwardState)>, Error> {
        let page = self.table.range(&whole_partition(None, keys::forwarding(tenant), limit)).await?;
        let decoded = page.items.into_iter().map(|(title, item)| {
            let state = rows::decode(&item.key, &item.body)?;
            Ok((title, state))
        });
        decoded.collect()
    }

    /// The instances that are forwarded later.
    pub async fn forwarded_later(
        &self,
        tenant: &str,
        title: &str,
        limit: usize,
    ) -> Result<Vec<UnsentInstance>, Error> {
        self.unsent(tenant, title, (keys::FORWARDED_LATER_PREFIX, false), limit).await
    }

    /// The last instances that could not be forwarded, the latest first.
    pub async fn not_forwarded(
        &self,
        tenant: &str,
        title: &str,
        limit: usize,
    ) -> Result<Vec<UnsentInstance>, Error> {
        self.unsent(tenant, title, (keys::NOT_FORWARDED_PREFIX, true), limit).await
    }

    async fn unsent(
        &self,
        tenant: &str,
        title: &str,
        (prefix, is_descending): (&str, bool),
        limit: usize,
    ) -> Result<Vec<UnsentInstance>, Error> {
        let page = self.table.range(&prefixed(tenant, title, (prefix, is_descending), limit)).await?;
        page.items.iter().map(|(_, item)| rows::decode(&item.key, &item.body)).collect()
    }

    /// Adds or replaces an instance that is forwarded later.
    pub async fn forward_later(
        &self,
        tenant: &str,
        title: &str,
        unsent: &UnsentInstance,
    ) -> Result<(), Error> {
        let key = keys::forwarded_later(tenant, title, &unsent.instance);
        Ok(self.table.transact(vec![put(key, unsent)?]).await?)
    }

    /// Removes an instance from those that are forwarded later. With a failure, adds the instance to those
    /// that could not be forwarded.
    pub async fn end_forwarding(
        &self,
        tenant: &str,
        title: &str,
        instance: &InstanceUid,
        failure: Option<&UnsentInstance>,
    ) -> Result<(), Error> {
        let later = keys::forwarded_later(tenant, title, instance);
        let mut writes = vec![Write::Delete(later, Expect::Anything)];
        if let Some(failure) = failure {
            writes.push(put(keys::not_forwarded(tenant, title, failure.at, instance), failure)?);
        }
        Ok(self.table.transact(writes).await?)
    }

    /// Makes instances that could not be forwarded into instances that are forwarded later, with new attempts
    /// since the time `now`.
    pub async fn retry_forwarding(
        &self,
        tenant: &str,
        title: &str,
        failed: &[UnsentInstance],
        now: i64,
    ) -> Result<(), Error> {
        // Each takes two writes.
        for part in failed.chunks(MAX_WRITES / 2) {
            let mut writes = Vec::with_capacity(2 * part.len());
            for unsent in part {
                let failure = keys::not_forwarded(tenant, title, unsent.at, &unsent.instance);
                writes.push(Write::Delete(failure, Expect::Anything));
                let again = UnsentInstance { since: now, attempts: 0, at: now, ..unsent.clone() };
                writes.push(put(keys::forwarded_later(tenant, title, &unsent.instance), &again)?);
            }
            self.table.transact(writes).await?;
        }
        Ok(())
    }

    /// Deletes the oldest row of an instance that could not be forwarded.
    pub async fn forget_oldest_failure(&self, tenant: &str, title: &str) -> Result<(), Error> {
        let range = prefixed(tenant, title, (keys::NOT_FORWARDED_PREFIX, false), 1);
        let page = self.table.range(&range).await?;
        let deletes = page.items.into_iter().map(|(_, item)| Write::Delete(item.key, Expect::Anything));
        let deletes: Vec<Write> = deletes.collect();
        if deletes.is_empty() {
            return Ok(());
        }
        Ok(self.table.transact(deletes).await?)
    }
}

fn put(key: ItemKey, unsent: &UnsentInstance) -> Result<Write, Error> {
    let body = rows::encode(&key, unsent)?;
    Ok(Write::Put(Item { key, version: 1, secondary: Vec::new(), body }, Expect::Anything))
}

/// The rows of a destination whose sort keys have a prefix, which ends with `#`.
fn prefixed(tenant: &str, title: &str, (prefix, is_descending): (&str, bool), limit: usize) -> Range {
    // `$` follows `#`.
    let to = prefix.replace('#', "$");
    Range {
        from: Bound::Included(prefix.to_owned()),
        to: Bound::Excluded(to),
        is_descending,
        ..whole_partition(None, keys::forwarded(tenant, title), limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::engine_tests::{Engine, on_each_engine};

    on_each_engine! {
        the_progress_is_set_by_the_process_that_has_read_it,
        unsent_instances_are_later_or_failed,
    }

    async fn the_progress_is_set_by_the_process_that_has_read_it(engine: Engine) {
        let index = Index::new(engine.table);
        assert_eq!(index.leased::<ForwardState>("a", "X").await.unwrap(), None);
        let mut state = ForwardState { cursor: "1-0.1".into(), ..ForwardState::default() };
        assert!(index.set_leased("a", "X", &state, 0).await.unwrap());
        assert!(!index.set_leased("a", "X", &state, 0).await.unwrap());
        state.error = Some(("cause".into(), 7));
        assert!(index.set_leased("a", "X", &state, 1).await.unwrap());
        assert!(!index.set_leased("a", "X", &ForwardState::default(), 1).await.unwrap());
        assert_eq!(index.leased("a", "X").await.unwrap(), Some((state.clone(), 2)));
        assert!(index.set_leased("b", "X", &state, 0).await.unwrap());
        assert_eq!(index.forward_states("a", 9).await.unwrap(), [("X".to_owned(), state)]);
    }

    async fn unsent_instances_are_later_or_failed(engine: Engine) {
        let index = Index::new(engine.table);
        let unsent = |number: i64| UnsentInstance {
            study: "1.2".parse().unwrap(),
            series: "1.3".parse().unwrap(),
            instance: format!("1.4.{number}").parse().unwrap(),
            since: number,
            attempts: 1,
            at: 100 - number,
            error: "A700H".into(),
        };
        for number in 1..=3 {
            index.forward_later("a", "X", &unsent(number)).await.unwrap();
            index.forward_later("a", "X", &unsent(number)).await.unwrap();
        }
        index.forward_later("a", "Y", &unsent(9)).await.unwrap();
        let all = [unsent(1), unsent(2), unsent(3)];
        assert_eq!(index.forwarded_later("a", "X", 9).await.unwrap(), all);
        index.end_forwarding("a", "X", &unsent(1).instance, None).await.unwrap();
        for number in [2, 3] {
            let failure = unsent(number);
            index.end_forwarding("a", "X", &failure.instance, Some(&failure)).await.unwrap();
        }
        assert!(index.forwarded_later("a", "X", 9).await.unwrap().is_empty());
        let failed: Vec<_> = (10..130).map(unsent).collect();
        for failure in &failed {
            index.end_forwarding("a", "Z", &failure.instance, Some(failure)).await.unwrap();
        }
        index.retry_forwarding("a", "Z", &failed, 500).await.unwrap();
        assert!(index.not_forwarded("a", "Z", 200).await.unwrap().is_empty());
        let again = index.forwarded_later("a", "Z", 200).await.unwrap();
        assert_eq!(again.len(), failed.len());
        assert!(again.iter().all(|again| (again.since, again.at, again.attempts) == (500, 500, 0)));
        assert_eq!(index.not_forwarded("a", "X", 9).await.unwrap(), [unsent(2), unsent(3)]);
        index.forget_oldest_failure("a", "X").await.unwrap();
        assert_eq!(index.not_forwarded("a", "X", 9).await.unwrap(), [unsent(2)]);
        index.forget_oldest_failure("a", "Y").await.unwrap();
        assert_eq!(index.forwarded_later("a", "Y", 9).await.unwrap(), [unsent(9)]);
    }
}
