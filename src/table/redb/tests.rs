//! Tests of the contract on redb, of random transactions against a map, and of reopening.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;
use crate::table::Expect;
use crate::table::contract::{check, item, key, whole};

const CACHE_BYTES: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn the_contract_holds_in_memory() {
    check(&Redb::in_memory().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    check(&Redb::open(&directory.path().join("table"), CACHE_BYTES).unwrap()).await;
}

#[tokio::test]
async fn items_are_read_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let item = item(key("p", "s"), 3, &[(Secondary::Fifth, "q", "t")]);
    let table = Redb::open(&path, CACHE_BYTES).unwrap();
    table.transact(vec![Write::Put(item.clone(), Expect::Absent)]).await.unwrap();
    assert!(Redb::open(&path, CACHE_BYTES).is_err(), "a second open must fail");
    drop(table);
    let table = Redb::open(&path, CACHE_BYTES).unwrap();
    assert_eq!(table.get(std::slice::from_ref(&item.key)).await.unwrap(), [Some(item.clone())]);
    let page = table.range(&whole(Some(Secondary::Fifth), "q")).await.unwrap();
    assert_eq!(page.items, [("t".to_owned(), item)]);
}

#[tokio::test]
async fn a_panic_of_the_writer_is_an_error_of_its_own_until_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let table = Redb::open(&path, CACHE_BYTES).unwrap();
    let put = |partition: &str| vec![Write::Put(item(key(partition, "s"), 1, &[]), Expect::Absent)];
    table.transact(put("before")).await.unwrap();
    table.health().unwrap();
    for partition in [write::PANIC_PARTITION, "after"] {
        let outcome = table.transact(put(partition)).await;
        assert!(matches!(outcome, Err(Error::WriterEnded)), "{partition}: {outcome:?}");
        assert!(matches!(table.health(), Err(Error::WriterEnded)), "{partition}");
    }
    assert!(table.get(&[key("before", "s")]).await.unwrap()[0].is_some(), "reads go on");
    drop(table);
    let table = Redb::open(&path, CACHE_BYTES).unwrap();
    table.health().unwrap();
    table.transact(put("after")).await.unwrap();
}

