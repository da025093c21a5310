//! Tests of usage, over each engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::clock::{MILLIS_OF_DAY, date, now_millis};
use crate::config::Duplicates;
use crate::index::amounts::{Amount, Turnover};
use crate::index::engine_tests::{Engine, on_each_engine};
use crate::index::records::InstanceRecord;
use crate::index::tests::{TENANT, digest, instance};
use crate::index::usage::{DayUsage, Traffic, UsageRecount};
use crate::index::{Index, keys};
use crate::table::{self, Expect, Item, ItemKey, Page, Range, SortKeys, Table, Write};

on_each_engine! {
    each_store_replacement_and_deletion_counts_once_on_its_day,
    a_fleet_that_stores_deletes_and_counts_at_the_same_time_counts_exactly,
    transactions_of_unclear_outcome_that_are_retried_count_once,
    instances_of_very_many_days_are_counted_in_several_transactions,
    the_amount_of_an_archive_of_an_older_version_is_unknown_until_it_is_counted,
    a_wrong_amount_is_found_and_corrected,
    changes_are_not_swept_before_they_are_counted,
    the_traffic_of_a_day_is_that_of_all_processes,
}

/// A day in the past: 2024-02-29.
const PAST: i64 = 1_709_210_096_007;

fn amount(studies: u64, instances: u64, bytes: u64) -> Amount {
    Amount { studies, instances, bytes }
}

async fn store(index: &Index, record: InstanceRecord) {
    index.commit(TENANT, record, Duplicates::Replace, None).await.unwrap();
}

fn replacement(mut record: InstanceRecord, bytes: u64) -> InstanceRecord {
    record.digest = digest(&format!("another of {bytes}"));
    record.object = format!("{} another of {bytes}", record.object);
    record.size_bytes = bytes;
    record
}

async fn remove(index: &Index, record: &InstanceRecord) {
    let InstanceRecord { study, series, instance, .. } = record;
    index.remove(TENANT, study, Some(series), Some(instance)).await.unwrap();
}

async fn stored(index: &Index) -> Option<Amount> {
    index.stored_amount(TENANT).await.unwrap()
}

async fn days(index: &Index) -> BTreeMap<String, DayUsage> {
    index.usage(TENANT, "0000-01-01", "9999-12-31").await.unwrap().days
}

/// The sum of all days: stored without deleted.
async fn sum(index: &Index) -> Amount {
    let (mut stored, mut deleted) = (Amount::default(), Amount::default());
    for day in days(index).await.into_values() {
        stored.add(day.turnover.stored);
        deleted.add(day.turnover.deleted);
    }
    stored.subtract(deleted);
    stored
}

async fn each_store_replacement_and_deletion_counts_once_on_its_day(engine: Engine) {
    let index = engine.index();
    assert_eq!(stored(&index).await, Some(Amount::default()), "a tenant that has stored nothing");
    let first = InstanceRecord { stored_at: PAST, ..instance(1, 1, 1) };
    let second = InstanceRecord { stored_at: PAST + MILLIS_OF_DAY, ..instance(1, 1, 2) };
    for record in [&first, &first, &second, &second] {
        store(&index, record.clone()).await;
    }
    assert_eq!(stored(&index).await, Some(amount(1, 2, 20)));
    store(&index, replacement(first.clone(), 7)).await;
    assert_eq!(stored(&index).await, Some(amount(1, 2, 17)));
    let expected = |stored, deleted| Turnover { stored, deleted };
    let today = date(now_millis());
    let days_now = days(&index).await;
    assert_eq!(days_now["2024-02-29"].turnover, expected(amount(1, 2, 17), Amount::default()));
    assert_eq!(days_now["2024-03-01"].turnover, expected(amount(0, 1, 10), Amount::default()));
    assert_eq!(days_now[&today].turnover, expected(Amount::default(), amount(0, 1, 10)));
    remove(&index, &second).await;
    remove(&index, &second).await;
    assert_eq!(stored(&index).await, Some(amount(1, 1, 7)));
    assert!(index.remove_lost(TENANT, &replacement(first.clone(), 7)).await.unwrap());
    assert_eq!(stored(&index).await, Some(Amount::default()));
    assert_eq!(days(&index).await[&today].turnover.deleted, amount(1, 3, 27));
    let one = index.usage(TENANT, "2024-03-01", "2024-03-01").await.unwrap();
    assert_eq!(one.days.into_keys().collect::<Vec<_>>(), ["2024-03-01"]);
    let other = index.usage("another", "0000-01-01", "9999-12-31").await.unwrap();
    assert_eq!((other.stored, other.days.len()), (Some(Amount::default()), 0));
}

