//! Tests of the log as a whole, over each engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::chain::{heads, whole};
use super::event::{AuditAction, AuditEntry, AuditEvent, AuditProtocol, AuditUser};
use super::keys::AuditPlace;
use super::listing::AuditQuery;
use super::record::{AuditRecord, ChainHead};
use super::seal::{SealUse, Sealer};
use super::verify::{AuditFault, AuditHead, AuditVerification};
use super::*;
use crate::clock::now_millis;
use crate::config::Config;
use crate::table::dynamodb::testing::{each_server, new_table};
use crate::table::redb::Redb;
use crate::table::{Expect, Item, ItemKey, Page, Range, SortKeys, Write};

const TENANT: &str = "clinic";
const MINUTE: Duration = Duration::from_secs(60);

/// A table that counts transactions, and fails those that it is to fail.
struct TestTable {
    table: Arc<dyn Table>,
    transactions: AtomicUsize,
    reads: AtomicUsize,
    failures: AtomicUsize,
}

impl TestTable {
    fn of(table: Arc<dyn Table>) -> Arc<Self> {
        let zero = AtomicUsize::default;
        Arc::new(Self { table, transactions: zero(), reads: zero(), failures: zero() })
    }

    fn embedded() -> Arc<Self> {
        Self::of(Arc::new(Redb::in_memory().unwrap()))
    }

    async fn put(&self, item: Item) {
        self.transact(vec![Write::Put(item, Expect::Anything)]).await.unwrap();
    }

    async fn delete(&self, key: &ItemKey) {
        self.transact(vec![Write::Delete(key.clone(), Expect::Anything)]).await.unwrap();
    }
}

#[async_trait]
impl Table for TestTable {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, table::Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.table.get(keys).await
    }

    async fn range(&self, range: &Range) -> Result<Page, table::Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.table.range(range).await
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, table::Error> {
        self.table.sort_keys(range).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), table::Error> {
        self.transactions.fetch_add(1, Ordering::SeqCst);
        let take = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            return Err(table::Error::NoSpace);
        }
        self.table.transact(writes).await
    }

    fn health(&self) -> Result<(), table::Error> {
        self.table.health()
    }
}

/// Runs tests over each engine: `redb::name`, and `dynamodb::name` on each server that `tools/cloud.py`
/// starts.
macro_rules! on_each_engine {
    ($($test:ident,)*) => {
        mod redb {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test(super::TestTable::embedded()).await;
                }
            )*
        }
        mod dynamodb {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    for server in super::each_server() {
                        let table = super::new_table(&server).await;
                        super::$test(super::TestTable::of(std::sync::Arc::new(table))).await;
                    }
                }
            )*
        }
    };
}

on_each_engine! {
    entries_that_wait_share_transactions_and_make_one_whole_chain,
    old_days_are_swept_and_the_rest_stays_whole,
    records_are_found_by_study_patient_user_event_and_time_page_by_page,
}

fn log(table: &Arc<TestTable>, hash_key: &str) -> AuditLog {
    let settings = AuditSettings { hash_key: hash_key.into(), ..Config::defaults().audit };
    AuditLog::new(table.clone(), &settings, "TEST")
}

fn entry(user: &str, study: &str) -> AuditEntry {
    let user = AuditUser { user: user.into(), ..AuditUser::unknown("192.0.2.1", AuditProtocol::Http) };
    let study = Some(study.to_owned());
    AuditEntry { study, ..AuditEntry::of(AuditEvent::InstancesAccessed, AuditAction::R, user) }
}

/// A log with a chain of five records.
async fn written(hash_key: &str) -> (Arc<TestTable>, AuditLog) {
    let table = TestTable::embedded();
    let log = log(&table, hash_key);
    for number in 0..5 {
        log.record(TENANT, entry("a", &format!("1.{number}"))).await.unwrap();
    }
    (table, log)
}

async fn verified(log: &AuditLog) -> AuditVerification {
    log.verify(TENANT, &BTreeMap::new()).await.unwrap()
}

/// The records of the log, in order.
async fn records(table: &TestTable, log: &AuditLog) -> Vec<Item> {
    let mut items = Vec::new();
    for day in log.days(TENANT, &AuditQuery::default()).await.unwrap() {
        items.extend(whole(table, keys::records(TENANT, &day)).await.unwrap());
    }
    items
}

