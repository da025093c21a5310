//! Tests of the index over each engine.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;

use crate::config::Duplicates;
use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::frames::{FrameTable, PixelLayout};
use crate::dicom::layout::Layout;
use crate::dicom::metadata::{self, Metadata};
use crate::dicom::tags;
use crate::dicom::transfer_syntax;
use crate::dicom::uids;
use crate::digest::{DigestAlgorithm, ObjectDigest};
use crate::index::engine_tests::{CountingTable, Engine, on_each_engine};
use crate::index::previews::{LeaseOutcome, LeaseTimes};
use crate::index::read::whole_partition;
use crate::index::records::{InstanceRecord, PreviewState};
use crate::index::search_tests::search;
use crate::index::{CommitOutcome, Error, Index, ObjectToDelete, keys};
use crate::query::parameters::{self, ResultLimits, SearchTarget};
use crate::query::{Level, Query};
use crate::table::{Expect, ItemKey, MAX_TRANSACTION_BYTES, Secondary, Table, Write};

on_each_engine! {
    counts_are_exact_after_commits_at_the_same_time_through_two_indexes,
    a_series_ingested_on_eight_nodes_is_stored_once_and_counted_exactly,
    a_duplicate_is_detected_refused_or_replaces_the_stored_instance,
    removing_the_last_instance_removes_its_series_and_study,
    a_record_larger_than_a_row_is_read_back_whole_and_leaves_nothing,
    a_record_larger_than_a_transaction_is_read_back_whole_and_leaves_nothing,
    large_records_come_few_at_a_time,
    a_record_that_no_transaction_holds_is_refused,
    a_preview_is_due_until_one_of_the_current_generation_is_ready,
    an_attribute_as_large_as_a_row_costs_neither_the_instance_nor_those_committed_with_it,
    a_study_of_ever_more_modalities_and_classes_still_takes_instances,
    a_record_of_which_a_row_is_lost_is_an_error,
    a_preview_of_removed_images_is_not_ready,
    a_study_is_removed_in_transactions_of_bounded_size_without_a_row_left,
    a_lease_excludes_other_processes_until_its_end_and_each_attempt_counts,
    times_that_a_wrong_clock_wrote_put_no_preview_off,
    removed_objects_are_in_the_deletion_queue_until_their_entry_is_removed,
}

pub(super) const TENANT: &str = "clinic";
pub(super) const NOT_INDEXED: Tag = tags::X_RAY_TUBE_CURRENT;

