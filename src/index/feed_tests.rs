//! Tests of the feed of changes, over each engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::join_all;

use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::index::amounts::DailyTurnover;
use crate::index::change_log::fill;
use crate::index::changes::{Change, ChangeKind, EntriesBefore, FeedEntry};
use crate::index::engine_tests::{CountingTable, Engine, RemoteTable, on_each_engine};
use crate::index::feed::{FeedCursor, FeedPage, FeedRead};
use crate::index::feed_position::FeedPosition;
use crate::index::previews::{LeaseOutcome, LeaseTimes};
use crate::index::records::{InstanceRecord, PreviewState};
use crate::index::tests::{TENANT, digest, instance};
use crate::index::{Index, keys};
use crate::query::Level;
use crate::table::{Expect, Item, ItemKey, Write};

on_each_engine! {
    a_change_of_each_kind_is_in_the_feed_in_order,
    the_feed_of_a_fleet_that_stores_and_deletes_is_complete_and_in_order_for_a_reader_beside_it,
    a_reader_stops_at_a_gap_and_fills_an_old_one,
    an_entry_comes_after_those_that_it_follows_whatever_the_clocks_say,
    a_new_study_waits_while_another_lane_may_hide_its_deletion,
    a_number_that_is_given_up_is_used_again_or_filled,
    swept_changes_are_gone_and_older_cursors_have_expired,
    a_cursor_of_another_feed_has_expired,
    tenants_have_feeds_of_their_own,
}

async fn page(index: &Index, after: Option<&FeedCursor>, limit: usize) -> FeedPage {
    match index.changes(TENANT, after, limit).await.unwrap() {
        FeedRead::Page(page) => page,
        FeedRead::Expired => panic!("the cursor has expired"),
    }
}

async fn is_expired(index: &Index, after: &FeedCursor) -> bool {
    index.changes(TENANT, Some(after), 10).await.unwrap() == FeedRead::Expired
}

async fn all(index: &Index) -> Vec<Change> {
    let (mut changes, mut after) = (Vec::new(), None);
    loop {
        let page = page(index, after.as_ref(), 3).await;
        changes.extend(page.entries.into_iter().flat_map(|entry| entry.changes));
        if !page.has_more {
            return changes;
        }
        after = Some(page.next);
    }
}

async fn store(index: &Index, record: InstanceRecord) {
    index.commit(TENANT, record, Duplicates::Replace, Some(0)).await.unwrap();
}

fn replacement(mut record: InstanceRecord) -> InstanceRecord {
    record.digest = digest("another");
    record.object = format!("{} again", record.object);
    record
}

async fn a_change_of_each_kind_is_in_the_feed_in_order(engine: Engine) {
    let index = engine.index();
    assert_eq!(all(&index).await, []);
    let record = instance(1, 1, 1);
    store(&index, record.clone()).await;
    store(&index, record.clone()).await;
    store(&index, replacement(record.clone())).await;
    let (study, series) = (&record.study, &record.series);
    let now = now_millis();
    let times = LeaseTimes { now, until: now + 1000, quiet_since: now + 1000 };
    let lease = index.lease_preview(TENANT, study, series, times).await.unwrap();
    let LeaseOutcome::Acquired(leased) = lease else { panic!("{lease:?}") };
    for preview in [
        PreviewState::Ready { generation: leased.generation, size_bytes: 1 },
        PreviewState::Failed { reason: "a test".into(), attempts: 1 },
    ] {
        assert!(index.set_preview(TENANT, study, series, leased.generation, &preview).await.unwrap());
    }
    store(&index, instance(1, 1, 2)).await;
    index.remove(TENANT, study, Some(series), Some(&record.instance)).await.unwrap();
    index.remove(TENANT, study, None, None).await.unwrap();

    let changes = all(&index).await;
    let brief = |change: &Change| (change.kind, change.instances.len(), change.emptied);
    assert_eq!(
        changes.iter().map(brief).collect::<Vec<_>>(),
        [
            (ChangeKind::Stored, 1, None),
            (ChangeKind::Replaced, 1, None),
            (ChangeKind::Complete, 0, None),
            (ChangeKind::Preview, 0, None),
            (ChangeKind::PreviewFailed, 0, None),
            (ChangeKind::Stored, 1, None),
            (ChangeKind::Deleted, 1, None),
            (ChangeKind::Deleted, 1, Some(Level::Study)),
        ]
    );
    assert!(changes.iter().all(|change| change.study == *study && change.series == *series));
    assert_eq!(changes[0].instances, [record.instance]);
}

