//! The directory of a file-set, DICOMDIR: the Basic Directory IOD (PS3.3 §F, PS3.10 §8.6).

use crate::dicom::attributes::{Attributes, Tag, Vr};
use crate::dicom::dicomdir::record_keys::RecordKey;
use crate::dicom::explicit::{IMPLEMENTATION_CLASS_UID, push_element, push_header, push_tag};
use crate::dicom::tags;
use crate::dicom::transfer_syntax;
use crate::dicom::uids;

mod record_keys;

/// Private Record UID of records for instances of which the standard knows no kind (PS3.3 §F.3.2.2).
const PRIVATE_RECORD: &str = "2.25.182791676989946688295138610626380437435";

/// Bytes of a record before its type: the item's header, the two offsets and the flag between them.
const RECORD_HEAD_BYTES: usize = 8 + 12 + 10 + 12;
/// Bytes of the header of a UL or US element, and of a sequence.
const SHORT_HEADER_BYTES: usize = 8;
const SEQUENCE_HEADER_BYTES: usize = 12;

/// The levels, from the root.
const PATIENT: u8 = 0;
const STUDY: u8 = 1;
const SERIES: u8 = 2;
const INSTANCE: u8 = 3;

/// A directory that is built in the order in which it is read: a patient, a study of the patient, a series of
/// the study, its instances, the next series. Takes some hundred bytes an instance.
#[derive(Debug, Default)]
pub struct DicomDir {
    /// The bytes after the head of each record.
    bytes: Vec<u8>,
    records: Vec<DirectoryRecord>,
}

#[derive(Debug)]
struct DirectoryRecord {
    level: u8,
    /// Bytes after the head.
    length: usize,
}

/// An instance that is to be listed.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryFile<'a> {
    /// The components of its path in the file-set: at most eight, each of 1 to 8 of `A-Z 0-9 _`.
    pub id: [&'a str; 3],
    /// SOP Class UID.
    pub sop_class: &'a str,
    /// SOP Instance UID.
    pub instance: &'a str,
    /// Transfer Syntax UID.
    pub transfer_syntax: &'a str,
    /// Whether it has Pixel Data.
    pub has_pixels: bool,
}

impl DirectoryFile<'_> {
    /// Whether its record needs attributes beyond Instance Number.
    pub fn needs_more_than_its_number(&self) -> bool {
        record_keys::of_instance(self.sop_class, self.has_pixels)
            .1
            .iter()
            .any(|key| key.tag() != tags::INSTANCE_NUMBER)
    }
}

/// Removes the attributes of an instance that no record of the instance, its series, study or patient needs:
/// a report has more of those than of the others.
pub fn keep_needed(sop_class: &str, has_pixels: bool, attributes: &mut Attributes) {
    record_keys::keep(record_keys::of_instance(sop_class, has_pixels).1, attributes);
}

impl DicomDir {
    /// Appends a patient.
    pub fn patient(&mut self, attributes: &Attributes) {
        self.record(PATIENT, "PATIENT", &[], record_keys::PATIENT, attributes, 1);
    }

    /// Appends a study of the last patient.
    pub fn study(&mut self, attributes: &Attributes) {
        self.record(STUDY, "STUDY", &[], record_keys::STUDY, attributes, 1);
    }

    /// Appends a series of the last study; `number` (from 1) is its Series Number if it has none.
    pub fn series(&mut self, attributes: &Attributes, number: usize) {
        self.record(SERIES, "SERIES", &[], record_keys::SERIES, attributes, number);
    }

    /// Appends an instance of the last series; `number` (from 1) is its Instance Number if it has none.
    pub fn instance(&mut self, file: &DirectoryFile<'_>, attributes: &Attributes, number: usize) {
        let (kind, keys) = record_keys::of_instance(file.sop_class, file.has_pixels);
        let id = file.id.join("\\");
        let mut own = vec![
            (tags::REFERENCED_FILE_ID, b"CS", id.as_str()),
            (tags::REFERENCED_SOP_CLASS_UID_IN_FILE, b"UI", file.sop_class),
            (tags::REFERENCED_SOP_INSTANCE_UID_IN_FILE, b"UI", file.instance),
            (tags::REFERENCED_TRANSFER_SYNTAX_UID_IN_FILE, b"UI", file.transfer_syntax),
        ];
        if kind == record_keys::PRIVATE {
            own.insert(0, (tags::PRIVATE_RECORD_UID, b"UI", PRIVATE_RECORD));
        }
        self.record(INSTANCE, kind, &own, keys, attributes, number);
    }

