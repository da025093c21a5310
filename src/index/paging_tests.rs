//! Tests of paging over each engine: by offset, by cursor, and beside changes; of the counters that paging
//! skips by, and of the sort keys that it decides by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Duplicates;
use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::tags;
use crate::digest::DigestAlgorithm;
use crate::index::conditions::Conditions;
use crate::index::engine_tests::{CountingTable, Engine, on_each_engine};
use crate::index::listing::{self, KeyFilter, KeyVerdict};
use crate::index::records::InstanceRecord;
use crate::index::search_tests::{Dice, naive, random_query, search};
use crate::index::tests::{TENANT, instance, query, store};
use crate::index::{Index, Recount, SearchLimits, keys, results};
use crate::query::matching::matches;
use crate::query::{Level, Query, SearchSummary};
use crate::table::{Expect, Item, Write};

on_each_engine! {
    pages_by_cursor_hold_each_match_once_in_order,
    a_page_by_offset_is_that_part_of_the_whole,
    pages_beside_changes_hold_what_was_there_all_the_time_once,
    studies_are_counted_by_day_exactly,
    wrong_and_missing_counts_are_found_and_mended,
    what_a_search_reads_does_not_grow_with_the_archive,
    sort_keys_decide_as_records_do,
}

fn uid_of(level: Level) -> Tag {
    match level {
        Level::Study => tags::STUDY_INSTANCE_UID,
        Level::Series => tags::SERIES_INSTANCE_UID,
        Level::Instance => tags::SOP_INSTANCE_UID,
    }
}

fn uids(level: Level, results: &[Attributes]) -> Vec<String> {
    results.iter().filter_map(|result| Some(result[&uid_of(level)].first_text()?.to_owned())).collect()
}

/// The next page of a search: the same query from the place that the last one came to.
fn continued(query: &Query, found: &SearchSummary) -> Option<Query> {
    let after = Some(found.next.clone()?);
    Some(Query { after, offset: query.offset - found.skipped, ..query.clone() })
}

/// The results of all pages of a query, by cursors, and the number of pages without any.
async fn all_pages(index: &Index, mut query: Query, max_rows_read: usize) -> (Vec<String>, usize) {
    let (mut all, mut empty) = (Vec::new(), 0);
    for _ in 0..10_000 {
        let (results, found) = search(index, &query, max_rows_read).await;
        assert!(results.len() <= query.limit);
        all.extend(uids(query.level, &results));
        empty += usize::from(results.is_empty());
        assert!(found.next.is_some() || !found.has_more, "{query:?} {found:?}");
        let number = found.next.as_ref().map(|next| next.number);
        match continued(&query, &found) {
            Some(next) => query = next,
            None => return (all, empty),
        }
        assert!(number >= Some(all.len()), "{query:?} {number:?} {}", all.len());
    }
    panic!("the pages do not end: {query:?}");
}

async fn archive_of(engine: &Engine, dice: &mut Dice, studies: usize) -> (Index, Vec<InstanceRecord>) {
    let index = engine.index();
    let mut records = Vec::new();
    for study in 0..studies {
        for series in 0..=dice.roll(3) {
            records.extend((0..=dice.roll(4)).map(|number| instance(study, series, number)));
        }
    }
    for record in &records {
        store(&index, record.clone()).await;
    }
    (index, records)
}

async fn pages_by_cursor_hold_each_match_once_in_order(engine: Engine) {
    let mut dice = Dice(11);
    let (index, records) = archive_of(&engine, &mut dice, 40).await;
    let (mut matched, mut empty_pages) = (0, 0);
    for _ in 0..engine.cases / 5 {
        let mut query = random_query(&mut dice);
        (query.order, query.limit) = (Vec::new(), 1 + dice.roll(6));
        let limit = usize::MAX;
        let expected = naive(&records, &Query { limit, ..query.clone() }).0;
        let max_rows_read = 40 + dice.roll(400);
        let (found, empty) = all_pages(&index, query.clone(), max_rows_read).await;
        assert_eq!(found, expected, "{max_rows_read} {query:?}");
        matched += found.len();
        empty_pages += empty;
    }
    assert!(matched > engine.cases && empty_pages > 0, "{matched} {empty_pages}");
}