/// Makes the record of an instance with pixel data, from the numbers of its study, its series and itself.
pub(super) fn instance(study: usize, series: usize, number: usize) -> InstanceRecord {
    let (study_uid, series_uid) = (format!("1.{study}"), format!("1.{study}.{series}"));
    let uid = format!("{series_uid}.{number}");
    let mut attributes = Attributes::from([
        (tags::STUDY_INSTANCE_UID, Attribute::text(b"UI", study_uid.as_str())),
        (tags::SERIES_INSTANCE_UID, Attribute::text(b"UI", series_uid.as_str())),
        (tags::SOP_INSTANCE_UID, Attribute::text(b"UI", uid.as_str())),
        (tags::MODALITY, Attribute::text(b"CS", ["CT", "MR", "SR"][(study + series) % 3])),
        (tags::PATIENT_ID, Attribute::text(b"LO", format!("P{}", study % 7))),
        (
            tags::ACCESSION_NUMBER,
            Attribute::text(b"SH", if study.is_multiple_of(4) { String::new() } else { format!("A{study}") }),
        ),
        (tags::INSTANCE_NUMBER, Attribute::number(b"IS", number)),
        (tags::PATIENT_NAME, name(study)),
    ]);
    if !study.is_multiple_of(5) {
        attributes.insert(tags::STUDY_DATE, Attribute::text(b"DA", format!("202401{:02}", 1 + study % 9)));
        attributes.insert(tags::STUDY_TIME, Attribute::text(b"TM", format!("{:02}30", study % 3 * 4 + 8)));
    }
    InstanceRecord {
        study: study_uid.parse().unwrap(),
        series: series_uid.parse().unwrap(),
        instance: uid.parse().unwrap(),
        sop_class: uids::CT_IMAGE_STORAGE.into(),
        transfer_syntax: transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN.into(),
        digest: digest(&format!("first {uid}")),
        object: format!("first {uid}-1"),
        replaced: Vec::new(),
        size_bytes: 10,
        is_irregular: false,
        file_header: None,
        stored_at: 0,
        source: None,
        attributes,
        metadata: text_metadata(&format!(r#"{{"{NOT_INDEXED}":{{"vr":"IS","Value":[{number}]}}}}"#)),
        layout: Layout { pixels: Some(pixels()), frames: FrameTable::None, bulk: Vec::new() },
    }
}

pub(super) fn digest(text: &str) -> ObjectDigest {
    DigestAlgorithm::OF_NEW_OBJECTS.digest(text.as_bytes())
}

pub(super) fn text_metadata(text: &str) -> Metadata {
    metadata::compress(&[text.as_bytes().to_vec()])
}

fn name(study: usize) -> Attribute {
    let families = ["Müller^Zoë", "Muller^Anna", "Meier^Jo", "Yamada^Tarou", "", "山田^太郎"];
    let ideographic = ["", "", "Mukai^X", "山田^太郎", "", ""];
    let at = study % families.len();
    let name = PersonName {
        alphabetic: families[at].into(),
        ideographic: ideographic[at].into(),
        ..PersonName::default()
    };
    Attribute { vr: Vr(*b"PN"), values: vec![Value::Name(name)] }
}

fn pixels() -> PixelLayout {
    PixelLayout {
        rows: 1,
        columns: 1,
        samples: 1,
        bits_allocated: 8,
        bits_stored: 8,
        high_bit: 7,
        is_signed: false,
        photometric: "MONOCHROME2".into(),
        is_planar: false,
        number_of_frames: 1,
    }
}

pub(super) async fn store(index: &Index, record: InstanceRecord) -> CommitOutcome {
    index.commit(TENANT, record, Duplicates::Reject, None).await.unwrap()
}

pub(super) fn query(level: Level, parameters: &[(&str, String)]) -> Query {
    let pairs: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let target = SearchTarget { joins_dates_and_times: true, level, study: None, series: None };
    parameters::read(&pairs, target, ResultLimits { default: 10_000, max: 10_000 }).unwrap()
}

async fn counts_are_exact_after_commits_at_the_same_time_through_two_indexes(engine: Engine) {
    let table = engine.table.clone();
    let indexes = [Arc::new(Index::new(table.clone())), Arc::new(Index::new(table))];
    let tasks: Vec<_> = (0..160)
        .map(|number| {
            let index = indexes[number % 2].clone();
            tokio::spawn(async move { store(&index, instance(1, number % 4, number / 4)).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), CommitOutcome::Stored);
    }
    let study = index_study(&indexes[0]).await;
    assert_eq!((study.number_of_instances, study.number_of_series, study.size_bytes), (160, 4, 1600));
    assert_eq!(study.modalities.values().sum::<u64>(), 160);
    let series = indexes[1].series_of(TENANT, &study.study).await.unwrap();
    assert!(series.iter().all(|series| (series.number_of_instances, series.number_of_images) == (40, 40)));
    let pages: Vec<_> =
        indexes[0].instances::<InstanceRecord>(TENANT, &study.study, None).try_collect().await.unwrap();
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), 160);
    assert_eq!(indexes[0].tenants().await.unwrap(), [TENANT]);
}

/// A CT of 600 slices in three series; every tenth slice is sent to two nodes.
async fn a_series_ingested_on_eight_nodes_is_stored_once_and_counted_exactly(engine: Engine) {
    let table = Arc::new(CountingTable::new(engine.table));
    let nodes: Vec<_> = (0..8).map(|_| Arc::new(Index::new(table.clone()))).collect();
    let slices = (0..600).flat_map(|number| {
        let twice = if number % 10 == 0 { 2 } else { 1 };
        (0..twice).map(move |copy| (number, (number + 3 * copy) % 8))
    });
    let commits = slices.map(|(number, node)| {
        let node = nodes[node].clone();
        tokio::spawn(async move { store(&node, instance(1, number % 3, number / 3)).await })
    });
    let commits: Vec<_> = commits.collect();
    let mut outcomes = Vec::new();
    for commit in commits {
        outcomes.push(commit.await.unwrap());
    }
    let stored = outcomes.iter().filter(|outcome| **outcome == CommitOutcome::Stored).count();
    let same =
        outcomes.iter().filter(|outcome| matches!(outcome, CommitOutcome::AlreadyStored { .. })).count();
    assert_eq!((stored, same), (600, 60));
    // Commits that are queued on a node share transactions.
    let counts = table.take();
    assert!(counts.transactions - counts.conflicts < 300, "{counts:?}");
    let study = index_study(&nodes[0]).await;
    assert_eq!((study.number_of_instances, study.number_of_series, study.size_bytes), (600, 3, 6000));
    for (series, node) in nodes[1].series_of(TENANT, &study.study).await.unwrap().into_iter().zip(&nodes) {
        assert_eq!((series.number_of_instances, series.number_of_images), (200, 200));
        let records = node.instances::<InstanceRecord>(TENANT, &study.study, Some(&series.series));
        let records: Vec<Vec<InstanceRecord>> = records.try_collect().await.unwrap();
        assert_eq!(records.iter().map(Vec::len).sum::<usize>(), 200);
    }
}

async fn index_study(index: &Index) -> crate::index::records::StudyRecord {
    index.study(TENANT, &"1.1".parse().unwrap()).await.unwrap().unwrap()
}

async fn a_duplicate_is_detected_refused_or_replaces_the_stored_instance(engine: Engine) {
    let index = engine.index();
    let first = instance(1, 1, 1);
    let mut other = first.clone();
    (other.digest, other.object) = (digest("second"), "second-2".into());
    other.size_bytes = 25;
    other.attributes.insert(tags::STUDY_DESCRIPTION, Attribute::text(b"LO", "corrected"));
    let mut elsewhere = other.clone();
    elsewhere.series = "1.1.9".parse().unwrap();
    assert_eq!(store(&index, first.clone()).await, CommitOutcome::Stored);
    let generation = index_study(&index).await.generation;
    let again = InstanceRecord { object: "first-9".into(), ..first.clone() };
    assert_eq!(
        store(&index, again.clone()).await,
        CommitOutcome::AlreadyStored { object: first.object.clone() }
    );
    assert_eq!(store(&index, other.clone()).await, CommitOutcome::DifferentBytes);
    assert_eq!(store(&index, elsewhere).await, CommitOutcome::OtherSeries);
    assert_eq!(index_study(&index).await.generation, generation);
    let replaced = index.commit(TENANT, other.clone(), Duplicates::Replace, None).await.unwrap();
    assert_eq!(replaced, CommitOutcome::Replaced { object: first.object.clone() });
    let study = index_study(&index).await;
    assert_eq!((study.number_of_instances, study.number_of_series, study.size_bytes), (1, 1, 25));
    assert_eq!(study.attributes[&tags::STUDY_DESCRIPTION].first_text(), Some("corrected"));
    assert_eq!(study.generation, generation + 1);
    let found = index.instance(TENANT, &other.study, &other.series, &other.instance).await.unwrap();
    assert_eq!(found, Some(InstanceRecord { replaced: vec![first.object], ..other.clone() }));

    // The object was lost, and the same bytes are stored as another object.
    let mut stored_again = InstanceRecord { object: "second-3".into(), ..other.clone() };
    stored_again.replaced = vec![other.object.clone()];
    let outcome = store(&index, stored_again).await;
    assert_eq!(outcome, CommitOutcome::Replaced { object: other.object });
    let location = index.locate(TENANT, &other.instance).await.unwrap().unwrap();
    assert_eq!((location.object.as_str(), index_study(&index).await.number_of_instances), ("second-3", 1));
}

async fn removing_the_last_instance_removes_its_series_and_study(engine: Engine) {
    let index = engine.index();
    let records = [instance(1, 1, 1), instance(1, 1, 2), instance(1, 2, 1)];
    for record in &records {
        store(&index, record.clone()).await;
    }
    for (record, left) in records.iter().zip([Some((2, 2)), Some((1, 1)), None]) {
        let removed = index.remove(TENANT, &record.study, Some(&record.series), Some(&record.instance)).await;
        assert_eq!(removed.unwrap(), 1);
        let study = index.study(TENANT, &record.study).await.unwrap();
        assert_eq!(study.map(|study| (study.number_of_instances, study.number_of_series)), left);
        assert_eq!(index.locate(TENANT, &record.instance).await.unwrap(), None);
    }
    let (results, _) = search(&index, &query(Level::Study, &[]), 100).await;
    assert!(results.is_empty());
    let gone = &records[0];
    assert_eq!(index.remove(TENANT, &gone.study, Some(&gone.series), Some(&gone.instance)).await.unwrap(), 0);
}

/// The key of a row of a large record besides its own.
fn other_row(table: &dyn Table, key: &ItemKey, object: &str, number: usize) -> ItemKey {
    if table.is_remote() {
        keys::record_part(key, object, number)
    } else {
        keys::continuation(key, object, number)
    }
}

async fn a_record_larger_than_a_row_is_read_back_whole_and_leaves_nothing(engine: Engine) {
    let table = engine.table.clone();
    let index = Index::new(table.clone());
    let mut record = instance(1, 1, 1);
    record.attributes.insert(tags::STUDY_DESCRIPTION, Attribute::text(b"LO", "x"));
    record.layout.bulk = (0..40_000)
        .map(|number| crate::dicom::layout::BulkValue {
            path: format!("{number:08}"),
            vr: Vr(*b"OB"),
            offset: number,
            length: 1,
        })
        .collect();
    store(&index, record.clone()).await;
    let found = index.instance(TENANT, &record.study, &record.series, &record.instance).await.unwrap();
    assert_eq!(found.as_ref(), Some(&record));
    let pages: Vec<Vec<InstanceRecord>> =
        index.instances(TENANT, &record.study, None).try_collect().await.unwrap();
    assert_eq!(pages, [[record.clone()]]);
    let key = keys::instance(TENANT, &record.study, &record.series, &record.instance);
    let row = other_row(table.as_ref(), &key, &record.object, 1);
    assert!(table.get(std::slice::from_ref(&row)).await.unwrap()[0].is_some());
    index.remove(TENANT, &record.study, Some(&record.series), Some(&record.instance)).await.unwrap();
    assert!(table.get(&[row]).await.unwrap()[0].is_none());
}

async fn a_record_larger_than_a_transaction_is_read_back_whole_and_leaves_nothing(engine: Engine) {
    let nodes = [Arc::new(engine.index()), Arc::new(engine.index())];
    let mut record = instance(1, 1, 1);
    record.sop_class = "0".repeat(2 * MAX_TRANSACTION_BYTES);
    // Two uploads of the same bytes, at the same time as others of the study.
    let uploads = [("first", &nodes[0]), ("second", &nodes[1])].map(|(object, node)| {
        let record = InstanceRecord { object: object.into(), ..record.clone() };
        async move { store(node, record).await }
    });
    let others = (2..20).map(|number| store(&nodes[number % 2], instance(1, 1, number)));
    let (outcomes, _) =
        tokio::join!(futures_util::future::join_all(uploads), futures_util::future::join_all(others));
    let stored = outcomes.iter().position(|outcome| *outcome == CommitOutcome::Stored).unwrap();
    record.object = ["first", "second"][stored].into();
    assert_eq!(outcomes[1 - stored], CommitOutcome::AlreadyStored { object: record.object.clone() });
    let index = &nodes[0];
    assert_eq!(index_study(index).await.number_of_instances, 19);
    let found = index.instance(TENANT, &record.study, &record.series, &record.instance).await.unwrap();
    assert_eq!(found.as_ref(), Some(&record));
    let key = keys::instance(TENANT, &record.study, &record.series, &record.instance);
    let parts = ["first", "second"].map(|object| other_row(engine.table.as_ref(), &key, object, 1));
    let found = engine.table.get(&parts).await.unwrap();
    assert_eq!((found[stored].is_some(), found[1 - stored].is_some()), (true, false));
    index.remove(TENANT, &record.study, Some(&record.series), Some(&record.instance)).await.unwrap();
    let rest = whole_partition(None, parts[0].partition.clone(), 1000);
    assert!(engine.table.range(&rest).await.unwrap().items.is_empty());
}

async fn large_records_come_few_at_a_time(engine: Engine) {
    let index = engine.index();
    for number in 1..=5 {
        let mut record = instance(1, 1, number);
        record.sop_class = "0".repeat(if number < 4 { 3_000_000 } else { 3 });
        store(&index, record).await;
    }
    let study = instance(1, 1, 1).study;
    let pages: Vec<Vec<InstanceRecord>> = index.instances(TENANT, &study, None).try_collect().await.unwrap();
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);
}

