//! The fast stream (docs/fast-stream.md), encoded by the preview job and served over HTTP.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use crate::harness::{Server, data_set, encapsulated, native};

/// A server whose previews are made at once, or never.
async fn server(is_made: bool) -> Server {
    Server::with(|config| {
        config.preview.enabled = true;
        config.preview.quiet_seconds = if is_made { 0 } else { 3600 };
    })
    .await
}

async fn request(server: &Server, method: &str, path: &str, range: &str) -> Response {
    let url = format!("http://{}/stream/studies/1.1{path}", server.address);
    server.request(method, url).header("Range", range).send().await.unwrap()
}

async fn get(server: &Server, path: &str) -> Response {
    request(server, "GET", path, "").await
}

/// The answer once the preview is no longer pending.
async fn settled(server: &Server, path: &str) -> Response {
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    loop {
        interval.tick().await;
        let response = get(server, path).await;
        if response.status() != 503 {
            return response;
        }
    }
}

#[tokio::test]
async fn a_series_streams_its_index_and_then_its_slices() {
    let server = server(true).await;
    server.store(&[native("1.1", "1.2", "1.3")]).await;
    let response = settled(&server, "/series/1.2").await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["accept-ranges"].as_bytes()),
        (200, &b"bytes"[..])
    );
    assert_eq!(response.headers()["content-type"], "application/vnd.cuspid.stream");
    let length = response.content_length().unwrap();
    let whole = response.bytes().await.unwrap();
    assert_eq!(whole.len() as u64, length);
    assert_eq!(&whole[..12], b"CUSPIDST\x01\0\0\0");
    let index_end = 16 + u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
    let index: Value = serde_json::from_slice(&whole[16..index_end]).unwrap();
    assert_eq!(index["number_of_slices"], 3);
    for slice in index["slices"].as_array().unwrap() {
        let start = index_end + slice["offset"].as_u64().unwrap() as usize;
        let codestream = &whole[start..start + slice["length"].as_u64().unwrap() as usize];
        assert!(codestream.starts_with(&[0xFF, 0x4F]) && codestream.ends_with(&[0xFF, 0xD9]));
    }

    let part = request(&server, "GET", "/series/1.2", "bytes=5-99").await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole[5..100]);
    let head = request(&server, "HEAD", "/series/1.2", "").await;
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &length.into()));

    let etag = head.headers()["etag"].clone();
    let url = format!("http://{}/stream/studies/1.1/series/1.2", server.address);
    let known = server.request("GET", url).header("If-None-Match", &etag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    let last = get(&server, "/series/1.2?slices=2-2").await;
    assert_eq!(last.status(), 200);
    assert_ne!(last.headers()["etag"], etag);
    assert!(last.content_length().unwrap() < length);
}

#[tokio::test]
async fn what_is_not_there_says_why() {
    let server = server(true).await;
    let sr = data_set("1.1", "1.5", "1.5.1").file(crate::harness::EXPLICIT);
    server.store(&[native("1.1", "1.2", "1.3"), encapsulated("1.1", "1.4", "1.4.1"), sr]).await;
    settled(&server, "/series/1.2").await;
    for (path, status, reason) in [
        ("/series/1.2?slices=3-3", 404, "has 3"),
        ("/series/1.2?slices=2-1", 400, "slices"),
        ("/series/1.2?slices=x", 400, "slices"),
        ("/series/1.4", 404, "JPEG"),
        ("/series/1.5", 404, "nothing in it"),
        ("/series/9.9", 404, "9.9"),
    ] {
        let response = settled(&server, path).await;
        assert_eq!(response.status(), status, "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains(reason), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_preview_that_is_still_to_be_made_is_not_there_yet() {
    let server = server(false).await;
    server.store(&[native("1.1", "1.2", "1.3")]).await;
    let response = get(&server, "/series/1.2").await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
}