async fn a_fleet_that_stores_deletes_and_counts_at_the_same_time_counts_exactly(engine: Engine) {
    let per_node = if engine.cases > 1000 { 50 } else { 12 };
    let nodes = (0..4_usize).map(|node| {
        let index = Arc::new(engine.index());
        tokio::spawn(async move {
            for number in 0..per_node {
                let record = instance(1 + (node + number) % 3, 1 + number % 2, 1000 * node + number);
                store(&index, record.clone()).await;
                match number % 5 {
                    1 => store(&index, replacement(record, 3 + number as u64)).await,
                    2 => remove(&index, &record).await,
                    3 => store(&index, record).await,
                    4 => drop(index.stored_amount(TENANT).await.unwrap()),
                    _ => {}
                }
                // An instance that all nodes replace.
                store(&index, replacement(instance(1, 1, 9999), (100 * node + number) as u64)).await;
            }
        })
    });
    for node in join_all(nodes.collect::<Vec<_>>()).await {
        node.unwrap();
    }
    let index = engine.index();
    // A retried transaction may have left a gap in the feed, which is filled some seconds later.
    assert_eq!(index.recount_usage(TENANT, false).await.unwrap(), UsageRecount::Right);
    assert_eq!(Some(sum(&index).await), stored(&index).await);
}

/// A table of which each third transaction reports a failure: half of these have taken effect.
struct UnclearTable {
    table: Arc<dyn Table>,
    count: AtomicUsize,
}

#[async_trait]
impl Table for UnclearTable {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, table::Error> {
        self.table.get(keys).await
    }

    async fn range(&self, range: &Range) -> Result<Page, table::Error> {
        self.table.range(range).await
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, table::Error> {
        self.table.sort_keys(range).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), table::Error> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        if number % 6 != 2 {
            self.table.transact(writes).await?;
        }
        match number % 3 {
            2 => Err(table::Error::Backend { operation: "be sure", source: "unclear".into() }),
            _ => Ok(()),
        }
    }

    fn health(&self) -> Result<(), table::Error> {
        self.table.health()
    }

    fn is_remote(&self) -> bool {
        self.table.is_remote()
    }
}

async fn transactions_of_unclear_outcome_that_are_retried_count_once(engine: Engine) {
    let unclear = Arc::new(UnclearTable { table: engine.table.clone(), count: AtomicUsize::new(0) });
    let mut index = Index::new(unclear.clone());
    for number in 0..40 {
        let record = instance(1 + number % 2, 1, number);
        // A process that is killed begins anew.
        while index.commit(TENANT, record.clone(), Duplicates::Reject, None).await.is_err() {
            index = Index::new(unclear.clone());
        }
        let InstanceRecord { study, series, instance, .. } = &record;
        if number % 4 == 1 {
            while index.remove(TENANT, study, Some(series), Some(instance)).await.is_err() {}
        }
        if number % 3 == 1 {
            while index.stored_amount(TENANT).await.is_err() {}
        }
    }
    let index = engine.index();
    assert_eq!(index.recount_usage(TENANT, false).await.unwrap(), UsageRecount::Right);
    assert_eq!(stored(&index).await, Some(amount(2, 30, 300)));
    assert_eq!(sum(&index).await, amount(2, 30, 300));
}

