//! Tests of the format, and of the file that grows.

use proptest::prelude::*;

use super::format::{Record, finish_record};
use super::*;

const ID: u128 = 7;

/// A log of records with these numbers and lengths of payload, behind a header.
fn log(id: u128, records: &[(u64, usize)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, length) in [(0, 0)].iter().chain(records) {
        let mut record = begin_record();
        record.resize(record.len() + length, *number as u8);
        finish_record(id, *number, &mut record).unwrap();
        bytes.extend(record);
    }
    bytes
}

fn numbers(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.number).collect()
}

#[test]
fn the_records_after_the_applied_number_are_found_in_order() {
    let whole = log(ID, &[(4, 10), (5, 9000), (6, 4056), (7, 0)]);
    for (applied, expected) in [(3, vec![4, 5, 6, 7]), (5, vec![6, 7]), (7, vec![]), (9, vec![])] {
        assert_eq!(numbers(&scan(&whole, ID, applied).unwrap()), expected, "{applied}");
    }
    // Older records lie behind those of this round.
    let round = log(ID, &[(8, 100), (9, 100), (2, 10), (3, 10)]);
    assert_eq!(numbers(&scan(&round, ID, 7).unwrap()), [8, 9]);
    // The records of another log end this one.
    let mut mixed = log(ID, &[(8, 100)]);
    mixed.extend(&log(8, &[(9, 1), (10, 1)])[BLOCK..]);
    assert_eq!(numbers(&scan(&mixed, ID, 7).unwrap()), [8]);
}

#[test]
fn the_last_record_may_be_cut_off_anywhere_and_no_other() {
    let whole = log(ID, &[(1, 5000), (2, 5000)]);
    for length in (3 * BLOCK..whole.len()).step_by(512) {
        let mut cut = whole[..length].to_vec();
        let number_of_records = if length < 3 * BLOCK + 5040 { 1 } else { 2 };
        assert_eq!(scan(&cut, ID, 0).unwrap().len(), number_of_records, "{length}");
        cut.resize(whole.len() + BLOCK, 0);
        assert_eq!(scan(&cut, ID, 0).unwrap().len(), number_of_records, "{length}");
    }
    for position in BLOCK..BLOCK + 5040 {
        let mut damaged = whole.clone();
        damaged[position] ^= 1;
        let error = scan(&damaged, ID, 0).unwrap_err();
        assert_eq!(error, LogDamage::MissingRecord { expected: 1, found: 2 }, "{position}");
        // The table's file has the record.
        assert_eq!(scan(&damaged, ID, 2), Ok(vec![]), "{position}");
    }
    assert_eq!(scan(&log(ID, &[(5, 1)]), ID, 3), Err(LogDamage::MissingRecord { expected: 4, found: 5 }));
}

#[test]
fn a_log_of_another_id_and_bytes_that_are_no_log_are_refused() {
    let other = log(8, &[(1, 1)]);
    for bytes in [&[][..], &[0; 2 * BLOCK], &other, &other[..20], &log(ID, &[])[..39], &other[BLOCK..]] {
        assert_eq!(scan(bytes, ID, 0), Err(LogDamage::OtherLog));
    }
}

proptest! {
    #[test]
    fn changed_bytes_never_panic_and_never_add_records(
        changes in proptest::collection::vec((0..6 * BLOCK, any::<u8>()), 0..8),
        applied in 0..4_u64,
    ) {
        let mut bytes = log(ID, &[(1, 100), (2, 5000), (3, 1)]);
        for (position, value) in changes {
            if let Some(byte) = bytes.get_mut(position) {
                *byte = value;
            }
        }
        if let Ok(records) = scan(&bytes, ID, applied) {
            let found = numbers(&records);
            prop_assert!([1, 2, 3][applied.min(3) as usize..].starts_with(&found), "{found:?}");
        }
    }
}

fn open(path: &std::path::Path, id: Option<u128>, applied: u64) -> (Wal, Vec<(u64, Vec<u8>)>) {
    let sizes = LogSizes { initial: 4 * BLOCK as u64, max: 16 * BLOCK as u64 };
    let mut records = Vec::new();
    let file = Box::new(DiskLog::open(path).unwrap());
    let wal = Wal::open(file, sizes, id, applied, |number, payload| records.push((number, payload.to_vec())));
    (wal.unwrap(), records)
}

#[test]
fn a_file_grows_to_its_limit_and_is_used_again_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (mut wal, records) = open(&path, None, 0);
    assert!(records.is_empty() && !wal.is_begun());
    let record = |number: u64| [begin_record(), vec![number as u8; 5000]].concat();
    assert!(matches!(wal.append(1, record(1)), Err(AppendError::NotWritten(_))));
    let id = wal.prepare().unwrap();
    wal.restart(id);
    for number in 1..8 {
        assert_eq!(wal.append(number, record(number)).unwrap(), 2 * BLOCK as u64);
        assert_eq!(wal.is_half_full(), number >= 4, "{number}");
    }
    assert!(matches!(wal.append(8, record(8)), Err(AppendError::NotWritten(_))), "the log is full");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 16 * BLOCK as u64);
    let (_, records) = open(&path, Some(id), 3);
    let expected: Vec<_> = (4..8).map(|number| (number, vec![number as u8; 5000])).collect();
    assert_eq!(records, expected);
    wal.restart(id);
    wal.append(8, record(8)).unwrap();
    let (_, records) = open(&path, Some(id), 7);
    assert_eq!(records, [(8, vec![8; 5000])]);
    let is_private =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(is_private & 0o777, 0o600);
}