async fn entries_that_wait_share_transactions_and_make_one_whole_chain(table: Arc<TestTable>) {
    let log = log(&table, "");
    let entries = (0..300).map(|number| log.record(TENANT, entry("a", &format!("1.{number}"))));
    assert!(join_all(entries).await.iter().all(Result::is_ok));
    let transactions = table.transactions.load(Ordering::SeqCst);
    assert!(transactions <= 100, "{transactions}");
    let found = verified(&log).await;
    assert_eq!((found.records, found.chains, found.faults.as_slice()), (300, 1, &[][..]));
    let head = found.heads.values().next().unwrap();
    assert_eq!(head.number, 300);
    // Another process has a chain of its own, which names the first.
    let other = super::tests::log(&table, "");
    other.record(TENANT, entry("b", "1.1")).await.unwrap();
    other.record("other", entry("b", "1.1")).await.unwrap();
    let found = verified(&other).await;
    assert_eq!((found.records, found.chains, found.faults.as_slice()), (301, 2, &[][..]));
    let mut tenants = other.tenants().await.unwrap();
    tenants.sort();
    assert_eq!(tenants, [TENANT, "other"]);
}

#[tokio::test]
async fn every_byte_that_is_changed_is_found() {
    for hash_key in ["", "a key of thirty-two characters or more"] {
        let (table, log) = written(hash_key).await;
        assert_eq!(verified(&log).await.faults, []);
        let mut items = records(&table, &log).await;
        assert_eq!(items.len(), 5);
        items.extend(heads(table.as_ref(), TENANT).await.unwrap());
        let mut changes = 0;
        for item in items {
            for at in 0..item.body.len() {
                let mut changed = item.clone();
                changed.body[at] ^= 1;
                table.put(changed).await;
                assert_ne!(verified(&log).await.faults, [], "byte {at} of {:?}", item.key);
                changes += 1;
            }
            table.put(item).await;
        }
        assert!(changes > 1000);
        assert_eq!(verified(&log).await.faults, []);
    }
}

#[tokio::test]
async fn every_record_that_is_removed_or_at_another_place_is_found() {
    let (table, log) = written("").await;
    let items = records(&table, &log).await;
    let chain = AuditPlace::of_sort(&items[0].key.sort).unwrap().chain;
    for (item, number) in items.iter().zip(1..) {
        table.delete(&item.key).await;
        let missing = AuditFault::RecordsMissing(chain.clone(), number, number);
        assert_eq!(verified(&log).await.faults, [missing], "record {number}");
        table.put(item.clone()).await;
    }
    for (first, second) in items.iter().flat_map(|a| items.iter().map(move |b| (a, b))) {
        if first.key >= second.key {
            continue;
        }
        table.put(Item { body: second.body.clone(), ..first.clone() }).await;
        table.put(Item { body: first.body.clone(), ..second.clone() }).await;
        let faults = verified(&log).await.faults;
        assert!(
            faults.iter().filter(|fault| matches!(fault, AuditFault::RecordMoved(_))).count() >= 2,
            "{faults:?}"
        );
        table.put(first.clone()).await;
        table.put(second.clone()).await;
    }
    // A record of another tenant.
    log.record("other", entry("a", "1.1")).await.unwrap();
    let day = keys::day(now_millis());
    let other = whole(table.as_ref(), keys::records("other", &day)).await.unwrap().remove(0);
    let key = ItemKey { partition: items[4].key.partition.clone(), sort: other.key.sort.clone() };
    table.put(Item { key: key.clone(), secondary: Vec::new(), ..other }).await;
    assert_ne!(verified(&log).await.faults, []);
    table.delete(&key).await;
    // All records and the head.
    for item in &items {
        table.delete(&item.key).await;
    }
    let missing = AuditFault::RecordsMissing(chain.clone(), 1, 5);
    assert_eq!(verified(&log).await.faults, [missing]);
    table.delete(&keys::head(TENANT, &chain)).await;
    assert_eq!(verified(&log).await.faults, [], "nothing in the table names the chain");
    let kept =
        BTreeMap::from([(chain.clone(), AuditHead { number: 5, hash: String::new(), at: now_millis() })]);
    let faults = log.verify(TENANT, &kept).await.unwrap().faults;
    assert_eq!(faults, [AuditFault::HeadMissing(chain)], "but a head that was kept elsewhere does");
}

/// Cuts the last record, and writes a head as if it had never been.
async fn cut(table: &TestTable, log: &AuditLog) {
    let item = heads(table, TENANT).await.unwrap().remove(0);
    let sealer = &log.context.sealer;
    let mut head = ChainHead::of_item(sealer, &item).unwrap();
    let mut items = records(table, log).await;
    items.retain(|item| item.key.sort.contains(&head.beginning.chain));
    table.delete(&items[4].key).await;
    let (record, hash) = sealer.open::<AuditRecord>(SealUse::Record, &items[3].body).unwrap();
    (head.last, head.last_hash, head.last_at) = (4, chain::hex(hash), record.time);
    table.put(head.item(sealer, item.version)).await;
}

