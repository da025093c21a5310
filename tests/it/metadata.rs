//! Metadata: joined, compressed, validated (PS3.18 §10.4.1.3).

use std::io::Read;

use cuspid::dicom::xml;
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::harness::{Server, native};

async fn three_instances() -> Server {
    let server = Server::start().await;
    let instances = [native("1.1", "1.2", "1.3"), native("1.1", "1.2", "1.4"), native("1.1", "1.5", "1.6")];
    assert_eq!(server.store(&instances).await.status(), 200);
    server
}

#[tokio::test]
async fn each_level_gives_its_instances() {
    let server = three_instances().await;
    for (path, count) in [
        ("/studies/1.1/metadata", 3),
        ("/studies/1.1/series/1.2/metadata", 2),
        ("/studies/1.1/series/1.2/instances/1.4/metadata", 1),
    ] {
        let json = server.json(path).await;
        let found = json.as_array().unwrap();
        assert_eq!(found.len(), count, "{path}");
        assert_eq!(found[0]["0020000D"]["Value"][0], "1.1");
        let uri = found[0]["7FE00010"]["BulkDataURI"].as_str().unwrap();
        assert!(uri.starts_with(&server.url("/studies/1.1/series/")), "{uri}");
    }
}

#[tokio::test]
async fn every_accept_of_a_viewer_gets_json() {
    let server = three_instances().await;
    for accept in [
        "application/dicom+json",
        "application/json",
        r#"application/dicom+json, multipart/related; type="application/octet-stream"; transfer-syntax=*"#,
        "*/*",
    ] {
        let request = server.get("/studies/1.1/metadata").header("Accept", accept);
        assert_eq!(request.send().await.unwrap().status(), 200, "{accept}");
    }
}

#[tokio::test]
async fn compressed_metadata_is_the_same_metadata() {
    let server = three_instances().await;
    let plain = server.get("/studies/1.1/metadata").send().await.unwrap();
    let request = server.get("/studies/1.1/metadata").header("Accept-Encoding", "gzip");
    let packed = request.send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_ne!(packed.headers()["etag"], plain.headers()["etag"]);
    let mut text = Vec::new();
    MultiGzDecoder::new(&packed.bytes().await.unwrap()[..]).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.bytes().await.unwrap());
    assert!(serde_json::from_slice::<Value>(&text).unwrap().is_array());
}

#[tokio::test]
async fn the_etag_changes_with_the_series() {
    let server = three_instances().await;
    let path = "/studies/1.1/series/1.2/metadata";
    let etag = server.get(path).send().await.unwrap().headers()["etag"].clone();
    let again = || server.get(path).header("If-None-Match", etag.clone()).send();
    let response = again().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["etag"]), (304, &etag));
    assert_eq!(server.store(&[native("1.1", "1.2", "1.9")]).await.status(), 200);
    assert_eq!(again().await.unwrap().status(), 200);
}

#[tokio::test]
async fn bulk_data_uris_lead_to_the_bytes() {
    let server = three_instances().await;
    let json = server.json("/studies/1.1/series/1.2/instances/1.3/metadata").await;
    let uri = json[0]["7FE00010"]["BulkDataURI"].as_str().unwrap().to_owned();
    let response =
        server.request("GET", uri.clone()).header("Accept", "application/octet-stream").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let bytes = response.bytes().await.unwrap();
    assert_eq!((bytes.len(), bytes[0], bytes[95]), (96, 1, 3));
    let response =
        server.request("GET", uri).header("Accept", "*/*").header("Range", "bytes=90-").send().await.unwrap();
    assert_eq!(response.status(), 206);
    assert_eq!(response.headers()["content-range"], "bytes 90-95/96");
}

const XML: &str = "application/dicom+xml";
const XML_PARTS: &str = "multipart/related; type=\"application/dicom+xml\"";

/// The documents of a multipart answer, read into DICOM JSON. Each part names the URL of its metadata.
fn documents(text: &str) -> Vec<Value> {
    let sections: Vec<&str> = text.split("--native-dicom-model").collect();
    assert_eq!((sections[0], sections.last().copied()), ("", Some("--\r\n")));
    let parts = sections[1..sections.len() - 1].iter().map(|section| {
        let (head, document) = section.split_once("\r\n\r\n").unwrap();
        let document = xml::read(document.strip_suffix("\r\n").unwrap().as_bytes(), 64, 1000).unwrap();
        let (media_type, location) = head.split_once("\r\nContent-Location: ").unwrap();
        assert_eq!(media_type, "\r\nContent-Type: application/dicom+xml");
        let uid = |tag: &str| document[tag]["Value"][0].as_str().unwrap();
        let path = format!("/studies/1.1/series/{}/instances/{}/metadata", uid("0020000E"), uid("00080018"));
        assert!(location.ends_with(&path), "{location}");
        document
    });
    parts.collect()
}

#[tokio::test]
async fn metadata_in_xml_say_what_those_in_json_say() {
    let server = three_instances().await;
    for path in [
        "/studies/1.1/metadata",
        "/studies/1.1/series/1.2/metadata",
        "/studies/1.1/series/1.2/instances/1.4/metadata",
    ] {
        let response = server.get(path).header("Accept", XML_PARTS).send().await.unwrap();
        let expected = format!("{XML_PARTS}; boundary=native-dicom-model");
        assert_eq!(response.headers()["content-type"].to_str().unwrap(), expected);
        let text = response.text().await.unwrap();
        assert_eq!(Value::Array(documents(&text)), server.json(path).await, "{path}");
        let request = server.get(path).header("Accept", XML_PARTS).header("Accept-Encoding", "gzip");
        let packed = request.send().await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], "gzip");
        let mut inflated = String::new();
        let packed = packed.bytes().await.unwrap();
        MultiGzDecoder::new(&packed[..]).read_to_string(&mut inflated).unwrap();
        assert_eq!(inflated, text, "{path}");
    }
}

#[tokio::test]
async fn one_document_alone_is_given_of_one_instance_only() {
    let server = three_instances().await;
    let path = "/studies/1.1/series/1.2/instances/1.4/metadata";
    let response = server.get(path).header("Accept", XML).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], XML);
    let text = response.text().await.unwrap();
    assert_eq!(xml::read(text.as_bytes(), 64, 1000).unwrap(), server.json(path).await[0]);
    let response = server.get("/studies/1.1/metadata").header("Accept", XML).send().await.unwrap();
    assert_eq!(response.status(), 406);
    let problem = response.text().await.unwrap();
    assert!(problem.contains("application/dicom+json") && problem.contains("multipart/related"), "{problem}");
}

#[tokio::test]
async fn each_form_of_metadata_has_an_etag_of_its_own() {
    let server = three_instances().await;
    let path = "/studies/1.1/series/1.2/instances/1.4/metadata";
    let mut etags = Vec::new();
    for accept in ["application/dicom+json", XML, XML_PARTS] {
        let response = server.get(path).header("Accept", accept).send().await.unwrap();
        let etag = response.headers()["etag"].clone();
        let again = server.get(path).header("Accept", accept).header("If-None-Match", etag.clone());
        assert_eq!(again.send().await.unwrap().status(), 304, "{accept}");
        assert!(!etags.contains(&etag), "{accept}");
        etags.push(etag);
    }
}
