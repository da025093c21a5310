//! Tests of the lists of studies in memory, over each engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Duplicates;
use crate::dicom::attributes::{Attribute, Attributes, PersonName, Value, Vr};
use crate::dicom::tags;
use crate::index::changes::EntriesBefore;
use crate::index::engine_tests::{CountingTable, Engine, on_each_engine};
use crate::index::records::InstanceRecord;
use crate::index::search_tests::{Dice, naive, search};
use crate::index::tests::{TENANT, digest, instance, query, store};
use crate::index::{Index, keys};
use crate::query::{Level, Query};
use crate::table::{Expect, Item, Secondary, Write};

on_each_engine! {
    a_list_in_memory_finds_what_is_stored_whatever_has_changed,
    a_search_in_a_list_reads_what_has_changed_and_what_it_finds,
    studies_of_an_older_version_are_found_in_a_list,
    a_change_after_one_under_way_is_found_at_once,
    lists_take_no_more_memory_than_allowed,
    a_list_that_is_far_behind_is_read_again,
}

const MEMORY: usize = 1 << 20;

fn named(study: usize, name: &str) -> InstanceRecord {
    let mut record = instance(study, 0, 0);
    let mut groups = name.split('=').map(str::to_owned);
    let mut next = || groups.next().unwrap_or_default();
    let name = PersonName { alphabetic: next(), ideographic: next(), phonetic: next() };
    record
        .attributes
        .insert(tags::PATIENT_NAME, Attribute { vr: Vr(*b"PN"), values: vec![Value::Name(name)] });
    record.attributes.insert(tags::STUDY_DATE, Attribute::text(b"DA", "20240105"));
    record
}

fn fuzzy(name: &str) -> Query {
    query(Level::Study, &[("PatientName", name.into()), ("fuzzymatching", "true".into())])
}

fn studies(results: &[Attributes]) -> Vec<String> {
    let uid = |result: &Attributes| Some(result[&tags::STUDY_INSTANCE_UID].first_text()?.to_owned());
    results.iter().filter_map(uid).collect()
}

async fn found(index: &Index, query: &Query) -> Vec<String> {
    studies(&search(index, query, 100_000).await.0)
}

fn random_study(dice: &mut Dice, version: usize) -> InstanceRecord {
    let long = "Long".repeat(150);
    let names = [
        "Kim^Minjun=金^敏俊=김^민준",
        "김^민준",
        "박서준",
        "Müller^Zoë",
        "Иванова^Анна",
        "山田^太郎",
        "Odd\u{1}^Control",
        &long,
    ];
    let mut record = named(dice.roll(40), names[dice.roll(names.len())]);
    let date = format!("202403{:02}", 1 + dice.roll(5));
    record.attributes.insert(tags::STUDY_DATE, Attribute::text(b"DA", date));
    record.digest = digest(&format!("{version}"));
    record.object = format!("{version}-1");
    record
}

fn random_search(dice: &mut Dice) -> Query {
    let names = [
        "ㄱㅁㅈ",
        "민준",
        "준 김",
        "ㅅ",
        "minjun",
        "kim min",
        "ull zoe",
        "нна",
        "太",
        "long",
        "nobody",
        "odd",
    ];
    let mut parameters = Vec::new();
    if dice.roll(3) > 0 {
        parameters.push(("PatientName", names[dice.roll(names.len())].to_owned()));
        parameters.push(("fuzzymatching", "true".to_owned()));
    }
    for (name, values) in [
        ("PatientID", ["*P*", "*3*", "P?"]),
        ("AccessionNumber", ["*1*", "A3*", "*9"]),
        ("ModalitiesInStudy", ["CT", "MR", "X*"]),
        ("StudyDate", ["20240302", "20240302-20240304", "-20240303"]),
    ] {
        if dice.roll(3) == 0 {
            parameters.push((name, values[dice.roll(3)].to_owned()));
        }
    }
    parameters.push(("limit", (1 + dice.roll(8)).to_string()));
    parameters.push(("offset", dice.roll(6).to_string()));
    query(Level::Study, &parameters)
}

async fn a_list_in_memory_finds_what_is_stored_whatever_has_changed(engine: Engine) {
    let mut dice = Dice(21);
    let nodes = [engine.index().with_list_memory(MEMORY), engine.index()];
    let mut records = BTreeMap::new();
    let (mut matched, mut changed) = (0, 0);
    for round in 0..engine.cases {
        if round < 30 || dice.roll(4) == 0 {
            let record = random_study(&mut dice, round);
            let node = &nodes[dice.roll(2)];
            if dice.roll(4) == 0 {
                node.remove(TENANT, &record.study, None, None).await.unwrap();
                records.remove(&record.study);
            } else {
                node.commit(TENANT, record.clone(), Duplicates::Replace, None).await.unwrap();
                records.insert(record.study.clone(), record);
            }
            changed += 1;
        }
        if round == 10 {
            nodes[0].load_study_list(TENANT.into()).await;
        }
        assert!(round < 10 || nodes[0].study_list(TENANT).await.is_some(), "{round}");
        let query = random_search(&mut dice);
        let (results, summary) = search(&nodes[0], &query, 100_000).await;
        let stored: Vec<InstanceRecord> = records.values().cloned().collect();
        assert_eq!((studies(&results), summary.has_more), naive(&stored, &query), "{round} {query:?}");
        matched += results.len();
    }
    assert!(matched > engine.cases / 2 && changed > engine.cases / 5, "{matched} {changed}");
}