async fn a_record_that_no_transaction_holds_is_refused(engine: Engine) {
    let index = engine.index();
    let mut record = instance(1, 1, 1);
    record.sop_class = "0".repeat(32_000_000);
    let outcome = index.commit(TENANT, record, Duplicates::Reject, None).await;
    assert!(matches!(outcome, Err(crate::index::Error::TooLarge { .. })), "{outcome:?}");
}

async fn a_preview_is_due_until_one_of_the_current_generation_is_ready(engine: Engine) {
    let index = engine.index();
    let record = instance(1, 1, 1);
    index.commit(TENANT, record.clone(), Duplicates::Reject, Some(1000)).await.unwrap();
    assert_eq!(index.due_previews(999, 10).await.unwrap(), []);
    let due = index.due_previews(1000, 10).await.unwrap();
    let [due] = due.as_slice() else { panic!("{due:?}") };
    assert_eq!((due.tenant.as_str(), &due.record.series), (TENANT, &record.series));
    let made = PreviewState::Ready { generation: due.record.generation, size_bytes: 1 };
    let set = async |generation| {
        index.set_preview(TENANT, &record.study, &record.series, generation, &made).await.unwrap()
    };
    assert!(!set(due.record.generation - 1).await);
    assert!(set(due.record.generation).await);
    assert_eq!(index.due_previews(i64::MAX - 1, 10).await.unwrap(), []);
    index.commit(TENANT, instance(1, 1, 2), Duplicates::Reject, Some(2000)).await.unwrap();
    assert_eq!(index.due_previews(1999, 10).await.unwrap(), []);
    assert_eq!(index.due_previews(2000, 10).await.unwrap().len(), 1);
}