async fn a_page_by_offset_is_that_part_of_the_whole(engine: Engine) {
    let mut dice = Dice(5);
    let (index, records) = archive_of(&engine, &mut dice, 60).await;
    let parameters: &[&[(&str, &str)]] = &[
        &[],
        &[("StudyDate", "20240103-20240106")],
        &[("StudyDate", "-20240106")],
        &[("orderby", "-StudyDate,-StudyTime")],
        &[("PatientName", "mu*")],
        &[("ModalitiesInStudy", "CT"), ("PatientName", "*a*")],
        &[("StudyTime", "12-")],
    ];
    for parameters in parameters {
        let parameters: Vec<_> =
            parameters.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let whole = query(Level::Study, &parameters);
        let expected = naive(&records, &whole).0;
        for offset in 0..=expected.len() + 1 {
            let page = Query { offset, limit: 3, ..whole.clone() };
            let (results, found) = search(&index, &page, 1_000_000).await;
            let rest = &expected[offset.min(expected.len())..];
            assert_eq!(uids(Level::Study, &results), rest[..rest.len().min(3)], "{offset} {parameters:?}");
            assert_eq!((found.has_more, found.warnings.len()), (rest.len() > 3, 0), "{offset}");
            assert_eq!(found.skipped, offset.min(expected.len()), "{parameters:?}");
        }
    }
}

/// The record of an instance of a study that a test stores and deletes again and again.
fn passing(number: usize) -> InstanceRecord {
    instance(100 + number, 0, 0)
}

