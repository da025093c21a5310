//! Copies, held against the letters of PS3.15 Table E.1-1, attribute by attribute.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::dicom::attributes::Attribute;
use crate::dicom::build::DataSet;
use crate::dicom::dictionary;
use crate::dicom::explicit::{FrameOutput, Rewrite, RewriteSegment, swap_words};
use crate::dicom::scan::tests::scan;
use crate::dicom::scan::{EventKind, ScanEvent};
use crate::dicom::{explicit, transfer_syntax, uids};

const TABLE: &str = include_str!("attributes.csv");
const TYPES: &str = include_str!("types.csv");
const CT: &str = uids::CT_IMAGE_STORAGE;
/// An instance of a class that the table of IODs does not have, and that nothing forbids to copy.
const PRIVATE_CLASS: &str = "1.3.6.1.4.1.99999.1";
const DAYS: i64 = 24 * 60 * 60;

fn deidentifier(options: &[ProfileOption]) -> Deidentifier {
    Deidentifier::new(PseudonymSecret([7; 32]), options.iter().copied(), &Config::defaults().deidentification)
}

/// Writes the copy of a file.
fn copied(deidentifier: &Deidentifier, file: &[u8]) -> Result<Vec<u8>, &'static str> {
    let copy = deidentifier.apply(&scan(file).map_err(|_| "unreadable")?)?;
    let is_encapsulated = copy.outline.events.iter().any(|event| event.kind == EventKind::Encapsulated);
    let frames = if is_encapsulated { FrameOutput::Encapsulation } else { FrameOutput::Stored };
    let transfer_syntax = match is_encapsulated {
        true => copy.outline.transfer_syntax.clone(),
        false => transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
    };
    let rewrite = Rewrite { transfer_syntax, changes: copy.changes, frames };
    let plan = explicit::plan(&copy.outline, &rewrite).map_err(|_| "no plan")?;
    let mut written = Vec::new();
    for segment in plan.before.into_iter().chain(plan.after) {
        match segment {
            RewriteSegment::Bytes(bytes) => written.extend(bytes),
            RewriteSegment::Zeros(length) => written.resize(written.len() + length as usize, 0),
            RewriteSegment::Copy { offset, length, swap } => {
                let mut value = file[offset as usize..(offset + length) as usize].to_vec();
                swap_words(&mut value, swap);
                written.extend(value);
            }
        }
    }
    Ok(written)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// A row of the table: tag, the letters of the profile, and those of each option.
struct Row {
    tag: u32,
    basic: &'static str,
    options: BTreeMap<&'static str, &'static str>,
}

/// The rows of the table for single attributes that can stand in a data set.
fn rows() -> Vec<Row> {
    let mut lines = TABLE.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').skip(2).collect();
    let row = |line: &'static str| {
        let mut cells = line.split(',');
        let tag = u32::from_str_radix(cells.next()?, 16).ok()?;
        let basic = cells.next()?;
        // Commands and file meta information are no part of a data set.
        (tag >> 16 > 2).then(|| Row { tag, basic, options: columns.iter().copied().zip(cells).collect() })
    };
    lines.filter_map(row).collect()
}

fn column(option: ProfileOption) -> &'static str {
    match option {
        ProfileOption::RetainUids => "uids",
        ProfileOption::RetainDeviceIdentity => "device",
        ProfileOption::RetainInstitutionIdentity => "institution",
        ProfileOption::RetainPatientCharacteristics => "patient",
        ProfileOption::RetainFullDates => "full-dates",
        ProfileOption::RetainModifiedDates => "modified-dates",
        ProfileOption::RetainSafePrivate => "safe-private",
        ProfileOption::CleanDescriptors => "descriptors",
    }
}

/// The type of an attribute at the top of a CT image: 1, 2 or 3.
fn type_in_ct(tag: u32) -> u8 {
    let line = |number: &str| {
        let start = format!("{tag:08X},top,{number},");
        let iods = TYPES.lines().find_map(|line| line.strip_prefix(start.as_str()));
        iods.is_some_and(|iods| iods.split(' ').any(|iod| iod == "ct-image"))
    };
    if line("1") {
        1
    } else if line("2") {
        2
    } else {
        3
    }
}

