//! Tests of the contract of [`Table`], which each engine runs on an empty table.

use std::ops::Bound;

use crate::table::{
    Error, Expect, Item, ItemKey, MAX_BODY_BYTES, Page, Range, Secondary, SecondaryKey, Table, Write,
};

/// Runs the suite on an empty table.
pub(super) async fn check(table: &dyn Table) {
    each_expectation_is_checked(table).await;
    a_conflict_leaves_no_trace(table).await;
    secondary_indexes_follow_their_items(table).await;
    a_secondary_key_may_move_from_item_to_item(table).await;
    ranges_are_in_order_and_within_bounds(table).await;
    keys_are_ordered_by_bytes(table).await;
    large_items_are_read_in_several_pages(table).await;
    partitions_do_not_mix(table).await;
    concurrent_increments_are_exact(table).await;
    additions_are_exact_and_whole_with_their_transaction(table).await;
    concurrent_additions_do_not_conflict(table).await;
    transactions_over_a_limit_are_refused(table).await;
}

pub(super) fn key(partition: &str, sort: &str) -> ItemKey {
    ItemKey { partition: partition.into(), sort: sort.into() }
}

/// An item with a secondary key for each (index, partition, sort).
pub(super) fn item(key: ItemKey, version: u64, secondary: &[(Secondary, &str, &str)]) -> Item {
    let secondary = secondary.iter().map(|(index, partition, sort)| SecondaryKey {
        index: *index,
        partition: (*partition).into(),
        sort: (*sort).into(),
    });
    let body = format!("{key:?} {version}").into_bytes();
    Item { key, version, secondary: secondary.collect(), body }
}

/// The range of a whole partition, ascending.
pub(super) fn whole(index: Option<Secondary>, partition: &str) -> Range {
    let partition = partition.into();
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    Range { index, partition, from, to, is_descending: false, limit: 1000 }
}

async fn put(table: &dyn Table, item: &Item) {
    table.transact(vec![Write::Put(item.clone(), Expect::Anything)]).await.unwrap();
}

async fn get(table: &dyn Table, key: &ItemKey) -> Option<Item> {
    table.get(std::slice::from_ref(key)).await.unwrap().remove(0)
}

async fn sorts(table: &dyn Table, range: &Range) -> Vec<String> {
    let page = table.range(range).await.unwrap();
    page.items.into_iter().map(|(sort, _)| sort).collect()
}

async fn each_expectation_is_checked(table: &dyn Table) {
    let stored = key("expect", "stored");
    let missing = key("expect", "missing");
    let first = item(stored.clone(), 7, &[]);
    for (expect, on_stored, on_missing) in [
        (Expect::Anything, true, true),
        (Expect::Absent, false, true),
        (Expect::Version(7), true, false),
        (Expect::Version(8), false, false),
    ] {
        for (key, is_met) in [(&stored, on_stored), (&missing, on_missing)] {
            for write in [
                Write::Put(item(key.clone(), 9, &[]), expect),
                Write::Delete(key.clone(), expect),
                Write::Check(key.clone(), expect),
            ] {
                put(table, &first).await;
                table.transact(vec![Write::Delete(missing.clone(), Expect::Anything)]).await.unwrap();
                let before = get(table, key).await;
                let outcome = table.transact(vec![write.clone()]).await;
                if !is_met {
                    assert!(matches!(outcome, Err(Error::Conflict(0))), "{write:?}: {outcome:?}");
                    assert_eq!(get(table, key).await, before, "{write:?}");
                    continue;
                }
                outcome.unwrap();
                let expected = match &write {
                    Write::Put(item, _) => Some(item.clone()),
                    Write::Delete(..) => None,
                    Write::Check(..) | Write::Add(..) => before,
                };
                assert_eq!(get(table, key).await, expected, "{write:?}");
            }
        }
    }
    table.transact(vec![]).await.unwrap();
}

async fn a_conflict_leaves_no_trace(table: &dyn Table) {
    let old = item(key("trace", "old"), 1, &[(Secondary::First, "trace", "old")]);
    put(table, &old).await;
    let outcome = table.transact(vec![
        Write::Put(item(key("trace", "new"), 1, &[(Secondary::First, "trace", "new")]), Expect::Absent),
        Write::Delete(old.key.clone(), Expect::Version(1)),
        Write::Check(key("trace", "none"), Expect::Version(1)),
        Write::Check(key("trace", "none too"), Expect::Version(1)),
    ]);
    let outcome = outcome.await;
    assert!(matches!(outcome, Err(Error::Conflict(2))), "{outcome:?}");
    for index in [None, Some(Secondary::First)] {
        let page = table.range(&whole(index, "trace")).await.unwrap();
        assert_eq!(page, Page { items: vec![("old".into(), old.clone())], has_more: false });
    }
}

