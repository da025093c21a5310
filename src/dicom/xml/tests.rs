//! The Native DICOM Model against documents written by hand, and against those who mean harm.

use serde_json::{Value as Json, json};

use super::{Error, write};

/// The most sequences within each other that are read.
const MAX_DEPTH: usize = 64;

/// The limit on elements of the tests that do not test it.
const MAX_ELEMENTS: usize = 1000;

fn read(text: &[u8]) -> Result<Json, Error> {
    super::read(text, MAX_DEPTH, MAX_ELEMENTS)
}

/// A document by PS3.19 §A.1 with one attribute of each kind.
const DOCUMENT: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
    "<NativeDicomModel xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" xml:space=\"preserve\">",
    "<DicomAttribute tag=\"00080008\" vr=\"CS\" keyword=\"ImageType\">",
    "<Value number=\"1\">ORIGINAL</Value><Value number=\"2\"></Value><Value number=\"3\">A&amp;B</Value>",
    "</DicomAttribute>",
    "<DicomAttribute tag=\"00090010\" vr=\"LO\"><Value number=\"1\">ACME &lt;1&gt;</Value></DicomAttribute>",
    "<DicomAttribute tag=\"00090001\" vr=\"SS\" privateCreator=\"ACME &lt;1&gt;\">",
    "<Value number=\"1\">-7</Value></DicomAttribute>",
    "<DicomAttribute tag=\"00100010\" vr=\"PN\" keyword=\"PatientName\"><PersonName number=\"1\">",
    "<Alphabetic><FamilyName>Yamada</FamilyName><GivenName>Tarou</GivenName><NameSuffix>MD</NameSuffix>",
    "</Alphabetic><Ideographic><FamilyName>山田</FamilyName><GivenName>太郎</GivenName></Ideographic>",
    "</PersonName><PersonName number=\"2\"></PersonName></DicomAttribute>",
    "<DicomAttribute tag=\"00100020\" vr=\"LO\" keyword=\"PatientID\"></DicomAttribute>",
    "<DicomAttribute tag=\"00104000\" vr=\"LT\" keyword=\"PatientComments\">",
    "<Value number=\"1\">one&#13;&#10;two&#9;\u{FFFD}\u{FFFD} é &quot;</Value></DicomAttribute>",
    "<DicomAttribute tag=\"00280030\" vr=\"DS\" keyword=\"PixelSpacing\">",
    "<Value number=\"1\">0.5</Value><Value number=\"2\">1e-7</Value></DicomAttribute>",
    "<DicomAttribute tag=\"00400275\" vr=\"SQ\" keyword=\"RequestAttributesSequence\"><Item number=\"1\">",
    "<DicomAttribute tag=\"00400007\" vr=\"LO\" keyword=\"ScheduledProcedureStepDescription\">",
    "<Value number=\"1\">a</Value></DicomAttribute></Item><Item number=\"2\"></Item></DicomAttribute>",
    "<DicomAttribute tag=\"00420011\" vr=\"OB\" keyword=\"EncapsulatedDocument\">",
    "<InlineBinary>JVBERg==</InlineBinary></DicomAttribute>",
    "<DicomAttribute tag=\"7FE00010\" vr=\"OW\" keyword=\"PixelData\">",
    "<BulkData uri=\"http://pacs/bulk?a=1&amp;b=2\"/></DicomAttribute>",
    "</NativeDicomModel>\n",
);

fn data_set() -> Json {
    json!({
        "00080008": {"vr": "CS", "Value": ["ORIGINAL", null, "A&B"]},
        "00090010": {"vr": "LO", "Value": ["ACME <1>"]},
        "00091001": {"vr": "SS", "Value": [-7]},
        "00100010": {"vr": "PN", "Value": [
            {"Alphabetic": "Yamada^Tarou^^^MD", "Ideographic": "山田^太郎"}, null,
        ]},
        "00100020": {"vr": "LO"},
        "00104000": {"vr": "LT", "Value": ["one\r\ntwo\t\u{1B}\u{C} é \""]},
        "00280030": {"vr": "DS", "Value": [0.5, 1e-7]},
        "00400275": {"vr": "SQ", "Value": [{"00400007": {"vr": "LO", "Value": ["a"]}}, {}]},
        "00420011": {"vr": "OB", "InlineBinary": "JVBERg=="},
        "7FE00010": {"vr": "OW", "BulkDataURI": "http://pacs/bulk?a=1&b=2"},
    })
}