/// The letter that counts: that of an option goes before that of the profile (PS3.15 §E.1.1), and of letters
/// of options the one that tells less. Titles of application entities are not cleaned.
fn letter(row: &Row, vr: Vr, options: &[ProfileOption], attribute_type: u8) -> char {
    let cells: Vec<(&str, &str)> = options
        .iter()
        .map(|option| column(*option))
        .map(|column| (column, row.options.get(column).copied().unwrap_or("")))
        .collect();
    let is_date = matches!(&vr.0, b"DA" | b"DT" | b"TM");
    let is_description = matches!(&vr.0, b"LO" | b"LT" | b"SH" | b"ST" | b"UC" | b"UT" | b"SQ");
    // What is neither a date nor a description, such as a time stamp in OB, cannot be cleaned.
    let cleans = is_description && cells.iter().any(|(_, cell)| *cell == "C");
    let modifies = is_date && cells.contains(&("modified-dates", "C"));
    let keeps = cells.iter().any(|(_, cell)| *cell == "K");
    let chosen = match row.basic {
        "X/Z" => ['Z', 'Z', 'X'],
        "X/D" => ['D', 'D', 'X'],
        "Z/D" => ['D', 'Z', 'Z'],
        "X/Z/D" => ['D', 'Z', 'X'],
        "X/Z/U*" => ['U', 'Z', 'X'],
        one => [one.chars().next().unwrap(); 3],
    };
    match () {
        () if modifies => 'C',
        () if keeps => 'K',
        () if cleans => 'C',
        () => chosen[usize::from(attribute_type) - 1],
    }
}

/// A value that identifies, for each VR.
fn value(vr: Vr) -> Vec<u8> {
    match &vr.0 {
        b"DA" => b"20200229".to_vec(),
        b"TM" => b"101112".to_vec(),
        b"DT" => b"20200229101112".to_vec(),
        b"AS" => b"045Y".to_vec(),
        b"DS" => b"1.5 ".to_vec(),
        b"IS" => b"37".to_vec(),
        b"UI" => b"1.2.3.4.5\0".to_vec(),
        b"SS" | b"US" => vec![1, 2],
        b"SL" | b"UL" | b"FL" | b"AT" => vec![1, 2, 3, 4],
        b"FD" => vec![1; 8],
        b"SH" | b"LO" | b"ST" | b"LT" | b"UT" | b"UC" => b"CHEST SECRET".to_vec(),
        _ => b"SECRET".to_vec(),
    }
}

fn vr_of(tag: u32) -> Vr {
    match dictionary::vr(Tag(tag), false) {
        vr if &vr.0 == b"UN" => Vr(*b"LO"),
        vr => vr,
    }
}

/// A data set with each attribute of the table.
fn with_every_attribute(sop_class: &str) -> Vec<u8> {
    let inside = || {
        DataSet::explicit().text(0x0008_1150, "UI", CT).text(0x0008_1155, "UI", "1.2.3.4.6").text(
            0x0010_0010,
            "PN",
            "SECRET^INSIDE",
        )
    };
    let mut set = DataSet::explicit();
    let mut rows: Vec<u32> = rows().iter().map(|row| row.tag).collect();
    rows.extend([0x0008_0016, 0x0028_0010, 0x0028_0301]);
    rows.sort_unstable();
    for tag in rows {
        let vr = vr_of(tag);
        set = match &vr.0 {
            _ if tag == 0x0008_0016 => set.text(tag, "UI", sop_class),
            _ if tag == 0x0028_0010 => set.us(tag, &[4]),
            _ if tag == 0x0028_0301 => set.text(tag, "CS", "NO"),
            b"SQ" => set.sequence(tag, &[inside()]),
            _ => set.element(tag, vr.as_str(), &value(vr)),
        };
    }
    set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)
}

/// The elements at the top: values of elements, and the events of sequences with the values in them.
fn top(outline: &Outline) -> BTreeMap<u32, (Vec<u8>, Vec<ScanEvent>)> {
    let mut found: BTreeMap<u32, (Vec<u8>, Vec<ScanEvent>)> = BTreeMap::new();
    let mut open: Vec<u32> = Vec::new();
    for event in &outline.events {
        let outermost = open.first().copied().unwrap_or(event.tag.0);
        let entry = found.entry(outermost).or_default();
        if let EventKind::Value(range) = &event.kind {
            entry.0.extend_from_slice(&outline.head[range.clone()]);
        }
        match event.kind {
            EventKind::Sequence => open.push(event.tag.0),
            EventKind::SequenceEnd => drop(open.pop()),
            _ => {}
        }
        entry.1.push(event.clone());
    }
    found
}