async fn secondary_indexes_follow_their_items(table: &dyn Table) {
    use Secondary::{Fifth, First, Second};
    let key = key("follow", "item");
    for (version, secondary) in [
        &[(First, "f1", "a"), (Second, "f2", "a")][..],
        &[(First, "f1", "b"), (Second, "f2", "a")],
        &[(Second, "f2", "a"), (Fifth, "f5", "a")],
        &[],
        &[(First, "f1", "a"), (Second, "f2", "b"), (Fifth, "f5", "c")],
    ]
    .into_iter()
    .enumerate()
    {
        let item = item(key.clone(), version as u64, secondary);
        put(table, &item).await;
        for (index, partition) in [(First, "f1"), (Second, "f2"), (Fifth, "f5")] {
            let expected: Vec<_> = secondary
                .iter()
                .filter(|(of, ..)| *of == index)
                .map(|(_, _, sort)| ((*sort).to_owned(), item.clone()))
                .collect();
            let page = table.range(&whole(Some(index), partition)).await.unwrap();
            assert_eq!(page, Page { items: expected, has_more: false }, "{secondary:?}");
        }
    }
    table.transact(vec![Write::Delete(key, Expect::Anything)]).await.unwrap();
    for (index, partition) in [(First, "f1"), (Second, "f2"), (Fifth, "f5")] {
        assert!(sorts(table, &whole(Some(index), partition)).await.is_empty());
    }
}

async fn a_secondary_key_may_move_from_item_to_item(table: &dyn Table) {
    let shared = (Secondary::Third, "pass", "key");
    let old = item(key("pass", "old"), 1, &[shared]);
    let new = item(key("pass", "new"), 1, &[shared]);
    put(table, &old).await;
    let writes = vec![Write::Put(new.clone(), Expect::Absent), Write::Delete(old.key, Expect::Version(1))];
    table.transact(writes).await.unwrap();
    let page = table.range(&whole(Some(Secondary::Third), "pass")).await.unwrap();
    assert_eq!(page.items, [("key".to_owned(), new)]);
}

async fn ranges_are_in_order_and_within_bounds(table: &dyn Table) {
    let all = ["b", "d", "f", "h"];
    for sort in all {
        put(table, &item(key("range", sort), 1, &[(Secondary::Fourth, "range", sort)])).await;
    }
    let bounds = |text: &str| {
        let text = text.to_owned();
        [Bound::Unbounded, Bound::Included(text.clone()), Bound::Excluded(text)]
    };
    let points = ["a", "b", "c", "d", "h", "i"];
    for (from, to) in points.iter().flat_map(|from| points.iter().map(move |to| (from, to))) {
        for (from, to) in bounds(from).into_iter().flat_map(|from| bounds(to).map(|to| (from.clone(), to))) {
            // Not the `range` of a map, which panics at reversed bounds.
            let is_after = |sort: &str| match &from {
                Bound::Unbounded => true,
                Bound::Included(from) => sort >= from.as_str(),
                Bound::Excluded(from) => sort > from.as_str(),
            };
            let is_before = |sort: &str| match &to {
                Bound::Unbounded => true,
                Bound::Included(to) => sort <= to.as_str(),
                Bound::Excluded(to) => sort < to.as_str(),
            };
            let inside: Vec<_> = all.into_iter().filter(|sort| is_after(sort) && is_before(sort)).collect();
            let directions = [
                (None, false),
                (None, true),
                (Some(Secondary::Fourth), false),
                (Some(Secondary::Fourth), true),
            ];
            let checks = directions.into_iter().map(|(index, is_descending)| {
                let range =
                    Range { from: from.clone(), to: to.clone(), is_descending, ..whole(index, "range") };
                let mut expected = inside.clone();
                if is_descending {
                    expected.reverse();
                }
                first_of_range_are(table, range, expected)
            });
            // At the same time, because the table may be remote.
            futures_util::future::join_all(checks).await;
        }
    }
}

