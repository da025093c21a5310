//! STOW-RS: stored and refused instances, and the answer (PS3.18 §10.5).

use futures_util::StreamExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{STORE_TYPE, Server, data_set, multipart, native};

async fn json(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn all_instances_of_a_request_are_stored_and_told() {
    let server = Server::start().await;
    let instances: Vec<_> = (1..=100).map(|n| native("1.1", "1.2", &format!("1.3.{n}"))).collect();
    let response = server.store(&instances).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/dicom+json");
    let json = json(response).await;
    let stored = json["00081199"]["Value"].as_array().unwrap();
    assert_eq!(stored.len(), 100);
    assert_eq!(stored[41]["00081155"]["Value"][0], "1.3.42");
    let url = server.url("/studies/1.1/series/1.2/instances/1.3.42");
    assert_eq!(stored[41]["00081190"]["Value"][0], url);
    assert_eq!(json["00081190"]["Value"][0], server.url("/studies/1.1"));
    assert_eq!(server.json("/instances?limit=200").await.as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn a_single_instance_needs_no_parts() {
    let server = Server::start().await;
    let request = server.post("/studies/1.1").header("Content-Type", "application/dicom");
    let response = request.body(native("1.1", "1.2", "1.3")).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn the_status_says_how_much_was_stored() {
    let server = Server::start().await;
    let other_bytes =
        data_set("1.1", "1.2", "1.3").text(0x0010_0040, "CS", "O").file(crate::harness::EXPLICIT);
    let good = native("1.1", "1.2", "1.3");
    for (name, instances, status, reason) in [
        ("no instance", vec![b"text".to_vec()], 409, Some(("0008119A", 0xC000))),
        ("one of two", vec![good.clone(), b"text".to_vec()], 202, Some(("0008119A", 0xC000))),
        ("the same again", vec![good], 200, None),
        ("other bytes", vec![other_bytes], 409, Some(("00081198", 0xA900))),
        ("other study", vec![native("2.1", "2.2", "1.3")], 409, Some(("00081198", 0xA900))),
    ] {
        let response = server.store(&instances).await;
        assert_eq!(response.status(), status, "{name}");
        let json = json(response).await;
        if let Some((sequence, reason)) = reason {
            assert_eq!(json[sequence]["Value"][0]["00081197"]["Value"][0], reason, "{name}");
        }
    }
}

#[tokio::test]
async fn an_instance_of_another_study_than_the_url_is_refused() {
    let server = Server::start().await;
    let request = server.post("/studies/1.9").header("Content-Type", STORE_TYPE);
    let response = request.body(multipart(&[native("1.1", "1.2", "1.3")])).send().await.unwrap();
    assert_eq!(response.status(), 409);
    assert_eq!(server.get("/studies/1.1").send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn what_is_no_store_request_is_refused_at_once() {
    let server = Server::with(|config| config.ingest.max_request_bytes = 1000).await;
    for (content_type, body, status) in [
        ("application/json", vec![], 415),
        ("multipart/mixed; boundary=B", vec![], 415),
        ("multipart/related; type=\"application/dicom\"", vec![], 400),
        (STORE_TYPE, b"no boundary".to_vec(), 400),
        (STORE_TYPE, vec![], 400),
        (STORE_TYPE, vec![0; 2_000_000], 413),
    ] {
        let request = server.post("/studies").header("Content-Type", content_type);
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), status, "{content_type}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn a_body_without_length_is_stored_whatever_its_chunks() {
    let server = Server::start().await;
    let body = multipart(&[native("1.1", "1.2", "1.3"), native("1.1", "1.2", "1.4")]);
    let chunks: Vec<_> = body.chunks(7).map(<[u8]>::to_vec).collect();
    let stream = futures_util::stream::iter(chunks).map(Ok::<_, std::io::Error>);
    let request = server.post("/studies").header("Content-Type", STORE_TYPE);
    let response = request.body(reqwest::Body::wrap_stream(stream)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let response = server
        .get("/studies/1.1/series/1.2/instances/1.4")
        .header("Accept", "application/dicom; transfer-syntax=*");
    assert_eq!(response.send().await.unwrap().bytes().await.unwrap(), native("1.1", "1.2", "1.4"));
}

#[tokio::test]
async fn a_part_that_is_cut_off_is_not_stored() {
    let server = Server::start().await;
    let mut body = multipart(&[native("1.1", "1.2", "1.3"), native("1.1", "1.2", "1.4")]);
    body.truncate(body.len() - 7);
    let request = server.post("/studies").header("Content-Type", STORE_TYPE);
    let response = request.body(body).send().await.unwrap();
    assert_eq!(response.status(), 202);
    assert!(response.headers()["warning"].to_str().unwrap().contains("closing delimiter"));
    let json = json(response).await;
    assert_eq!(json["00081199"]["Value"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/studies/1.1/series/1.2/instances/1.4").send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn parts_that_say_that_they_are_something_else_spoil_nothing() {
    let server = Server::start().await;
    let mut body = b"--B\r\nContent-Type: text/plain\r\n\r\nhello\r\n--B\r\n\r\n".to_vec();
    body.extend(native("1.1", "1.2", "1.3"));
    body.extend(b"\r\n--B--");
    let request = server.post("/studies").header("Content-Type", STORE_TYPE);
    let response = request.body(body).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let json = json(response).await;
    assert_eq!(json["0008119A"]["Value"].as_array().unwrap().len(), 1);
    assert_eq!(json["00081199"]["Value"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_that_falls_silent_is_told_so() {
    let server = Server::with(|config| config.http.idle_timeout_seconds = 1).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {STORE_TYPE}\r\nContent-Length: 99\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_still_sends_sees_why_it_is_refused() {
    let server = Server::with(|config| config.ingest.max_request_bytes = 1000).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let length = 8 << 20;
    let head = format!(
        "POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {STORE_TYPE}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; length]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn very_many_parts_without_an_instance_are_refused_at_the_limit() {
    let server = Server::start().await;
    for (part, content_type) in [
        ("", "application/dicom"),
        ("", "application/zip"),
        ("{}", "application/dicom+json"),
        ("", "text/plain"),
        ("x", "application/octet-stream"),
    ] {
        let parts = format!("\r\n--B\r\nContent-Type: {content_type}\r\n\r\n{part}");
        for (count, status) in [(999, 200), (200_000, 400)] {
            let mut body = parts.repeat(count).into_bytes();
            body.extend(multipart(&[native("1.1", "1.2", "1.3")]));
            let request = server.post("/studies").header("Content-Type", STORE_TYPE).body(body);
            // A request that is refused early may break the connection of the client, which still sends.
            let Ok(response) = request.send().await else {
                assert_eq!(status, 400, "{content_type} {count}");
                continue;
            };
            let found = response.status().as_u16();
            let text = response.text().await.unwrap();
            assert!(
                found == status || (status, found) == (200, 202),
                "{content_type} {count}: {found} {text}"
            );
            assert_eq!(text.contains("too small"), status == 400, "{content_type} {count}: {text}");
        }
    }
}
