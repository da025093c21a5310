//! Reads a scanned instance into everything that the archive needs: no later step parses DICOM.

use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::dicom::element_reader;
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::file_header::{self, FileHeader};
use crate::dicom::frames::{self, FrameTable};
use crate::dicom::json_metadata;
use crate::dicom::layout::Layout;
use crate::dicom::metadata::{self, Metadata};
use crate::dicom::pixel_layout;
use crate::dicom::scan::{EventKind, Outline};
use crate::dicom::tags;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid, Uid};
use crate::dicom::uids;

/// An instance as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedInstance {
    /// Study Instance UID.
    pub study: StudyUid,
    /// Series Instance UID.
    pub series: SeriesUid,
    /// SOP Instance UID.
    pub instance: InstanceUid,
    /// SOP Class UID.
    pub sop_class: String,
    /// The transfer syntax that the bytes are in: as declared, or as recognised where it is missing.
    pub transfer_syntax: String,
    /// Whether the encoding breaks a rule in a place (see [`Outline::is_irregular`]).
    pub is_irregular: bool,
    /// The file header to give in place of the stored one, if the stored one is missing or wrong.
    pub file_header: Option<FileHeader>,
    /// The attributes that the index keeps, of all levels, text in Unicode.
    pub attributes: Attributes,
    /// The DICOM JSON metadata.
    pub metadata: Metadata,
    /// The places of frames and bulk values.
    pub layout: Layout,
    /// The faults that did not prevent reading.
    pub warnings: Vec<Warning>,
}

/// Attributes that are read besides the ones to keep.
const NEEDED: [Tag; 15] = [
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::STUDY_INSTANCE_UID,
    tags::SERIES_INSTANCE_UID,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::PLANAR_CONFIGURATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::LOSSY_IMAGE_COMPRESSION,
];

/// Reads a scanned object. `indexed` are the tags of the attributes to keep, in ascending order.
///
/// # Errors
/// [`Failure::MediaDirectory`] for a DICOMDIR, [`Failure::NonPatientObject`] for what belongs to no study,
/// [`Failure::NoIdentity`] if a UID that identifies it is missing; all else that cannot be read is a warning.
pub fn read(outline: &Outline, indexed: &[Tag]) -> Result<ParsedInstance, Failure> {
    let is_indexed = |tag: &Tag| indexed.binary_search(tag).is_ok();
    let mut attributes = element_reader::collect(outline, |tag| is_indexed(&tag) || NEEDED.contains(&tag));
    let meta = |tag| file_meta_text(outline, tag);
    if meta(tags::MEDIA_STORAGE_SOP_CLASS_UID) == Some(uids::MEDIA_STORAGE_DIRECTORY_STORAGE) {
        return Err(Failure::MediaDirectory);
    }
    let class = attributes.get(&tags::SOP_CLASS_UID).and_then(Attribute::first_text);
    if class.is_some_and(uids::is_non_patient_object) {
        return Err(Failure::NonPatientObject);
    }
    let study: StudyUid = identity(&attributes, tags::STUDY_INSTANCE_UID, "StudyInstanceUID")?;
    let series: SeriesUid = identity(&attributes, tags::SERIES_INSTANCE_UID, "SeriesInstanceUID")?;
    let instance: InstanceUid = identity(&attributes, tags::SOP_INSTANCE_UID, "SOPInstanceUID")?;
    let sop_class: InstanceUid = identity(&attributes, tags::SOP_CLASS_UID, "SOPClassUID")?;
    let sop_class = sop_class.to_string();

    let path = format!("/studies/{study}/series/{series}/instances/{instance}");
    let document = json_metadata::write(outline, &path);
    let mut warnings = [outline.warnings.as_slice(), &document.warnings].concat();
    let file_header = file_header::replacement(outline, &sop_class, instance.as_str(), &mut warnings);
    let mut pixels = pixel_layout::read(outline, &attributes, &mut warnings);
    let frames = match &mut pixels {
        Some(pixels) => {
            let (frames, warning) = frames::locate(outline, pixels);
            warnings.extend(warning);
            // The declared number may be much larger: no loop may count up to it.
            pixels.number_of_frames = frames.count();
            frames
        }
        None => FrameTable::None,
    };
    attributes.retain(|tag, _| is_indexed(tag));
    Ok(ParsedInstance {
        study,
        series,
        instance,
        sop_class,
        transfer_syntax: outline.transfer_syntax.clone(),
        is_irregular: outline.is_irregular,
        file_header,
        attributes,
        metadata: metadata::compress(&document.pieces),
        layout: Layout { pixels, frames, bulk: document.bulk },
        warnings,
    })
}