    fn record(
        &mut self,
        level: u8,
        kind: &str,
        own: &[(Tag, &[u8; 2], &str)],
        keys: &[RecordKey],
        attributes: &Attributes,
        number: usize,
    ) {
        let start = self.bytes.len();
        push_element(&mut self.bytes, tags::DIRECTORY_RECORD_TYPE, Vr(*b"CS"), kind.as_bytes());
        for (tag, vr, text) in own {
            push_element(&mut self.bytes, *tag, Vr(**vr), text.as_bytes());
        }
        record_keys::write(keys, attributes, number, &mut self.bytes);
        self.records.push(DirectoryRecord { level, length: self.bytes.len() - start });
    }

    /// The bytes of the file: `instance` is its SOP Instance UID, `file_set` its File-set ID, at most 16 of
    /// `A-Z 0-9 _`.
    ///
    /// Offsets have 32 bits: a directory of 4 GiB lists more than ten million instances.
    pub fn into_file(self, instance: &str, file_set: &str) -> Vec<u8> {
        let mut file = file_meta(instance);
        push_element(&mut file, tags::FILE_SET_ID, Vr(*b"CS"), file_set.as_bytes());
        // Three elements and the sequence's header stand before the first record.
        let before = 2 * (SHORT_HEADER_BYTES + 4) + (SHORT_HEADER_BYTES + 2) + SEQUENCE_HEADER_BYTES;
        let offsets = self.offsets(file.len() + before);
        let length: usize = self.records.iter().map(|record| RECORD_HEAD_BYTES + record.length).sum();
        let roots = || self.records.iter().zip(&offsets).filter(|(record, _)| record.level == PATIENT);
        push_number(
            &mut file,
            tags::OFFSET_OF_THE_FIRST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY,
            roots().next().map_or(0, |(_, offset)| *offset),
        );
        push_number(
            &mut file,
            tags::OFFSET_OF_THE_LAST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY,
            roots().next_back().map_or(0, |(_, offset)| *offset),
        );
        push_element(&mut file, tags::FILE_SET_CONSISTENCY_FLAG, Vr(*b"US"), &0_u16.to_le_bytes());
        push_header(&mut file, tags::DIRECTORY_RECORD_SEQUENCE, Vr(*b"SQ"), length as u32);
        let links = links(&self.records, &offsets);
        let mut rest = self.bytes.as_slice();
        for (record, (next, lower)) in self.records.iter().zip(links) {
            push_tag(&mut file, tags::ITEM);
            let length = RECORD_HEAD_BYTES - 8 + record.length;
            file.extend_from_slice(&(length as u32).to_le_bytes());
            push_number(&mut file, tags::OFFSET_OF_THE_NEXT_DIRECTORY_RECORD, next);
            push_element(&mut file, tags::RECORD_IN_USE_FLAG, Vr(*b"US"), &0xFFFF_u16.to_le_bytes());
            push_number(&mut file, tags::OFFSET_OF_REFERENCED_LOWER_LEVEL_DIRECTORY_ENTITY, lower);
            let (own, after) = rest.split_at(record.length);
            file.extend_from_slice(own);
            rest = after;
        }
        file
    }

    /// The offset of each record, in bytes from the start of the file.
    fn offsets(&self, first: usize) -> Vec<u32> {
        let mut offset = first;
        let place = |record: &DirectoryRecord| {
            let place = offset;
            offset += RECORD_HEAD_BYTES + record.length;
            place as u32
        };
        self.records.iter().map(place).collect()
    }
}

/// For each record the offsets of the next one of its level below the same parent, and of its first child; 0
/// for none.
fn links(records: &[DirectoryRecord], offsets: &[u32]) -> Vec<(u32, u32)> {
    let mut links = vec![(0, 0); records.len()];
    // For each level, the next record after the current one that has the same parent.
    let mut following = [0; INSTANCE as usize + 2];
    for (at, (record, offset)) in records.iter().zip(offsets).enumerate().rev() {
        let level = usize::from(record.level);
        links[at] = (following[level], following[level + 1]);
        following[level] = *offset;
        following[level + 1..].fill(0);
    }
    links
}

fn push_number(bytes: &mut Vec<u8>, tag: Tag, number: u32) {
    push_element(bytes, tag, Vr(*b"UL"), &number.to_le_bytes());
}