fn check(
    row: &Row,
    vr: Vr,
    letter: char,
    copy: Option<&(Vec<u8>, Vec<ScanEvent>)>,
    deidentifier: &Deidentifier,
) {
    let name = format!("({:08X}) {} {letter} {:?}", row.tag, vr.as_str(), deidentifier.options);
    let original = value(vr);
    let is_sequence = &vr.0 == b"SQ";
    let bytes = copy.map(|(bytes, _)| bytes.as_slice());
    let items =
        copy.map_or(0, |(_, events)| events.iter().filter(|event| event.kind == EventKind::Item).count());
    let keeps_uids = deidentifier.has(ProfileOption::RetainUids);
    match letter {
        'X' => assert_eq!(copy, None, "{name}"),
        'Z' if is_sequence => assert_eq!((copy.is_some(), items), (true, 0), "{name}"),
        'Z' => assert_eq!(bytes, Some(&[][..]), "{name}"),
        'D' if is_sequence => {
            assert_eq!(items, 1, "{name}");
            assert!(!holds(bytes.unwrap(), "SECRET"), "{name}");
            assert!(!holds(bytes.unwrap(), "1.2.3.4.6") || keeps_uids, "{name}");
        }
        'D' => {
            let bytes = bytes.unwrap_or_else(|| panic!("{name}"));
            assert!(!bytes.is_empty() && bytes != original && !holds(bytes, "SECRET"), "{name}");
        }
        'K' | 'U' | 'C' if is_sequence => {
            assert_eq!(items, 1, "{name}");
            let bytes = bytes.unwrap();
            assert!(!holds(bytes, "SECRET") && holds(bytes, CT), "{name}");
            assert_eq!(holds(bytes, "1.2.3.4.6"), keeps_uids, "{name}");
            assert_eq!(holds(bytes, &deidentifier.secret.uid("1.2.3.4.6")), !keeps_uids, "{name}");
        }
        'K' => assert_eq!(bytes, Some(original.as_slice()), "{name}"),
        'U' => assert_eq!(bytes, Some(deidentifier.secret.uid("1.2.3.4.5").as_bytes()), "{name}"),
        'C' => match &vr.0 {
            b"DA" | b"DT" => {
                let date = std::str::from_utf8(bytes.unwrap()).unwrap();
                assert_eq!(date.len(), original.len(), "{name}");
                assert_eq!(&date.as_bytes()[8..], &original[8..], "{name}");
                assert!(date < "20190301", "{name}: {date} is a year earlier at least");
            }
            b"TM" => assert_eq!(bytes, Some(original.as_slice()), "{name}"),
            _ => assert_eq!(bytes, Some(b"CHEST".as_slice()), "{name}"),
        },
        other => panic!("{name}: {other}"),
    }
}

#[test]
fn every_attribute_of_the_table_has_its_action_with_every_option() {
    let rows = rows();
    assert!(rows.len() > 600);
    let mut sets: Vec<Vec<ProfileOption>> = ProfileOption::ALL.iter().map(|option| vec![*option]).collect();
    sets.push(Vec::new());
    sets.push(vec![ProfileOption::RetainModifiedDates, ProfileOption::RetainDeviceIdentity]);
    sets.push(ProfileOption::ALL.into_iter().filter(|one| *one != ProfileOption::RetainFullDates).collect());
    for sop_class in [CT, PRIVATE_CLASS] {
        let outline = scan(&with_every_attribute(sop_class)).unwrap();
        for options in &sets {
            let deidentifier = deidentifier(options);
            let copy = top(&deidentifier.apply(&outline).unwrap().outline);
            for row in &rows {
                let vr = vr_of(row.tag);
                let attribute_type = if sop_class == CT { type_in_ct(row.tag) } else { 1 };
                let letter = letter(row, vr, options, attribute_type);
                check(row, vr, letter, copy.get(&row.tag), &deidentifier);
            }
        }
    }
}

