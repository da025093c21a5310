//! Tests of searches over each engine.

use std::collections::BTreeMap;

use crate::dicom::attributes::{Attribute, Attributes, Tag, Value, Vr};
use crate::dicom::tags;
use crate::index::engine_tests::{Engine, on_each_engine};
use crate::index::records::InstanceRecord;
use crate::index::tests::{NOT_INDEXED, TENANT, instance, query, store, text_metadata};
use crate::index::{Index, SearchLimits};
use crate::query::matching::matches;
use crate::query::order;
use crate::query::{Level, Query, SearchSummary};

on_each_engine! {
    a_search_finds_the_same_as_matching_all_records,
    a_search_reads_no_more_rows_than_allowed_and_gives_a_warning,
    a_search_compares_no_more_than_allowed_and_gives_a_warning,
    more_matches_than_can_be_sorted_give_a_warning,
    a_sink_that_takes_no_more_results_is_reported_as_more_results,
    a_study_is_found_by_each_of_its_numbers,
    unindexed_attributes_are_matched_and_returned_from_the_first_instance_of_a_series,
    a_date_of_another_time_zone_is_found_on_the_day_before,
    results_hold_the_attributes_of_their_level,
    metadata_that_cannot_be_read_hides_no_result,
}

/// A source of pseudo-random numbers that repeats the same sequence.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }
}

pub(super) fn random_query(dice: &mut Dice) -> Query {
    let level = [Level::Study, Level::Series, Level::Instance][dice.roll(3)];
    let mut parameters = Vec::new();
    let choices: &[(&str, &[&str])] = &[
        ("PatientID", &["P1", "P2", "P*", "p1", "P9", ""]),
        ("PatientName", &["mu*", "muller*", "MULLER^ANNA", "山*", "*a*", "Mü?ler*", "zoe", "Muk*"]),
        ("StudyDate", &["20240103", "20240103-20240106", "20240105-", "-20240104"]),
        ("StudyTime", &["08", "0900-1300", "12-", "-0830"]),
        ("AccessionNumber", &["A5", "A*", "A99", "\"\""]),
        ("StudyInstanceUID", &["1.3", "1.3,1.11\\1.7", "9"]),
    ];
    for (name, values) in choices {
        if dice.roll(4) == 0 {
            parameters.push((*name, dice.pick(values).to_owned()));
        }
    }
    let more: (&str, &[&str]) = match level {
        Level::Study => ("ModalitiesInStudy", &["CT", "m?", "XA"]),
        Level::Series => ("Modality", &["CT", "SR,MR"]),
        Level::Instance => ("00181151", &["1", "2"]),
    };
    if dice.roll(2) == 0 {
        parameters.push((more.0, dice.pick(more.1).to_owned()));
    }
    if level == Level::Instance && dice.roll(3) == 0 {
        parameters.push(("SOPInstanceUID", dice.pick(&["1.3.1.2", "1.3.0.0,1.4.1.1", "1.8"]).to_owned()));
    }
    if dice.roll(2) == 0 {
        parameters.push(("fuzzymatching", "true".into()));
    }
    if dice.roll(2) == 0 {
        parameters.push(("emptyvaluematching", "true".into()));
    }
    if dice.roll(4) == 0 {
        let orders = ["PatientName", "-PatientID,StudyTime", "AccessionNumber,-PatientName", "-StudyDate"];
        parameters.push(("orderby", dice.pick(&orders).to_owned()));
    }
    parameters.push(("limit", dice.roll(12).to_string()));
    parameters.push(("offset", dice.roll(5).to_string()));
    query(level, &parameters)
}

/// Searches and collects the results.
pub(super) async fn search(
    index: &Index,
    query: &Query,
    max_rows_read: usize,
) -> (Vec<Attributes>, SearchSummary) {
    let mut results = Vec::new();
    let mut sink = |result| {
        results.push(result);
        true
    };
    let limits = SearchLimits { max_rows_read, max_ordered: 1000 };
    let found = index.search(TENANT, query, limits, &mut sink).await.unwrap();
    assert_eq!(results.len(), found.count);
    (results, found)
}