/// The UID in attribute `tag` of the data set. The file meta information is no substitute: what is stored by
/// its UIDs could not be found by the attribute.
fn identity<Kind>(attributes: &Attributes, tag: Tag, name: &'static str) -> Result<Uid<Kind>, Failure> {
    let sent = attributes.get(&tag).and_then(Attribute::first_text);
    sent.and_then(|text| text.parse().ok()).ok_or(Failure::NoIdentity { tag, name })
}

/// The SOP Class UID and SOP Instance UID of an instance that cannot be read: those of the data set as far as
/// it was scanned, else those of the file header.
pub fn reference(outline: &Outline) -> Option<(String, InstanceUid)> {
    const NAMES: [(Tag, Tag); 2] = [
        (tags::SOP_CLASS_UID, tags::MEDIA_STORAGE_SOP_CLASS_UID),
        (tags::SOP_INSTANCE_UID, tags::MEDIA_STORAGE_SOP_INSTANCE_UID),
    ];
    let attributes = element_reader::collect(outline, |tag| NAMES.iter().any(|(known, _)| *known == tag));
    let [class, instance] = NAMES.map(|(tag, in_header)| {
        let text = attributes.get(&tag).and_then(Attribute::first_text).map(str::trim);
        text.filter(|text| !text.is_empty()).or_else(|| file_meta_text(outline, in_header))
    });
    // A UID of a class has the form of one of an instance.
    let class: InstanceUid = class?.parse().ok()?;
    Some((class.to_string(), instance?.parse().ok()?))
}