async fn times_that_a_wrong_clock_wrote_put_no_preview_off(engine: Engine) {
    let index = engine.index().with_longest_wait(Duration::from_secs(60));
    let record = instance(1, 1, 1);
    let (study, series) = (&record.study, &record.series);
    index.commit(TENANT, record.clone(), Duplicates::Reject, Some(1000)).await.unwrap();
    let stored = index.series(TENANT, study, series).await.unwrap().unwrap();
    let (now, year) = (stored.changed_at + 10_000, 365 * 24 * 60 * 60 * 1000);
    // When a preview is due for the first time, when it is retried, and when a lease ends.
    for attempts in [0, 1, 2] {
        for (due_at, is_due) in [(now + 30_000, false), (now + year, true), (i64::MAX, true)] {
            let pending = PreviewState::Pending { due_at, attempts };
            index.set_preview(TENANT, study, series, stored.generation, &pending).await.unwrap();
            assert_eq!(index.due_previews(now, 10).await.unwrap().len(), usize::from(is_due), "{due_at}");
            let times = LeaseTimes { now, until: now + 1, quiet_since: now - 1 };
            let outcome = index.lease_preview(TENANT, study, series, times).await.unwrap();
            assert_eq!(matches!(outcome, LeaseOutcome::Acquired(_)), is_due, "{due_at}: {outcome:?}");
        }
    }
    // The last change of the series, a year in the future for the clock of now.
    let (now, pending) = (now - year, PreviewState::Pending { due_at: 0, attempts: 0 });
    index.set_preview(TENANT, study, series, stored.generation, &pending).await.unwrap();
    let times = LeaseTimes { now, until: now + 1, quiet_since: now - 1000 };
    let outcome = index.lease_preview(TENANT, study, series, times).await.unwrap();
    assert!(matches!(outcome, LeaseOutcome::Acquired(_)), "{outcome:?}");
}