/// The expected results of a search, from a match of all records: the UIDs of the page, and whether there are
/// more.
pub(super) fn naive(records: &[InstanceRecord], query: &Query) -> (Vec<String>, bool) {
    let mut modalities: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for record in records {
        let modality = record.attributes[&tags::MODALITY].values.clone();
        modalities.entry(record.study.as_str()).or_default().extend(modality);
    }
    let mut rows = BTreeMap::new();
    for record in records {
        let mut all = record.attributes.clone();
        let values = modalities[record.study.as_str()].clone();
        all.insert(tags::MODALITIES_IN_STUDY, Attribute { vr: Vr(*b"CS"), values });
        all.insert(NOT_INDEXED, record.attributes[&tags::INSTANCE_NUMBER].clone());
        let text = |tag| all.get(&tag).and_then(Attribute::first_text).unwrap_or_default().to_owned();
        let study = (text(tags::STUDY_DATE), text(tags::STUDY_TIME), text(tags::STUDY_INSTANCE_UID));
        let below = match query.level {
            Level::Study => (String::new(), String::new(), text(tags::STUDY_INSTANCE_UID)),
            Level::Series => {
                (text(tags::SERIES_INSTANCE_UID), String::new(), text(tags::SERIES_INSTANCE_UID))
            }
            Level::Instance => {
                (text(tags::SERIES_INSTANCE_UID), text(tags::SOP_INSTANCE_UID), text(tags::SOP_INSTANCE_UID))
            }
        };
        if query.conditions.iter().all(|condition| matches(condition, &all, &mut 0)) {
            rows.insert(
                (std::cmp::Reverse(study), below.clone()),
                (order::sort_key(&query.order, &all), below.2),
            );
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    rows.sort_by(|(one, _), (other, _)| order::compare(&query.order, one, other));
    let found: Vec<String> = rows.into_iter().map(|(_, uid)| uid).skip(query.offset).collect();
    let has_more = found.len() > query.limit;
    (found.into_iter().take(query.limit).collect(), has_more)
}

async fn a_search_finds_the_same_as_matching_all_records(engine: Engine) {
    let index = engine.index();
    let mut dice = Dice(7);
    let mut records = Vec::new();
    for study in 0..40 {
        for series in 0..=dice.roll(3) {
            records.extend((0..=dice.roll(4)).map(|number| instance(study, series, number)));
        }
    }
    for record in &records {
        store(&index, record.clone()).await;
    }
    let mut matched = 0;
    for _ in 0..engine.cases {
        let query = random_query(&mut dice);
        let (results, found) = search(&index, &query, 1_000_000).await;
        let uid = match query.level {
            Level::Study => tags::STUDY_INSTANCE_UID,
            Level::Series => tags::SERIES_INSTANCE_UID,
            Level::Instance => tags::SOP_INSTANCE_UID,
        };
        let uids: Vec<String> =
            results.iter().filter_map(|result| Some(result[&uid].first_text()?.to_owned())).collect();
        assert_eq!((uids, found.has_more), naive(&records, &query), "{query:?}");
        assert_eq!(found.warnings, [""; 0], "{query:?}");
        matched += results.len();
    }
    assert!(matched > engine.cases * 2 / 3, "{matched}");
}

async fn a_search_reads_no_more_rows_than_allowed_and_gives_a_warning(engine: Engine) {
    let index = engine.index();
    for study in 0..30 {
        store(&index, instance(study, 0, 0)).await;
    }
    let query = query(Level::Study, &[("ReferringPhysicianName", "nobody".into())]);
    for (rows, is_warned) in [(10, true), (29, true), (30, false)] {
        let (results, found) = search(&index, &query, rows).await;
        assert_eq!((results.len(), !found.warnings.is_empty()), (0, is_warned), "{rows}");
    }
}

async fn a_search_compares_no_more_than_allowed_and_gives_a_warning(engine: Engine) {
    let index = engine.index();
    let comment = "a".repeat(60_000);
    for study in 0..10 {
        let mut record = instance(study, 0, 0);
        record.metadata = text_metadata(&format!(r#"{{"0040A160":{{"vr":"UT","Value":["{comment}"]}}}}"#));
        store(&index, record).await;
    }
    // One comment takes the work of 60,000 bytes to parse, and as much to compare: some thirty rows.
    for level in [Level::Study, Level::Series, Level::Instance] {
        let query = query(level, &[("0040A160", format!("*{}b", "a".repeat(10_000)))]);
        for (rows, is_warned) in [(200, true), (1000, false)] {
            let (results, found) = search(&index, &query, rows).await;
            assert_eq!((results.len(), !found.warnings.is_empty()), (0, is_warned), "{level:?} {rows}");
        }
    }
}

async fn more_matches_than_can_be_sorted_give_a_warning(engine: Engine) {
    let index = engine.index();
    for study in 1..=10 {
        store(&index, instance(study, 0, 0)).await;
    }
    let query = query(Level::Study, &[("orderby", "PatientID".into()), ("limit", "3".into())]);
    for (max_ordered, is_warned) in [(9, true), (10, false)] {
        let mut results = Vec::new();
        let mut sink = |result| {
            results.push(result);
            true
        };
        let limits = SearchLimits { max_rows_read: 1000, max_ordered };
        let found = index.search(TENANT, &query, limits, &mut sink).await.unwrap();
        assert_eq!((results.len(), found.has_more, !found.warnings.is_empty()), (3, true, is_warned));
        assert_eq!(results[0][&tags::PATIENT_ID].first_text(), Some("P0"));
    }
}

async fn a_sink_that_takes_no_more_results_is_reported_as_more_results(engine: Engine) {
    let index = engine.index();
    for study in 1..=10 {
        store(&index, instance(study, 0, 0)).await;
    }
    for parameters in [vec![], vec![("orderby", "PatientID".to_owned())]] {
        for (most, expected) in [(3, (3, true)), (10, (10, false)), (11, (10, false))] {
            let mut count = 0;
            let mut sink = |_| {
                count += 1;
                count < most
            };
            let limits = SearchLimits { max_rows_read: 1000, max_ordered: 1000 };
            let query = query(Level::Study, &parameters);
            let found = index.search(TENANT, &query, limits, &mut sink).await.unwrap();
            assert_eq!((found.count, found.has_more), expected, "{parameters:?}");
            assert_eq!(count, found.count);
        }
    }
}

async fn a_study_is_found_by_each_of_its_numbers(engine: Engine) {
    let index = engine.index();
    let several = |vr: &[u8; 2], values: [&str; 2]| Attribute {
        vr: Vr(*vr),
        values: values.map(|value| Value::Text(value.into())).to_vec(),
    };
    let mut record = instance(1, 1, 1);
    record.attributes.insert(tags::PATIENT_ID, several(b"LO", ["P1", "OTHER"]));
    record.attributes.insert(tags::ACCESSION_NUMBER, several(b"SH", ["A1", "ELSEWHERE"]));
    store(&index, record).await;
    store(&index, instance(1, 2, 1)).await;
    store(&index, instance(8, 1, 1)).await;
    for (parameter, value, expected) in [
        ("PatientID", "P1", [2, 3, 3]),
        ("PatientID", "OTHER", [1, 2, 2]),
        ("PatientID", "P1\\OTHER", [0, 0, 0]),
        ("AccessionNumber", "A1", [1, 2, 2]),
        ("AccessionNumber", "ELSEWHERE", [1, 2, 2]),
    ] {
        for (level, expected) in [Level::Study, Level::Series, Level::Instance].into_iter().zip(expected) {
            let query = query(level, &[(parameter, value.to_owned())]);
            assert_eq!(search(&index, &query, 1000).await.0.len(), expected, "{level:?} {parameter}={value}");
        }
    }
}

async fn unindexed_attributes_are_matched_and_returned_from_the_first_instance_of_a_series(engine: Engine) {
    let index = engine.index();
    let with = |study, series, number, creator: &str, block: u32, value: &str| {
        let mut record = instance(study, series, number);
        let private = format!(
            r#"{{"0009{block:04X}":{{"vr":"LO","Value":["{creator}"]}},"0009{block:02X}01":{{"vr":"LO","Value":["{value}"]}},"00181152":{{"vr":"IS","Value":[{study}]}}}}"#
        );
        record.metadata = text_metadata(&private);
        record
    };
    for record in [
        with(1, 1, 1, "ACME", 0x10, "yes"),
        with(1, 1, 2, "ACME", 0x10, "no"),
        with(2, 1, 1, "ACME", 0x20, "yes"),
        with(3, 1, 1, "OTHER", 0x10, "yes"),
        with(4, 1, 1, "ACME", 0x10, "no"),
        with(4, 2, 1, "ACME", 0x10, "yes"),
    ] {
        store(&index, record).await;
    }
    let creator = ("00090010", "ACME".to_owned());
    for (level, value, expected) in [
        (Level::Study, "yes", &["1.4", "1.2", "1.1"][..]),
        (Level::Study, "no", &["1.4"]),
        (Level::Series, "yes", &["1.4", "1.2", "1.1"]),
        (Level::Instance, "no", &["1.4", "1.1"]),
    ] {
        let parameters = [creator.clone(), ("00091001", value.into()), ("includefield", "Exposure".into())];
        let (results, found) = search(&index, &query(level, &parameters), 1000).await;
        let studies: Vec<_> =
            results.iter().filter_map(|result| result[&tags::STUDY_INSTANCE_UID].first_text()).collect();
        assert_eq!((studies, found.warnings.len()), (expected.to_vec(), 0), "{level:?} {value}");
        for result in &results {
            let block =
                if result[&tags::STUDY_INSTANCE_UID].first_text() == Some("1.2") { 0x20 } else { 0x10 };
            assert_eq!(result[&Tag(0x0009_0000 | block)].first_text(), Some("ACME"));
            assert_eq!(result[&Tag(0x0009_0001 | block << 8)].first_text(), Some(value));
            assert!(result.contains_key(&Tag(0x0018_1152)), "{level:?} {result:?}");
        }
    }
    let query = query(Level::Study, &[creator, ("00091001", "yes".into())]);
    let (results, found) = search(&index, &query, 30).await;
    assert!(results.len() < 3 && found.warnings.len() == 1, "{found:?}");
}

async fn a_date_of_another_time_zone_is_found_on_the_day_before(engine: Engine) {
    let index = engine.index();
    let mut record = instance(1, 1, 1);
    record.attributes.insert(Tag(0x0008_0201), Attribute::text(b"SH", "+0900"));
    record.attributes.insert(tags::STUDY_DATE, Attribute::text(b"DA", "20240301"));
    record.attributes.insert(tags::STUDY_TIME, Attribute::text(b"TM", "0800"));
    store(&index, record).await;
    for (timezone, date, expected) in [
        ("-0500", "20240229", 1),
        ("-0500", "20240301", 0),
        ("+0900", "20240301", 1),
        ("", "20240301", 1),
        ("-0500", "20240101-20240229", 1),
        ("-0500", "20240301-", 0),
    ] {
        let parameters = [("TimezoneOffsetFromUTC", timezone.into()), ("StudyDate", date.into())];
        for level in [Level::Study, Level::Series, Level::Instance] {
            let results = search(&index, &query(level, &parameters), 1000).await.0;
            assert_eq!(results.len(), expected, "{level:?} {timezone} {date}");
        }
    }
}

async fn results_hold_the_attributes_of_their_level(engine: Engine) {
    let index = engine.index();
    let mut record = instance(1, 1, 1);
    record.attributes.remove(&tags::ACCESSION_NUMBER);
    store(&index, record).await;
    for (level, parameters, present, absent) in [
        (
            Level::Study,
            "",
            &["StudyDate", "AccessionNumber", "ModalitiesInStudy", "InstanceAvailability"][..],
            &["Modality", "InstanceNumber"][..],
        ),
        (Level::Study, "Modality", &["StudyDate"], &["Modality"]),
        (
            Level::Series,
            "",
            &["Modality", "SeriesNumber", "StudyDate", "StudyInstanceUID", "InstanceAvailability"],
            &["InstanceNumber"],
        ),
        (
            Level::Instance,
            "",
            &["SOPInstanceUID", "InstanceNumber", "Modality", "PatientID"],
            &["RelativeXRayExposure", "XRayTubeCurrent"],
        ),
        (Level::Instance, "XRayTubeCurrent", &["XRayTubeCurrent"], &["Exposure"]),
        (Level::Instance, "all", &["XRayTubeCurrent", "InstanceNumber"], &["Exposure"]),
    ] {
        let query = query(level, &[("includefield", parameters.to_owned())]);
        let (results, _) = search(&index, &query, 100).await;
        let has =
            |name: &&str| results[0].contains_key(&crate::query::indexed_attributes::tag(name).unwrap());
        assert!(present.iter().all(has), "{level:?} {parameters} {:?}", results);
        assert!(!absent.iter().any(has), "{level:?} {parameters} {:?}", results);
    }
}

async fn metadata_that_cannot_be_read_hides_no_result(engine: Engine) {
    let (open, close) = (r#"{"00400275":{"vr":"SQ","Value":["#, "]}}");
    let deep = text_metadata(&format!("{}{{}}{}", open.repeat(4000), close.repeat(4000)));
    let mut damaged = text_metadata("{}");
    damaged.pieces[0].crc32 ^= 1;
    for (study, (metadata, warnings)) in
        [(deep, 0), (damaged, 1), (text_metadata("{"), 1)].into_iter().enumerate()
    {
        let index = engine.index();
        store(&index, instance(study, 1, 1)).await;
        store(&index, InstanceRecord { metadata, ..instance(study, 1, 2) }).await;
        let study_uid = instance(study, 1, 1).study.to_string();
        let parameters = [("includefield", "all".into()), ("StudyInstanceUID", study_uid)];
        let (results, found) = search(&index, &query(Level::Instance, &parameters), 1000).await;
        assert_eq!((results.len(), found.warnings.len()), (2, warnings), "{study} {:?}", found.warnings);
    }
}