#[test]
fn what_was_done_is_said() {
    let file = with_every_attribute(CT);
    for (options, dates, codes) in [
        (&[][..], "REMOVED", &["113100"][..]),
        (&[ProfileOption::RetainFullDates], "UNMODIFIED", &["113100", "113106"]),
        (
            &[ProfileOption::RetainModifiedDates, ProfileOption::RetainUids],
            "MODIFIED",
            &["113100", "113107", "113110"],
        ),
    ] {
        let written = copied(&deidentifier(options), &file).unwrap();
        let outline = scan(&written).unwrap();
        assert_eq!(outline.warnings, []);
        let found = element_reader::collect(&outline, |_| true);
        let text = |tag: Tag| found.get(&tag).and_then(Attribute::first_text).unwrap_or("");
        assert_eq!(text(tags::PATIENT_IDENTITY_REMOVED), "YES");
        assert!(text(tags::DEIDENTIFICATION_METHOD).starts_with("Cuspid"));
        assert_eq!(text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED), dates);
        let method = format!("{:?}", found[&tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE]);
        for code in ["113100", "113105", "113106", "113107", "113110"] {
            assert_eq!(method.contains(code), codes.contains(&code), "{code}");
        }
        assert_eq!(text(tags::PATIENT_NAME), text(tags::PATIENT_ID));
        assert!(text(tags::PATIENT_ID).starts_with("ANON-"));
    }
}