async fn a_lease_excludes_other_processes_until_its_end_and_each_attempt_counts(engine: Engine) {
    let index = engine.index();
    let record = instance(1, 1, 1);
    let (study, series) = (&record.study, &record.series);
    let lease = async |now, until| {
        let times = LeaseTimes { now, until, quiet_since: i64::MAX };
        index.lease_preview(TENANT, study, series, times).await.unwrap()
    };
    assert_eq!(lease(0, 1).await, LeaseOutcome::NotPending);
    index.commit(TENANT, record.clone(), Duplicates::Reject, Some(1000)).await.unwrap();
    assert_eq!(lease(999, 1500).await, LeaseOutcome::NotBefore(1000));
    let LeaseOutcome::Acquired(leased) = lease(1000, 1500).await else { panic!("it is due") };
    assert_eq!(leased.preview, PreviewState::Pending { due_at: 1000, attempts: 0 });
    assert_eq!(lease(1499, 2000).await, LeaseOutcome::NotBefore(1500));
    assert!(index.extend_lease(TENANT, &leased, 1800).await.unwrap());
    let made = PreviewState::Ready { generation: leased.generation, size_bytes: 1 };
    let was = index.series(TENANT, study, series).await.unwrap().unwrap().preview;
    for (state, is_extended) in [(&made, false), (&was, true)] {
        index.set_preview(TENANT, study, series, leased.generation, state).await.unwrap();
        assert_eq!(index.extend_lease(TENANT, &leased, 1800).await.unwrap(), is_extended);
    }
    assert_eq!(index.due_previews(1799, 10).await.unwrap(), []);
    let LeaseOutcome::Acquired(leased) = lease(1800, 2000).await else { panic!("the lease has ended") };
    assert_eq!(leased.preview, PreviewState::Pending { due_at: 1800, attempts: 1 });
    // A new instance ends the lease and resets the attempts.
    index.commit(TENANT, instance(1, 1, 2), Duplicates::Reject, Some(1900)).await.unwrap();
    assert!(!index.extend_lease(TENANT, &leased, 3000).await.unwrap());
    let LeaseOutcome::Acquired(leased) = lease(1900, 2000).await else { panic!("it is due") };
    assert_eq!(leased.preview, PreviewState::Pending { due_at: 1900, attempts: 0 });

    // A new instance leaves a pending preview as it is. The next lease postpones the preview.
    index.commit(TENANT, instance(1, 1, 3), Duplicates::Reject, Some(9000)).await.unwrap();
    assert_eq!(index.due_previews(2000, 10).await.unwrap().len(), 1);
    let changed_at = index.series(TENANT, study, series).await.unwrap().unwrap().changed_at;
    let times = LeaseTimes { now: changed_at + 4, until: changed_at + 100, quiet_since: changed_at - 1 };
    let outcome = index.lease_preview(TENANT, study, series, times).await.unwrap();
    assert_eq!(outcome, LeaseOutcome::NotBefore(changed_at + 5));
    assert_eq!(index.due_previews(changed_at + 4, 10).await.unwrap(), []);
    assert_eq!(index.due_previews(changed_at + 5, 10).await.unwrap().len(), 1);
}