/// Preamble and file meta information (PS3.10 §7.1).
fn file_meta(instance: &str) -> Vec<u8> {
    let mut meta = Vec::new();
    push_element(&mut meta, tags::FILE_META_INFORMATION_VERSION, Vr(*b"OB"), &[0, 1]);
    for (tag, uid) in [
        (tags::MEDIA_STORAGE_SOP_CLASS_UID, uids::MEDIA_STORAGE_DIRECTORY_STORAGE),
        (tags::MEDIA_STORAGE_SOP_INSTANCE_UID, instance),
        (tags::TRANSFER_SYNTAX_UID, transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
        (tags::IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_CLASS_UID),
    ] {
        push_element(&mut meta, tag, Vr(*b"UI"), uid.as_bytes());
    }
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    push_number(&mut file, tags::FILE_META_INFORMATION_GROUP_LENGTH, meta.len() as u32);
    file.extend_from_slice(&meta);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::{Attribute, Value};
    use crate::dicom::element_reader::collect;
    use crate::dicom::scan::{ScanLimits, Scanner};

    const LIMITS: ScanLimits = ScanLimits {
        max_header_bytes: 1 << 20,
        max_sequence_depth: 4,
        max_elements: 1000,
        max_inflated_bytes: 0,
        max_deflate_ratio: 1,
    };

    fn instance(directory: &mut DicomDir, name: &str, number: usize) {
        let file = DirectoryFile {
            id: ["DICOM", "SE000001", name],
            sop_class: uids::CT_IMAGE_STORAGE,
            instance: "1.2.3",
            transfer_syntax: transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN,
            has_pixels: true,
        };
        assert!(!file.needs_more_than_its_number());
        directory.instance(&file, &Attributes::new(), number);
    }

    fn number(attributes: &Attributes, tag: u32) -> u32 {
        attributes[&Tag(tag)].first_text().unwrap().parse().unwrap()
    }

    #[test]
    fn offsets_lead_from_record_to_record() {
        let mut directory = DicomDir::default();
        directory.patient(&Attributes::from([(Tag(0x0010_0020), Attribute::text(b"LO", "P1"))]));
        directory.study(&Attributes::new());
        for series in 1..=2 {
            directory.series(&Attributes::new(), series);
            for number in 1..=3 {
                instance(&mut directory, &format!("IM{number:06}"), number);
            }
        }
        let file = directory.into_file("2.25.1", "TEST");
        let mut scanner = Scanner::new(LIMITS);
        scanner.push(&file).unwrap();
        let outline = scanner.finish().unwrap();
        assert!(outline.warnings.is_empty());
        let found = collect(&outline, |_| true);
        let records = &found[&tags::DIRECTORY_RECORD_SEQUENCE].values;
        // Where each item starts, told by what it is filled with.
        let starts: Vec<u32> = (0..file.len() as u32)
            .filter(|&at| file[at as usize..].starts_with(&[0xFE, 0xFF, 0x00, 0xE0]))
            .collect();
        assert_eq!((records.len(), starts.len()), (10, 10));
        assert_eq!(number(&found, 0x0004_1200), starts[0]);
        assert_eq!(number(&found, 0x0004_1202), starts[0]);
        let expected = [
            ("PATIENT", None, Some(1)),
            ("STUDY", None, Some(2)),
            ("SERIES", Some(6), Some(3)),
            ("IMAGE", Some(4), None),
            ("IMAGE", Some(5), None),
            ("IMAGE", None, None),
            ("SERIES", None, Some(7)),
            ("IMAGE", Some(8), None),
            ("IMAGE", Some(9), None),
            ("IMAGE", None, None),
        ];
        for (record, (kind, next, lower)) in records.iter().zip(expected) {
            let Value::Item(record) = record else { panic!("{record:?}") };
            assert_eq!(record[&tags::DIRECTORY_RECORD_TYPE].first_text(), Some(kind));
            let place = |at: Option<usize>| at.map_or(0, |at| starts[at]);
            assert_eq!(
                (number(record, 0x0004_1400), number(record, 0x0004_1420)),
                (place(next), place(lower))
            );
        }
    }

    #[test]
    fn a_directory_of_nothing_has_no_root() {
        let file = DicomDir::default().into_file("2.25.1", "TEST");
        let mut scanner = Scanner::new(LIMITS);
        scanner.push(&file).unwrap();
        let found = collect(&scanner.finish().unwrap(), |_| true);
        assert_eq!((number(&found, 0x0004_1200), number(&found, 0x0004_1202)), (0, 0));
    }
}