/// Reads the range with limits below, at and above the number of items.
async fn first_of_range_are(table: &dyn Table, range: Range, expected: Vec<&str>) {
    let limits = std::collections::BTreeSet::from([1, expected.len().max(1), expected.len() + 1]);
    for limit in limits {
        let range = Range { limit, ..range.clone() };
        let page = table.range(&range).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|(sort, _)| sort.as_str()).collect();
        assert_eq!(found, expected[..expected.len().min(limit)], "{range:?}");
        assert_eq!(page.has_more, expected.len() > limit, "{range:?}");
        let keys = table.sort_keys(&range).await.unwrap();
        assert_eq!(
            (keys.keys, keys.has_more),
            (found.iter().map(|key| (*key).to_owned()).collect(), page.has_more)
        );
    }
}

async fn keys_are_ordered_by_bytes(table: &dyn Table) {
    // U+FF5E comes before U+1F600 by bytes, and after it by UTF-16.
    let ordered = ["\u{1}", " ", "A", "a", "a\u{1}", "aa", "ß", "é", "山", "\u{ff5e}", "\u{1f600}"];
    for sort in ordered.iter().rev() {
        put(table, &item(key("bytes", sort), 1, &[(Secondary::Second, "bytes", sort)])).await;
    }
    for index in [None, Some(Secondary::Second)] {
        assert_eq!(sorts(table, &whole(index, "bytes")).await, ordered);
        let from_a = Range { from: Bound::Excluded("a".into()), ..whole(index, "bytes") };
        assert_eq!(sorts(table, &from_a).await, ordered[4..]);
    }
}

async fn large_items_are_read_in_several_pages(table: &dyn Table) {
    let sorts: Vec<String> = (10..30).map(|number| number.to_string()).collect();
    for sort in &sorts {
        let small = item(key("large", sort), 1, &[(Secondary::Fifth, "large", sort)]);
        put(table, &Item { body: vec![7; MAX_BODY_BYTES], ..small }).await;
    }
    for (index, is_descending) in [(None, false), (Some(Secondary::Fifth), true)] {
        let mut range = Range { is_descending, ..whole(index, "large") };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = table.range(&range).await.unwrap();
            pages += 1;
            assert!(page.items.iter().all(|(_, item)| item.body.len() == MAX_BODY_BYTES));
            found.extend(page.items.into_iter().map(|(sort, _)| sort));
            let Some(last) = found.last().filter(|_| page.has_more) else { break };
            let last = Bound::Excluded(last.clone());
            if is_descending { range.to = last } else { range.from = last }
        }
        if is_descending {
            found.reverse();
        }
        assert_eq!(found, sorts);
        assert!(index.is_some() || pages > 1, "a page is bounded in bytes");
    }
    let keys: Vec<_> = sorts.iter().map(|sort| key("large", sort)).collect();
    let found = table.get(&[keys.as_slice(); 3].concat()).await.unwrap();
    assert!(found.len() == 60 && found.iter().all(Option::is_some));
}

async fn partitions_do_not_mix(table: &dyn Table) {
    for partition in ["side", "side\u{1}", "side ", "sid", "sidf"] {
        put(table, &item(key(partition, "only"), 1, &[(Secondary::First, partition, "only")])).await;
    }
    for index in [None, Some(Secondary::First)] {
        let page = table.range(&whole(index, "side")).await.unwrap();
        assert_eq!(page.items.len(), 1);
        assert_eq!(page.items[0].1.key.partition, "side");
    }
    let keys = [key("side", "only"), key("side", "none"), key("sid", "only"), key("side", "only")];
    let found = table.get(&keys).await.unwrap();
    let found: Vec<_> = found.iter().map(|item| item.as_ref().map(|item| &item.key)).collect();
    assert_eq!(found, [Some(&keys[0]), None, Some(&keys[2]), Some(&keys[0])]);
}

