//! Tests of the inputs that the scanner accepts and refuses, for any division of the bytes into pieces.

use std::io::Write;

use proptest::prelude::*;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::build::DataSet;
use crate::dicom::failure::Failure;
use crate::dicom::scan::is_file_head;
use crate::dicom::scan::{EventKind, Outline, ScanEvent, ScanLimits, Scanner, header};
use crate::dicom::transfer_syntax;
use crate::dicom::uids;

fn limits() -> ScanLimits {
    ScanLimits {
        max_header_bytes: 1 << 20,
        max_sequence_depth: 16,
        max_elements: 10_000,
        max_inflated_bytes: 1 << 24,
        max_deflate_ratio: 100,
    }
}

fn scan_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Outline, Failure> {
    let mut scanner = Scanner::new(limits());
    for piece in pieces {
        scanner.push(piece)?;
    }
    scanner.finish()
}

/// Scans a whole object, within limits that no test of another module reaches.
pub(crate) fn scan(bytes: &[u8]) -> Result<Outline, Failure> {
    scan_pieces([bytes])
}

fn kept<'a>(outline: &'a Outline, event: &ScanEvent) -> &'a [u8] {
    let EventKind::Value(range) = &event.kind else { panic!("{:?} is not kept", event.tag) };
    &outline.head[range.clone()]
}

fn value(outline: &Outline, tag: u32) -> &[u8] {
    let event = outline.events.iter().find(|event| event.tag == Tag(tag)).expect("the element is there");
    kept(outline, event)
}

/// The events as letters: v(alue), b(ulk), e(ncapsulated), S(equence), I(tem), i(tem's end), s(equence's
/// end).
fn shape(outline: &Outline) -> String {
    let letter = |event: &ScanEvent| match event.kind {
        EventKind::Value(_) => 'v',
        EventKind::Bulk => 'b',
        EventKind::Encapsulated => 'e',
        EventKind::Sequence => 'S',
        EventKind::Item => 'I',
        EventKind::ItemEnd => 'i',
        EventKind::SequenceEnd => 's',
    };
    outline.events.iter().map(letter).collect()
}

/// A data set with elements, sequences and items of many kinds.
fn everything(start: DataSet) -> DataSet {
    let item = start.clone().text(0x0008_1150, "UI", "1.2.3").text(0x0008_1155, "UI", "1.2.3.4");
    let nested = start
        .clone()
        .delimited_sequence(0x0008_1140, "SQ", std::slice::from_ref(&item))
        .us(0x0028_0010, &[7]);
    start
        .text(0x0008_0005, "CS", "ISO_IR 100")
        .text(0x0008_0018, "UI", "1.2.3.4.5")
        .sequence(0x0008_1115, &[nested.clone(), item.clone()])
        .text(0x0010_0010, "PN", "Doe^Jane")
        .us(0x0028_0010, &[512])
        .delimited_sequence(0x0040_0275, "SQ", &[item, nested])
        .element(0x7FE0_0010, "OW", &[7; 5000])
}