async fn pages_beside_changes_hold_what_was_there_all_the_time_once(engine: Engine) {
    let index = Arc::new(engine.index());
    let stable: Vec<_> = (0..30).map(|study| instance(study, 0, 0)).collect();
    for record in &stable {
        store(&index, record.clone()).await;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let changes = (0..2).map(|first| {
        let (index, is_over) = (index.clone(), is_over.clone());
        tokio::spawn(async move {
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                for number in (0..20).filter(|number| number % 2 == first) {
                    store(&index, passing(number)).await;
                }
                for number in (0..20).filter(|number| number % 2 == first) {
                    index.remove(TENANT, &passing(number).study, None, None).await.unwrap();
                }
                rounds += 1;
            }
            rounds
        })
    });
    let changes: Vec<_> = changes.collect();
    let is_stable: BTreeSet<&str> = stable.iter().map(|record| record.study.as_str()).collect();
    for name in ["", "mu*", "m*", "*a*"] {
        let query = query(Level::Study, &[("PatientName", name.to_owned()), ("limit", "4".into())]);
        let expected = naive(&stable, &Query { limit: usize::MAX, ..query.clone() }).0;
        for max_rows_read in [60, 1000] {
            let mut found = all_pages(&index, query.clone(), max_rows_read).await.0;
            let all: BTreeSet<&String> = found.iter().collect();
            assert_eq!(all.len(), found.len(), "a study is found twice");
            found.retain(|study| is_stable.contains(study.as_str()));
            assert_eq!(found, expected, "{name}");
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for change in changes {
        assert!(change.await.unwrap() > 0);
    }
}

/// The counters of days that are not 0.
async fn counters(index: &Index) -> BTreeMap<String, i64> {
    let range = crate::index::read::whole_partition(None, keys::days(TENANT), 1000);
    let items = index.table.range(&range).await.unwrap().items;
    let counts = items.into_iter().map(|(day, item)| (day, item.count().unwrap()));
    counts.filter(|(_, count)| *count != 0).collect()
}

async fn studies_are_counted_by_day_exactly(engine: Engine) {
    let indexes = [Arc::new(engine.index()), Arc::new(engine.index())];
    let tasks = (0..4_u64).map(|task| {
        let index = indexes[task as usize % 2].clone();
        tokio::spawn(async move {
            let mut dice = Dice(task);
            for round in 0..30 {
                // Half of the studies are changed by one task, the others by all.
                let study = if dice.roll(2) == 0 { 10 + task as usize } else { dice.roll(6) };
                let mut record = instance(study, dice.roll(2), dice.roll(2));
                if dice.roll(3) == 0 {
                    index.remove(TENANT, &record.study, None, None).await.unwrap();
                    continue;
                }
                let date = format!("202403{:02}", 1 + dice.roll(4));
                record.attributes.insert(tags::STUDY_DATE, Attribute::text(b"DA", date));
                record.digest = DigestAlgorithm::OF_NEW_OBJECTS.digest(format!("{task} {round}").as_bytes());
                record.object = format!("{task}-{round}");
                index.commit(TENANT, record, Duplicates::Replace, None).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let mut expected = BTreeMap::new();
    let everything = search(&indexes[0], &query(Level::Study, &[]), 1000).await.0;
    for study in &everything {
        let date = study[&tags::STUDY_DATE].first_text().unwrap_or_default();
        *expected.entry(format!("{date}#")).or_insert(0) += 1;
    }
    assert!(everything.len() > 3, "{}", everything.len());
    assert_eq!(counters(&indexes[0]).await, expected);
    for study in &everything {
        let uid = study[&tags::STUDY_INSTANCE_UID].first_text().unwrap().parse().unwrap();
        indexes[1].remove(TENANT, &uid, None, None).await.unwrap();
    }
    assert_eq!(counters(&indexes[0]).await, BTreeMap::new());
}

async fn wrong_and_missing_counts_are_found_and_mended(engine: Engine) {
    let index = engine.index();
    for study in 0..12 {
        store(&index, instance(study, 0, 0)).await;
    }
    let right = counters(&index).await;
    let exact = Recount { wrong_days: Vec::new(), was_uncounted: false, uncertain_days: 0 };
    assert_eq!(index.recount(TENANT, false).await.unwrap(), exact);
    let add = |day: &str, number| Write::Add(keys::studies_on(TENANT, day), number, Expect::Anything);
    index.table.transact(vec![add("20240103#", 2), add("20200101#", 1), add("#", -1)]).await.unwrap();
    let wrong =
        Recount { wrong_days: ["", "20200101", "20240103"].map(str::to_owned).into(), ..exact.clone() };
    for is_repairing in [false, true] {
        assert_eq!(index.recount(TENANT, is_repairing).await.unwrap(), wrong);
    }
    assert_eq!(index.recount(TENANT, false).await.unwrap(), exact);
    assert_eq!(counters(&index).await, right);

    // An index of an older version: its tenant has an empty row, and its studies are not counted.
    let row = Item { key: keys::tenant(TENANT), version: 1, secondary: Vec::new(), body: Vec::new() };
    index.table.transact(vec![Write::Put(row, Expect::Anything)]).await.unwrap();
    for day in right.keys() {
        let write = Write::Delete(keys::studies_on(TENANT, day), Expect::Anything);
        index.table.transact(vec![write]).await.unwrap();
    }
    let page = query(Level::Study, &[("limit", "2".into()), ("offset", "7".into())]);
    let expected = uids(Level::Study, &search(&index, &page, 1000).await.0);
    assert_eq!(expected.len(), 2, "pages do not need the counts");
    index.remove(TENANT, &instance(3, 0, 0).study, None, None).await.unwrap();
    store(&index, instance(3, 0, 0)).await;
    let uncounted = Recount { was_uncounted: true, ..exact.clone() };
    for is_repairing in [false, true] {
        assert_eq!(index.recount(TENANT, is_repairing).await.unwrap(), uncounted);
    }
    assert_eq!(index.recount(TENANT, false).await.unwrap(), exact);
    assert_eq!(counters(&index).await, right);
    assert_eq!(uids(Level::Study, &search(&index, &page, 1000).await.0), expected);
}

async fn what_a_search_reads_does_not_grow_with_the_archive(engine: Engine) {
    let table = Arc::new(CountingTable::new(engine.table.clone()));
    let index = Arc::new(Index::new(table.clone()));
    let studies = if engine.cases > 1000 { 4000 } else { 300 };
    let commits = (0..studies).map(|study| {
        let mut record = instance(study, 0, 0);
        let name =
            PersonName { alphabetic: format!("Name{:05}", study * 7919 % studies), ..PersonName::default() };
        record
            .attributes
            .insert(tags::PATIENT_NAME, Attribute { vr: Vr(*b"PN"), values: vec![Value::Name(name)] });
        if study == studies / 3 {
            record.attributes.insert(tags::MODALITY, Attribute::text(b"CS", "PT"));
        }
        let index = index.clone();
        async move { store(&index, record).await }
    });
    futures_util::future::join_all(commits).await;
    table.take();
    let middle = (studies / 2).to_string();
    // The sort keys that a walk of the whole list reads count a tenth.
    let few = 60;
    for (parameters, number, most) in [
        (vec![("limit", "25")], 25, few),
        (vec![("limit", "25"), ("offset", middle.as_str())], 25, studies / 9 + few),
        (vec![("limit", "25"), ("PatientName", "Name*")], 25, few),
        (vec![("limit", "25"), ("PatientName", "Name0012*")], 10, few),
        (vec![("limit", "25"), ("PatientName", "Name00123")], 1, few),
        (vec![("limit", "25"), ("ModalitiesInStudy", "PT")], 1, studies / 9),
        (vec![("limit", "25"), ("PatientID", "P3")], 25, few),
        (vec![("limit", "25"), ("PatientID", "P3"), ("StudyDate", "20240104")], 25, few),
    ] {
        let parameters: Vec<_> =
            parameters.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        let (results, _) = search(&index, &query(Level::Study, &parameters), 100_000).await;
        let counts = table.take();
        if engine.cases > 1000 {
            assert_eq!(results.len(), number, "{parameters:?}");
        }
        assert!(counts.rows + counts.keys / 10 <= most, "{counts:?} {parameters:?}");
    }
}

async fn sort_keys_decide_as_records_do(engine: Engine) {
    let mut dice = Dice(3);
    let (index, _) = archive_of(&engine, &mut dice, 40).await;
    let mut odd = instance(50, 0, 0);
    let several = vec![Value::Text("P1".into()), Value::Text("P2".into())];
    odd.attributes.insert(tags::PATIENT_ID, Attribute { vr: Vr(*b"LO"), values: several });
    odd.attributes.insert(tags::STUDY_DESCRIPTION, Attribute::text(b"LO", "x".repeat(300)));
    odd.attributes.insert(tags::ACCESSION_NUMBER, Attribute::text(b"SH", "A\u{1}5"));
    odd.attributes.insert(tags::STUDY_DATE, Attribute::text(b"DA", "yesterday"));
    store(&index, odd).await;
    let mut studies = Vec::new();
    let mut pages = index.studies(TENANT);
    while let Some(page) = futures_util::StreamExt::next(&mut pages).await {
        studies.extend(page.unwrap());
    }
    let mut verdicts = BTreeMap::new();
    for _ in 0..engine.cases {
        let query = random_query(&mut dice);
        let conditions = Conditions::new(&query);
        let filter = KeyFilter::new(&query, &conditions);
        for study in &studies {
            let attributes = results::of_study(study);
            let is_met = conditions.study.iter().all(|condition| matches(condition, &attributes, &mut 0));
            let sort = listing::sort_key(study);
            assert!(sort.len() < 1024 && listing::order(&sort) == keys::order(study), "{sort}");
            let verdict = filter.decide(&sort, None, &mut 0);
            let forms = listing::name_forms(&sort);
            assert_eq!(filter.decide(&sort, forms.as_ref(), &mut 0), verdict, "{query:?} {sort}");
            match verdict {
                KeyVerdict::Match => assert!(is_met, "{query:?} {sort}"),
                KeyVerdict::NoMatch => assert!(!is_met, "{query:?} {sort}"),
                KeyVerdict::Unknown => {}
            }
            // A sort key of an older version decides nothing but the date.
            let old = filter.decide(&keys::order(study), None, &mut 0);
            assert!(old != KeyVerdict::Match || is_met, "{query:?} {sort}");
            assert!(old != KeyVerdict::NoMatch || !is_met, "{query:?} {sort}");
            *verdicts.entry(format!("{verdict:?}")).or_insert(0) += 1;
        }
    }
    assert!(verdicts.len() == 3 && verdicts["Match"] > engine.cases, "{verdicts:?}");
}

#[tokio::test]
async fn a_search_comes_further_with_the_smallest_budget() {
    let engine = Engine::redb();
    let mut dice = Dice(2);
    let (index, records) = archive_of(&engine, &mut dice, 8).await;
    for level in [Level::Study, Level::Series, Level::Instance] {
        for parameters in [vec![], vec![("PatientName", "m*".to_owned())], vec![("00181151", "0".to_owned())]]
        {
            let whole = query(level, &parameters);
            let expected = naive(&records, &whole).0;
            for max_rows_read in 0..30 {
                let mut page = Query { limit: 2, ..whole.clone() };
                let mut found = Vec::new();
                for pages in 0.. {
                    assert!(pages < 1000, "{level:?} {max_rows_read} {parameters:?}");
                    let limits = SearchLimits { max_rows_read, max_ordered: 10 };
                    let mut sink = |result: Attributes| {
                        found.extend(uids(level, &[result]));
                        true
                    };
                    let summary = index.search(TENANT, &page, limits, &mut sink).await.unwrap();
                    let Some(next) = continued(&page, &summary) else { break };
                    page = next;
                }
                // What takes more than the whole budget is passed over; nothing is found twice.
                let mut rest = expected.iter();
                assert!(found.iter().all(|uid| rest.any(|other| other == uid)), "{found:?} {expected:?}");
                assert!(max_rows_read < 20 || found == expected, "{level:?} {max_rows_read} {parameters:?}");
            }
        }
    }
}