/// Increments of one counter, each repeated after a conflict; none is lost, and each is read back at once.
async fn concurrent_increments_are_exact(table: &dyn Table) {
    let key = &key("count", "er");
    put(table, &item(key.clone(), 0, &[])).await;
    let increments = (0..32).map(|_| async move {
        loop {
            let version = get(table, key).await.unwrap().version;
            let next = item(key.clone(), version + 1, &[]);
            match table.transact(vec![Write::Put(next, Expect::Version(version))]).await {
                Ok(()) => return assert!(get(table, key).await.unwrap().version > version),
                Err(Error::Conflict(0)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    futures_util::future::join_all(increments).await;
    assert_eq!(get(table, key).await.unwrap().version, 32);
}

async fn additions_are_exact_and_whole_with_their_transaction(table: &dyn Table) {
    let counter = key("add", "counter");
    let add = |number, expect| Write::Add(counter.clone(), number, expect);
    for (number, expect, expected) in [
        (5, Expect::Version(1), None),
        (5, Expect::Anything, Some((5, 1))),
        (-7, Expect::Anything, Some((-2, 2))),
        (1, Expect::Absent, None),
        (1, Expect::Version(1), None),
        (4, Expect::Version(2), Some((2, 3))),
        (i64::from(u32::MAX) * 4, Expect::Anything, Some((2 + i64::from(u32::MAX) * 4, 4))),
    ] {
        let outcome = table.transact(vec![add(number, expect)]).await;
        match expected {
            None => assert!(matches!(outcome, Err(Error::Conflict(0))), "{outcome:?}"),
            Some(expected) => {
                outcome.unwrap();
                let item = get(table, &counter).await.unwrap();
                assert_eq!((item.count().unwrap(), item.version), expected);
            }
        }
    }
    // Nothing is added if another write of the transaction conflicts.
    let failing = Write::Check(key("add", "none"), Expect::Version(1));
    let outcome = table.transact(vec![add(1, Expect::Anything), failing]).await;
    assert!(matches!(outcome, Err(Error::Conflict(1))), "{outcome:?}");
    let page = table.range(&whole(None, "add")).await.unwrap();
    assert_eq!((page.items.len(), page.items[0].1.version), (1, 4));
    table.transact(vec![Write::Delete(counter.clone(), Expect::Version(4))]).await.unwrap();
    table.transact(vec![add(3, Expect::Absent)]).await.unwrap();
    assert_eq!(get(table, &counter).await.unwrap().count(), Some(3));
}

async fn concurrent_additions_do_not_conflict(table: &dyn Table) {
    let counter = key("add", "shared");
    let additions = (0..32).map(|number| {
        let put = Write::Put(item(key("added", &number.to_string()), 1, &[]), Expect::Absent);
        table.transact(vec![put, Write::Add(counter.clone(), 1, Expect::Anything)])
    });
    let mut conflicts = 0;
    for outcome in futures_util::future::join_all(additions).await {
        // A service may still give up after some attempts; then nothing of the transaction is done.
        match outcome {
            Ok(()) => {}
            Err(Error::Conflict(1)) => conflicts += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    let added = table.sort_keys(&whole(None, "added")).await.unwrap().keys.len();
    assert_eq!(added, 32 - conflicts);
    assert_eq!(get(table, &counter).await.unwrap().count(), i64::try_from(added).ok());
}

async fn transactions_over_a_limit_are_refused(table: &dyn Table) {
    let largest = Item { body: vec![1; MAX_BODY_BYTES], ..item(key("limit", "largest"), 1, &[]) };
    put(table, &largest).await;
    assert_eq!(get(table, &largest.key).await.unwrap(), largest);
    let larger = Item { body: vec![1; MAX_BODY_BYTES + 1], ..item(key("limit", "larger"), 1, &[]) };
    let many = |count: usize| {
        let put = |number: usize| item(key("limit many", &number.to_string()), 1, &[]);
        (0..count).map(|number| Write::Put(put(number), Expect::Absent)).collect::<Vec<_>>()
    };
    let large = |count: usize| {
        let put = |number: usize| Item { key: key("limit large", &number.to_string()), ..largest.clone() };
        (0..count).map(|number| Write::Put(put(number), Expect::Anything)).collect::<Vec<_>>()
    };
    let check = |partition: &str, sort: &str| Write::Check(key(partition, sort), Expect::Anything);
    for writes in [
        vec![Write::Put(larger.clone(), Expect::Anything)],
        many(101),
        large(11),
        vec![check("limit", "twice"), check("limit", "twice")],
        vec![check("", "sort")],
        vec![check("limit", "")],
        vec![check("li\0mit", "sort")],
        vec![check(&"l".repeat(2049), "sort")],
        vec![check("limit", &"l".repeat(1025))],
        vec![Write::Put(item(key("limit", "x"), 1, &[(Secondary::First, "limit", "\0")]), Expect::Anything)],
    ] {
        let outcome = table.transact(writes).await;
        assert!(matches!(outcome, Err(Error::Backend { .. })), "{outcome:?}");
    }
    assert_eq!(get(table, &larger.key).await, None);
    for key in [key("", "sort"), key("limit", ""), key("limit", "\0"), key("limit", &"l".repeat(1025))] {
        assert_eq!(get(table, &key).await, None);
    }
    table.transact(large(10)).await.unwrap();
    table.transact(many(100)).await.unwrap();
    assert_eq!(sorts(table, &whole(None, "limit many")).await.len(), 100);
}