fn written(data_set: &Json) -> String {
    let mut out = Vec::new();
    write(data_set, &mut out);
    String::from_utf8(out).unwrap()
}

/// A document of the attributes given.
fn document(attributes: &str) -> String {
    format!("<NativeDicomModel>{attributes}</NativeDicomModel>")
}

fn read_attributes(attributes: &str) -> Result<Json, Error> {
    read(document(attributes).as_bytes())
}

#[test]
fn a_data_set_is_written_as_the_standard_shows() {
    assert_eq!(written(&data_set()), DOCUMENT);
}

#[test]
fn what_is_written_is_read_again_but_for_characters_that_xml_cannot_hold() {
    let mut expected = data_set();
    expected["00104000"]["Value"][0] = json!("one\r\ntwo\t\u{FFFD}\u{FFFD} é \"");
    assert_eq!(read(DOCUMENT.as_bytes()).unwrap(), expected);
}

#[test]
fn a_document_may_be_indented_prefixed_and_use_what_xml_allows() {
    let text = "\u{FEFF}<?xml version='1.0' encoding='utf-8'?><!-- c --><?p i?>
        <n:NativeDicomModel xmlns:n='x'>
          <n:DicomAttribute vr='LO' tag='0010002f' keyword='?'><n:Value number='1'><![CDATA[<a>]]>&amp;&#x42;
</n:Value>
          </n:DicomAttribute>
          <n:DicomAttribute tag='00100020'><n:Value>1</n:Value><n:Value/></n:DicomAttribute>
          <n:DicomAttribute tag='00280010' vr='US'><n:Value number='1'> 512 </n:Value></n:DicomAttribute>
          <n:DicomAttribute tag='00280030' vr='DS'><n:Value number='1'>1.50</n:Value></n:DicomAttribute>
          <n:DicomAttribute tag='00420011' vr='OB'><n:InlineBinary>
             JVBE Rg== </n:InlineBinary></n:DicomAttribute>
          <n:DicomAttribute tag='00100000' vr='UL'><n:Value number='1'>4</n:Value></n:DicomAttribute>
        </n:NativeDicomModel> ";
    let expected = json!({
        "0010002F": {"vr": "LO", "Value": ["<a>&B\n"]},
        "00100020": {"vr": "LO", "Value": ["1", null]},
        "00280010": {"vr": "US", "Value": [512]},
        "00280030": {"vr": "DS", "Value": ["1.50"]},
        "00420011": {"vr": "OB", "InlineBinary": "JVBERg=="},
    });
    assert_eq!(read(text.as_bytes()).unwrap(), expected);
}

#[test]
fn values_stand_at_their_numbers() {
    let values = |numbers: &[&str]| {
        let list: String = numbers.iter().map(|n| format!("<Value number='{n}'>{n}</Value>")).collect();
        read_attributes(&format!("<DicomAttribute tag='00080008' vr='CS'>{list}</DicomAttribute>"))
    };
    for (numbers, expected) in [
        (&["2", "1"][..], json!(["1", "2"])),
        (&["3"], json!([null, null, "3"])),
        (
            &["1", "18"],
            json!([
                "1", null, null, null, null, null, null, null, null, null, null, null, null, null, null,
                null, null, "18"
            ]),
        ),
    ] {
        assert_eq!(values(numbers).unwrap()["00080008"]["Value"], expected, "{numbers:?}");
    }
    for numbers in [
        &["0"][..],
        &["-1"],
        &["x"],
        &["1", "1"],
        &["1", "19"],
        &["18446744073709551615"],
        &["99999999999999999999"],
    ] {
        assert!(values(numbers).is_err(), "{numbers:?}");
    }
}