async fn an_attribute_as_large_as_a_row_costs_neither_the_instance_nor_those_committed_with_it(
    engine: Engine,
) {
    let index = Arc::new(engine.index());
    let mut large = instance(1, 1, 0);
    large.attributes.insert(tags::STUDY_DESCRIPTION, Attribute::text(b"LO", "x".repeat(500_000)));
    large.attributes.insert(tags::MODALITY, Attribute::text(b"CS", "y".repeat(500_000)));
    let records = std::iter::once(large.clone()).chain((1..40).map(|number| instance(1, 1, number)));
    let commits = records.map(|record| {
        let index = index.clone();
        async move { store(&index, record).await }
    });
    let outcomes = futures_util::future::join_all(commits).await;
    assert!(outcomes.iter().all(|outcome| *outcome == CommitOutcome::Stored), "{outcomes:?}");
    let study = index_study(&index).await;
    assert_eq!(study.number_of_instances, 40);
    assert!(!study.attributes.contains_key(&tags::STUDY_DESCRIPTION), "too large for the study's row");
    let found = index.instance(TENANT, &large.study, &large.series, &large.instance).await.unwrap();
    assert_eq!(found.as_ref(), Some(&large));
    index.remove(TENANT, &large.study, Some(&large.series), Some(&large.instance)).await.unwrap();
    assert_eq!(index_study(&index).await.number_of_instances, 39);
}

