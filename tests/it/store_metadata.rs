//! STOW-RS of metadata and bulk data in parts of their own (PS3.18 §10.5.1.4, §10.5.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use serde_json::{Value, json};

use crate::harness::{CT, Server, parts};

/// A part: its header fields and its bytes.
type Part<'a> = (&'a str, &'a str, Vec<u8>);

fn body(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (media_type, location, bytes) in parts {
        body.extend_from_slice(format!("\r\n--B\r\nContent-Type: {media_type}\r\n").as_bytes());
        if !location.is_empty() {
            body.extend_from_slice(format!("Content-Location: {location}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(bytes);
    }
    body.extend_from_slice(b"\r\n--B--");
    body
}

const JSON: &str = "application/dicom+json";
const XML: &str = "application/dicom+xml";
const RAW: &str = "application/octet-stream";

async fn store(server: &Server, kind: &str, parts: &[Part<'_>]) -> Response {
    let content_type = format!("multipart/related; type=\"{kind}\"; boundary=B");
    server.post("/studies").header("Content-Type", content_type).body(body(parts)).send().await.unwrap()
}

fn data_set(instance: &str) -> Value {
    json!({
        "00080016": {"vr": "UI", "Value": [CT]},
        "00080018": {"vr": "UI", "Value": [instance]},
        "0020000D": {"vr": "UI", "Value": ["1.1"]},
        "0020000E": {"vr": "UI", "Value": ["1.2"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "M\u{fc}ller^J"}]},
        "00100020": {"vr": "LO", "Value": ["7"]},
    })
}

/// Two frames of 2 x 2 pixels of 8 bits, with Pixel Data at this BulkDataURI.
fn image(instance: &str, uri: &str) -> Value {
    let mut image = data_set(instance);
    for (tag, number) in [
        ("00280002", 1),
        ("00280010", 2),
        ("00280011", 2),
        ("00280100", 8),
        ("00280101", 8),
        ("00280102", 7),
        ("00280103", 0),
    ] {
        image[tag] = json!({"vr": "US", "Value": [number]});
    }
    image["00280004"] = json!({"vr": "CS", "Value": ["MONOCHROME2"]});
    image["00280008"] = json!({"vr": "IS", "Value": [2]});
    image["7FE00010"] = json!({"vr": "OB", "BulkDataURI": uri});
    image
}

fn text(json: &Value) -> Vec<u8> {
    json.to_string().into_bytes()
}

async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

/// The Failure Reason, and the attributes at fault with the reasons.
fn faults(answer: &Value, sequence: &str) -> (u64, Vec<(String, String)>) {
    let item = &answer[sequence]["Value"][0];
    let details = item["00741048"]["Value"].as_array().cloned().unwrap_or_default();
    let details = details.iter().map(|detail| {
        let text = |tag: &str| detail[tag]["Value"][0].as_str().unwrap_or_default().to_owned();
        (text("00720026"), text("00000902"))
    });
    (item["00081197"]["Value"][0].as_u64().unwrap(), details.collect())
}

async fn frame(server: &Server, instance: &str, frame: u32) -> Vec<u8> {
    let path = format!("/studies/1.1/series/1.2/instances/{instance}/frames/{frame}");
    let response = server.get(&path).header("Accept", "*/*; transfer-syntax=*").send().await.unwrap();
    assert_eq!(response.status(), 200);
    parts(response).await.remove(0).1
}

#[tokio::test]
async fn metadata_and_bulk_data_become_instances() {
    let server = Server::start().await;
    let base = server.url("");
    for (n, uri, location) in [
        (1, "bulk/1", "bulk/1".to_owned()),
        (2, "./bulk/2", format!("{base}/bulk/2")),
        (3, "/dicom-web/bulk/3", "bulk/3".to_owned()),
        (4, "urn:uuid:4", "urn:uuid:4".to_owned()),
    ] {
        let instance = format!("1.3.{n}");
        let parts: [Part<'_>; 2] = [
            (JSON, "", text(&json!([image(&instance, uri)]))),
            (RAW, &location, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        ];
        let (status, answer) = answer(store(&server, JSON, &parts).await).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["00081199"]["Value"][0]["00081155"]["Value"][0], instance);
        assert_eq!(frame(&server, &instance, 2).await, [5, 6, 7, 8]);
    }
    let metadata = server.json("/studies/1.1/series/1.2/instances/1.3.1/metadata").await;
    assert_eq!(metadata[0]["00100010"]["Value"][0]["Alphabetic"], "M\u{fc}ller^J");
    assert_eq!(metadata[0]["00080005"]["Value"][0], "ISO_IR 192");
    assert_eq!(metadata[0]["00083002"]["Value"][0], "1.2.840.10008.1.2.1");
}

#[tokio::test]
async fn many_instances_of_one_array_each_get_their_own_value() {
    let server = Server::start().await;
    let instances: Vec<_> = (0..50).map(|n| image(&format!("1.3.{n}"), &format!("bulk/{n}"))).collect();
    let locations: Vec<_> = (0..50).map(|n| format!("bulk/{n}")).collect();
    let mut parts: Vec<Part<'_>> = vec![(JSON, "", text(&json!(instances)))];
    parts.extend(locations.iter().zip(0_u8..).map(|(location, n)| (RAW, location.as_str(), vec![n; 8])));
    let (status, answer) = answer(store(&server, JSON, &parts).await).await;
    assert_eq!((status, answer["00081199"]["Value"].as_array().unwrap().len()), (200, 50));
    assert_eq!(answer["00081199"]["Value"][17]["00081155"]["Value"][0], "1.3.17");
    assert_eq!(frame(&server, "1.3.17", 1).await, [17; 4]);
}

#[tokio::test]
async fn the_native_dicom_model_is_stored_and_answered_alike() {
    let server = Server::start().await;
    let mut xml = Vec::new();
    cuspid::dicom::xml::write(&image("1.3", "bulk/1"), &mut xml);
    let parts: [Part<'_>; 2] = [(XML, "", xml), (RAW, "bulk/1", vec![1, 2, 3, 4, 5, 6, 7, 8])];
    let content_type = format!("multipart/related; type=\"{XML}\"; boundary=B");
    let request = server.post("/studies").header("Content-Type", content_type).header("Accept", XML);
    let response = request.body(body(&parts)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], XML);
    assert_eq!(response.headers()["location"], server.url("/studies/1.1"));
    let module = cuspid::dicom::xml::read(&response.bytes().await.unwrap(), 64, 1000).unwrap();
    assert_eq!(module["00081199"]["Value"][0]["00081155"]["Value"][0], "1.3");
    assert_eq!(frame(&server, "1.3", 1).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_instance_without_bulk_data_needs_no_parts() {
    let server = Server::start().await;
    let mut data_set = data_set("1.3");
    data_set["00420011"] = json!({"vr": "OB", "InlineBinary": STANDARD.encode(b"%PDF")});
    let request = server.post("/studies/1.1").header("Content-Type", JSON);
    let response = request.body(text(&data_set)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    // Documents are always given by reference, however small.
    let metadata = server.json("/studies/1.1/metadata").await;
    let url = metadata[0]["00420011"]["BulkDataURI"].as_str().unwrap();
    let document =
        reqwest::Client::new().get(url).header("Accept", "application/octet-stream").send().await.unwrap();
    assert_eq!(document.bytes().await.unwrap(), b"%PDF"[..]);
}

/// The start of a JPEG image of 8 bits, 2 rows and 3 columns, in a process given by its marker.
fn jpeg(process: u8, selection: u8, tail: &[u8]) -> Vec<u8> {
    let frame = [0xFF, process, 0, 11, 8, 0, 2, 0, 3, 1, 1, 0x11, 0];
    let scan = [0xFF, 0xDA, 0, 8, 1, 1, 0, selection, 0, 0];
    [&[0xFF, 0xD8], frame.as_slice(), &scan, tail].concat()
}

#[tokio::test]
async fn compressed_frames_are_encapsulated_and_describe_themselves() {
    let server = Server::start().await;
    let mut image = data_set("1.3");
    image["7FE00010"] = json!({"vr": "OB", "BulkDataURI": "p"});
    let frames = [jpeg(0xC3, 1, b"one"), jpeg(0xC3, 1, b"four"), jpeg(0xC3, 1, b"")];
    let mut parts: Vec<Part<'_>> = vec![(JSON, "", text(&json!([image])))];
    parts.extend(frames.iter().map(|frame| ("image/jpeg", "p", frame.clone())));
    let (status, answer) = answer(store(&server, JSON, &parts).await).await;
    assert_eq!(status, 200, "{answer}");
    let metadata = &server.json("/studies/1.1/metadata").await[0];
    for (tag, expected) in [
        ("00083002", json!("1.2.840.10008.1.2.4.70")),
        ("00280002", json!(1)),
        ("00280004", json!("MONOCHROME2")),
        ("00280008", json!(3)),
        ("00280010", json!(2)),
        ("00280011", json!(3)),
        ("00280100", json!(8)),
        ("00280101", json!(8)),
        ("00280102", json!(7)),
        ("00280103", json!(0)),
    ] {
        assert_eq!(metadata[tag]["Value"][0], expected, "{tag}");
    }
    for (number, sent) in (1..).zip(&frames) {
        let found = frame(&server, "1.3", number).await;
        // Padding stays with the value before it.
        assert_eq!(found[..sent.len()], *sent, "{number}");
        assert!(found.len() - sent.len() <= 1);
    }
}

/// An RGB image of 2 x 1 pixels as a PNG file.
fn png(samples: [u8; 6]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&samples).unwrap();
    file
}

#[tokio::test]
async fn pictures_that_no_transfer_syntax_holds_are_decoded() {
    let server = Server::start().await;
    let mut image = data_set("1.3");
    image["00280100"] = json!({"vr": "US", "Value": [16]});
    image["7FE00010"] = json!({"vr": "OB", "BulkDataURI": "p"});
    let frames = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]];
    let mut parts: Vec<Part<'_>> = vec![(JSON, "", text(&json!([image])))];
    parts.extend(frames.map(|frame| ("image/png", "p", png(frame))));
    let (status, told) = answer(store(&server, JSON, &parts).await).await;
    // With a warning: the given Bits Allocated was wrong.
    assert_eq!(status, 202, "{told}");
    let metadata = &server.json("/studies/1.1/metadata").await[0];
    for (tag, expected) in [
        ("00280004", json!("RGB")),
        ("00280008", json!(2)),
        ("00280010", json!(1)),
        ("00280011", json!(2)),
        ("00280100", json!(8)),
    ] {
        assert_eq!(metadata[tag]["Value"][0], expected, "{tag}");
    }
    for (number, sent) in (1..).zip(&frames) {
        assert_eq!(frame(&server, "1.3", number).await, sent, "{number}");
    }
    let mut damaged = png(frames[0]);
    damaged.truncate(45);
    parts.truncate(1);
    let mut other = data_set("1.4");
    other["7FE00010"] = image["7FE00010"].clone();
    parts[0].2 = text(&json!([other]));
    parts.push(("image/png", "p", damaged));
    assert_eq!(store(&server, JSON, &parts).await.status(), 409);
}

#[tokio::test]
async fn the_transfer_syntax_is_that_of_the_bytes_and_of_the_media_type() {
    let server = Server::start().await;
    for (n, media_type, bytes, expected, status) in [
        (1, "image/jpeg", jpeg(0xC0, 0, b""), "4.50", 200),
        (2, "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.57", jpeg(0xC3, 1, b""), "4.57", 200),
        (3, "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70", jpeg(0xC0, 0, b""), "4.50", 202),
        (4, "image/jls", jpeg(0xF7, 0, b""), "4.80", 200),
        (5, "image/x-dicom-rle", vec![0; 64], "5", 200),
        (6, "video/mp4; transfer-syntax=1.2.840.10008.1.2.4.104", vec![7; 9], "4.104", 200),
        (7, "video/mpeg", vec![7; 9], "4.101", 200),
    ] {
        let instance = format!("1.3.{n}");
        let mut image = data_set(&instance);
        image["7FE00010"] = json!({"vr": "OW", "BulkDataURI": "p"});
        if n > 4 {
            image = self::image(&instance, "p");
            image["00280008"]["Value"][0] = json!(if n == 5 { 1 } else { 30 });
        }
        let parts: [Part<'_>; 2] = [(JSON, "", text(&image)), (media_type, "p", bytes)];
        let (found, answer) = answer(store(&server, JSON, &parts).await).await;
        assert_eq!(found, status, "{media_type} {answer}");
        let path = format!("/studies/1.1/series/1.2/instances/{instance}/metadata");
        let syntax = &server.json(&path).await[0]["00083002"]["Value"][0];
        assert_eq!(*syntax, format!("1.2.840.10008.1.2.{expected}"), "{media_type}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_by_attribute_and_costs_no_other_instance() {
    let server = Server::start().await;
    let with = |tag: &str, attribute: Value| {
        let mut data_set = data_set("1.3.1");
        data_set[tag] = attribute;
        data_set
    };
    let mut without_study = data_set("1.3.1");
    without_study.as_object_mut().unwrap().remove("0020000D");
    let mut frames = image("1.3.1", "frames");
    frames["00280008"]["Value"][0] = json!(5);
    for (bad, reason, tag) in [
        (without_study, 0xC000, "0020000D"),
        (with("0020000E", json!({"vr": "UI", "Value": ["a"]})), 0xC000, "0020000E"),
        (with("00280010", json!({"vr": "US", "Value": ["a"]})), 0xC000, "00280010"),
        (with("00280010", json!({"vr": "UX", "Value": [1]})), 0xC000, "00280010"),
        (with("7FE00010", json!({"vr": "OW", "BulkDataURI": "nowhere"})), 0xC000, "7FE00010"),
        (with("7FE00010", json!({"vr": "OW", "BulkDataURI": "png"})), 0xC122, ""),
        (frames, 0xC000, "00280008"),
    ] {
        let good = data_set("1.3.2");
        let parts: [Part<'_>; 4] = [
            (JSON, "", text(&json!([bad, good]))),
            ("image/png", "png", vec![0]),
            ("image/jpeg", "frames", jpeg(0xC0, 0, b"")),
            (RAW, "extra", vec![0]),
        ];
        let (status, answer) = answer(store(&server, JSON, &parts).await).await;
        assert_eq!(status, 202, "{bad}");
        assert_eq!(answer["00081199"]["Value"][0]["00081155"]["Value"][0], "1.3.2");
        assert_eq!(answer["00081198"]["Value"][0]["00081155"]["Value"][0], "1.3.1");
        let (found, details) = faults(&answer, "00081198");
        assert_eq!((found, details[0].0.as_str()), (reason, tag), "{details:?}");
        let (found, details) = faults(&answer, "0008119A");
        assert_eq!(found, 0xC000);
        assert_eq!(details[0].1, "bulk data that no metadata refers to");
    }
}

#[tokio::test]
async fn an_array_holds_no_more_objects_than_there_may_be_parts() {
    let server = Server::with(|config| config.ingest.max_parts = 3).await;
    let array = Value::from(["1.3", "1.4", "1.5", "1.6", "1.7"].map(data_set).to_vec());
    let (status, answer) = answer(store(&server, JSON, &[(JSON, "", array.to_string().into())]).await).await;
    assert_eq!((status, server.json("/instances").await.as_array().unwrap().len()), (202, 3));
    assert!(answer.to_string().contains("ingest.max_parts"), "{answer}");
}

#[tokio::test]
async fn what_is_no_metadata_is_refused_without_harm() {
    let server = Server::with(|config| config.ingest.max_header_bytes = 100_000).await;
    let deep = format!("[{}", r#"{"00081140":{"vr":"SQ","Value":["#.repeat(5000));
    let long = format!(r#"[{{"00100020":{{"vr":"LO","Value":["{}"]}}}}]"#, "1".repeat(200_000));
    for (kind, part) in [
        (JSON, "text"),
        (JSON, "[1]"),
        (JSON, "[{\"a\""),
        (JSON, "[{]}]"),
        (JSON, "[]"),
        (JSON, &deep),
        (JSON, &long),
        (XML, "<a/>"),
        (XML, "<NativeDicomModel>"),
        (XML, "<!DOCTYPE a [<!ENTITY b \"c\">]><NativeDicomModel>&b;</NativeDicomModel>"),
    ] {
        let parts: [Part<'_>; 1] = [(kind, "", part.as_bytes().to_vec())];
        let response = store(&server, kind, &parts).await;
        // Bad syntax is a bad request (PS3.18 Table 10.5.3-1); metadata that are too large are not.
        let expected = if part == long { 409 } else { 400 };
        assert_eq!(response.status(), expected, "{}", &part[..part.len().min(50)]);
    }
    assert_eq!(server.json("/studies").await, json!([]));
}