#[test]
fn private_attributes_find_the_blocks_of_their_creators() {
    let of = |tag: &str, creator: &str| {
        let creator = if creator.is_empty() { String::new() } else { format!("privateCreator='{creator}'") };
        format!("<DicomAttribute tag='{tag}' vr='LO' {creator}><Value>{tag}</Value></DicomAttribute>")
    };
    let creator = "<DicomAttribute tag='00090011' vr='LO'><Value>B </Value></DicomAttribute>";
    for (attributes, expected) in [
        (of("00090001", "A"), &["00090010", "00091001"][..]),
        (creator.to_owned() + &of("00090001", "B"), &["00090011", "00091101"]),
        (
            of("00090001", "A") + creator + &of("00090001", "B"),
            &["00090010", "00090011", "00091001", "00091101"],
        ),
        (of("00092001", "A") + &of("00090002", "A"), &["00090020", "00092001", "00092002"]),
        (of("00091101", "A") + creator, &["00090010", "00090011", "00091001"]),
        (of("00091001", "") + &of("00090001", "A"), &["00090011", "00091001", "00091101"]),
        (of("00090001", "A") + &of("000B0001", "A"), &["00090010", "00091001", "000B0010", "000B1001"]),
    ] {
        let read = read_attributes(&attributes).unwrap();
        let tags: Vec<&String> = read.as_object().unwrap().keys().collect();
        assert_eq!(tags, expected, "{attributes}");
    }
    let many: String = (0..=240).map(|n| of("00090001", &n.to_string())).collect();
    assert!(read_attributes(&many).unwrap_err().to_string().contains("0009"));
}

#[test]
fn a_creator_that_reserved_two_blocks_keeps_them_apart() {
    let data_set = json!({
        "00090010": {"vr": "LO", "Value": ["A"]},
        "00090011": {"vr": "LO", "Value": ["A "]},
        "00090013": {"vr": "LO"},
        "00091001": {"vr": "LO", "Value": ["x"]},
        "00091101": {"vr": "LO", "Value": ["y"]},
        "00091201": {"vr": "LO", "Value": ["nobody's"]},
        "00091301": {"vr": "LO", "Value": ["nobody's either"]},
    });
    let text = written(&data_set);
    assert!(text.contains("tag=\"00090001\" vr=\"LO\" privateCreator=\"A\""), "{text}");
    assert!(text.contains("tag=\"00091101\" vr=\"LO\" privateCreator=\"A\""), "{text}");
    assert!(text.contains("tag=\"00091201\" vr=\"LO\">"), "{text}");
    assert_eq!(read(text.as_bytes()).unwrap(), data_set);
}

#[test]
fn what_is_no_native_dicom_model_is_an_error() {
    let attribute = |content: &str| {
        document(&format!("<DicomAttribute tag='00080008' vr='CS'>{content}</DicomAttribute>"))
    };
    for text in [
        String::new(),
        "{}".into(),
        "<a/>".into(),
        document("") + &document(""),
        document("x"),
        document("<Value/>"),
        document("<DicomAttribute vr='CS'/>"),
        document("<DicomAttribute tag='0008' vr='CS'/>"),
        document("<DicomAttribute tag='00080008' vr='cs'/>"),
        document("<DicomAttribute tag='00080008' tag='00080008' vr='CS'/>"),
        document("<DicomAttribute tag='00080008' vr='CS'/><DicomAttribute tag='00080008' vr='CS'/>"),
        attribute("x"),
        attribute("<Value><b/></Value>"),
        attribute("<Other/>"),
        attribute("<InlineBinary/><InlineBinary/>"),
        attribute("<InlineBinary/><Value/>"),
        attribute("<BulkData uuid='1'/>"),
        attribute("<PersonName><Alphabetic><Nickname/></Alphabetic></PersonName>"),
        attribute("<PersonName><Romaji/></PersonName>"),
        "<NativeDicomModel>".into(),
        "<NativeDicomModel><DicomAttribute tag='00080008' vr='CS'><Value>".into(),
        "<NativeDicomModel></DicomAttribute>".into(),
        "</NativeDicomModel>".into(),
        "<?xml version='1.0' encoding='UTF-16'?><NativeDicomModel/>".into(),
        document("").replace("></", ">\u{0}</"),
    ] {
        assert!(read(text.as_bytes()).is_err(), "{text}");
    }
    assert!(read(b"<NativeDicomModel>\xE9</NativeDicomModel>").is_err());
}