/// Carries out a transaction on a thread that may block, as the end of an upload does.
async fn transact_blocking(table: &Arc<Redb>, writes: Vec<Write>) -> Result<(), Error> {
    let table = Arc::clone(table);
    tokio::task::spawn_blocking(move || threads::block_on(table.transact(writes))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_may_block_and_others_share_the_writer() {
    const CALLERS: usize = 8;
    const EACH: usize = 50;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let table = Arc::new(Redb::open(&path, CACHE_BYTES).unwrap());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let table = Arc::clone(&table);
            tokio::spawn(async move {
                for number in 0..EACH {
                    let own = item(key("own", &format!("{caller}-{number}")), 1, &[]);
                    let sum = Write::Add(key("sum", "s"), 1, Expect::Anything);
                    let writes = vec![Write::Put(own, Expect::Absent), sum];
                    if caller % 2 == 0 {
                        transact_blocking(&table, writes).await.unwrap();
                    } else {
                        table.transact(writes).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    drop(table);
    let table = Redb::open(&path, CACHE_BYTES).unwrap();
    let sum = table.get(&[key("sum", "s")]).await.unwrap().remove(0).unwrap();
    assert_eq!(sum.count().unwrap(), (CALLERS * EACH) as i64);
    assert_eq!(table.range(&whole(None, "own")).await.unwrap().items.len(), CALLERS * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_on_the_thread_of_a_caller_ends_the_writer_too() {
    let table = Arc::new(Redb::in_memory().unwrap());
    let put = |partition: &str| vec![Write::Put(item(key(partition, "s"), 1, &[]), Expect::Absent)];
    for partition in [write::PANIC_PARTITION, "after"] {
        let outcome = transact_blocking(&table, put(partition)).await;
        assert!(matches!(outcome, Err(Error::WriterEnded)), "{partition}: {outcome:?}");
        assert!(matches!(table.health(), Err(Error::WriterEnded)), "{partition}");
    }
    assert!(matches!(table.transact(put("after")).await, Err(Error::WriterEnded)));
}

/// The number of the item that is a counter.
const COUNTER: u8 = 6;

/// One write, with so few values that transactions conflict: item, kind, expectation, version, secondary.
pub(super) type Choice = (u8, u8, u8, u64, Option<u8>);

pub(super) fn choices() -> impl Strategy<Value = Vec<Vec<Choice>>> {
    let choice = (0..=COUNTER, 0..3u8, 0..3u8, 0..3u64, proptest::option::of(0..4u8));
    proptest::collection::vec(proptest::collection::vec(choice, 1..4), 1..25)
}

pub(super) fn writes(choices: &[Choice]) -> Vec<Write> {
    let distinct: BTreeMap<u8, &Choice> = choices.iter().map(|choice| (choice.0, choice)).collect();
    let write = |(number, kind, expect, version, secondary): &Choice| {
        let key = key(if number % 2 == 0 { "even" } else { "odd" }, &number.to_string());
        let expect = match expect {
            0 => Expect::Anything,
            1 => Expect::Absent,
            _ => Expect::Version(*version),
        };
        // The number makes the secondary key unique.
        let sort = secondary.map(|sort| format!("{sort}/{number}"));
        let secondary: Vec<_> = sort.iter().map(|sort| (Secondary::First, "all", sort.as_str())).collect();
        match kind {
            1 => Write::Delete(key, expect),
            2 => Write::Check(key, expect),
            // The last key is that of a counter.
            _ if *number == COUNTER => Write::Add(key, i64::try_from(*version).unwrap() - 1, expect),
            _ => Write::Put(item(key, version + 1, &secondary), expect),
        }
    };
    distinct.into_values().map(write).collect()
}

/// Carries out the transaction on a map, as the contract says.
pub(super) fn apply(model: &mut BTreeMap<ItemKey, Item>, writes: &[Write]) -> Option<usize> {
    let is_met = |write: &Write| {
        let (key, expect) = match write {
            Write::Put(item, expect) => (&item.key, expect),
            Write::Delete(key, expect) | Write::Check(key, expect) | Write::Add(key, _, expect) => {
                (key, expect)
            }
        };
        match expect {
            Expect::Anything => true,
            Expect::Absent => !model.contains_key(key),
            Expect::Version(version) => model.get(key).is_some_and(|item| item.version == *version),
        }
    };
    let conflict = writes.iter().position(|write| !is_met(write));
    if conflict.is_none() {
        for write in writes {
            match write {
                Write::Put(item, _) => drop(model.insert(item.key.clone(), item.clone())),
                Write::Delete(key, _) => drop(model.remove(key)),
                Write::Check(..) => {}
                Write::Add(key, number, _) => {
                    let (version, count) =
                        model.get(key).map_or((0, 0), |item| (item.version, item.count().unwrap()));
                    let body = (count + number).to_le_bytes().to_vec();
                    let sum = Item { key: key.clone(), version: version + 1, secondary: Vec::new(), body };
                    model.insert(key.clone(), sum);
                }
            }
        }
    }
    conflict
}

async fn compare(transactions: &[Vec<Choice>]) {
    let table = Redb::in_memory().unwrap();
    let mut model = BTreeMap::new();
    for choices in transactions {
        let writes = writes(choices);
        let expected = apply(&mut model, &writes);
        match table.transact(writes).await {
            Ok(()) => assert_eq!(expected, None),
            Err(Error::Conflict(index)) => assert_eq!(expected, Some(index)),
            Err(error) => panic!("{error:?}"),
        }
    }
    for partition in ["even", "odd"] {
        let of_partition = model.values().filter(|item| item.key.partition == partition);
        let expected: Vec<_> = of_partition.map(|item| (item.key.sort.clone(), item.clone())).collect();
        let page = table.range(&whole(None, partition)).await.unwrap();
        assert_eq!(page, Page { items: expected, has_more: false });
    }
    let mut expected: Vec<_> = model
        .values()
        .flat_map(|item| item.secondary.iter().map(|key| (key.sort.clone(), item.clone())))
        .collect();
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    // Page by page, each with the last sort key of the page before as its bound.
    let mut range = Range { limit: 2, ..whole(Some(Secondary::First), "all") };
    let mut found = Vec::new();
    loop {
        let page = table.range(&range).await.unwrap();
        found.extend(page.items);
        let Some((last, _)) = found.last().filter(|_| page.has_more) else { break };
        range.from = Bound::Excluded(last.clone());
    }
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_transactions_do_what_they_do_to_a_map(transactions in choices()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(compare(&transactions));
    }
}
