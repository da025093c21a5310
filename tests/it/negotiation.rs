//! Content negotiation, and requests that are refused (PS3.18 §8.4, §8.5, §8.7, §8.8).

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{STORE_TYPE, Server, multipart, native};

const INSTANCE: &str = "/studies/1.1/series/1.2/instances/1.3";

async fn stored() -> Server {
    let server = Server::start().await;
    assert_eq!(server.store(&[native("1.1", "1.2", "1.3")]).await.status(), 200);
    server
}

#[tokio::test]
async fn the_query_is_asked_first_and_the_header_where_it_cannot_be_met() {
    let server = stored().await;
    for (query, accept, status, expected) in [
        ("", "*/*", 200, "application/dicom+json"),
        ("?accept=application/json", "*/*", 200, "application/json"),
        ("?accept=application/json", "application/dicom+json", 200, "application/json"),
        ("?accept=image/jpeg", "application/json", 200, "application/json"),
        ("?accept=image/jpeg", "image/png", 406, "application/problem+json"),
        ("?accept=application%2Fjson;q=0.1,application%2Fdicom%2Bjson", "*/*", 200, "application/dicom+json"),
    ] {
        let request = server.get(&format!("{INSTANCE}/metadata{query}")).header("Accept", accept);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{query} {accept}");
        assert_eq!(response.headers()["content-type"], expected, "{query} {accept}");
    }
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_with_what_can() {
    let server = stored().await;
    for (path, possible) in [
        ("/studies", "application/dicom+json"),
        ("/studies/1.1", "multipart/related; type=\"application/dicom\""),
        (INSTANCE, "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
        (&format!("{INSTANCE}/metadata"), "application/dicom+json"),
        (&format!("{INSTANCE}/frames/1"), "multipart/related; type=\"application/octet-stream\""),
        (&format!("{INSTANCE}/rendered"), "image/jpeg"),
        (&format!("{INSTANCE}/thumbnail"), "image/jpeg"),
        ("/", "application/vnd.sun.wadl+xml"),
    ] {
        let response = server.get(path).header("Accept", "x/y").send().await.unwrap();
        assert_eq!(response.status(), 406, "{path}");
        assert_eq!(response.headers()["vary"], "Accept");
        let problem: serde_json::Value = response.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(possible), "{path}: {detail}");
    }
}

#[tokio::test]
async fn a_request_without_accept_takes_anything() {
    let server = stored().await;
    let mut stream = TcpStream::connect(server.address).unwrap();
    let request =
        format!("GET /dicom-web{INSTANCE}/metadata HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn character_sets_are_not_negotiated() {
    let server = stored().await;
    for (query, field) in [
        ("", "iso-8859-1"),
        ("", "utf-8;q=0, *;q=0"),
        ("?charset=iso-8859-1", "*"),
        ("?charset=utf-8", "utf-8"),
    ] {
        let request = server.get(&format!("{INSTANCE}/metadata{query}")).header("Accept-Charset", field);
        assert_eq!(request.send().await.unwrap().status(), 200, "{query} {field}");
    }
}

#[tokio::test]
async fn a_body_in_an_unknown_content_coding_is_refused() {
    let server = Server::start().await;
    for (coding, status) in [("br", 415), ("identity, br", 415), ("identity", 200), ("", 200)] {
        let request =
            server.post("/studies").header("Content-Type", STORE_TYPE).header("Content-Encoding", coding);
        let response = request.body(multipart(&[native("1.1", "1.2", "1.3")])).send().await.unwrap();
        assert_eq!(response.status(), status, "{coding}");
        assert_eq!(response.headers().contains_key("accept-encoding"), status == 415, "{coding}");
    }
}

#[tokio::test]
async fn representations_say_where_they_are_from() {
    let server = stored().await;
    for path in ["/studies/1.1", INSTANCE, &format!("{INSTANCE}/metadata?accept=application/json")] {
        let response = server.get(path).send().await.unwrap();
        assert_eq!(response.headers()["content-location"], server.url(path));
    }
    for path in ["/studies", "/studies/9.9"] {
        let response = server.get(path).send().await.unwrap();
        assert!(!response.headers().contains_key("content-location"), "{path}");
    }
}

#[tokio::test]
async fn a_client_with_too_many_requests_is_told_to_wait() {
    let server = Server::with(|config| config.http.max_requests_per_client = 1).await;
    let mut first = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {STORE_TYPE}\r\nContent-Length: 100\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    first.write_all(head.as_bytes()).unwrap();
    let first = tokio::task::spawn_blocking(move || {
        // The request is in progress once the server asks for its body (100 Continue).
        first.read_exact(&mut [0; 25]).unwrap();
        first
    });
    let first = first.await.unwrap();
    let second = server.get("/studies").send().await.unwrap();
    assert_eq!(second.status(), 429);
    assert_eq!(second.headers()["retry-after"], "1");
    assert_eq!(second.headers()["content-type"], "application/problem+json");
    let other = server.get("/studies").header("X-Forwarded-For", "10.0.0.9").send().await.unwrap();
    assert_eq!(other.status(), 200);
    let health = format!("http://{}/healthz", server.address);
    assert_eq!(server.request("GET", health).send().await.unwrap().status(), 200);
    drop(first);
    while server.get("/studies").send().await.unwrap().status() != 200 {}
}