/// Four indexes over one table store, replace and delete instances of shared studies, while a fifth reads.
/// From the feed alone the reader must know, at every moment, a state in which the study was, and in the end
/// which instances there are.
async fn the_feed_of_a_fleet_that_stores_and_deletes_is_complete_and_in_order_for_a_reader_beside_it(
    engine: Engine,
) {
    const NODES: usize = 4;
    const STUDIES: usize = 3;
    let per_node = if engine.cases > 1000 { 60 } else { 12 };
    let writers = (0..NODES).map(|node| {
        let index = Arc::new(engine.index());
        tokio::spawn(async move {
            for number in 0..per_node {
                let study = 1 + (node + number) % STUDIES;
                let record = instance(study, 1, 1000 * node + number);
                store(&index, record.clone()).await;
                if number % 4 == 1 {
                    store(&index, replacement(record.clone())).await;
                }
                if number % 3 == 2 {
                    let InstanceRecord { study, series, instance, .. } = &record;
                    index.remove(TENANT, study, Some(series), Some(instance)).await.unwrap();
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let reader = engine.index();
    let (mut known, mut stored, mut after) = (BTreeSet::new(), 0, None);
    loop {
        let is_over = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let page = page(&reader, after.as_ref(), 5).await;
        let is_last = is_over && page.entries.is_empty() && !page.has_more;
        for change in page.entries.iter().flat_map(|entry| &entry.changes) {
            for instance in &change.instances {
                match change.kind {
                    ChangeKind::Stored => {
                        assert!(known.insert(instance.clone()), "{instance} is stored twice");
                        stored += 1;
                    }
                    ChangeKind::Replaced => assert!(known.contains(instance), "{instance} is replaced first"),
                    _ => assert!(known.remove(instance), "{instance} is deleted first"),
                }
            }
        }
        after = Some(page.next);
        if is_last {
            break;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(stored, NODES * per_node);
    let mut there = BTreeSet::new();
    for study in 1..=STUDIES {
        let uid = instance(study, 1, 1).study;
        let pages: Vec<Vec<InstanceRecord>> =
            reader.instances(TENANT, &uid, None).try_collect().await.unwrap();
        there.extend(pages.into_iter().flatten().map(|record| record.instance));
    }
    assert_eq!(known, there);
}

/// Writes an entry to a feed, as a process would.
async fn put_entry(engine: &Engine, position: FeedPosition, at: i64, follows: &[FeedPosition]) {
    let before = EntriesBefore { follows: follows.to_vec(), is_new_study: position.1 == 1 };
    let record = instance(1, 1, usize::try_from(position.1).unwrap());
    let changes = vec![Change {
        instances: vec![record.instance.clone()],
        ..Change::of_series(ChangeKind::Stored, &record.study, &record.series)
    }];
    let entry = FeedEntry { position, at, changes, turnover: DailyTurnover::new(), before };
    let key = keys::feed_entry(TENANT, position);
    let body = entry.encode(&key).unwrap();
    put(engine, key, body).await.unwrap();
}

async fn put(engine: &Engine, key: ItemKey, body: Vec<u8>) -> Result<(), crate::table::Error> {
    let item = Item { key, version: 1, secondary: Vec::new(), body };
    engine.table.transact(vec![Write::Put(item, Expect::Absent)]).await
}

/// An empty feed.
async fn begin(engine: &Engine) {
    put(engine, keys::feed(TENANT), rmp_serde::to_vec_named(&1_800_000_000_000_u64).unwrap()).await.unwrap();
    put(engine, keys::tenant(TENANT), Vec::new()).await.unwrap();
}

fn positions(page: &FeedPage) -> Vec<(u32, u64)> {
    page.entries.iter().map(|entry| (entry.position.0, entry.position.1)).collect()
}

async fn a_reader_stops_at_a_gap_and_fills_an_old_one(engine: Engine) {
    begin(&engine).await;
    let (index, now) = (engine.index(), now_millis());
    put_entry(&engine, FeedPosition(0, 1), now, &[]).await;
    put_entry(&engine, FeedPosition(0, 3), now, &[]).await;
    let before = page(&index, None, 10).await;
    assert_eq!((positions(&before), before.has_more), (vec![(0, 1)], false));
    // A listener that begins now misses nothing that becomes visible later.
    assert_eq!(index.end_of_changes(TENANT).await.unwrap(), before.next);
    put_entry(&engine, FeedPosition(0, 2), now, &[]).await;
    let after = page(&index, Some(&before.next), 10).await;
    assert_eq!(positions(&after), [(0, 2), (0, 3)]);
    assert_eq!(index.end_of_changes(TENANT).await.unwrap(), after.next);

    put_entry(&engine, FeedPosition(0, 6), now - 60_000, &[]).await;
    let filled = page(&index, Some(&after.next), 10).await;
    assert_eq!(positions(&filled), [(0, 6)]);
    // A transaction that was under way all the time fails now, and would be tried again under another number.
    assert!(put(&engine, keys::feed_entry(TENANT, FeedPosition(0, 4)), vec![1]).await.is_err());
    // The process does the same for a transaction that has failed.
    fill(engine.table.as_ref(), TENANT, FeedPosition(0, 7), now).await;
    fill(engine.table.as_ref(), TENANT, FeedPosition(0, 3), now).await;
    assert_eq!(positions(&page(&index, None, 10).await), [(0, 1), (0, 2), (0, 3), (0, 6)]);
}

async fn an_entry_comes_after_those_that_it_follows_whatever_the_clocks_say(engine: Engine) {
    if !engine.table.is_remote() {
        // One lane has one order.
        begin(&engine).await;
        put_entry(&engine, FeedPosition(0, 1), 1000, &[]).await;
        put_entry(&engine, FeedPosition(0, 2), 0, &[FeedPosition(0, 1)]).await;
        assert_eq!(positions(&page(&engine.index(), None, 10).await), [(0, 1), (0, 2)]);
        return;
    }
    begin(&engine).await;
    let (index, now) = (engine.index(), now_millis());
    put_entry(&engine, FeedPosition(0, 1), now - 3000, &[FeedPosition(1, 2)]).await;
    put_entry(&engine, FeedPosition(0, 2), now - 3000, &[]).await;
    let empty = page(&index, None, 10).await;
    assert_eq!((positions(&empty), empty.has_more), (Vec::new(), false), "what it follows was not read");
    put_entry(&engine, FeedPosition(1, 1), now, &[]).await;
    put_entry(&engine, FeedPosition(1, 2), now, &[]).await;
    put_entry(&engine, FeedPosition(2, 1), now - 1000, &[]).await;
    let whole = page(&index, Some(&empty.next), 10).await;
    assert_eq!(positions(&whole), [(2, 1), (1, 1), (1, 2), (0, 1), (0, 2)]);
    // In pages of one entry, too.
    let (mut one_by_one, mut after) = (Vec::new(), None);
    for _ in 0..5 {
        let one = page(&index, after.as_ref(), 1).await;
        assert_eq!(one.has_more, one_by_one.len() < 4);
        one_by_one.extend(positions(&one));
        after = Some(one.next.to_string().parse().unwrap());
    }
    assert_eq!(one_by_one, positions(&whole));
}

async fn a_new_study_waits_while_another_lane_may_hide_its_deletion(engine: Engine) {
    let (index, now) = (engine.index(), now_millis());
    if !engine.table.is_remote() {
        return;
    }
    begin(&engine).await;
    // A gap hides the deletion.
    put_entry(&engine, FeedPosition(0, 1), now, &[]).await;
    put_entry(&engine, FeedPosition(1, 2), now - 500, &[]).await;
    let held = page(&index, None, 10).await;
    assert_eq!((positions(&held), held.has_more, held.is_blocked), (Vec::new(), false, true));
    put_entry(&engine, FeedPosition(1, 1), now - 600, &[]).await;
    let whole = page(&index, Some(&held.next), 10).await;
    assert_eq!(positions(&whole), [(1, 1), (1, 2), (0, 1)]);
    assert!(!whole.has_more && !whole.is_blocked);
    // The end of the page hides it, after entries without changes.
    put_entry(&engine, FeedPosition(4, 1), now - 100, &[]).await;
    for number in [3, 4] {
        fill(engine.table.as_ref(), TENANT, FeedPosition(1, number), now - 400).await;
    }
    put_entry(&engine, FeedPosition(1, 5), now - 300, &[]).await;
    let held = page(&index, Some(&whole.next), 2).await;
    assert_eq!((positions(&held), held.has_more, held.is_blocked), (Vec::new(), true, false));
    assert_eq!(positions(&page(&index, Some(&held.next), 2).await), [(1, 5), (4, 1)]);
    // A page of changes that all come after one that is not there does not go on, however many there are.
    let last = page(&index, None, 10).await.next;
    for number in 1..=3 {
        put_entry(&engine, FeedPosition(5, number), now, &[FeedPosition(6, 1)]).await;
    }
    let blocked = page(&index, Some(&last), 2).await;
    assert_eq!((positions(&blocked), blocked.has_more, blocked.is_blocked), (Vec::new(), false, true));
}

async fn a_number_that_is_given_up_is_used_again_or_filled(engine: Engine) {
    begin(&engine).await;
    let (index, table) = (engine.index(), &engine.table);
    index.log.open(table.as_ref(), TENANT).await.unwrap();
    let take = || index.log.take(table, TENANT, EntriesBefore::default()).unwrap();
    let FeedPosition(lane, first) = take().position;
    assert_eq!((take().position, first), (FeedPosition(lane, 1), 1));
    let (given_up, used) = (take(), take());
    let record = instance(1, 1, 1);
    let change = Change::of_series(ChangeKind::Stored, &record.study, &record.series);
    used.transact(vec![change], DailyTurnover::new(), Vec::new()).await.unwrap();
    assert_eq!(positions(&page(&index, None, 10).await), []);
    drop(given_up);
    // Long before a reader would fill the gap.
    for _ in 0..200 {
        if positions(&page(&index, None, 10).await) == [(lane, 2)] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the gap is not filled");
}

async fn swept_changes_are_gone_and_older_cursors_have_expired(engine: Engine) {
    begin(&engine).await;
    let (index, now) = (engine.index(), now_millis());
    let number = if engine.cases > 1000 { 250 } else { 110 };
    for entry in 1..=number {
        let at = if entry <= number - 5 { now - 100_000 } else { now };
        put_entry(&engine, FeedPosition(0, entry), at, &[]).await;
    }
    let (first, almost) = (page(&index, None, 1).await.next, number as usize - 6);
    let before_rest = page(&index, None, almost).await.next;
    let rest = page(&index, None, almost + 1).await.next;
    assert_eq!(index.sweep_changes(now - 200_000).await.unwrap(), 0);
    assert_eq!(index.sweep_changes(now - 50_000).await.unwrap(), number - 5);
    assert!(is_expired(&index, &first).await && is_expired(&index, &before_rest).await);
    let oldest = page(&index, None, 10).await;
    assert_eq!(oldest.entries.len(), 5);
    assert_eq!(page(&index, Some(&rest), 10).await, oldest, "no entry after this cursor was swept");
    // The last entry stays, and its number is not used again.
    assert_eq!(index.sweep_changes(now + 1).await.unwrap(), 4);
    assert_eq!(page(&index, Some(&oldest.next), 10).await.entries, []);
    let stored = instance(1, 1, 1);
    for _ in 0..40 {
        // By chance the process appends to another lane.
        let writer = engine.index();
        store(&writer, replacement(stored.clone())).await;
        let new = page(&index, Some(&oldest.next), 1).await;
        if positions(&new) == [(0, number + 1)] || engine.table.is_remote() {
            return;
        }
    }
    panic!("the number after the last entry is not used");
}

async fn a_cursor_of_another_feed_has_expired(engine: Engine) {
    let index = engine.index();
    let none = page(&index, None, 10).await.next;
    assert_eq!(none.to_string(), "0");
    let other: FeedCursor = "18b-0.5".parse().unwrap();
    assert!(is_expired(&index, &other).await);
    begin(&engine).await;
    assert!(is_expired(&index, &other).await);
    put_entry(&engine, FeedPosition(0, 1), now_millis(), &[]).await;
    assert_eq!(positions(&page(&index, Some(&none), 10).await), [(0, 1)]);
    let next = page(&index, None, 10).await.next.to_string();
    let beyond: FeedCursor = next.replace("-0.1", "-0.2").parse().unwrap();
    assert!(is_expired(&index, &beyond).await, "an index from a backup has fewer changes");
}

async fn tenants_have_feeds_of_their_own(engine: Engine) {
    let index = engine.index();
    let stores = (1..=4).map(|study| {
        let tenant = if study % 2 == 0 { TENANT } else { "other" };
        index.commit(tenant, instance(study, 1, 1), Duplicates::Reject, None)
    });
    for stored in join_all(stores).await {
        stored.unwrap();
    }
    let studies: BTreeSet<String> = all(&index).await.iter().map(|change| change.study.to_string()).collect();
    assert_eq!(studies, BTreeSet::from(["1.2".to_owned(), "1.4".to_owned()]));
}

#[test]
fn a_cursor_is_read_back_from_its_text_and_nothing_else_is_read() {
    let mut cursor = FeedCursor::default();
    for (lane, number) in [(0, 15), (7, 1)] {
        cursor.advance(FeedPosition(lane, number));
    }
    assert_eq!(cursor.to_string(), "0-0.15-7.1");
    assert_eq!("0-0.15-7.1".parse(), Ok(cursor));
    let long = format!("1{}", (0..65).map(|lane| format!("-{lane}.1")).collect::<String>());
    for text in ["", "-", "x", "1-", "1-0", "1-0.", "1-0.x", "1-0.18446744073709551615", "1 ", &long] {
        assert!(text.parse::<FeedCursor>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_change_costs_no_request_and_no_transaction() {
    let table = Arc::new(CountingTable::new(Engine::redb().table));
    let index = Index::new(Arc::new(RemoteTable(table.clone())));
    let mut counts = BTreeMap::new();
    for number in 1..=3 {
        let record = instance(1, 1, number);
        let mut prepared = index.prepare(TENANT, record).await.unwrap();
        prepared.expect_new();
        table.take();
        index.commit_prepared(prepared, Duplicates::Reject, None).await.unwrap();
        counts.insert(number, table.take());
    }
    assert_eq!((counts[&1].reads, counts[&1].transactions, counts[&1].single_writes), (1, 1, 0));
    for number in [2, 3] {
        let count = counts[&number];
        assert_eq!((count.reads, count.transactions, count.single_writes, count.conflicts), (0, 1, 0, 0));
    }
}