#[test]
fn every_encoding_of_a_data_set_has_the_same_shape() {
    let shape_of_everything = "vvSISIvvisviIvvisvvSIvviISIvvisvisb";
    for (start, syntax) in [
        (DataSet::implicit(), transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN),
        (DataSet::explicit(), transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
        (DataSet::big_endian(), transfer_syntax::EXPLICIT_VR_BIG_ENDIAN),
    ] {
        let set = everything(start);
        let file = scan(&set.clone().file(syntax)).unwrap();
        assert_eq!(shape(&file), shape_of_everything, "{syntax}");
        assert_eq!((file.transfer_syntax.as_str(), file.warnings.len()), (syntax, 0));
        assert_eq!(value(&file, 0x0010_0010), b"Doe^Jane");
        assert_eq!(file.file_meta.len(), 3);

        for (declared, bytes) in [
            ("nothing", set.clone().bytes()),
            ("another", set.clone().file(transfer_syntax::JPEG_BASELINE8_BIT)),
        ] {
            let bare = scan(&bytes).unwrap();
            assert_eq!(shape(&bare), shape_of_everything, "{syntax}, declared {declared}");
            assert_eq!(bare.head[bare.head.len() - 20..], file.head[file.head.len() - 20..]);
        }
        let bare = scan(&set.bytes()).unwrap();
        assert_eq!((bare.transfer_syntax.as_str(), bare.data_set_offset), (syntax, 0));
    }
}

#[test]
fn offsets_and_lengths_are_those_of_the_bytes() {
    let bytes = everything(DataSet::explicit()).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
    let outline = scan(&bytes).unwrap();
    for event in outline.file_meta.iter().chain(&outline.events) {
        if let EventKind::Value(range) = &event.kind {
            let (from, length) = (event.offset as usize, event.length as usize);
            assert_eq!(bytes[from..from + length], outline.head[range.clone()], "{:?}", event.tag);
        }
    }
    let pixels = outline.events.last().unwrap();
    assert_eq!((pixels.offset + pixels.length, pixels.length), (bytes.len() as u64, 5000));
}

#[test]
fn the_wrong_transfer_syntax_is_corrected() {
    for declared in [
        "",
        transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN,
        transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN,
        transfer_syntax::EXPLICIT_VR_BIG_ENDIAN,
        transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ] {
        for (start, syntax) in [
            (DataSet::implicit(), transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN),
            (DataSet::explicit(), transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
            (DataSet::big_endian(), transfer_syntax::EXPLICIT_VR_BIG_ENDIAN),
        ] {
            if declared == transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
                && syntax != transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN
            {
                continue;
            }
            let outline = scan(&everything(start).file(declared)).unwrap();
            assert_eq!(outline.transfer_syntax, syntax, "declared as `{declared}`");
            assert_eq!(outline.warnings.len(), usize::from(declared != syntax));
        }
    }
}

fn deflate(set: DataSet, wrap: bool) -> Vec<u8> {
    let plain = set.bytes();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(&plain).unwrap();
    let wrapped = zlib.finish().unwrap();
    let deflated = if wrap { &wrapped[..] } else { &wrapped[2..wrapped.len() - 4] };
    DataSet::explicit().raw(deflated).file(transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
}

#[test]
fn a_deflated_data_set_is_scanned_as_if_inflated_in_its_place() {
    let plain =
        scan(&everything(DataSet::explicit()).file(transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))
            .unwrap();
    for wrap in [false, true] {
        let outline = scan(&deflate(everything(DataSet::explicit()), wrap)).unwrap();
        assert!(outline.is_deflated);
        assert_eq!(outline.events, plain.events);
        assert_eq!(
            (outline.transfer_syntax.as_str(), outline.warnings.len()),
            (transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, 0)
        );
    }
    let bytes = deflate(everything(DataSet::explicit()), false);
    assert!(matches!(scan(&bytes[..bytes.len() - 20]), Err(Failure::Truncated { .. })));
}

#[test]
fn deflated_bytes_that_spell_a_vr_by_chance_are_inflated_all_the_same() {
    let mut spell_a_vr = 0;
    for number in 1..2000u64 {
        // Digits without a pattern, so that each data set is deflated to other bytes.
        let digits = |salt: u64| (number * salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let uid = |salt| format!("1.2.826.0.1.3680043.8.498.{}{}", digits(salt), digits(salt + 1));
        let samples: Vec<u16> = (1000..1024).collect();
        let set = DataSet::explicit()
            .text(0x0008_0016, "UI", uids::CT_IMAGE_STORAGE)
            .text(0x0008_0018, "UI", &uid(3))
            .text(0x0010_0010, "PN", "Doe^Jane")
            .text(0x0020_000D, "UI", &uid(5))
            .text(0x0020_000E, "UI", &uid(7))
            .us(0x0028_1101, &samples);
        let bytes = deflate(set, false);
        let outline = scan(&bytes).unwrap();
        assert!(outline.is_deflated, "{number}");
        let start = bytes[outline.data_set_offset as usize..].first_chunk().unwrap();
        spell_a_vr += u32::from(header::recognise(*start).has_known_vr);
    }
    assert!(spell_a_vr > 0, "none of these data sets puts it to the test");
}

#[test]
fn what_inflates_too_much_is_refused() {
    let bomb = deflate(DataSet::explicit().element(0x7FE0_0010, "OB", &vec![0; 4 << 20]), false);
    let setting = |max_deflate_ratio, max_inflated_bytes| {
        let mut scanner = Scanner::new(ScanLimits { max_deflate_ratio, max_inflated_bytes, ..limits() });
        match scanner.push(&bomb) {
            Err(Failure::InflatesTooMuch { setting, .. }) => setting,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(setting(100, u64::MAX), "ingest.max_deflate_ratio");
    assert_eq!(setting(u64::MAX, 1 << 20), "ingest.max_inflated_bytes");
}

#[test]
fn fragments_and_their_offset_table_are_found() {
    let table = [0u8, 0, 0, 0, 12, 0, 0, 0];
    let items: [&[u8]; 4] = [&table, &[0xFF, 0xD8, 0xFF, 0xE0], &[1, 2], &[0xFF, 0xD8, 0xFF, 0xE1]];
    let bytes = DataSet::explicit()
        .text(0x0008_0005, "CS", "ISO_IR 6")
        .encapsulated(&items)
        .file(transfer_syntax::JPEG_BASELINE8_BIT);
    let outline = scan(&bytes).unwrap();
    assert_eq!(shape(&outline), "ve");
    assert_eq!(outline.head[outline.basic_offset_table.clone().unwrap()], table);
    let fragments: Vec<&[u8]> =
        outline.fragments.iter().map(|&(from, length)| &bytes[from as usize..][..length as usize]).collect();
    assert_eq!(fragments, &items[1..]);
    assert_eq!(outline.codestream_starts, [0, 2]);
    assert_eq!(outline.events[1].length, 8 * 4 + 8 + 4 + 2 + 4);

    let without_delimiter = &bytes[..bytes.len() - 8];
    let open = scan(without_delimiter).unwrap();
    assert_eq!((open.fragments, open.events, open.warnings.len()), (outline.fragments, outline.events, 1));
    let cut = &without_delimiter[..without_delimiter.len() - 1];
    assert!(matches!(scan(cut), Err(Failure::Truncated { .. })));
}

#[test]
fn a_bulk_value_is_passed_over_and_a_table_never() {
    let long = vec![1; 1026];
    for (tag, vr, size, is_kept) in [
        (0x0009_1001, "OB", 1024, true),
        (0x0009_1001, "OB", 1026, false),
        (0x0009_1001, "UN", 1026, false),
        (0x0028_3006, "OW", 1026, true),
        (0x7FE0_0001, "OV", 1026, true),
        (0x7FE0_0008, "OF", 4, false),
        (0x7FE0_0010, "OB", 2, false),
        (0x0010_4000, "LT", 1026, true),
    ] {
        let set = DataSet::explicit().text(0x0008_0005, "CS", "").element(tag, vr, &long[..size.min(1026)]);
        let outline = scan(&set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap();
        assert_eq!(shape(&outline), if is_kept { "vv" } else { "vb" }, "{tag:08X} {vr} {size}");
    }
    let text = vec![b'x'; 65_538];
    let set = DataSet::implicit().element(0x0008_0005, "CS", b"").element(0x0010_4000, "LT", &text);
    assert_eq!(shape(&scan(&set.file(transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN)).unwrap()), "vb");
}

#[test]
fn an_unknown_sequence_is_implicit_inside() {
    let implicit = DataSet::implicit().text(0x0010_0010, "PN", "Doe^Jane").us(0x0028_0010, &[1]);
    let explicit = DataSet::explicit().text(0x0010_0010, "PN", "Doe^Jane").us(0x0028_0010, &[1]);
    for item in [implicit, explicit] {
        let set = DataSet::explicit()
            .text(0x0008_0005, "CS", "")
            .delimited_sequence(0x0009_1001, "UN", &[item])
            .text(0x0010_0020, "LO", "4711");
        let outline = scan(&set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap();
        assert_eq!(shape(&outline), "vSIvvisv");
        assert_eq!(value(&outline, 0x0010_0010), b"Doe^Jane");
        assert_eq!(outline.events[1].vr, Some(Vr(*b"UN")));
    }
}

#[test]
fn what_real_files_do_is_taken_with_a_warning() {
    let start = || DataSet::explicit().text(0x0008_0005, "CS", "");
    let item = || DataSet::explicit().text(0x0008_1150, "UI", "1.2.3");
    let delimiter = |element: u8| [0xFE, 0xFF, element, 0xE0, 0, 0, 0, 0];
    let pixels = || start().element(0x7FE0_0010, "OB", &[1, 2]);
    let overlong_item = DataSet::explicit().raw(&[0xFE, 0xFF, 0, 0xE0, 24, 0, 0, 0]).raw(&item().bytes());
    for (claim, set, expected, warnings) in [
        ("zeros after the data set", pixels().raw(&[0; 100]), "vb", 0),
        ("one zero after the data set", pixels().raw(&[0]), "vb", 0),
        ("garbage after Pixel Data", pixels().raw(b"garbage and more"), "vb", 1),
        ("little garbage after Pixel Data", pixels().raw(b"xyz"), "vb", 1),
        ("a line end after the data set", start().raw(b"\r\n"), "v", 1),
        ("trailing padding", pixels().element(0xFFFC_FFFC, "OB", &[0; 20]), "vbv", 0),
        ("a stray item delimiter", start().raw(&delimiter(0x0D)).text(0x0010_0020, "LO", "1"), "vv", 1),
        ("a stray empty item", start().raw(&delimiter(0x00)).text(0x0010_0020, "LO", "1"), "vv", 1),
        (
            "a VR of spaces",
            start().raw(b"\x28\0\x20\x01  \x02\0\x07\0").text(0x0028_1050, "DS", "40"),
            "vvv",
            1,
        ),
        (
            "a VR of hyphens",
            start().raw(b"\x28\0\x20\x01--\x02\0\x07\0").text(0x0028_1050, "DS", "40"),
            "vvv",
            1,
        ),
        (
            "a VR of zeros",
            start().raw(b"\x28\0\x20\x01\0\0\x02\0\x07\0").text(0x0028_1050, "DS", "40"),
            "vvv",
            1,
        ),
        ("an implicit element in between", start().raw(&[0x10, 0, 0x20, 0, 2, 0, 0, 0, b'a', b'b']), "vv", 0),
        ("an odd length", start().raw(&[0x10, 0, 0x20, 0, b'L', b'O', 1, 0, b'a']), "vv", 0),
        ("a VR of tomorrow", start().raw(&[9, 0, 1, 0x10, b'Q', b'Q', 0, 0, 1, 0, 0, 0, b'a']), "vv", 0),
        (
            "an item that is longer than its sequence",
            start().element(0x0008_1140, "SQ", &overlong_item.bytes()).text(0x0010_0020, "LO", "1"),
            "vSIvisv",
            1,
        ),
        (
            "a missing item delimiter",
            start()
                .raw(&[8, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 255, 255, 255, 255])
                .raw(&[0xFE, 0xFF, 0, 0xE0, 255, 255, 255, 255])
                .raw(&item().bytes())
                .raw(&delimiter(0xDD)),
            "vSIvis",
            1,
        ),
    ] {
        let outline = scan(&set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN))
            .unwrap_or_else(|failure| panic!("{claim}: {failure}"));
        assert_eq!((shape(&outline).as_str(), outline.warnings.len()), (expected, warnings), "{claim}");
    }
}

#[test]
fn an_empty_sequence_without_a_vr_is_a_sequence_by_the_dictionary() {
    // Referenced Study Sequence, empty: at the top level and in an item of another sequence.
    let empty = || DataSet::implicit().element(0x0008_1110, "SQ", &[]);
    let set = empty()
        .raw(&[0x08, 0, 0x20, 0x11, 16, 0, 0, 0, 0xFE, 0xFF, 0, 0xE0, 8, 0, 0, 0])
        .raw(&empty().bytes());
    let outline = scan(&set.file(transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN)).unwrap();
    assert_eq!((shape(&outline).as_str(), outline.warnings.len()), ("SsSISsis", 0));
    // The same with VR UN, and with a private tag, whose VR is not in the dictionary.
    let unknown = DataSet::explicit().element(0x0008_1110, "UN", &[]).element(0x0009_1001, "UN", &[]);
    assert_eq!(shape(&scan(&unknown.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap()), "Ssv");
}

#[test]
fn a_data_set_cut_inside_an_element_is_truncated() {
    let bytes = everything(DataSet::explicit()).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
    let outline = scan(&bytes).unwrap();
    let mut boundaries = Vec::new();
    let mut depth = 0;
    for event in &outline.events {
        match event.kind {
            EventKind::Sequence => depth += 1,
            EventKind::SequenceEnd => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            boundaries.push(event.offset as usize + event.length as usize);
        }
    }
    let after_delimiter = boundaries[boundaries.len() - 2] + 8;
    for cut in outline.data_set_offset as usize + 1..bytes.len() {
        let is_boundary = cut == after_delimiter || boundaries.contains(&cut);
        match scan(&bytes[..cut]) {
            Ok(_) => assert!(is_boundary, "cut at {cut}"),
            Err(Failure::Truncated { .. }) => {}
            Err(failure) => panic!("cut at {cut}: {failure}"),
        }
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused() {
    let mut deep = DataSet::explicit();
    for _ in 0..2000 {
        deep = DataSet::explicit().delimited_sequence(0x0008_1140, "SQ", &[deep]);
    }
    assert_eq!(scan(&deep.bytes()), Err(Failure::TooDeep { limit: 16 }));

    let mut many = DataSet::explicit();
    for _ in 0..10_001 {
        many = many.us(0x0008_0040, &[1]);
    }
    assert_eq!(scan(&many.bytes()), Err(Failure::TooManyElements { limit: 10_000 }));

    // References to bulk values name all sequences around them.
    let mut nested = DataSet::explicit().element(0x7FE0_0010, "OW", &[0, 1]);
    for _ in 0..15 {
        nested = DataSet::explicit().sequence(0x0008_1140, &[nested]);
    }
    let many = DataSet::explicit().raw(&nested.bytes().repeat(5000));
    let limits = ScanLimits { max_elements: 1_000_000, ..limits() };
    let mut scanner = Scanner::new(limits);
    let failure = scanner.push(&many.bytes());
    assert_eq!(failure, Err(Failure::HeaderTooLarge { limit: 1 << 20 }));

    let large = DataSet::explicit().element(0x0008_0005, "UR", &vec![b'a'; 2 << 20]);
    assert_eq!(scan(&large.bytes()), Err(Failure::HeaderTooLarge { limit: 1 << 20 }));
}

#[test]
fn what_is_no_data_set_is_not_dicom() {
    for bytes in [&b""[..], b"hello", b"{\"00080018\": {}}", b"%PDF-1.7 and so on", &[0; 500], &[0xFF; 500]] {
        assert_eq!(scan(bytes), Err(Failure::NotDicom), "{bytes:?}");
    }
}

/// Objects of every kind, as a start for mutations.
fn samples() -> Vec<Vec<u8>> {
    let fragments: [&[u8]; 3] = [&[], &[0xFF, 0xD8, 0xFF, 0xE0], &[0xFF; 40]];
    vec![
        everything(DataSet::explicit()).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
        everything(DataSet::implicit()).bytes(),
        everything(DataSet::big_endian()).file(transfer_syntax::EXPLICIT_VR_BIG_ENDIAN),
        deflate(everything(DataSet::explicit()), false),
        everything(DataSet::explicit()).encapsulated(&fragments).file(transfer_syntax::JPEG_BASELINE8_BIT),
        DataSet::explicit()
            .delimited_sequence(0x0009_1001, "UN", &[everything(DataSet::implicit())])
            .delimited_sequence(0x0009_1001, "OB", &[everything(DataSet::explicit())])
            .file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
    ]
}

#[test]
fn byte_by_byte_gives_the_same_as_at_once() {
    for bytes in samples() {
        assert_eq!(scan_pieces(bytes.chunks(1)), scan(&bytes));
        assert!(scan(&bytes).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_does_not_panic_and_cuts_do_not_matter(
        sample in 0..6usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
        is_cut in prop::bool::weighted(0.2),
        piece in 1..300usize,
    ) {
        let mut bytes = samples().swap_remove(sample);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(end.index(bytes.len()));
        }
        prop_assert_eq!(scan_pieces(bytes.chunks(piece)), scan(&bytes));
    }
}

#[test]
fn a_file_header_is_told_from_what_has_more_or_less() {
    let file =
        DataSet::explicit().text(0x0008_0018, "UI", "1.2").file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
    let head = &file[..file.len() - 12];
    assert!(is_file_head(head) && is_file_head(&head[132..]) && is_file_head(b""));
    assert!(
        !is_file_head(&file) && !is_file_head(&head[..head.len() - 1]) && !is_file_head(&file[head.len()..])
    );
}

/// The start of a grey JPEG frame of 2 × 3 pixels, up to its first scan.
const JPEG: [u8; 25] =
    [0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8, 0, 2, 0, 3, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0];

/// The header of an RLE frame of one segment.
fn rle() -> Vec<u8> {
    let mut header = vec![0; 66];
    (header[0], header[4]) = (1, 64);
    header
}

#[test]
fn a_first_item_that_is_a_frame_is_no_offset_table() {
    for (frame, syntax) in
        [(JPEG.to_vec(), transfer_syntax::JPEG_BASELINE8_BIT), (rle(), transfer_syntax::RLE_LOSSLESS)]
    {
        let set = DataSet::explicit().text(0x0008_0005, "CS", "").encapsulated(&[&frame, &frame]);
        let outline = scan(&set.file(syntax)).unwrap();
        assert_eq!((outline.fragments.len(), &outline.codestream_starts[..]), (2, &[0, 1][..]), "{syntax}");
        assert_eq!(outline.basic_offset_table.map(|table| table.len()), Some(0));
        assert_eq!(outline.warnings.len(), 1);
    }
}

#[test]
fn the_head_of_the_first_frame_is_that_of_all_its_fragments() {
    let long = [&JPEG[..], &vec![7; 70_000]].concat();
    for (items, length) in [
        ([&[][..], &JPEG[..8], &JPEG[8..]], JPEG.len()),
        ([&[], &JPEG, &JPEG], JPEG.len()),
        ([&[], &long, &[1; 10]], 65_536),
    ] {
        let file = DataSet::explicit()
            .text(0x0008_0005, "CS", "")
            .encapsulated(&items)
            .file(transfer_syntax::JPEG_BASELINE8_BIT);
        let outline = scan(&file).unwrap();
        assert_eq!(outline.first_frame_head.len(), length);
        assert!(outline.first_frame_head.starts_with(&JPEG));
        let mut scanner = Scanner::new(limits());
        file.chunks(7).for_each(|chunk| scanner.push(chunk).unwrap());
        assert_eq!(scanner.finish().unwrap(), outline);
    }
}

#[test]
fn frames_are_in_the_transfer_syntax_that_they_prove() {
    let in_explicit = DataSet::explicit().text(0x0008_0005, "CS", "");
    let in_implicit = DataSet::implicit().element(0x0008_0005, "CS", b"");
    let jpeg = transfer_syntax::JPEG_BASELINE8_BIT;
    for (set, frame, declared, expected) in [
        (&in_explicit, &JPEG[..], transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, jpeg),
        (&in_implicit, &JPEG, transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN, jpeg),
        (&in_explicit, &rle(), transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax::RLE_LOSSLESS),
        (&in_explicit, &JPEG, transfer_syntax::JPEG2000_LOSSLESS, jpeg),
        (&in_explicit, &JPEG, transfer_syntax::RLE_LOSSLESS, jpeg),
        // A name of the same codec, of no codec that is known, and a frame that proves nothing.
        (&in_explicit, &JPEG, transfer_syntax::JPEG_EXTENDED12_BIT, transfer_syntax::JPEG_EXTENDED12_BIT),
        (&in_explicit, &JPEG, transfer_syntax::JPEGXL, transfer_syntax::JPEGXL),
        (&in_explicit, &JPEG, "1.2.3.4", "1.2.3.4"),
        (&in_explicit, &[1, 2, 3, 4], transfer_syntax::JPEG2000, transfer_syntax::JPEG2000),
    ] {
        let outline = scan(&set.clone().encapsulated(&[&[], frame]).file(declared)).unwrap();
        assert_eq!(outline.transfer_syntax, expected, "{declared}");
        let is_warned =
            outline.warnings.iter().any(|warning| warning.tag == crate::dicom::tags::TRANSFER_SYNTAX_UID);
        assert_eq!(is_warned, declared != expected, "{declared}");
    }
    let without_header = scan(&in_explicit.encapsulated(&[&[], &JPEG]).bytes()).unwrap();
    assert_eq!(without_header.transfer_syntax, jpeg);
}

#[test]
fn pixel_data_that_is_a_codestream_without_items_is_a_fragment() {
    let explicit = transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN;
    for (pixels, declared, is_frame) in [
        (&JPEG[..], explicit, true),
        (&JPEG, transfer_syntax::JPEG_BASELINE8_BIT, true),
        (&JPEG, "1.2.3.4", false),
        // Native pixels that begin like a frame and prove nothing.
        (&JPEG[..20], explicit, false),
        (&rle(), explicit, false),
        (&[0xFF, 0xD8], explicit, false),
    ] {
        let set = DataSet::explicit().text(0x0008_0005, "CS", "").element(0x7FE0_0010, "OB", pixels);
        let file = set.file(declared);
        let outline = scan(&file).unwrap();
        let length = pixels.len().next_multiple_of(2);
        let fragment = ((file.len() - length) as u64, length as u32);
        assert_eq!(outline.fragments, if is_frame { vec![fragment] } else { vec![] }, "{declared}");
        let expected = if is_frame { transfer_syntax::JPEG_BASELINE8_BIT } else { declared };
        assert_eq!(outline.transfer_syntax, expected);
        let mut scanner = Scanner::new(limits());
        file.chunks(3).for_each(|chunk| scanner.push(chunk).unwrap());
        assert_eq!(scanner.finish().unwrap(), outline);
    }
}

/// A frame of 3 x 2 pixels in JPEG or JPEG-LS of this kind; of JPEG 2000, with this wavelet.
fn codestream(kind: u8, selection: u8) -> Vec<u8> {
    if kind != 0x51 {
        let scan = [0xFF, 0xDA, 0, 8, 1, 1, 0, selection, 0, 0, 7, 7, 0xFF, 0xD9];
        return [&[0xFF, 0xD8, 0xFF, kind, 0, 11, 8, 0, 2, 0, 3, 1, 1, 0x11, 0][..], &scan, &[0]].concat();
    }
    let mut size = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
    [3_u32, 2, 0, 0, 3, 2, 0, 0].iter().for_each(|number| size.extend(number.to_be_bytes()));
    size.extend([0, 1, 7, 1, 1]);
    [&size[..], &[0xFF, 0x52, 0, 12, 0, 0, 0, 1, 0, 5, 4, 4, 0, selection], &[0]].concat()
}

#[test]
fn a_transfer_syntax_that_frames_disprove_is_replaced_and_another_process_is_warned_of() {
    for (name, frame, own, kept, warned) in [
        ("baseline", codestream(0xC0, 0), "50", &["50", "51"][..], &[][..]),
        ("extended", codestream(0xC1, 0), "51", &["51"], &["50"]),
        ("progressive", codestream(0xC2, 0), "55", &["55", "53"], &["50", "51"]),
        ("lossless, predictor 1", codestream(0xC3, 1), "70", &["70", "57"], &["50", "51"]),
        ("lossless, predictor 6", codestream(0xC3, 6), "57", &["57"], &["70", "50", "51"]),
        ("JPEG-LS", codestream(0xF7, 0), "80", &["80", "81"], &[]),
        ("near-lossless JPEG-LS", codestream(0xF7, 2), "81", &["81"], &[]),
        ("JPEG 2000", codestream(0x51, 1), "90", &["90", "91", "92", "93"], &[]),
        ("lossy JPEG 2000", codestream(0x51, 0), "91", &["91", "93"], &[]),
    ] {
        for leaf in ["50", "51", "53", "55", "57", "70", "80", "81", "90", "91", "92", "93"] {
            if ["53", "55"].contains(&leaf)
                && name != "progressive"
                && ["50", "51", "57", "70"].contains(&own)
            {
                continue;
            }
            let uid = |leaf| format!("1.2.840.10008.1.2.4.{leaf}");
            let set = DataSet::explicit().text(0x0008_0005, "CS", "").encapsulated(&[&[], &frame]);
            let outline = scan(&set.file(&uid(leaf))).unwrap();
            let stays = kept.contains(&leaf) || warned.contains(&leaf);
            assert_eq!(outline.transfer_syntax, uid(if stays { leaf } else { own }), "{name} as {leaf}");
            assert_eq!(outline.warnings.is_empty(), kept.contains(&leaf), "{name} as {leaf}");
        }
    }
}