#[tokio::test]
async fn a_cut_with_a_new_head_is_found_by_a_later_chain_and_by_a_head_that_was_kept() {
    let (table, log) = written("").await;
    let kept = verified(&log).await.heads;
    cut(&table, &log).await;
    assert_eq!(verified(&log).await.faults, [], "the table alone does not show it");
    let faults = log.verify(TENANT, &kept).await.unwrap().faults;
    assert!(matches!(faults.as_slice(), [AuditFault::RecordsMissing(_, 5, 5)]), "{faults:?}");

    let (table, log) = written("").await;
    let kept_chain = verified(&log).await.heads.into_keys().next().unwrap();
    super::tests::log(&table, "").record(TENANT, entry("b", "1.9")).await.unwrap();
    let own = heads(table.as_ref(), TENANT).await.unwrap();
    let later = own.into_iter().find(|item| item.key != keys::head(TENANT, &kept_chain)).unwrap();
    table.delete(&later.key).await;
    cut(&table, &log).await;
    table.put(later).await;
    let faults = verified(&log).await.faults;
    assert!(matches!(faults.as_slice(), [AuditFault::RecordsMissing(_, 5, 5)]), "{faults:?}");
}

#[tokio::test]
async fn a_record_that_is_replaced_with_its_hash_breaks_the_chain_and_needs_the_key() {
    let (table, log) = written("").await;
    let items = records(&table, &log).await;
    let (mut record, _) = log.context.sealer.open::<AuditRecord>(SealUse::Record, &items[1].body).unwrap();
    record.entry.user.user = "b".into();
    table.put(record.item(&log.context.sealer).0).await;
    let faults = verified(&log).await.faults;
    assert!(matches!(faults.as_slice(), [AuditFault::LinkBroken(place)] if place.number == 3), "{faults:?}");

    let (table, log) = written("a key of thirty-two characters or more").await;
    let items = records(&table, &log).await;
    let (record, _) = log.context.sealer.open::<AuditRecord>(SealUse::Record, &items[4].body).unwrap();
    table.put(record.item(&Sealer::new("")).0).await;
    let faults = verified(&log).await.faults;
    assert!(matches!(faults.as_slice(), [AuditFault::RecordChanged(_)]), "{faults:?}");
    // A log is verified with the key that it was written with.
    let other = super::tests::log(&table, "another key, of thirty-two characters or more");
    let faults = verified(&other).await.faults;
    assert!(matches!(faults.as_slice(), [AuditFault::OtherKey(_)]), "{faults:?}");
    assert_eq!(other.list(TENANT, &AuditQuery::default(), None, 10).await.unwrap().records.len(), 5);
}

#[tokio::test]
async fn a_write_that_fails_is_an_error_and_the_next_begins_a_chain() {
    let (table, log) = written("").await;
    table.failures.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        let error = log.record(TENANT, entry("a", "1.2")).await.unwrap_err();
        assert!(matches!(error, Error::Write(Some(_))), "{error}");
    }
    log.record(TENANT, entry("a", "1.2")).await.unwrap();
    let found = verified(&log).await;
    assert_eq!((found.records, found.chains, found.faults.as_slice()), (6, 2, &[][..]));
    // The events of a group fail with their record, and the next one writes it.
    table.failures.store(1, Ordering::SeqCst);
    let make = || async { Ok::<_, Error>(entry("a", "1.3")) };
    let once = || log.record_once(TENANT, &"group", MINUTE, make());
    let outcomes = join_all((0..5).map(|_| once())).await;
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    assert!(join_all((0..5).map(|_| once())).await.iter().all(Result::is_ok));
    assert_eq!(verified(&log).await.records, 7);
    let settings = AuditSettings { required: false, ..Config::defaults().audit };
    let lenient = AuditLog::new(table.clone(), &settings, "TEST");
    table.failures.store(1, Ordering::SeqCst);
    lenient.record(TENANT, entry("a", "1.2")).await.unwrap();
}

#[tokio::test]
async fn a_group_has_one_record_and_no_further_access_to_the_table() {
    let table = TestTable::embedded();
    let log = log(&table, "");
    let once = async |group: &'static str, period| {
        let make = async move { Ok::<_, Error>(entry(group, "1.2")) };
        log.record_once(TENANT, &group, period, make).await
    };
    assert!(join_all((0..100).map(|_| once("a", MINUTE))).await.iter().all(Result::is_ok));
    let accesses = || (table.transactions.load(Ordering::SeqCst), table.reads.load(Ordering::SeqCst));
    let before = accesses();
    assert_eq!(before.0, 1);
    for _ in 0..1000 {
        once("a", MINUTE).await.unwrap();
    }
    assert_eq!(accesses(), before);
    once("b", Duration::ZERO).await.unwrap();
    once("b", Duration::ZERO).await.unwrap();
    assert_eq!(verified(&log).await.records, 3);
}