async fn a_search_in_a_list_reads_what_has_changed_and_what_it_finds(engine: Engine) {
    let table = Arc::new(CountingTable::new(engine.table.clone()));
    let index = Index::new(table.clone()).with_list_memory(MEMORY);
    for study in 0..150 {
        store(&index, named(study, "Other^Name")).await;
    }
    store(&index, named(500, "김^민준")).await;
    index.load_study_list(TENANT.into()).await;
    assert_eq!(found(&index, &fuzzy("ㄱㅁㅈ")).await, ["1.500"]);
    for (name, expected) in [("ㄱㅁㅈ", &["1.500"][..]), ("nobody", &[])] {
        table.take();
        assert_eq!(found(&index, &fuzzy(name)).await, expected);
        let counts = table.take();
        assert!(counts.keys == 0 && counts.rows <= 5, "{name} {counts:?}");
    }
    store(&index, named(501, "김^민준")).await;
    index.remove(TENANT, &instance(500, 0, 0).study, None, None).await.unwrap();
    table.take();
    assert_eq!(found(&index, &fuzzy("ㄱㅁㅈ")).await, ["1.501"]);
    let counts = table.take();
    assert!(counts.keys == 0 && counts.rows <= 8, "{counts:?}");
}

async fn studies_of_an_older_version_are_found_in_a_list(engine: Engine) {
    let table = Arc::new(CountingTable::new(engine.table.clone()));
    let index = Index::new(table.clone()).with_list_memory(MEMORY);
    for study in 0..25 {
        let record = named(study, if study == 7 { "김^민준" } else { "Other^Name" });
        store(&index, record.clone()).await;
        // The sort key of an older version is the place alone.
        let key = keys::study(TENANT, &record.study);
        let row: Item = table_row(&index, &key).await;
        let mut old = row.clone();
        for key in old.secondary.iter_mut().filter(|key| key.index == Secondary::First) {
            key.sort = crate::index::listing::order(&key.sort).to_owned();
        }
        assert_ne!(old, row);
        index.table.transact(vec![Write::Put(old, Expect::Anything)]).await.unwrap();
    }
    index.load_study_list(TENANT.into()).await;
    found(&index, &fuzzy("nobody")).await;
    table.take();
    assert_eq!(found(&index, &fuzzy("ㄱㅁㅈ")).await, ["1.7"]);
    let counts = table.take();
    assert!(counts.keys == 0 && counts.rows <= 5, "{counts:?}");
}

async fn table_row(index: &Index, key: &crate::table::ItemKey) -> Item {
    index.table.get(std::slice::from_ref(key)).await.unwrap().pop().flatten().unwrap()
}

async fn a_change_after_one_under_way_is_found_at_once(engine: Engine) {
    let index = engine.index().with_list_memory(MEMORY);
    store(&index, named(1, "Other^Name")).await;
    index.load_study_list(TENANT.into()).await;
    let under_way = index.log.take(&index.table, TENANT, EntriesBefore::default()).unwrap();
    for study in [2, 3] {
        store(&index, named(study, "김^민준")).await;
        assert_eq!(found(&index, &fuzzy("ㄱㅁㅈ")).await.len(), study - 1);
    }
    drop(under_way);
    store(&index, named(4, "김^민준")).await;
    assert_eq!(found(&index, &fuzzy("ㄱㅁㅈ")).await.len(), 3);
}

async fn lists_take_no_more_memory_than_allowed(engine: Engine) {
    let others = ["a", "b"];
    let writer = engine.index();
    for tenant in others {
        for study in 0..20 {
            let record = named(study, "김^민준");
            writer.commit(tenant, record, Duplicates::Reject, None).await.unwrap();
        }
    }
    let index = |bytes: usize| engine.index().with_list_memory(bytes);
    let of = async |bytes: usize| {
        let index = index(bytes);
        for tenant in others {
            index.load_study_list(tenant.into()).await;
        }
        others.map(|tenant| index.lists.has_list(tenant))
    };
    let whole = index(MEMORY);
    whole.load_study_list("a".into()).await;
    let bytes = whole.study_list("a").await.unwrap().studies.size_bytes();
    assert!((20 * 100..20 * 600).contains(&bytes), "{bytes}");
    assert_eq!(of(2 * bytes).await, [true, true]);
    // The list that was used last stays.
    assert_eq!(of(2 * bytes - 1).await, [false, true]);
    assert_eq!(of(bytes - 1).await, [false, false]);
    // A list that grows beyond the limit is dropped as well.
    let small = index(bytes);
    small.load_study_list("a".into()).await;
    assert!(small.study_list("a").await.is_some());
    writer.commit("a", named(30, "김^민준"), Duplicates::Reject, None).await.unwrap();
    small.study_list("a").await;
    assert!(!small.lists.has_list("a"));
    let mut results = 0;
    let limits = crate::index::SearchLimits { max_rows_read: 1000, max_ordered: 10 };
    let mut sink = |_| {
        results += 1;
        true
    };
    small.search("a", &fuzzy("ㄱㅁㅈ"), limits, &mut sink).await.unwrap();
    assert_eq!(results, 21);
}

async fn a_list_that_is_far_behind_is_read_again(engine: Engine) {
    let index = engine.index().with_list_memory(MEMORY);
    store(&index, named(0, "김^민준")).await;
    index.load_study_list(TENANT.into()).await;
    // More entries than are read before a search, on one lane.
    for study in 1..180 {
        store(&index, named(study, "김^민준")).await;
    }
    assert_eq!(found(&index, &fuzzy("ㄱㅁㅈ")).await.len(), 180);
    index.load_study_list(TENANT.into()).await;
    assert!(index.study_list(TENANT).await.is_some());
    assert_eq!(found(&index, &fuzzy("ㄱㅁㅈ")).await.len(), 180);
}
