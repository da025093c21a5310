//! Plans, carried out.

use super::*;
use crate::dicom::build::DataSet;
use crate::dicom::frames::PixelLayout;
use crate::dicom::scan::tests::scan;
use crate::dicom::transfer_syntax;

fn as_stored() -> Rewrite {
    Rewrite {
        transfer_syntax: transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN.into(),
        changes: Vec::new(),
        frames: FrameOutput::Stored,
    }
}

/// Carries out a plan, with `frames` in the place of Pixel Data.
fn written(bytes: &[u8], rewrite: &Rewrite, frames: &[u8]) -> Vec<u8> {
    let plan = plan(&scan(bytes).unwrap(), rewrite).unwrap();
    let mut file = Vec::new();
    let mut write = |segments: Vec<RewriteSegment>| {
        for segment in segments {
            let before = file.len();
            let length = segment.length();
            match segment {
                RewriteSegment::Bytes(bytes) => file.extend_from_slice(&bytes),
                RewriteSegment::Zeros(length) => file.resize(file.len() + length as usize, 0),
                RewriteSegment::Copy { offset, length, swap } => {
                    let from = offset as usize;
                    let mut value = bytes[from..from + length as usize].to_vec();
                    swap_words(&mut value, swap);
                    file.append(&mut value);
                }
            }
            assert_eq!(file.len() - before, length as usize);
        }
    };
    write(plan.before);
    write(vec![RewriteSegment::Bytes(frames.to_vec())]);
    write(plan.after);
    assert!(plan.places.values().all(|&place| (plan.data_set_at..file.len() as u64).contains(&place)));
    file
}

/// The data set of a written file, its file meta information checked.
fn data_set_of(file: &[u8]) -> Vec<u8> {
    let outline = scan(file).unwrap();
    assert_eq!(
        (outline.transfer_syntax.as_str(), outline.warnings),
        (transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, vec![])
    );
    let EventKind::Value(group_length) = outline.file_meta[0].kind.clone() else { panic!("no group length") };
    let stated = u32::from_le_bytes(outline.head[group_length].try_into().unwrap());
    assert_eq!(u64::from(stated) + 128 + 4 + 12, outline.data_set_offset);
    file[outline.data_set_offset as usize..].to_vec()
}

