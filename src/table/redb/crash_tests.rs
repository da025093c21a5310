//! Losses of power and faults of the disk at every operation of random transactions: what was acknowledged is
//! there, nothing is there by halves, and reads see nothing that a crash can take away.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::simulated_disk::{Fault, Image, SimulatedDisk, SimulatedFile};
use super::tests::{apply, choices, writes};
use super::*;
use crate::table::contract::{item, key, whole};
use crate::table::{Expect, SecondaryKey};

const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// The items of a table by their keys.
type Model = BTreeMap<ItemKey, Item>;

fn open(disk: &Arc<SimulatedDisk>) -> Result<Redb, Error> {
    Redb::start(RedbStorage::Simulated(Arc::clone(disk)), CACHE_BYTES)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// All items of a table; fails if an index does not agree with them.
async fn read_all(table: &Redb) -> Result<Model, Error> {
    let mut model = Model::new();
    for partition in ["even", "odd", "more"] {
        let page = table.range(&whole(None, partition)).await?;
        assert!(!page.has_more);
        model.extend(page.items.into_iter().map(|(_, item)| (item.key.clone(), item)));
    }
    let mut expected: Vec<(String, Item)> = Vec::new();
    for item in model.values() {
        expected.extend(item.secondary.iter().map(|key: &SecondaryKey| (key.sort.clone(), item.clone())));
    }
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    let page = table.range(&whole(Some(Secondary::First), "all")).await?;
    assert_eq!(page.items, expected, "an index does not agree with the items");
    Ok(model)
}

/// The items after a start with these files.
fn restarted(image: Image) -> Model {
    runtime().block_on(read_after_restart(image))
}

async fn read_after_restart(image: Image) -> Model {
    let table = open(&SimulatedDisk::new(image, 0)).unwrap();
    read_all(&table).await.unwrap()
}

/// The files of a table without items, after a clean stop.
fn empty_table() -> Image {
    let disk = SimulatedDisk::new(Image::default(), 0);
    drop(open(&disk).unwrap());
    disk.cache()
}

/// Makes the bodies of items as large as rows of instances; every seventh is larger than a page's share.
fn enlarge(transaction: &mut [Write], number: usize) {
    for write in transaction {
        if let Write::Put(item, _) = write {
            let length = if number % 7 == 3 { 20_000 } else { 1500 + number * 37 % 3000 };
            item.body.resize(length, number as u8);
        }
    }
}

/// Transactions, of which most succeed.
fn transactions(choices: &[Vec<tests::Choice>]) -> Vec<Vec<Write>> {
    let random = choices.iter().map(|choices| writes(choices));
    let certain = (0..choices.len()).map(|number| {
        let sort = (number % 5).to_string();
        let secondary = format!("x/{sort}");
        vec![Write::Put(
            item(key("more", &sort), number as u64, &[(Secondary::First, "all", &secondary)]),
            Expect::Anything,
        )]
    });
    let mut all: Vec<_> = random.zip(certain).flat_map(|(one, other)| [one, other]).collect();
    for (number, transaction) in all.iter_mut().enumerate() {
        enlarge(transaction, number);
    }
    all
}

/// Carries out transactions, by ones and by threes. Returns the states after each, from the one before the
/// first, and for each time of an acknowledgement the operations of the disk and the states until then.
async fn carry_out(
    table: &Redb,
    disk: &SimulatedDisk,
    start: Model,
    transactions: Vec<Vec<Write>>,
) -> (Vec<Model>, Vec<(usize, usize)>) {
    let (mut states, mut acknowledged) = (vec![start], vec![(0, 0)]);
    let mut left = transactions.into_iter();
    for size in [1, 1, 3].into_iter().cycle() {
        let group: Vec<_> = left.by_ref().take(size).collect();
        if group.is_empty() {
            break;
        }
        for transaction in &group {
            let mut state = states.last().unwrap().clone();
            apply(&mut state, transaction);
            states.push(state);
        }
        for outcome in join_all(group.into_iter().map(|writes| table.transact(writes))).await {
            assert!(matches!(outcome, Ok(()) | Err(Error::Conflict(_))), "{outcome:?}");
        }
        acknowledged.push((disk.operations(), states.len() - 1));
    }
    (states, acknowledged)
}

/// Checks that the files of a crash hold a state between the last acknowledged and the last possible one.
fn check_crash(image: Image, states: &[Model], least: usize, at: usize) -> Model {
    let found = restarted(image);
    let place = states.iter().skip(least).any(|state| *state == found);
    assert!(
        place,
        "a crash at operation {at} loses or halves a transaction after {least} of {}",
        states.len()
    );
    found
}

fn crash_everywhere(choices: &[Vec<tests::Choice>], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut start, mut before) = (empty_table(), Model::new());
    // The second life begins with the files of a crash of the first.
    for life in 0..2 {
        let disk = SimulatedDisk::new(start.clone(), seed);
        disk.record();
        let table = open(&disk).unwrap();
        let work = carry_out(&table, &disk, before, transactions(choices));
        let (states, acknowledged) = runtime().block_on(work);
        // The second one ends with a clean stop.
        let table = Some(table).filter(|_| life == 0);
        let mut replay = disk.replay(start);
        drop(table);
        let mut crashes = Vec::new();
        while replay.step() {
            let at = replay.position();
            let least = acknowledged.iter().rfind(|(operations, _)| *operations <= at).unwrap().1;
            // After a flush, one image stands for all.
            let kinds: &[u8] = if replay.has_unflushed() { &[0, 1, 2] } else { &[0] };
            for kind in kinds {
                if *kind < 2 && random.u8(..) > 80 {
                    continue;
                }
                let share = random.u8(20..230);
                let image = replay.crash(|| match kind {
                    0 => false,
                    1 => true,
                    _ => random.u8(..) < share,
                });
                let found = check_crash(image.clone(), &states, least, at);
                crashes.push((image, found));
            }
        }
        assert!(crashes.len() > 20, "only {} crashes", crashes.len());
        (start, before) = crashes.swap_remove(random.usize(crashes.len() / 2..crashes.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn a_crash_at_any_operation_keeps_what_was_acknowledged(choices in choices(), seed in any::<u64>()) {
        crash_everywhere(&choices, seed);
    }
}

#[test]
fn transactions_of_one_record_are_replayed_one_after_the_other() {
    let disk = SimulatedDisk::new(empty_table(), 0);
    let table = open(&disk).unwrap();
    let put = |version: u64, secondary: &str| {
        let item = item(key("more", "s"), version, &[(Secondary::First, "all", secondary)]);
        vec![Write::Put(item, Expect::Anything)]
    };
    // Each gives the item another place in the index, and the last one gives its place to another item.
    let other = item(key("more", "other"), 1, &[(Secondary::First, "all", "second")]);
    let moved = [put(3, "third"), vec![Write::Put(other, Expect::Absent)]].concat();
    let transactions = [put(1, "first"), put(2, "second"), moved];
    let pending = |writes: &Vec<Write>| {
        let writes = codec::encode(writes.clone()).unwrap();
        PendingTransaction { writes, done: oneshot::channel().0 }
    };
    let outcomes = write::write(&table.engine, &transactions.iter().map(pending).collect::<Vec<_>>());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let mut expected = Model::new();
    for writes in &transactions {
        assert_eq!(apply(&mut expected, writes), None);
    }
    assert!(runtime().block_on(read_all(&table)).unwrap() == expected);
    assert!(restarted(disk.cache()) == expected);
}

/// Carries out transactions on a disk with a fault. Returns the states that the outcomes allow.
async fn carry_out_with_faults(
    table: &Redb,
    disk: &SimulatedDisk,
    transactions: Vec<Vec<Write>>,
) -> (Vec<Model>, usize) {
    let (mut states, mut failures) = (vec![Model::new()], 0);
    for transaction in transactions {
        let failures_before = failures;
        let mut after = Vec::new();
        match table.transact(transaction.clone()).await {
            Ok(()) => {
                states.retain_mut(|state| apply(state, &transaction).is_none());
                after = states;
            }
            Err(Error::Conflict(index)) => {
                states.retain(|state| apply(&mut state.clone(), &transaction) == Some(index));
                after = states;
            }
            Err(Error::NoSpace) => {
                failures += 1;
                after = states;
            }
            // Whether it took effect is not known.
            Err(Error::Backend { .. }) => {
                failures += 1;
                for mut state in states {
                    after.push(state.clone());
                    if apply(&mut state, &transaction).is_none() {
                        after.push(state);
                    }
                }
                after.dedup();
            }
            Err(error) => panic!("{error:?}"),
        }
        states = after;
        assert!(!states.is_empty(), "an outcome contradicts the outcomes before");
        match read_all(table).await {
            // Reads resolve what is not known, and what they see must not change any more.
            Ok(seen) => {
                assert!(states.contains(&seen), "reads see a state that no outcome allows");
                if failures > failures_before && failures < 3 {
                    for image in [disk.crash(|| false), disk.crash(|| true)] {
                        let found = read_after_restart(image).await;
                        let place = states.iter().position(|state| *state == found);
                        assert!(found == seen, "{disk}: a crash changes what reads see to state {place:?}");
                    }
                }
                states = vec![seen];
            }
            Err(Error::Backend { .. } | Error::NoSpace) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    (states, failures)
}

fn fault_at(start: Image, operation: usize, fault: Fault, transactions: Vec<Vec<Write>>) -> (usize, usize) {
    let disk = SimulatedDisk::new(start, operation as u64);
    let table = open(&disk).unwrap();
    let opened = disk.operations();
    disk.fail_at(opened.saturating_add(operation), fault);
    let runtime = runtime();
    let (states, failures) = runtime.block_on(carry_out_with_faults(&table, &disk, transactions));
    let operations = disk.operations() - opened;
    // What a crash leaves at this moment must be what reads see, or would see if the disk were well again.
    let (least, most) = (disk.crash(|| false), disk.crash(|| true));
    disk.heal();
    let seen = runtime.block_on(read_all(&table)).unwrap();
    assert!(states.contains(&seen), "{fault:?} at {operation}: reads see a state that no outcome allows");
    if failures == 0 {
        for image in [least, most] {
            assert!(restarted(image) == seen, "{fault:?} at {operation}: a crash changes what reads see");
        }
    } else {
        for image in [least, most] {
            let found = restarted(image);
            assert!(states.contains(&found), "{fault:?} at {operation}: a crash loses a transaction");
        }
    }
    // The table takes transactions again, and loses nothing.
    let write = Write::Put(item(key("more", "after"), 1, &[]), Expect::Absent);
    runtime.block_on(table.transact(vec![write.clone()])).unwrap();
    let mut expected = seen;
    assert_eq!(apply(&mut expected, &[write]), None);
    for image in [disk.crash(|| false), disk.crash(|| true), disk.cache()] {
        assert!(restarted(image) == expected, "{fault:?} at {operation}: a later crash loses a transaction");
    }
    drop(table);
    assert!(
        restarted(disk.cache()) == expected,
        "{fault:?} at {operation}: a clean stop loses a transaction"
    );
    (operations, failures)
}

#[test]
fn a_fault_of_the_disk_at_any_operation_loses_nothing_that_was_acknowledged() {
    let choices: Vec<Vec<tests::Choice>> =
        (0..10_u8).map(|n| vec![(n % 7, n % 3, 0, 1, Some(n % 4)), (7 + n % 5, 0, 1, 1, None)]).collect();
    let work = || transactions(&choices);
    let start = empty_table();
    let (operations, failures) = fault_at(start.clone(), usize::MAX, Fault::Once, work());
    assert_eq!(failures, 0);
    let (mut faults, mut failed) = (0, 0);
    for (number, fault) in [Fault::Once, Fault::Full, Fault::Broken].into_iter().enumerate() {
        for operation in (number..operations).step_by(29) {
            let (_, failures) = fault_at(start.clone(), operation, fault, work());
            faults += 1;
            failed += usize::from(failures > 0);
        }
    }
    assert!(failed * 4 > faults, "{failed} of {faults} faults made a transaction fail");
}

/// The files and the items of a table that was killed with records in its log.
fn killed() -> (Image, Model) {
    let disk = SimulatedDisk::new(empty_table(), 0);
    let table = open(&disk).unwrap();
    let (states, _) = runtime().block_on(async {
        let puts = (0..5).map(|number| {
            let item = item(key("more", &number.to_string()), 1, &[]);
            vec![Write::Put(item, Expect::Absent)]
        });
        carry_out(&table, &disk, Model::new(), puts.collect()).await
    });
    (disk.cache(), states.last().unwrap().clone())
}

#[test]
fn a_log_that_lacks_an_acknowledged_record_is_damage_that_says_what_to_do() {
    let (image, all) = killed();
    assert!(restarted(image.clone()) == all);
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("a bit of the second record", |log| log[2 * 4096 + 50] ^= 4),
        ("a bit in the number of the first record", |log| log[4096 + 24] ^= 1),
        ("the first record is zeros", |log| log[4096..2 * 4096].fill(0)),
        ("no log", Vec::clear),
        ("zeros", |log| log.fill(0)),
        ("a log of another table", |log| log[8] ^= 1),
    ];
    for (name, damage) in damages {
        let mut damaged = image.clone();
        damage(damaged.file(SimulatedFile::Log));
        let error = open(&SimulatedDisk::new(damaged, 0)).expect_err(name);
        assert!(matches!(error, Error::Damaged { .. }), "{name}: {error:?}");
        let text = crate::telemetry::chain(&error);
        assert!(text.contains("cuspid reindex") && text.contains("write-ahead log"), "{name}: {text}");
    }
}

#[test]
fn after_a_clean_stop_the_log_is_not_needed_and_no_old_record_comes_back() {
    let disk = SimulatedDisk::new(Image::default(), 0);
    let put = |number: u64| vec![Write::Put(item(key("more", "a"), number, &[]), Expect::Anything)];
    let version = |model: &Model| model[&key("more", "a")].version;
    let mut yesterday = None;
    for life in 1..4 {
        let table = open(&disk).unwrap();
        for number in 0..4 {
            runtime().block_on(table.transact(put(life * 10 + number))).unwrap();
        }
        drop(table);
        yesterday.get_or_insert(disk.cache());
        let mut without = disk.cache();
        without.file(SimulatedFile::Log).clear();
        assert_eq!(version(&restarted(without)), life * 10 + 3);
    }
    // The file of an earlier day beside the log of today.
    let mut mixed = yesterday.unwrap();
    *mixed.file(SimulatedFile::Log) = disk.cache().file(SimulatedFile::Log).clone();
    assert_eq!(version(&restarted(mixed)), 13);
}

#[test]
fn a_table_that_is_idle_writes_nothing_after_its_checkpoint() {
    let disk = SimulatedDisk::new(Image::default(), 0);
    let table = open(&disk).unwrap();
    let write = Write::Put(item(key("more", "a"), 1, &[]), Expect::Absent);
    runtime().block_on(table.transact(vec![write])).unwrap();
    let needs_checkpoint = || table.engine.table.read().unwrap().as_ref().unwrap().needs_checkpoint();
    assert!(needs_checkpoint());
    let begun = std::time::Instant::now();
    while needs_checkpoint() {
        assert!(begun.elapsed().as_secs() < 60, "no checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let operations = disk.operations();
    // Longer than the time to a checkpoint.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(disk.operations(), operations);
}

#[tokio::test]
async fn a_killed_table_of_files_is_whole_after_a_start_and_after_a_move() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let table = Redb::open(&path("a"), CACHE_BYTES).unwrap();
    // More than fits in a record.
    let item_of = move |number: usize, part: usize| {
        let mut item = item(key("more", &format!("{number}/{part}")), 1, &[]);
        item.body.resize(350_000, number as u8);
        item
    };
    let transact = |number: usize| {
        let puts = (0..11).map(|part| Write::Put(item_of(number, part), Expect::Absent));
        table.transact(puts.collect())
    };
    for outcome in join_all((0..4).map(transact)).await {
        outcome.unwrap();
    }
    for (from, to) in [("a", "b"), ("a.wal", "b.wal")] {
        std::fs::copy(path(from), path(to)).unwrap();
    }
    let keys = (0..4).flat_map(|number| (0..11).map(move |part| item_of(number, part).key));
    let keys: Vec<ItemKey> = keys.collect();
    let before = table.get(&keys).await.unwrap();
    assert!(before.iter().all(Option::is_some));
    // The log of another table is in the place of the log that the file needs.
    replace(&path("b"), &path("c")).await.unwrap();
    std::fs::copy(path("a.wal"), path("c.wal")).unwrap();
    assert!(!path("b").exists() && !path("b.wal").exists());
    let moved = Redb::open(&path("c"), CACHE_BYTES).unwrap();
    assert_eq!(moved.get(&keys).await.unwrap(), before);
}

#[tokio::test]
async fn a_table_is_moved_as_soon_as_the_last_task_lets_go_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let table = Redb::open(&path("a"), CACHE_BYTES).unwrap();
    let write = Write::Put(item(key("more", "a"), 1, &[]), Expect::Absent);
    table.transact(vec![write]).await.unwrap();
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        drop(table);
    };
    let (from, to) = (path("a"), path("b"));
    let (moved, ()) = tokio::join!(replace(&from, &to), release);
    moved.unwrap();
    let moved = Redb::open(&to, CACHE_BYTES).unwrap();
    assert!(moved.get(&[key("more", "a")]).await.unwrap()[0].is_some());
}