async fn instances_of_very_many_days_are_counted_in_several_transactions(engine: Engine) {
    let index = engine.index();
    let records = (0..250).map(|number| InstanceRecord {
        stored_at: PAST + i64::try_from(number).unwrap() * MILLIS_OF_DAY,
        ..instance(1, 1, number)
    });
    join_all(records.map(|record| store(&index, record))).await;
    assert_eq!(stored(&index).await, Some(amount(1, 250, 2500)));
    assert_eq!(days(&index).await.len(), 250);
}

async fn the_amount_of_an_archive_of_an_older_version_is_unknown_until_it_is_counted(engine: Engine) {
    let index = engine.index();
    store(&index, instance(1, 1, 1)).await;
    // As if a version without usage had stored this.
    let head = Write::Delete(keys::usage_head(TENANT), Expect::Anything);
    engine.table.transact(vec![head]).await.unwrap();
    store(&index, instance(2, 1, 1)).await;
    assert_eq!(stored(&index).await, None);
    assert_eq!(index.usage(TENANT, "2024-01-01", "2024-01-02").await.unwrap().stored, None);
    for is_repairing in [false, true] {
        assert_eq!(index.recount_usage(TENANT, is_repairing).await.unwrap(), UsageRecount::Uncounted);
    }
    assert_eq!(stored(&index).await, Some(amount(2, 2, 20)));
    store(&index, instance(2, 1, 2)).await;
    assert_eq!(stored(&index).await, Some(amount(2, 3, 30)));
    assert_eq!(index.recount_usage(TENANT, false).await.unwrap(), UsageRecount::Right);
    // Only what came after the count is in the days.
    assert_eq!(sum(&index).await, amount(0, 1, 10));
}

async fn a_wrong_amount_is_found_and_corrected(engine: Engine) {
    let index = engine.index();
    store(&index, instance(1, 1, 1)).await;
    assert_eq!(stored(&index).await, Some(amount(1, 1, 10)));
    let row = engine.table.get(&[keys::study(TENANT, &instance(1, 1, 1).study)]).await.unwrap();
    engine.table.transact(vec![Write::Delete(row[0].clone().unwrap().key, Expect::Anything)]).await.unwrap();
    for is_repairing in [false, true] {
        assert_eq!(index.recount_usage(TENANT, is_repairing).await.unwrap(), UsageRecount::Wrong);
    }
    assert_eq!(stored(&index).await, Some(Amount::default()));
    assert_eq!(index.recount_usage(TENANT, false).await.unwrap(), UsageRecount::Right);
}

async fn changes_are_not_swept_before_they_are_counted(engine: Engine) {
    let index = engine.index();
    for number in 0..30 {
        store(&index, instance(1, 1, number)).await;
    }
    assert_eq!(index.sweep_changes(now_millis() + 1).await.unwrap(), 29);
    assert_eq!(stored(&index).await, Some(amount(1, 30, 300)));
    assert_eq!(sum(&index).await, amount(1, 30, 300));
}

async fn the_traffic_of_a_day_is_that_of_all_processes(engine: Engine) {
    let index = engine.index();
    let traffic = |calls, sent_bytes| Traffic { calls, sent_bytes };
    for (day, process, written) in [
        ("2024-02-28", "one", traffic(100, 1000)),
        ("2024-02-29", "one", traffic(1, 10)),
        ("2024-02-29", "two", traffic(4, 40)),
        // Written twice, with more and after an answer that was lost.
        ("2024-02-29", "one", traffic(3, 30)),
        ("2024-02-29", "one", traffic(3, 30)),
    ] {
        index.write_traffic(TENANT, day, process, written).await.unwrap();
    }
    let usage = index.usage(TENANT, "2024-02-29", "2024-02-29").await.unwrap();
    assert_eq!(usage.days.len(), 1);
    assert_eq!(usage.days["2024-02-29"].traffic, traffic(7, 70));
    assert_eq!(usage.stored, Some(Amount::default()));
}