#[test]
fn every_encoding_becomes_the_same_explicit_data_set() {
    let pixels: Vec<u16> = (0..700).collect();
    let build = |start: DataSet, words: fn(u16) -> [u8; 2], is_delimited: bool| {
        let item = start.clone().text(0x0008_1150, "UI", "1.2.3").us(0x0028_0010, &[3]);
        let add = |set: DataSet, items: &[DataSet]| match is_delimited {
            true => set.delimited_sequence(0x0008_1140, "SQ", items),
            false => set.sequence(0x0008_1140, items),
        };
        let value: Vec<u8> = pixels.iter().flat_map(|&pixel| words(pixel)).collect();
        let start = start.text(0x0008_0016, "UI", "1.2.840").text(0x0008_0018, "UI", "1.2.3.45");
        add(start, &[item.clone(), item])
            .text(0x0009_0010, "LO", "ACME")
            .element(0x0009_1001, "UN", b"ab")
            .us(0x0028_0010, &[20])
            .us(0x0028_0100, &[16])
            .us(0x0028_0103, &[1])
            .element(0x0028_0106, "SS", &words(500))
            .element(0x7FE0_0010, "OW", &value)
    };
    let expected = build(DataSet::explicit(), u16::to_le_bytes, true).bytes();
    for (set, syntax) in [
        (build(DataSet::explicit(), u16::to_le_bytes, false), transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
        (build(DataSet::implicit(), u16::to_le_bytes, false), transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN),
        (build(DataSet::implicit(), u16::to_le_bytes, true), transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN),
        (build(DataSet::big_endian(), u16::to_be_bytes, true), transfer_syntax::EXPLICIT_VR_BIG_ENDIAN),
    ] {
        assert_eq!(data_set_of(&written(&set.file(syntax), &as_stored(), &[])), expected, "{syntax}");
    }
}

fn colour(photometric: &str, planar: u16) -> DataSet {
    DataSet::explicit()
        .text(0x0008_0005, "CS", "ISO_IR 100")
        .us(0x0028_0002, &[3])
        .text(0x0028_0004, "CS", photometric)
        .us(0x0028_0006, &[planar])
        .us(0x0028_0010, &[3])
}

fn compressed() -> Vec<u8> {
    colour("YBR_FULL_422", 1)
        .us(0x0028_0102, &[15])
        .element(0x7FE0_0001, "OV", &[0; 8])
        .encapsulated(&[&[], &[0xFF, 0xD8, 0xFF, 0xE0]])
        .element(0xFFFC_FFFC, "OB", &[0; 2])
        .file(transfer_syntax::JPEG_BASELINE8_BIT)
}

fn pixels() -> Vec<EncodedElement> {
    let us = |tag, number: u16| EncodedElement {
        tag: Tag(tag),
        vr: Vr(*b"US"),
        value: number.to_le_bytes().to_vec(),
    };
    let photometric = EncodedElement { tag: Tag(0x0028_0004), vr: Vr(*b"CS"), value: b"RGB".to_vec() };
    vec![photometric, us(0x0028_0006, 0), us(0x0028_0102, 7)]
}

#[test]
fn decoded_frames_take_the_place_of_fragments() {
    let native = |length| Rewrite {
        changes: pixels(),
        frames: FrameOutput::Native { length, bits_allocated: 8 },
        ..as_stored()
    };
    let file = written(&compressed(), &native(9), &[7; 9]);
    let expected = colour("RGB", 0).us(0x0028_0102, &[7]).element(0x7FE0_0010, "OB", &[7; 9]);
    assert_eq!(data_set_of(&file), expected.element(0xFFFC_FFFC, "OB", &[0; 2]).bytes());

    let outline = scan(&compressed()).unwrap();
    assert_eq!(plan(&outline, &as_stored()), Err(Error::NotDecoded));
    let length = u32::MAX.into();
    assert_eq!(plan(&outline, &native(length)), Err(Error::TooLong { length }));
}

#[test]
fn encoded_frames_take_the_place_of_pixels_behind_an_offset_table() {
    let description = || colour("YBR_FULL", 1).us(0x0028_0102, &[7]);
    // The total length describes other fragments than those that are written.
    let source = description().element(0x7FE0_0003, "UV", &[9; 8]).element(0x7FE0_0010, "OB", &[7; 9]);
    let source = source.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
    let expected = || colour("RGB", 0).us(0x0028_0102, &[7]);
    let extended = expected().element(0x7FE0_0001, "OV", &[0; 8]).element(0x7FE0_0002, "OV", &[0; 8]);
    for (space, tags, expected) in [
        (
            OffsetTableSpace::Basic(4),
            vec![(tags::PIXEL_DATA, 4)],
            expected().encapsulated(&[&[0; 4], &[1, 2]]),
        ),
        (
            OffsetTableSpace::Extended(8),
            vec![
                (tags::EXTENDED_OFFSET_TABLE, 8),
                (tags::EXTENDED_OFFSET_TABLE_LENGTHS, 8),
                (tags::PIXEL_DATA, 0),
            ],
            extended.encapsulated(&[&[], &[1, 2]]),
        ),
    ] {
        let rewrite = Rewrite {
            transfer_syntax: transfer_syntax::RLE_LOSSLESS.into(),
            changes: pixels(),
            frames: FrameOutput::Encapsulated(space),
        };
        let places = plan(&scan(&source).unwrap(), &rewrite).unwrap().places;
        let file = written(&source, &rewrite, &[fragment_header(2), vec![1, 2]].concat());
        for (tag, length) in tags {
            let place = places[&tag] as usize;
            assert_eq!(file[place..place + length], vec![0; length], "{tag:?}");
        }
        let outline = scan(&file).unwrap();
        assert_eq!(outline.transfer_syntax, rewrite.transfer_syntax);
        assert_eq!(file[outline.data_set_offset as usize..], expected.bytes());
    }
}

#[test]
fn the_elements_of_frames_say_what_is_true_of_them() {
    let layout = PixelLayout {
        rows: 3,
        columns: 4,
        samples: 3,
        bits_allocated: 16,
        bits_stored: 12,
        high_bit: 11,
        is_signed: true,
        photometric: "RGB".into(),
        is_planar: false,
        number_of_frames: 7,
    };
    let scanned = |set: DataSet| scan(&set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap();
    let written = |elements: Vec<EncodedElement>| {
        assert!(elements.is_sorted_by_key(|element| element.tag));
        elements.iter().map(|element| (element.tag.0 & 0xFFFF, element.value.clone())).collect::<Vec<_>>()
    };
    let us = |number: u16| number.to_le_bytes().to_vec();
    let whole = vec![
        (0x0002, us(3)),
        (0x0004, b"RGB".to_vec()),
        (0x0006, us(0)),
        (0x0008, b"7".to_vec()),
        (0x0011, us(4)),
        (0x0100, us(16)),
        (0x0101, us(12)),
        (0x0102, us(11)),
        (0x0103, us(1)),
    ];
    assert_eq!(written(pixel_elements(&scanned(colour("YBR_FULL_422", 1)), &layout)), whole);
    let single = PixelLayout { samples: 1, number_of_frames: 1, ..layout.clone() };
    let tags = |set: DataSet| written(pixel_elements(&scanned(set), &single)).into_iter().map(|(tag, _)| tag);
    let of_columns = |columns| colour("RGB", 0).us(0x0028_0011, &[columns]);
    assert!(tags(of_columns(4)).eq([0x0002, 0x0004, 0x0100, 0x0101, 0x0102, 0x0103]));
    assert!(tags(of_columns(5)).eq([0x0002, 0x0004, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103]));
    let with_number = DataSet::explicit().text(0x0008_0005, "CS", "").text(0x0028_0008, "IS", "3");
    assert!(tags(with_number.clone()).any(|tag| tag == 0x0008));

    let corrections = |set, layout: &PixelLayout| written(pixel_corrections(&scanned(set), layout));
    assert_eq!(corrections(colour("rgb", 0), &single), []);
    assert_eq!(corrections(colour("YBR_FULL", 0), &single), [(0x0004, b"RGB".to_vec())]);
    assert_eq!(corrections(with_number, &layout), [(0x0008, b"7".to_vec())]);
    assert_eq!(corrections(DataSet::explicit().us(0x0028_0010, &[3]), &single), []);
}

#[test]
fn a_loss_that_the_first_frame_proves_is_stated_unless_it_is_already() {
    let frame = |kind, selection| {
        let scan = [0xFF, 0xDA, 0, 8, 1, 1, 0, selection, 0, 0];
        [&[0xFF, 0xD8, 0xFF, kind, 0, 11, 8, 0, 2, 0, 3, 1, 1, 0x11, 0][..], &scan, &[0]].concat()
    };
    for (frame, is_lossy) in [
        (frame(0xC0, 0), true),
        (frame(0xC1, 0), true),
        (frame(0xC2, 0), true),
        (frame(0xC3, 1), false),
        (frame(0xF7, 0), false),
        (frame(0xF7, 2), true),
        (vec![0; 8], false),
    ] {
        for (stated, is_needed) in [(None, true), (Some("00"), true), (Some("01"), false)] {
            let mut set = colour("RGB", 0);
            if let Some(stated) = stated {
                set = set.text(0x0028_2110, "CS", stated);
            }
            let file = set.encapsulated(&[&[], &frame]).file(transfer_syntax::JPEG_BASELINE8_BIT);
            let loss = loss_of_codestream(&scan(&file).unwrap());
            let value = loss.map(|element| (element.tag, element.value));
            let expected = (is_lossy && is_needed).then(|| (tags::LOSSY_IMAGE_COMPRESSION, b"01".to_vec()));
            assert_eq!(value, expected, "{stated:?} {frame:?}");
        }
    }
}

#[test]
fn changes_replace_add_and_are_told_in_the_file_meta_information() {
    let nested = DataSet::explicit().text(0x0008_0018, "UI", "1.2.9");
    let source = DataSet::explicit()
        .text(0x0008_0018, "UI", "1.2.3")
        .delimited_sequence(0x0008_2112, "SQ", &[nested.clone(), nested])
        .us(0x0028_0010, &[3]);
    let text =
        |tag, vr: &[u8; 2], value: &str| EncodedElement { tag: Tag(tag), vr: Vr(*vr), value: value.into() };
    let uid = text(0x0008_0018, b"UI", "2.25.1");
    let sequence =
        EncodedElement { tag: Tag(0x0008_2112), vr: Vr(*b"SQ"), value: item(std::slice::from_ref(&uid)) };
    let changes = vec![text(0x0008_0008, b"CS", "DERIVED"), uid, sequence, text(0x0028_2110, b"CS", "01")];
    let rewrite = Rewrite { changes, ..as_stored() };
    let file = written(&source.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN), &rewrite, &[]);
    let expected = DataSet::explicit()
        .text(0x0008_0008, "CS", "DERIVED")
        .text(0x0008_0018, "UI", "2.25.1")
        .sequence(0x0008_2112, &[DataSet::explicit().text(0x0008_0018, "UI", "2.25.1")])
        .us(0x0028_0010, &[3])
        .text(0x0028_2110, "CS", "01");
    assert_eq!(data_set_of(&file), expected.bytes());
    let meta = &file[..scan(&file).unwrap().data_set_offset as usize];
    assert!(meta.windows(6).any(|window| window == b"2.25.1"));
}

#[test]
fn what_is_too_long_for_its_representation_goes_as_unknown() {
    for (size, expected) in [(60_000, b"DS"), (70_000, b"UN")] {
        let set =
            DataSet::implicit().text(0x0008_0005, "CS", "").element(0x3006_0050, "DS", &vec![b'1'; size]);
        let outline =
            scan(&written(&set.file(transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN), &as_stored(), &[])).unwrap();
        let contour = outline.events.last().unwrap();
        assert_eq!((contour.vr, contour.length), (Some(Vr(*expected)), size as u64));
    }
}

#[test]
fn pixels_of_32_bits_are_reversed_whole() {
    let set = DataSet::big_endian().us(0x0028_0100, &[32]).element(0x7FE0_0010, "OW", &[1, 2, 3, 4]);
    let file = written(&set.file(transfer_syntax::EXPLICIT_VR_BIG_ENDIAN), &as_stored(), &[]);
    assert_eq!(file[file.len() - 4..], [4, 3, 2, 1]);
}
