//! Tests of records that are separate from the rows of their instances, and of commits without reads.

use std::sync::Arc;

use futures_util::TryStreamExt;

use crate::config::Duplicates;
use crate::dicom::attributes::Attribute;
use crate::index::engine_tests::{CountingTable, Counts, Engine, RemoteTable, on_each_engine};
use crate::index::read::whole_partition;
use crate::index::records::InstanceRecord;
use crate::index::tests::{NOT_INDEXED, TENANT, instance, store};
use crate::index::{CommitOutcome, Index, keys};
use crate::table::Table;

on_each_engine! {
    a_new_instance_of_a_known_series_is_committed_without_a_read,
    a_wrong_expectation_is_found_by_the_transaction_and_leaves_no_row,
    a_discarded_record_leaves_no_row,
    a_replacement_has_the_rows_of_its_own_record_alone,
}

async fn commit_new(index: &Index, record: InstanceRecord, duplicates: Duplicates) -> CommitOutcome {
    let mut prepared = index.prepare(TENANT, record).await.unwrap();
    prepared.expect_new();
    index.commit_prepared(prepared, duplicates, None).await.unwrap()
}

async fn found(index: &Index, record: &InstanceRecord) -> Option<InstanceRecord> {
    index.instance(TENANT, &record.study, &record.series, &record.instance).await.unwrap()
}

/// The number of rows in the partition of an instance's location: the location and the parts of records.
async fn rows_by_uid(table: &dyn Table, record: &InstanceRecord) -> usize {
    let partition = keys::location(TENANT, &record.instance).partition;
    table.range(&whole_partition(None, partition, 100)).await.unwrap().items.len()
}

async fn a_new_instance_of_a_known_series_is_committed_without_a_read(engine: Engine) {
    let table = Arc::new(CountingTable::new(engine.table));
    let index = Index::new(table.clone());
    for number in 1..=4 {
        // The first commit finds the study; the others know it, where reads are requests.
        let record = instance(1, 1, number);
        assert_eq!(commit_new(&index, record.clone(), Duplicates::Reject).await, CommitOutcome::Stored);
        let Counts { reads, single_writes, transactions, conflicts, .. } = table.take();
        let is_remote = table.is_remote();
        assert_eq!((reads, single_writes), (usize::from(!is_remote || number == 1), usize::from(is_remote)));
        assert_eq!((transactions, conflicts), (1, 0));
        assert_eq!(found(&index, &record).await, Some(record));
        assert_eq!(table.take().reads, 1, "a record is read with one request");
    }
    let study = index.study(TENANT, &instance(1, 1, 1).study).await.unwrap().unwrap();
    assert_eq!((study.number_of_instances, study.number_of_series), (4, 1));
}

async fn a_wrong_expectation_is_found_by_the_transaction_and_leaves_no_row(engine: Engine) {
    let index = engine.index();
    let record = instance(1, 1, 1);
    store(&index, record.clone()).await;
    let rows = rows_by_uid(engine.table.as_ref(), &record).await;
    let object = record.object.clone();
    let again = InstanceRecord { object: "second".into(), ..record.clone() };
    let outcome = commit_new(&index, again.clone(), Duplicates::Reject).await;
    assert_eq!(outcome, CommitOutcome::AlreadyStored { object: object.clone() });
    let other = InstanceRecord { digest: instance(1, 1, 2).digest, ..again.clone() };
    let outcome = commit_new(&index, other, Duplicates::Reject).await;
    assert_eq!(outcome, CommitOutcome::DifferentBytes);
    let elsewhere = InstanceRecord { series: instance(1, 2, 1).series, ..again };
    assert_eq!(commit_new(&index, elsewhere, Duplicates::Reject).await, CommitOutcome::OtherSeries);
    assert_eq!(rows_by_uid(engine.table.as_ref(), &record).await, rows);
    assert_eq!(found(&index, &record).await, Some(record));
}

async fn a_discarded_record_leaves_no_row(engine: Engine) {
    let index = engine.index();
    let mut record = instance(1, 1, 1);
    record.attributes.insert(NOT_INDEXED, Attribute::text(b"LO", "0".repeat(1_000_000)));
    let prepared = index.prepare(TENANT, record.clone()).await.unwrap();
    assert_eq!(found(&index, &record).await, None);
    index.discard(prepared).await;
    assert_eq!(rows_by_uid(engine.table.as_ref(), &record).await, 0);
}

async fn a_replacement_has_the_rows_of_its_own_record_alone(engine: Engine) {
    let index = engine.index();
    let first = instance(1, 1, 1);
    store(&index, first.clone()).await;
    let rows = rows_by_uid(engine.table.as_ref(), &first).await;
    let other = InstanceRecord {
        digest: instance(1, 1, 2).digest,
        object: "second".into(),
        size_bytes: 25,
        ..first.clone()
    };
    let outcome = commit_new(&index, other.clone(), Duplicates::Replace).await;
    assert_eq!(outcome, CommitOutcome::Replaced { object: first.object.clone() });
    let expected = InstanceRecord { replaced: vec![first.object], ..other };
    assert_eq!(found(&index, &expected).await, Some(expected.clone()));
    assert_eq!(rows_by_uid(engine.table.as_ref(), &expected).await, rows);
}

#[tokio::test]
async fn records_in_either_form_are_read_replaced_and_removed_by_every_index() {
    let table = Engine::redb().table;
    let embedded = Index::new(table.clone());
    let remote = Index::new(Arc::new(RemoteTable(table.clone())));
    for (number, [writer, other]) in [[&embedded, &remote], [&remote, &embedded]].into_iter().enumerate() {
        let study = number + 1;
        let mut records: Vec<_> = (0..5).map(|number| instance(study, 1, number)).collect();
        records[3].attributes.insert(NOT_INDEXED, Attribute::text(b"LO", "0".repeat(1_000_000)));
        for record in &records {
            store(writer, record.clone()).await;
        }
        let all = other.instances::<InstanceRecord>(TENANT, &records[0].study, None);
        assert_eq!(all.try_collect::<Vec<_>>().await.unwrap().concat(), records);
        for record in &mut records[2..] {
            assert_eq!(found(other, record).await.as_ref(), Some(&*record));
            let replaced = std::mem::replace(&mut record.object, "second".into());
            record.digest = instance(9, 9, 9).digest;
            other.commit(TENANT, record.clone(), Duplicates::Replace, None).await.unwrap();
            record.replaced = vec![replaced];
            assert_eq!(found(writer, record).await.as_ref(), Some(&*record));
        }
        for reader in [writer, other] {
            let all = reader.instances::<InstanceRecord>(TENANT, &records[0].study, None);
            assert_eq!(all.try_collect::<Vec<_>>().await.unwrap().concat(), records);
        }
        assert_eq!(other.remove(TENANT, &records[0].study, None, None).await.unwrap(), 5);
        for record in &records {
            assert_eq!(rows_by_uid(table.as_ref(), record).await, 0);
            let key = keys::instance(TENANT, &record.study, &record.series, &record.instance);
            let continuation = keys::continuation(&key, &record.object, 1);
            assert!(table.get(&[key, continuation]).await.unwrap().iter().all(Option::is_none));
        }
    }
}