async fn a_study_of_ever_more_modalities_and_classes_still_takes_instances(engine: Engine) {
    let index = engine.index();
    for number in 0..60 {
        let mut record = instance(1, 1, number);
        record.attributes.insert(tags::MODALITY, Attribute::text(b"CS", format!("{number:09000}")));
        assert_eq!(store(&index, record).await, CommitOutcome::Stored, "{number}");
    }
    assert_eq!(index_study(&index).await.number_of_instances, 60);
}

async fn a_record_of_which_a_row_is_lost_is_an_error(engine: Engine) {
    let table = engine.table.clone();
    let index = Index::new(table.clone());
    let mut record = instance(1, 1, 1);
    record.attributes.insert(NOT_INDEXED, Attribute::text(b"LO", "0".repeat(1_000_000)));
    store(&index, record.clone()).await;
    let key = keys::instance(TENANT, &record.study, &record.series, &record.instance);
    let row = other_row(table.as_ref(), &key, &record.object, 2);
    table.transact(vec![Write::Delete(row, Expect::Anything)]).await.unwrap();
    let read = index.instance::<InstanceRecord>(TENANT, &record.study, &record.series, &record.instance);
    let read = tokio::time::timeout(std::time::Duration::from_secs(20), read);
    assert!(matches!(read.await.expect("it ends"), Err(Error::Record { .. })));
}

async fn a_preview_of_removed_images_is_not_ready(engine: Engine) {
    let index = engine.index();
    let (first, second) = (instance(1, 1, 1), instance(1, 1, 2));
    let state = async || index.series(TENANT, &first.study, &first.series).await.unwrap().unwrap();
    let make = async || {
        let series = state().await;
        let made = PreviewState::Ready { generation: series.generation, size_bytes: 1 };
        let set = index.set_preview(TENANT, &first.study, &first.series, series.generation, &made);
        assert!(set.await.unwrap());
    };
    for record in [&first, &second] {
        index.commit(TENANT, record.clone(), Duplicates::Reject, Some(1)).await.unwrap();
    }
    make().await;
    index.remove(TENANT, &second.study, Some(&second.series), Some(&second.instance)).await.unwrap();
    assert!(matches!(state().await.preview, PreviewState::Pending { .. }), "{:?}", state().await.preview);
    make().await;
    index.commit(TENANT, second.clone(), Duplicates::Reject, None).await.unwrap();
    assert_eq!(state().await.preview, PreviewState::None, "previews are not made any more");
}