async fn old_days_are_swept_and_the_rest_stays_whole(table: Arc<TestTable>) {
    let log = log(&table, "");
    let entries = (0..90).map(|number| log.record(TENANT, entry("a", &format!("1.{number}"))));
    join_all(entries).await;
    let tomorrow = now_millis() + 24 * 60 * 60 * 1000;
    assert_eq!(log.sweep_before(now_millis()).await.unwrap(), 0, "the day has not ended");
    assert_eq!(log.sweep_before(tomorrow).await.unwrap(), 90);
    let found = verified(&log).await;
    assert_eq!((found.records, found.faults.as_slice()), (0, &[][..]));
    assert!(heads(table.as_ref(), TENANT).await.unwrap().is_empty(), "nothing is left of the chain");
    // The head that this process remembers is gone: the next write begins a chain.
    log.record(TENANT, entry("a", "1.2")).await.unwrap();
    assert_eq!(verified(&log).await.faults, []);
}

async fn records_are_found_by_study_patient_user_event_and_time_page_by_page(table: Arc<TestTable>) {
    let log = log(&table, "");
    for number in 0..12 {
        let user = if number % 2 == 0 { "even" } else { "odd" };
        let mut entry = entry(user, if number < 4 { "1.1" } else { "1.2" });
        entry.patient = Some(format!("P{}", number % 3));
        if number == 11 {
            entry.event = AuditEvent::StudyDeleted;
        }
        log.record(TENANT, entry).await.unwrap();
    }
    let all = AuditQuery::default();
    let of = |text: &str| Some(text.to_owned());
    let queries = [
        (all.clone(), 12),
        (AuditQuery { study: of("1.1"), ..all.clone() }, 4),
        (AuditQuery { study: of("1.2"), user: of("even"), ..all.clone() }, 4),
        (AuditQuery { patient: of("P1"), ..all.clone() }, 4),
        (AuditQuery { user: of("odd"), ..all.clone() }, 6),
        (AuditQuery { event: Some(AuditEvent::StudyDeleted), ..all.clone() }, 1),
        (AuditQuery { user: of("nobody"), ..all.clone() }, 0),
        (AuditQuery { from: Some(now_millis() + 60_000), ..all.clone() }, 0),
        (AuditQuery { to: Some(now_millis() - 60_000), ..all.clone() }, 0),
        (AuditQuery { from: Some(now_millis() - 60_000), to: Some(now_millis() + 1), ..all.clone() }, 12),
        (AuditQuery { from: Some(2), to: Some(1), ..all.clone() }, 0),
    ];
    for (query, expected) in queries {
        let whole = log.list(TENANT, &query, None, 100).await.unwrap();
        assert_eq!((whole.records.len(), &whole.next), (expected, &None), "{query:?}");
        assert!(whole.records.is_sorted_by_key(|record| std::cmp::Reverse(record.place())));
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = log.list(TENANT, &query, after.as_ref(), 3).await.unwrap();
            paged.extend(page.records);
            after = page.next;
            assert_eq!(after.is_some(), paged.len() < expected, "a page that is the last says so: {query:?}");
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole.records, "{query:?}");
        assert!(log.list("other", &query, None, 100).await.unwrap().records.is_empty());
    }
    let mut lines = Vec::new();
    let keep = |_: &AuditRecord, line: &str| {
        lines.push(serde_json::from_str::<serde_json::Value>(line).unwrap());
        true
    };
    log.each(TENANT, &all, keep).await.unwrap();
    assert_eq!(lines.len(), 12);
    assert_eq!(lines[1]["previous"], lines[0]["hash"]);
}

#[tokio::test]
async fn a_copy_is_whole() {
    let (table, log) = written("").await;
    log.record(SERVER_LOG, entry("a", "1.1")).await.unwrap();
    let target = TestTable::embedded();
    assert_eq!(log.copy_to(target.as_ref()).await.unwrap(), 6);
    let copy = super::tests::log(&target, "");
    assert_eq!(verified(&copy).await, verified(&log).await);
    assert_eq!(records(&target, &copy).await, records(&table, &log).await);
    assert_eq!(copy.tenants().await.unwrap(), log.tenants().await.unwrap());
}

#[test]
fn a_flood_of_alerts_is_counted_and_not_written() {
    let log = log(&TestTable::embedded(), "");
    for _ in 0..MAX_ALERTS_PER_MINUTE {
        assert_eq!(log.take_alert(), Some(0));
    }
    assert_eq!((log.take_alert(), log.take_alert()), (None, None));
    log.alerts.lock().unwrap().began_at = Instant::now().checked_sub(MINUTE).unwrap();
    assert_eq!(log.take_alert(), Some(2));
}
