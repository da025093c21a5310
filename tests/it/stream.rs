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

/// The answer once the preview is no longer pending, and all of it is there.
async fn settled(server: &Server, path: &str) -> Response {
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    loop {
        interval.tick().await;
        let response = get(server, path).await;
        let is_partial = response.status() == 200 && !response.headers().contains_key("content-location");
        if response.status() != 503 && !is_partial {
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
    assert_eq!(&whole[..12], b"CUSPIDST\x02\0\0\0");
    let index_end = 16 + u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
    let index: Value = serde_json::from_slice(&whole[16..index_end]).unwrap();
    assert_eq!((&index["state"], &index["number_of_slices"]), (&"complete".into(), &3.into()));
    let lengths = index["lengths"].as_array().unwrap().iter().map(|length| length.as_u64().unwrap());
    assert_eq!(lengths.sum::<u64>(), length - index_end as u64);
    assert_eq!(whole[index_end..][..2], [0xFF, 0x90], "the first tile-part");

    let part = request(&server, "GET", "/series/1.2", "bytes=5-99").await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole[5..100]);
    let head = request(&server, "HEAD", "/series/1.2", "").await;
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &length.into()));

    let etag = head.headers()["etag"].clone();
    let url = format!("http://{}/stream/studies/1.1/series/1.2", server.address);
    let known = server.request("GET", url).header("If-None-Match", &etag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    let located = head.headers()["content-location"].to_str().unwrap().to_owned();
    assert_eq!(head.headers()["cache-control"], "private, no-cache");
    let url = format!("http://{}{located}", server.address);
    let immutable = server.request("GET", url).send().await.unwrap();
    assert_eq!(immutable.headers()["cache-control"], "private, max-age=31536000, immutable");
    assert_eq!((&immutable.headers()["etag"], immutable.headers().get("content-location")), (&etag, None));
    assert_eq!(immutable.bytes().await.unwrap(), whole);
    let other = get(&server, "/series/1.2?version=7-7").await;
    assert_eq!(other.status(), 404);
    let stage = get(&server, "/series/1.2?stage=0").await;
    assert!(whole.starts_with(&stage.bytes().await.unwrap()));

    let state = get(&server, "/series/1.2/state").await;
    assert_eq!(state.headers()["cache-control"], "private, no-cache");
    let state: Value = serde_json::from_slice(&state.bytes().await.unwrap()).unwrap();
    assert_eq!(
        (&state["state"], &state["encoded"], &state["slices"]),
        (&"ready".into(), &3.into(), &3.into())
    );
    assert_eq!(state["size_bytes"], length);
    assert!(located.ends_with(&format!("?version={}", state["version"].as_str().unwrap())));
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
async fn a_preview_that_is_still_to_be_made_gives_what_is_encoded() {
    let server = server(false).await;
    server.store(&[native("1.1", "1.2", "1.3")]).await;
    let mut states = Vec::new();
    let state = loop {
        let state: Value =
            serde_json::from_slice(&get(&server, "/series/1.2/state").await.bytes().await.unwrap()).unwrap();
        let name = state["state"].as_str().unwrap().to_owned();
        assert!(["pending", "partial"].contains(&name.as_str()), "{state}");
        states.push(name);
        if state["encoded"] == 3 {
            break state;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((&state["state"], &state["slices"]), (&"partial".into(), &3.into()));
    let response = get(&server, "/series/1.2").await;
    assert_eq!((response.status().as_u16(), response.headers().get("content-location")), (200, None));
    assert_eq!(response.headers()["cache-control"], "private, no-cache");
    let bytes = response.bytes().await.unwrap();
    let index_end = 16 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let index: Value = serde_json::from_slice(&bytes[16..index_end]).unwrap();
    assert_eq!(
        (&index["state"], &index["count"], &index["number_of_slices"]),
        (&"partial".into(), &3.into(), &3.into())
    );
    let ranged = request(&server, "GET", "/series/1.2", "bytes=5-99").await;
    assert_eq!((ranged.status().as_u16(), ranged.bytes().await.unwrap()), (206, bytes.slice(5..100)));
    assert_eq!(get(&server, "/series/9.9/state").await.status(), 404);
}

#[tokio::test]
async fn a_preview_of_which_nothing_is_encoded_is_not_there_yet() {
    let server = Server::with(|config| {
        config.preview.enabled = true;
        config.jobs.in_server = false;
    })
    .await;
    server.store(&[native("1.1", "1.2", "1.3")]).await;
    let response = get(&server, "/series/1.2").await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    let state = get(&server, "/series/1.2/state").await.bytes().await.unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!((&state["state"], &state["encoded"]), (&"pending".into(), &0.into()));
}