fn file_meta_text(outline: &Outline, tag: Tag) -> Option<&str> {
    let event = outline.file_meta.iter().find(|event| event.tag == tag)?;
    let EventKind::Value(range) = &event.kind else { return None };
    let text = std::str::from_utf8(outline.head.get(range.clone())?).ok()?;
    Some(text.trim_matches(['\0', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::{Value, Vr};
    use crate::dicom::build::DataSet;
    use crate::dicom::layout::BulkValue;
    use crate::dicom::scan::{ScanLimits, Scanner};
    use crate::dicom::transfer_syntax;

    fn scan(file: &[u8]) -> Outline {
        let limits = ScanLimits {
            max_header_bytes: 1 << 20,
            max_sequence_depth: 1024,
            max_elements: 100_000,
            max_inflated_bytes: 1 << 24,
            max_deflate_ratio: 1000,
        };
        let mut scanner = Scanner::new(limits);
        scanner.push(file).unwrap();
        scanner.finish().unwrap()
    }

    fn read_file(file: &[u8], indexed: &[Tag]) -> ParsedInstance {
        read(&scan(file), indexed).unwrap()
    }

    fn identified(data_set: DataSet) -> DataSet {
        data_set.text(0x0008_0016, "UI", uids::CT_IMAGE_STORAGE).text(0x0008_0018, "UI", "1.2.3")
    }

    fn in_series(data_set: DataSet) -> DataSet {
        data_set.text(0x0020_000D, "UI", "1.2").text(0x0020_000E, "UI", "1.2.1")
    }

    fn json(instance: &ParsedInstance) -> String {
        let mut text = Vec::new();
        instance.metadata.write_text("http://pacs", &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn all_that_the_archive_needs_is_read() {
        let step = DataSet::explicit().text(0x0040_0009, "SH", "S1");
        let data_set = identified(DataSet::explicit().element(0x0008_0005, "CS", b"ISO_IR 100"))
            .element(0x0010_0010, "PN", b"B\xE9^A")
            .text(0x0010_0020, "UN", "P1");
        let data_set = in_series(data_set)
            .us(0x0028_0002, &[1])
            .text(0x0028_0004, "CS", "MONOCHROME2")
            .us(0x0028_0010, &[2])
            .us(0x0028_0011, &[3])
            .us(0x0028_0100, &[16])
            .us(0x0028_0101, &[12])
            .us(0x0028_0102, &[11])
            .us(0x0028_0103, &[1])
            .sequence(0x0040_0275, &[step, DataSet::explicit()])
            .element(0x7FE0_0010, "OW", &[7; 12]);
        let file = data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        let instance = read_file(&file, &[Tag(0x0010_0010), Tag(0x0010_0020), Tag(0x0040_0275)]);

        assert_eq!(instance.attributes.len(), 3);
        assert_eq!(instance.attributes[&Tag(0x0010_0010)].first_text(), Some("Bé^A"));
        assert_eq!(instance.attributes[&Tag(0x0010_0020)], Attribute::text(b"LO", "P1"));
        let item = Attributes::from([(Tag(0x0040_0009), Attribute::text(b"SH", "S1"))]);
        let items = vec![Value::Item(item), Value::Item(Attributes::new())];
        assert_eq!(instance.attributes[&Tag(0x0040_0275)].values, items);
        assert_eq!(instance.warnings, []);

        let pixels = instance.layout.pixels.clone().unwrap();
        assert_eq!((pixels.rows, pixels.columns, pixels.bits_stored, pixels.is_signed), (2, 3, 12, true));
        let offset = file.len() as u64 - 12;
        assert_eq!(instance.layout.frames.span(0).unwrap().range, offset..offset + 12);
        let vr = Vr(*b"OW");
        assert_eq!(instance.layout.bulk, [BulkValue { path: "7FE00010".into(), vr, offset, length: 12 }]);
        assert_eq!(
            json(&instance),
            concat!(
                r#"{"00080005":{"vr":"CS","Value":["ISO_IR 192"]},"#,
                r#""00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"#,
                r#""00080018":{"vr":"UI","Value":["1.2.3"]},"#,
                r#""00083002":{"vr":"UI","Value":["1.2.840.10008.1.2.1"]},"#,
                r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"Bé^A"}]},"#,
                r#""00100020":{"vr":"LO","Value":["P1"]},"#,
                r#""0020000D":{"vr":"UI","Value":["1.2"]},"0020000E":{"vr":"UI","Value":["1.2.1"]},"#,
                r#""00280002":{"vr":"US","Value":[1]},"00280004":{"vr":"CS","Value":["MONOCHROME2"]},"#,
                r#""00280010":{"vr":"US","Value":[2]},"00280011":{"vr":"US","Value":[3]},"#,
                r#""00280100":{"vr":"US","Value":[16]},"00280101":{"vr":"US","Value":[12]},"#,
                r#""00280102":{"vr":"US","Value":[11]},"00280103":{"vr":"US","Value":[1]},"#,
                r#""00400275":{"vr":"SQ","Value":[{"00400009":{"vr":"SH","Value":["S1"]}},{}]},"#,
                r#""7FE00010":{"vr":"OW","BulkDataURI":"http://pacs/studies/1.2/series/1.2.1/instances/1.2.3"#,
                r#"/bulkdata/7FE00010"}}"#,
            )
        );
    }

    #[test]
    fn what_is_wrong_costs_a_warning_and_leaves_valid_json() {
        let nested = DataSet::explicit().element(0x0008_0005, "CS", b"ISO_IR 192");
        let nested = nested.text(0x0008_0104, "LO", "Ж");
        let data_set = identified(DataSet::explicit())
            .element(0x0008_0005, "CS", b"KLINGON")
            .element(0x0008_0070, "LO", b"\xE9")
            .text(0x0008_0070, "LO", "again")
            .delimited_sequence(0x0008_1032, "SQ", &[nested])
            .element(0x0010_0010, "PN", b"\xE9")
            .element(0x0018_0050, "DS", b"1,5 ");
        let data_set =
            in_series(data_set).element(0x0028_0103, "US", &[]).element(0x0028_1050, "FD", &[1, 2]);
        let instance = read_file(&data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN), &[]);
        let text = json(&instance);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        for expected in [
            r#""00080070":{"vr":"LO","Value":["é"]}"#,
            r#""00080104":{"vr":"LO","Value":["Ж"]}"#,
            r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"é"}]}"#,
            r#""00180050":{"vr":"DS","Value":["1,5"]}"#,
            r#""00280103":{"vr":"US"}"#,
            r#""00281050":{"vr":"UN","InlineBinary":"AQI="}"#,
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert_eq!(text.matches("00080070").count(), 1);
        let warned: Vec<u32> = instance.warnings.iter().map(|warning| warning.tag.0).collect();
        for tag in [0x0008_0005, 0x0008_0070, 0x0010_0010, 0x0018_0050, 0x0028_1050] {
            assert!(warned.contains(&tag), "{tag:08X} in {warned:X?}");
        }
    }

    #[test]
    fn a_thousand_sequences_in_each_other_are_in_the_metadata_and_indexed_in_part() {
        const DEPTH: usize = 1000;
        let mut nested = DataSet::explicit().text(0x0040_0009, "SH", "inmost");
        for depth in 0..DEPTH {
            nested = match depth % 2 {
                0 => DataSet::explicit().sequence(0x0040_0275, &[nested]),
                _ => DataSet::explicit().delimited_sequence(0x0040_0275, "SQ", &[nested]),
            };
        }
        let data_set = in_series(identified(DataSet::explicit())).raw(&nested.bytes());
        let file = data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        let instance = read_file(&file, &[Tag(0x0040_0275)]);
        let text = json(&instance);
        assert_eq!(text.matches("00400275").count(), DEPTH);
        assert!(text.contains(r#""00400009":{"vr":"SH","Value":["inmost"]}"#));
        let mut depth = 0;
        let mut item = Some(&instance.attributes);
        while let Some(sequence) = item.and_then(|item| item.get(&Tag(0x0040_0275))) {
            depth += 1;
            item = sequence.values.first().and_then(|value| match value {
                Value::Item(item) => Some(item),
                _ => None,
            });
        }
        assert_eq!(depth, 64);
        assert_eq!(instance.warnings, []);
    }

    #[test]
    fn a_thousand_bad_attributes_are_told_of_in_part() {
        let whole = in_series(identified(DataSet::explicit()));
        let bad = (0..1000).fold(whole, |set, number| set.element(0x0021_1000 + number, "DS", b"one "));
        let warnings = read_file(&bad.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN), &[]).warnings;
        assert!((1..100).contains(&warnings.len()), "{}", warnings.len());
    }

    #[test]
    fn text_beyond_ascii_without_a_character_set_is_declared() {
        let data_set = in_series(identified(DataSet::explicit()).text(0x0010_0010, "PN", "é"));
        let text = json(&read_file(&data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN), &[]));
        assert!(text.starts_with(r#"{"00080005":{"vr":"CS","Value":["ISO_IR 192"]},"00080016""#), "{text}");
    }

    #[test]
    fn there_are_no_more_frames_than_there_are_bytes_for() {
        let image = |frames: &str| {
            in_series(identified(DataSet::explicit()))
                .us(0x0028_0002, &[1])
                .text(0x0028_0004, "CS", "MONOCHROME2")
                .text(0x0028_0008, "IS", frames)
                .us(0x0028_0010, &[2])
                .us(0x0028_0011, &[2])
                .us(0x0028_0100, &[8])
        };
        let native = |frames| {
            image(frames).element(0x7FE0_0010, "OB", &[0; 8]).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)
        };
        let fragments: [&[u8]; 3] = [&[], &[1, 2], &[3, 4]];
        let encapsulated =
            |frames| image(frames).encapsulated(&fragments).file(transfer_syntax::JPEG_BASELINE8_BIT);
        for (file, expected) in [
            (native("1"), 1),
            (native("2"), 2),
            (native("2000000000"), 2),
            (encapsulated("2"), 2),
            (encapsulated("2000000000"), 2),
        ] {
            assert_eq!(read_file(&file, &[]).layout.pixels.unwrap().number_of_frames, expected);
        }
    }

    #[test]
    fn implicit_and_big_endian_data_sets_read_as_explicit_ones() {
        let fill = |data_set: DataSet| {
            in_series(identified(data_set).text(0x0010_0020, "LO", "P1")).us(0x0028_0106, &[258])
        };
        let explicit = json(&read_file(
            &fill(DataSet::explicit()).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
            &[],
        ));
        for (data_set, syntax) in [
            (DataSet::implicit(), transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN),
            (DataSet::big_endian(), transfer_syntax::EXPLICIT_VR_BIG_ENDIAN),
        ] {
            let other = json(&read_file(&fill(data_set).file(syntax), &[]));
            // Also Available Transfer Syntax UID is the same: the one in which web services give the
            // instance.
            assert_eq!(other, explicit);
        }
    }

    #[test]
    fn non_patient_objects_are_refused_for_their_sop_class() {
        for sop_class in ["1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.1.1.200.1"] {
            let bare = DataSet::explicit().text(0x0008_0016, "UI", sop_class);
            let in_study = in_series(bare.clone().text(0x0008_0018, "UI", "1.2.3"));
            for data_set in [bare, in_study] {
                let refused = read(&scan(&data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)), &[]);
                assert_eq!(refused, Err(Failure::NonPatientObject), "{sop_class}");
            }
        }
    }

    #[test]
    fn without_identity_an_instance_is_refused_by_name() {
        let whole = || in_series(identified(DataSet::explicit()));
        assert!(read(&scan(&whole().file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)), &[]).is_ok());
        for (data_set, tag) in [
            (identified(DataSet::explicit()), tags::STUDY_INSTANCE_UID),
            (identified(DataSet::explicit()).text(0x0020_000D, "UI", "../1"), tags::STUDY_INSTANCE_UID),
            (identified(DataSet::explicit()).text(0x0020_000D, "UI", "1"), tags::SERIES_INSTANCE_UID),
            (in_series(DataSet::explicit()), tags::SOP_INSTANCE_UID),
            (in_series(DataSet::explicit().text(0x0008_0018, "UI", "1.2.3")), tags::SOP_CLASS_UID),
        ] {
            let refused = read(&scan(&data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)), &[]);
            assert!(
                matches!(refused, Err(Failure::NoIdentity { tag: named, .. }) if named == tag),
                "{tag:?}"
            );
        }
    }
}
