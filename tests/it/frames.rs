//! Frames in the media types that viewers request (PS3.18 §10.4.1.6).

use crate::harness::{EXPLICIT, JPEG_LS, Server, encapsulated, native, parts};

const NATIVE: &str = "/studies/1.1/series/1.2/instances/1.3/frames";
const COMPRESSED: &str = "/studies/1.1/series/1.2/instances/1.4/frames";
const ANY_MULTIPART: &str = "multipart/related; type=application/octet-stream; transfer-syntax=*";

async fn server() -> Server {
    let server = Server::start().await;
    let instances = [native("1.1", "1.2", "1.3"), encapsulated("1.1", "1.2", "1.4")];
    assert_eq!(server.store(&instances).await.status(), 200);
    server
}

/// The header fields of the part with an uncompressed frame.
fn head(server: &Server, number: u32) -> String {
    let content_type = format!("Content-Type: application/octet-stream; transfer-syntax={EXPLICIT}");
    format!("{content_type}\r\nContent-Location: {}", server.url(&format!("{NATIVE}/{number}")))
}

#[tokio::test]
async fn frames_come_in_the_order_asked_for() {
    let server = server().await;
    let response = server.get(&format!("{NATIVE}/3,1")).header("Accept", ANY_MULTIPART).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(parts(response).await, [(head(&server, 3), vec![3; 32]), (head(&server, 1), vec![1; 32])]);
}

#[tokio::test]
async fn compressed_frames_come_as_they_are_stored() {
    let server = server().await;
    for (accept, essence) in [
        (ANY_MULTIPART, "application/octet-stream"),
        (r#"multipart/related; type="image/jls""#, "image/jls"),
        (r#"multipart/related; type="image/*""#, "image/jls"),
        ("*/*", "image/jls"),
    ] {
        let response = server.get(&format!("{COMPRESSED}/2")).header("Accept", accept).send().await.unwrap();
        let (length, content_type) = (response.content_length(), response.headers()["content-type"].clone());
        assert!(content_type.to_str().unwrap().contains(essence), "{accept}");
        assert!(length.is_some(), "{accept}");
        let location = server.url(&format!("{COMPRESSED}/2"));
        let head =
            format!("Content-Type: {essence}; transfer-syntax={JPEG_LS}\r\nContent-Location: {location}");
        assert_eq!(parts(response).await, [(head, b"frame 2.".to_vec())], "{accept}");
    }
}

#[tokio::test]
async fn one_frame_can_come_without_parts() {
    let server = server().await;
    for (path, accept, content_type, bytes) in [
        (NATIVE, "application/octet-stream", EXPLICIT, vec![1; 32]),
        (COMPRESSED, "image/jls", JPEG_LS, b"frame 1.".to_vec()),
    ] {
        let response = server.get(&format!("{path}/1")).header("Accept", accept).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let found = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(found, format!("{accept}; transfer-syntax={content_type}"));
        assert_eq!(response.bytes().await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_with_what_can() {
    let server = server().await;
    let response = server.get(&format!("{NATIVE}/1")).header("Accept", "image/jxl").send().await.unwrap();
    assert_eq!(response.status(), 406);
    assert!(response.text().await.unwrap().contains("application/octet-stream"));
}

#[tokio::test]
async fn frames_that_are_not_there_are_not_found() {
    let server = server().await;
    for (list, status) in [("4", 404), ("1,4", 404), ("0", 400), ("x", 400)] {
        let response = server.get(&format!("{NATIVE}/{list}")).send().await.unwrap();
        assert_eq!(response.status(), status, "{list}");
    }
    let response = server.get("/studies/1.1/series/1.2/instances/9.9/frames/1").send().await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn ranges_of_one_answer_add_up_to_it() {
    let server = server().await;
    let get = |range: Option<&'static str>| {
        let request = server.get(&format!("{COMPRESSED}/1,2")).header("Accept", ANY_MULTIPART);
        match range {
            Some(range) => request.header("Range", range),
            None => request,
        }
    };
    let whole = get(None).send().await.unwrap();
    assert_eq!(
        (whole.status().as_u16(), &whole.headers()["accept-ranges"]),
        (200, &"bytes".parse().unwrap())
    );
    let whole = whole.bytes().await.unwrap();
    let mut joined = Vec::new();
    for (range, from) in [("bytes=0-99", 0), ("bytes=100-199", 100), ("bytes=200-", 200)] {
        let part = get(Some(range)).send().await.unwrap();
        assert_eq!(part.status(), 206);
        let content_range = part.headers()["content-range"].to_str().unwrap().to_owned();
        assert!(content_range.starts_with(&format!("bytes {from}-")), "{content_range}");
        assert!(content_range.ends_with(&format!("/{}", whole.len())), "{content_range}");
        joined.extend(part.bytes().await.unwrap());
    }
    assert_eq!(joined, whole);
    let beyond = get(Some("bytes=9999-")).send().await.unwrap();
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{}", whole.len()));
}

#[tokio::test]
async fn a_head_request_tells_the_length() {
    let server = server().await;
    let response = server
        .request("HEAD", server.url(&format!("{NATIVE}/1")))
        .header("Accept", "application/octet-stream");
    let response = response.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-length"]),
        (200, &"32".parse().unwrap())
    );
}

#[tokio::test]
async fn known_frames_are_not_sent_again() {
    let server = server().await;
    let get = || server.get(&format!("{NATIVE}/1")).header("Accept", ANY_MULTIPART);
    let etag = get().send().await.unwrap().headers()["etag"].clone();
    assert_eq!(get().header("If-None-Match", etag.clone()).send().await.unwrap().status(), 304);
    let single = server.get(&format!("{NATIVE}/1")).header("Accept", "application/octet-stream");
    assert_eq!(single.header("If-None-Match", etag).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn samples_are_given_by_default_and_the_stored_bytes_where_they_cannot_be_made() {
    let server = server().await;
    let get = |accept: &'static str| server.get(&format!("{COMPRESSED}/1")).header("Accept", accept).send();
    // The stored bytes are no JPEG-LS, so that decoding fails.
    let response = get("application/octet-stream").await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().ends_with(JPEG_LS));
    let named = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";
    assert_eq!(get(named).await.unwrap().status(), 406);
}

#[tokio::test]
async fn big_endian_samples_are_turned_round() {
    let server = Server::start().await;
    let big_endian = crate::harness::big_endian("1.1", "1.2", "1.3");
    assert_eq!(server.store(&[big_endian]).await.status(), 200);
    let response = server.get(&format!("{NATIVE}/2,1")).header("Accept", ANY_MULTIPART).send().await.unwrap();
    let expected = [(head(&server, 2), vec![3, 0, 4, 0]), (head(&server, 1), vec![1, 0, 2, 0])];
    assert_eq!(parts(response).await, expected);
}
