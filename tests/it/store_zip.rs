//! STOW-RS of zip archives, forms and compressed bodies (PS3.18 §10.5, RFC 7578, RFC 9110 §8.4).

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Response;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::build::DataSet;
use crate::harness::{STORE_TYPE, Server, multipart, native};

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

async fn store(server: &Server, content_type: &str, body: Vec<u8>) -> Response {
    server.post("/studies").header("Content-Type", content_type).body(body).send().await.unwrap()
}

async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// The Error Comments of the failures that concern no instance.
fn comments(answer: &Value) -> Vec<String> {
    // Failed SOP Sequence and Other Failures Sequence.
    let lists =
        ["00081198", "0008119A"].map(|tag| answer[tag]["Value"].as_array().cloned().unwrap_or_default());
    let failures = lists.concat();
    let details =
        failures.iter().flat_map(|item| item["00741048"]["Value"].as_array().cloned().unwrap_or_default());
    details.map(|detail| detail["00000902"]["Value"][0].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn instances_of_an_archive_are_stored_and_the_rest_is_told() {
    let server = Server::start().await;
    let dicomdir = DataSet::explicit()
        .element(0x0002_0001, "OB", &[0, 1])
        .text(0x0002_0002, "UI", "1.2.840.10008.1.3.10")
        .text(0x0002_0010, "UI", "1.2.840.10008.1.2.1")
        .bytes();
    let dicomdir = [&[0; 128], b"DICM".as_slice(), &dicomdir].concat();
    let archive = zip(&[
        ("DICOMDIR", &dicomdir),
        ("DICOM/1", &native("1.1", "1.2", "1.3")),
        ("DICOM/../../../2", &native("1.1", "1.2", "1.4")),
        ("README.TXT", b"read me"),
    ]);
    let response = store(&server, "application/zip", archive).await;
    assert_eq!(response.status(), 200);
    let warning = response.headers()["warning"].to_str().unwrap();
    assert!(warning.contains("DICOMDIR") && warning.contains("README.TXT"), "{warning}");
    assert_eq!(json(response).await["00081199"]["Value"].as_array().unwrap().len(), 2);
    assert_eq!(server.json("/instances").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_archive_with_bad_entries_loses_none_of_the_others() {
    let server = Server::start().await;
    let good = native("1.1", "1.2", "1.3");
    let mut archive = zip(&[
        ("1", &good),
        ("cut", &native("1.1", "1.2", "1.4")[..400]),
        ("inner.zip", &zip(&[("1", &good)])),
        ("encrypted", b"secret"),
    ]);
    let last = archive.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    archive[last + 8] |= 1;
    let response = store(&server, "application/zip", archive).await;
    assert_eq!(response.status(), 202);
    let answer = json(response).await;
    assert_eq!(answer["00081199"]["Value"].as_array().unwrap().len(), 1);
    let comments = comments(&answer);
    for expected in
        ["cut", "inner.zip", "a zip archive within a zip archive is not opened", "it is encrypted"]
    {
        assert!(comments.iter().any(|comment| comment == expected), "{expected}: {comments:?}");
    }
}

#[tokio::test]
async fn what_is_no_whole_archive_is_refused() {
    let server = Server::with(|config| config.ingest.max_parts = 2).await;
    let archive = zip(&[("1", &native("1.1", "1.2", "1.3"))]);
    let many = zip(&[("1", b"1"), ("2", b"2"), ("3", b"3")]);
    for body in [b"text".to_vec(), archive[..archive.len() / 2].to_vec(), many, zip(&[("a", b"text")])] {
        let response = store(&server, "application/zip", body).await;
        assert_eq!(response.status(), 409);
        assert!(!comments(&json(response).await).is_empty());
    }
    assert_eq!(server.json("/instances").await.as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn archives_come_in_parts_too() {
    let server = Server::start().await;
    let mut body = Vec::new();
    for instance in ["1.3", "1.4"] {
        body.extend_from_slice(b"\r\n--B\r\nContent-Type: application/zip\r\n\r\n");
        body.extend_from_slice(&zip(&[("1", &native("1.1", "1.2", instance))]));
    }
    body.extend_from_slice(b"\r\n--B--");
    let response = store(&server, "multipart/related; type=\"application/zip\"; boundary=B", body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(server.json("/instances").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn all_archives_of_a_request_hold_no_more_entries_than_there_may_be_parts() {
    let server = Server::with(|config| config.ingest.max_parts = 3).await;
    let mut body = Vec::new();
    for instance in ["1.3", "1.4"] {
        body.extend_from_slice(b"\r\n--B\r\nContent-Type: application/zip\r\n\r\n");
        body.extend_from_slice(&zip(&[("1", &native("1.1", "1.2", instance)), ("2", b"text")]));
    }
    body.extend_from_slice(b"\r\n--B--");
    let response = store(&server, "multipart/related; type=\"application/zip\"; boundary=B", body).await;
    assert_eq!(response.status(), 202);
    assert!(comments(&json(response).await).iter().any(|comment| comment.contains("ingest.max_parts")));
}

#[tokio::test]
async fn files_of_a_form_are_stored() {
    let server = Server::start().await;
    let mut body = b"--B\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello".to_vec();
    for (name, media_type, bytes) in [
        ("a.dcm", "application/octet-stream", native("1.1", "1.2", "1.3")),
        ("b.zip", "application/x-zip-compressed", zip(&[("1", &native("1.1", "1.2", "1.4"))])),
    ] {
        let disposition = format!("form-data; name=\"files\"; filename=\"{name}\"");
        let head =
            format!("\r\n--B\r\nContent-Disposition: {disposition}\r\nContent-Type: {media_type}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&bytes);
    }
    body.extend_from_slice(b"\r\n--B--\r\n");
    let response = store(&server, "multipart/form-data; boundary=B", body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(server.json("/instances").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn compressed_bodies_are_unpacked_or_refused_by_name() {
    let server = Server::start().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&multipart(&[native("1.1", "1.2", "1.3")])).unwrap();
    let packed = encoder.finish().unwrap();
    for (encoding, status) in [("br", 415), ("gzip", 200)] {
        let request =
            server.post("/studies").header("Content-Type", STORE_TYPE).header("Content-Encoding", encoding);
        let response = request.body(packed.clone()).send().await.unwrap();
        assert_eq!(response.status(), status, "{encoding}");
        assert_eq!(response.headers().contains_key("accept-encoding"), status == 415);
    }
}

/// Sends the head of a request that expects `100 Continue`; returns the answer before the body is sent.
async fn expect(server: &Server, path: &str, fields: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n{fields}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    (stream, String::from_utf8_lossy(&answer[..read]).into_owned())
}

#[tokio::test]
async fn a_client_that_expects_to_continue_is_refused_before_it_sends() {
    let server = Server::with(|config| config.ingest.max_request_bytes = 1000).await;
    let studies = "/dicom-web/studies";
    let json = "Content-Type: application/json\r\nContent-Length: 9";
    let large = format!("Content-Type: {STORE_TYPE}\r\nContent-Length: 2000");
    let brotli = format!("Content-Type: {STORE_TYPE}\r\nContent-Encoding: br\r\nContent-Length: 9");
    let plain = format!("Content-Type: {STORE_TYPE}\r\nContent-Length: 9");
    for (path, fields, status) in [
        (studies, "Content-Length: 9", 415),
        (studies, json, 415),
        (studies, &brotli, 415),
        (studies, &large, 413),
        ("/dicom-web/studies/x", &plain, 400),
        ("/dicom-web/nothing", &plain, 404),
        ("/dicom-web/studies/1/series", &plain, 405),
    ] {
        let (_, answer) = expect(&server, path, fields).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {fields}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_expects_to_continue_goes_on_when_it_may() {
    let server = Server::start().await;
    let body = multipart(&[native("1.1", "1.2", "1.3")]);
    let fields = format!("Content-Type: {STORE_TYPE}\r\nConnection: close\r\nContent-Length: {}", body.len());
    let (mut stream, answer) = expect(&server, "/dicom-web/studies", &fields).await;
    assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
    stream.write_all(&body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_client_that_trickles_loses_its_place() {
    let server = Server::with(|config| config.http.idle_timeout_seconds = 1).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let fields = format!("Host: 127.0.0.1\r\nContent-Type: {STORE_TYPE}\r\nContent-Length: 100000");
    stream
        .write_all(format!("POST /dicom-web/studies HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let (mut read, mut write) = stream.into_split();
    let trickle = async {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(200));
        while write.write_all(b"x").await.is_ok() {
            pause.tick().await;
        }
    };
    let answer = async {
        let mut answer = vec![0; 4096];
        let read = read.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    tokio::select! {
        () = trickle => panic!("the connection ended without an answer"),
        answer = answer => {
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(answer.contains("min_bytes_per_second"), "{answer}");
        }
    }
}