#[test]
fn entities_and_document_types_are_refused() {
    let laughs = "<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>";
    let value = "<DicomAttribute tag='00080008' vr='CS'><Value>&b;</Value></DicomAttribute>";
    let keyword = "<DicomAttribute tag='00080008' vr='CS' keyword='&b;'></DicomAttribute>";
    let file = "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>";
    for text in [
        laughs.to_owned() + &document(value),
        file.to_owned() + &document(value),
        document(value),
        document(keyword),
        document(&value.replace("&b;", "&#0;")),
        document(&value.replace("&b;", "&#x110000;")),
        document(&value.replace("&b;", "& ")),
    ] {
        assert!(matches!(read(text.as_bytes()), Err(Error::Syntax(_))), "{text}");
    }
}

#[test]
fn depth_and_xml_attributes_are_bounded() {
    let nested = |depth: usize| {
        let start = "<DicomAttribute tag='00400275' vr='SQ'><Item number='1'>".repeat(depth);
        document(&(start + &"</Item></DicomAttribute>".repeat(depth)))
    };
    assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
    for depth in [MAX_DEPTH + 1, 100_000] {
        assert!(matches!(read(nested(depth).as_bytes()), Err(Error::TooDeep(MAX_DEPTH))), "{depth}");
    }
    let many: String = (0..100_000).map(|n| format!(" a{n}=''")).collect();
    assert!(read_attributes(&format!("<DicomAttribute{many}/>")).is_err());
}

#[test]
fn cut_and_damaged_documents_never_panic() {
    for at in 0..DOCUMENT.len() - 1 {
        assert!(read(&DOCUMENT.as_bytes()[..at]).is_err(), "cut at {at}");
        for byte in [b'<', b'>', b'&', b'"', b'/', b'!', b'0', 0, 0xFF] {
            let mut damaged = DOCUMENT.as_bytes().to_vec();
            damaged[at] = byte;
            if let Ok(data_set) = read(&damaged) {
                read(written(&data_set).as_bytes()).unwrap();
            }
        }
    }
}

#[test]
fn documents_have_a_limit_on_attributes_items_and_values() {
    let attribute = |tag: u32| format!("<DicomAttribute tag=\"{tag:08X}\"/>");
    let flat = |count: u32| (0..count).map(|at| attribute(0x0009_1000 + at)).collect::<String>();
    let items = |count: usize| {
        let items = "<Item/>".repeat(count);
        format!("<DicomAttribute tag=\"00400275\" vr=\"SQ\">{items}</DicomAttribute>")
    };
    let values = |count: usize| {
        let values: String = (1..=count).map(|at| format!("<Value number=\"{at}\">1</Value>")).collect();
        format!("<DicomAttribute tag=\"00280030\" vr=\"DS\">{values}</DicomAttribute>")
    };
    for (attributes, expected) in [
        (flat(100), true),
        (flat(101), false),
        (items(99), true),
        (items(100), false),
        (values(398), true),
        (values(399), false),
    ] {
        let outcome = super::read(document(&attributes).as_bytes(), MAX_DEPTH, 100);
        assert_eq!(outcome.is_ok(), expected, "{} {outcome:?}", &attributes[..60]);
        if let Err(error) = outcome {
            assert!(error.to_string().contains("ingest.max_metadata_elements"), "{error}");
        }
    }
}