#[test]
fn every_encoding_gives_the_same_copy() {
    let build = |set: DataSet| {
        let item = set.clone().text(0x0008_1155, "UI", "1.2.3").text(0x0010_0010, "PN", "SECRET");
        set.text(0x0008_0016, "UI", CT)
            .text(0x0008_0018, "UI", "1.2.9")
            .text(0x0008_0020, "DA", "20200101")
            .sequence(0x0008_2112, &[item])
            .text(0x0009_0010, "LO", "SECRET CREATOR")
            .text(0x0009_1001, "UN", "SECRET")
            .text(0x0010_0010, "PN", "SECRET")
            .text(0x0010_0020, "LO", "P1")
            .us(0x0028_0010, &[20])
            .us(0x0028_0103, &[0])
    };
    let deidentifier = deidentifier(&[ProfileOption::RetainUids]);
    let mut copies = BTreeSet::new();
    for (set, syntax) in [
        (build(DataSet::explicit()), transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
        (build(DataSet::implicit()), transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN),
        (build(DataSet::big_endian()), transfer_syntax::EXPLICIT_VR_BIG_ENDIAN),
    ] {
        let copy = copied(&deidentifier, &set.file(syntax)).unwrap();
        assert!(!holds(&copy, "SECRET"), "{syntax}");
        copies.insert(copy);
    }
    assert_eq!(copies.len(), 1);
}

#[test]
fn names_hide_in_no_corner() {
    let hidden = DataSet::explicit()
        .text(0x0010_0010, "PN", "SECRET^1")
        .text(0x0008_0104, "LO", "kept")
        .text(0x0019_0010, "LO", "SECRET 2")
        .text(0x0019_1001, "LO", "SECRET 3");
    let set = DataSet::explicit()
        .text(0x0008_0016, "UI", CT)
        .text(0x0008_0018, "UI", "1.2.9")
        .sequence(0x0008_2218, std::slice::from_ref(&hidden))
        .delimited_sequence(0x0009_1010, "SQ", std::slice::from_ref(&hidden))
        .text(0x0008_0012, "LO", "SECRET")
        // A name in a date, in numbers, in a UID, as UN, and under a tag that nobody knows.
        .text(0x0008_0022, "DA", "SECRET")
        .text(0x0008_0024, "UN", "SECRET")
        .text(0x0010_0010, "UN", "SECRET")
        .text(0x0018_0050, "DS", "SECRET")
        .text(0x0018_0060, "LO", "SECRET")
        .text(0x0020_0013, "IS", "1 SECRET")
        .text(0x0020_0052, "UI", "SECRET")
        .text(0x0028_0004, "PN", "SECRET")
        .text(0x0029_1001, "PN", "SECRET")
        .text(0x0040_E010, "UR", "http://SECRET")
        .text(0x5000_2500, "LO", "SECRET")
        .text(0x5400_0008, "LO", "SECRET")
        .text(0x6000_0022, "LO", "SECRET")
        .element(0x7FE0_0010, "OW", &[9; 4])
        .element(0xFFFC_FFFC, "OB", b"SECRET");
    let mut file = set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
    file[..6].copy_from_slice(b"SECRET");
    for options in [
        &[][..],
        &ProfileOption::ALL,
        &[ProfileOption::RetainModifiedDates, ProfileOption::RetainSafePrivate],
    ] {
        let copy = copied(&deidentifier(options), &file).unwrap();
        assert!(!holds(&copy, "SECRET"), "{options:?}");
        assert!(holds(&copy, "kept") && copy.ends_with(&[9; 4]));
    }
}

#[test]
fn only_safe_private_attributes_stay_with_their_creator() {
    let item = DataSet::explicit().text(0x0019_0010, "LO", "ACME").text(0x0019_1001, "DS", "5");
    let set = DataSet::explicit()
        .text(0x0008_0016, "UI", CT)
        .sequence(0x0008_2218, &[item])
        .text(0x0019_0010, "LO", "SIEMENS MR HEADER")
        .text(0x0019_0011, "LO", "GEMS_ACQU_01")
        .text(0x0019_0012, "LO", "ACME")
        .text(0x0019_100C, "IS", "31337")
        .text(0x0019_100F, "LO", "SECRET")
        .text(0x0019_1123, "LO", "SECRET")
        .text(0x0019_1124, "DS", "SECRET")
        .text(0x0019_1127, "UN", "SECRET")
        .text(0x0019_1201, "DS", "7");
    let file = set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
    let none = copied(&deidentifier(&[]), &file).unwrap();
    assert!(!holds(&none, "SIEMENS") && !holds(&none, "31337"));
    let mut settings = Config::defaults().deidentification;
    settings.safe_private = vec!["0019:01:ACME".to_owned().try_into().unwrap()];
    let options = [ProfileOption::RetainSafePrivate];
    let copy = copied(&Deidentifier::new(PseudonymSecret([1; 32]), options, &settings), &file).unwrap();
    assert!(holds(&copy, "SIEMENS MR HEADER") && holds(&copy, "31337"));
    assert_eq!(memchr::memmem::find_iter(&copy, "ACME").count(), 2);
    assert!(!holds(&copy, "GEMS_ACQU_01") && !holds(&copy, "SECRET"));
}

#[test]
fn references_follow_the_instances_that_they_name() {
    let deidentifier = deidentifier(&[]);
    let image = |uid: &str, other: &str| {
        let reference = DataSet::explicit().text(0x0008_1150, "UI", CT).text(0x0008_1155, "UI", other);
        DataSet::explicit()
            .text(0x0008_0016, "UI", PRIVATE_CLASS)
            .text(0x0008_0018, "UI", uid)
            .sequence(0x0008_1140, &[reference])
            .text(0x0010_0020, "LO", "P1")
            .text(0x0020_000D, "UI", "1.2")
            .text(0x0020_0052, "UI", "1.2.840.10008.1.4.1.1")
            .file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)
    };
    let (one, other) = (deidentifier.uid("1.2.1"), deidentifier.uid("1.2.2"));
    for (file, own, referenced) in
        [(image("1.2.1", "1.2.2"), &one, &other), (image("1.2.2", "1.2.1"), &other, &one)]
    {
        let copy = copied(&deidentifier, &file).unwrap();
        let outline = scan(&copy).unwrap();
        let found = element_reader::collect(&outline, |_| true);
        assert_eq!(found[&tags::SOP_INSTANCE_UID].first_text(), Some(own.as_str()));
        assert_eq!(found[&tags::STUDY_INSTANCE_UID].first_text(), Some(deidentifier.uid("1.2").as_str()));
        // A frame of reference of the standard is no object of a patient.
        assert_eq!(found[&tags::FRAME_OF_REFERENCE_UID].first_text(), Some("1.2.840.10008.1.4.1.1"));
        assert!(format!("{:?}", found[&Tag(0x0008_1140)]).contains(referenced.as_str()));
        let meta = outline.file_meta.iter().find(|event| event.tag == tags::MEDIA_STORAGE_SOP_INSTANCE_UID);
        let EventKind::Value(range) = &meta.unwrap().kind else { panic!() };
        assert_eq!(&outline.head[range.clone()][..own.len()], own.as_bytes());
    }
}

