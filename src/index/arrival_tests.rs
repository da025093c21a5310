//! Tests of searches by the time at which studies arrived, over each engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Duplicates;
use crate::dicom::attributes::{Attribute, Attributes};
use crate::dicom::tags;
use crate::index::Index;
use crate::index::engine_tests::{CountingTable, Engine, on_each_engine};
use crate::index::records::InstanceRecord;
use crate::index::search_tests::{Dice, naive, search};
use crate::index::tests::{TENANT, instance, query, store};
use crate::query::temporal::Span;
use crate::query::{Level, Query};

on_each_engine! {
    studies_are_found_by_the_time_at_which_their_last_instance_arrived,
    a_search_by_arrival_reads_the_studies_of_its_hours,
}

/// 2026-11-30 in UTC, in milliseconds since 1970.
const MIDNIGHT: i64 = 1_795_996_800_000;
const MINUTE: i64 = 60_000;

fn arrived(from: Option<i64>, to: Option<i64>, parameters: &[(&str, String)]) -> Query {
    let micros = |at: Option<i64>| at.map(|at| at * 1000);
    let span = Span { from: micros(from), to: micros(to), is_range: true };
    Query { arrived: Some(span), ..query(Level::Study, parameters) }
}

fn studies(results: &[Attributes]) -> Vec<String> {
    let uid = |result: &Attributes| Some(result[&tags::STUDY_INSTANCE_UID].first_text()?.to_owned());
    results.iter().filter_map(uid).collect()
}

async fn studies_are_found_by_the_time_at_which_their_last_instance_arrived(engine: Engine) {
    let index = engine.index();
    let mut dice = Dice(9);
    let mut records: Vec<InstanceRecord> = Vec::new();
    let mut arrivals: BTreeMap<String, i64> = BTreeMap::new();
    for number in 0..60 {
        let mut record = instance(dice.roll(25), 0, number);
        record.stored_at = MIDNIGHT + i64::try_from(dice.roll(400)).unwrap() * MINUTE - 200 * MINUTE;
        let last = arrivals.entry(record.study.to_string()).or_insert(record.stored_at);
        *last = record.stored_at.max(*last);
        store(&index, record.clone()).await;
        records.push(record);
    }
    let mut matched = 0;
    for _ in 0..engine.cases / 5 {
        let mut at = || Some(MIDNIGHT + i64::try_from(dice.roll(400)).unwrap() * MINUTE - 200 * MINUTE);
        let (from, to) = (at(), at());
        let (from, to) = [(from, None), (None, to), (from.min(to), from.max(to))][dice.roll(3)];
        let mut parameters =
            vec![("limit", (1 + dice.roll(9)).to_string()), ("offset", dice.roll(4).to_string())];
        for (name, value) in [("ModalitiesInStudy", "CT"), ("PatientName", "mu*"), ("StudyDate", "20240103-")]
        {
            if dice.roll(4) == 0 {
                parameters.push((name, value.to_owned()));
            }
        }
        if dice.roll(4) == 0 {
            parameters.push(("orderby", "PatientID".to_owned()));
        }
        let query = arrived(from, to, &parameters);
        let is_in = |record: &&InstanceRecord| {
            let at = arrivals[record.study.as_str()];
            from.is_none_or(|from| from <= at) && to.is_none_or(|to| at <= to)
        };
        let within: Vec<InstanceRecord> = records.iter().filter(is_in).cloned().collect();
        let expected = naive(&within, &query);
        let (results, summary) = search(&index, &query, 10_000).await;
        assert_eq!((studies(&results), summary.has_more), expected, "{query:?}");
        // The next page goes on where this one ends.
        if let Some(after) = summary.next {
            let next = Query { after: Some(after), offset: 0, ..query.clone() };
            let all = naive(&within, &Query { limit: usize::MAX, ..query.clone() }).0;
            let rest: Vec<String> = all.into_iter().skip(results.len()).take(query.limit).collect();
            assert_eq!(studies(&search(&index, &next, 10_000).await.0), rest, "{query:?}");
        }
        matched += results.len();
    }
    assert!(matched > engine.cases / 5, "{matched}");
}

async fn a_search_by_arrival_reads_the_studies_of_its_hours(engine: Engine) {
    let table = Arc::new(CountingTable::new(engine.table.clone()));
    let index = Index::new(table.clone());
    for study in 0..100 {
        let mut record = instance(study, 0, 0);
        record.stored_at = MIDNIGHT - i64::try_from(study).unwrap() * 60 * MINUTE;
        store(&index, record).await;
    }
    table.take();
    let found = search(&index, &arrived(Some(MIDNIGHT - 180 * MINUTE), None, &[]), 10_000).await.0;
    let counts = table.take();
    assert_eq!(studies(&found).len(), 4);
    assert!(counts.keys + counts.rows <= 10, "{counts:?}");
    // An instance that is deleted has arrived nevertheless, and one that replaces another arrives.
    let mut replacing = instance(50, 0, 0);
    (replacing.stored_at, replacing.object) = (MIDNIGHT + 1, "again-1".into());
    replacing.digest = crate::index::tests::digest("again");
    replacing.attributes.insert(tags::PATIENT_ID, Attribute::text(b"LO", "P"));
    index.commit(TENANT, replacing, Duplicates::Replace, None).await.unwrap();
    let found = search(&index, &arrived(Some(MIDNIGHT + 1), None, &[]), 10_000).await.0;
    assert_eq!(studies(&found), ["1.50"]);
    index.remove(TENANT, &instance(50, 0, 0).study, None, None).await.unwrap();
    assert!(search(&index, &arrived(Some(MIDNIGHT + 1), None, &[]), 10_000).await.0.is_empty());
}