async fn a_study_is_removed_in_transactions_of_bounded_size_without_a_row_left(engine: Engine) {
    let table = engine.table.clone();
    let index = Index::new(table.clone());
    let mut records: Vec<_> = (0..230).map(|number| instance(1, number % 3, number)).collect();
    // This record has continuation rows.
    records[100].sop_class = "0".repeat(4_000_000);
    for record in &records {
        store(&index, record.clone()).await;
    }
    let study = &records[0].study;
    assert_eq!(index.remove(TENANT, study, Some(&records[0].series), None).await.unwrap(), 77);
    let left = index_study(&index).await;
    assert_eq!((left.number_of_instances, left.number_of_series), (153, 2));
    assert_eq!(index.remove(TENANT, study, None, None).await.unwrap(), 153);
    assert_eq!(index.remove(TENANT, study, None, None).await.unwrap(), 0);
    let mut partitions = vec![(None, keys::study_partition(TENANT, study))];
    for record in &records {
        let key = keys::instance(TENANT, study, &record.series, &record.instance);
        partitions.push((None, keys::continuation(&key, &record.object, 1).partition));
        partitions.push((None, key.partition));
        partitions.push((None, keys::location(TENANT, &record.instance).partition));
        partitions.push((Some(Secondary::Second), keys::series_uid(TENANT, &record.series)));
    }
    partitions.push((Some(Secondary::First), keys::studies(TENANT)));
    partitions.push((Some(Secondary::Second), keys::patient(TENANT, "P1")));
    partitions.push((Some(Secondary::Third), keys::names(TENANT)));
    partitions.push((Some(Secondary::Fourth), keys::accession(TENANT, "A1")));
    partitions.push((Some(Secondary::Fifth), keys::PREVIEWS.into()));
    for (secondary, partition) in partitions {
        let page = table.range(&whole_partition(secondary, partition.clone(), 1)).await.unwrap();
        assert!(page.items.is_empty(), "{partition}");
    }
}

async fn removed_objects_are_in_the_deletion_queue_until_their_entry_is_removed(engine: Engine) {
    let index = engine.index();
    let mut replaced = instance(1, 1, 1);
    store(&index, replaced.clone()).await;
    (replaced.digest, replaced.object) = (digest("second"), "second-2".into());
    index.commit(TENANT, replaced.clone(), Duplicates::Replace, None).await.unwrap();
    let other = instance(1, 1, 2);
    store(&index, other.clone()).await;
    assert_eq!(index.remove(TENANT, &other.study, None, None).await.unwrap(), 2);
    let entries = index.deletion_queue_of(TENANT, &other.study).await.unwrap();
    let of = |record: &InstanceRecord, object: &str| ObjectToDelete {
        series: record.series.clone(),
        instance: record.instance.clone(),
        object: object.to_owned(),
    };
    let expected =
        [of(&replaced, "second-2"), of(&replaced, &instance(1, 1, 1).object), of(&other, &other.object)];
    let objects: Vec<ObjectToDelete> = entries.iter().flat_map(|entry| entry.objects.clone()).collect();
    assert_eq!(objects, expected);
    assert_eq!(index.deletion_queue().await.unwrap(), entries);
    assert_eq!(index.deletion_queue_of(TENANT, &"1.10".parse().unwrap()).await.unwrap(), []);
    for _ in 0..2 {
        index.remove_deletion_entry(&entries[0]).await.unwrap();
        assert_eq!(index.deletion_queue().await.unwrap(), []);
    }
}