#[test]
fn frames_stay_as_they_are() {
    let frame =
        [0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8, 0, 1, 0, 1, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 1];
    let set = DataSet::explicit().text(0x0008_0016, "UI", CT).text(0x0010_0010, "PN", "SECRET");
    let file = set.encapsulated(&[&[], &frame]).file(transfer_syntax::JPEG_BASELINE8_BIT);
    let written = copied(&deidentifier(&[]), &file).unwrap();
    let outline = scan(&written).unwrap();
    assert_eq!(
        (outline.transfer_syntax.as_str(), outline.warnings),
        (transfer_syntax::JPEG_BASELINE8_BIT, vec![])
    );
    assert_eq!(memchr::memmem::find_iter(&written, &frame).count(), 1);
}

#[test]
fn text_that_the_table_does_not_name_is_cleaned() {
    let set = DataSet::explicit()
        .text(0x0008_0016, "UI", CT)
        .text(0x0008_0070, "LO", "Acme")
        .text(0x0010_0033, "LO", "SECRET Showa 45")
        .text(0x0018_1003, "LO", "SECRET")
        .text(0x0018_1210, "SH", "B30f")
        .text(0x0040_0400, "LT", "SECRET")
        .text(0x0040_1006, "SH", "SECRET")
        .text(0x0040_A160, "UT", "SECRET")
        .text(0x0040_A992, "ST", "http://SECRET.example")
        .sequence(
            0x0062_0002,
            &[DataSet::explicit().text(0x0062_0005, "LO", "SECRET chest").text(0x0062_0006, "ST", "SECRET")],
        );
    let copy = copied(&deidentifier(&[]), &set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap();
    assert!(!holds(&copy, "SECRET"));
    let found = element_reader::collect(&scan(&copy).unwrap(), |_| true);
    let text = |tag| found[&Tag(tag)].first_text();
    assert_eq!([text(0x0008_0070), text(0x0018_1210)], [Some("Acme"), Some("B30f")]);
    assert_eq!([text(0x0010_0033), text(0x0018_1003)], [Some("ANONYMIZED"); 2]);
    assert!(holds(&copy, "chest"), "known words stay");
}

#[test]
fn values_of_another_kind_than_the_dictionary_has_are_left_out() {
    let large = "SECRET ".repeat(20_000);
    for elements in [
        // Sequences that were not sent as such.
        &[(0x0040_B020, "OB", "SECRET")][..],
        &[(0x5200_9229, "UN", "SECRET")],
        &[(0x0040_B020, "OB", &large)],
        // Large values in the place of small ones.
        &[(0x0018_0060, "UN", &large)],
        &[(0x0020_0013, "OB", &large)],
        &[(0x0028_0030, "OW", &large)],
        // What goes with pixel data, and retired groups.
        &[(0x7FE0_0003, "OB", "SECRET")],
        &[(0x7F02_0010, "OB", "SECRET")],
        &[(0x1010_0000, "OB", "SECRET"), (0x1010_0010, "OB", "SECRET")],
    ] {
        let set = DataSet::explicit().text(0x0008_0016, "UI", CT);
        let set = elements.iter().fold(set, |set, (tag, vr, value)| set.element(*tag, vr, value.as_bytes()));
        let file = set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        assert!(holds(&file, "SECRET"));
        assert!(!holds(&copied(&deidentifier(&[]), &file).unwrap(), "SECRET"), "{:08X}", elements[0].0);
    }
}

#[test]
fn uids_that_only_look_like_the_standards_are_replaced() {
    let own = "1.2.840.10008.9.19700203";
    let set = DataSet::explicit().text(0x0008_0016, "UI", CT).text(0x0008_0018, "UI", own);
    let set = set.text(0x0020_000D, "UI", own).text(0x0020_000E, "UI", "1.2.840.10008.1.5.19700203");
    let deidentifier = deidentifier(&[]);
    let copy = copied(&deidentifier, &set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap();
    assert!(!holds(&copy, "19700203"));
    let found = element_reader::collect(&scan(&copy).unwrap(), |_| true);
    assert_eq!(found[&tags::SOP_INSTANCE_UID].first_text(), Some(deidentifier.uid(own).as_str()));
}

#[test]
fn dates_of_a_patient_move_together() {
    let deidentifier = deidentifier(&[ProfileOption::RetainModifiedDates]);
    let day = |patient: &str, date: &str| {
        let set = DataSet::explicit().text(0x0008_0016, "UI", CT).text(0x0008_0020, "DA", date).text(
            0x0010_0020,
            "LO",
            patient,
        );
        let copy = copied(&deidentifier, &set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap();
        let found = element_reader::collect(&scan(&copy).unwrap(), |_| true);
        let text = found[&tags::STUDY_DATE].first_text().unwrap().to_owned();
        let format = time::macros::format_description!("[year][month][day]");
        time::Date::parse(&text, format).unwrap().midnight().assume_utc().unix_timestamp() / DAYS
    };
    assert_eq!(day("P1", "20240301") - day("P1", "20240201"), 29);
    assert_ne!(day("P1", "20240301"), day("P2", "20240301"));
}

/// An element with a mark of a name, or a sequence with others.
#[derive(Debug, Clone)]
enum Planted {
    Name(u32, &'static str),
    Items(u32, Vec<Vec<Planted>>),
}

fn planted(set: DataSet, mut elements: Vec<Planted>) -> DataSet {
    elements.sort_by_key(|element| match element {
        Planted::Name(tag, _) | Planted::Items(tag, _) => *tag,
    });
    elements.into_iter().fold(set, |set, element| match element {
        Planted::Name(tag, vr) => set.text(tag, vr, "SECRET^NAME"),
        Planted::Items(tag, items) => {
            let items: Vec<_> = items.into_iter().map(|item| planted(DataSet::explicit(), item)).collect();
            set.delimited_sequence(tag, "SQ", &items)
        }
    })
}

fn names() -> impl Strategy<Value = Planted> {
    let tags = proptest::sample::select(vec![
        0x0008_0090,
        0x0008_1048,
        0x0008_1050,
        0x0008_1060,
        0x0008_1070,
        0x0009_1001,
        0x0010_0010,
        0x0010_1001,
        0x0010_1005,
        0x0010_1060,
        0x0029_1010,
        0x0032_1032,
        0x0040_0006,
        0x0040_A123,
        0x0070_0084,
        0x3006_00A6,
        0x4008_0114,
        0x0008_9999,
        0x0012_0099,
    ]);
    (tags, proptest::sample::select(vec!["PN", "UN", "LO"])).prop_map(|(tag, vr)| Planted::Name(tag, vr))
}

fn elements() -> impl Strategy<Value = Vec<Planted>> {
    let sequences = vec![
        0x0008_1110,
        0x0008_1140,
        0x0008_2112,
        0x0008_2218,
        0x0009_1002,
        0x0040_0275,
        0x0040_0555,
        0x0054_0016,
        0x5200_9229,
        0x5200_9230,
        0x0088_0200,
    ];
    let leaf = proptest::collection::vec(names(), 0..4);
    leaf.prop_recursive(4, 40, 4, move |inner| {
        let sequence = (proptest::sample::select(sequences.clone()), proptest::collection::vec(inner, 0..3));
        let sequence = sequence.prop_map(|(tag, items)| Planted::Items(tag, items));
        proptest::collection::vec(prop_oneof![names(), sequence], 0..5)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_name_is_left_wherever_it_stood(elements in elements(), options in 0_usize..=ProfileOption::ALL.len()) {
        let set = DataSet::explicit().text(0x0008_0016, "UI", CT);
        let file = planted(set, elements).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        let options = if options == 8 { ProfileOption::ALL.to_vec() } else { vec![ProfileOption::ALL[options]] };
        if let Ok(copy) = copied(&deidentifier(&options), &file) {
            prop_assert!(!holds(&copy, "SECRET"));
            prop_assert!(scan(&copy).is_ok());
        }
    }

    #[test]
    fn hostile_bytes_never_panic(place in any::<prop::sample::Index>(), bytes in any::<[u8; 4]>(), cut in any::<prop::sample::Index>()) {
        let mut file = with_every_attribute(CT);
        let place = 132 + place.index(file.len() - 136);
        file[place..place + 4].copy_from_slice(&bytes);
        for length in [file.len(), cut.index(file.len())] {
            if let Ok(outline) = scan(&file[..length]) {
                for options in [&[][..], &ProfileOption::ALL] {
                    let _ = deidentifier(options).apply(&outline);
                }
            }
        }
    }
}
