//! Work of one client and the requests of another: whatever the first requests, the second waits for one
//! piece of work at most. Frames in decoder processes have their own tests.

use std::io::{Cursor, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::build::DataSet;
use crate::decoders::{MAX_SERVER_KIB, Program};
use crate::harness::{CT, EXPLICIT, JPEG_LS, Server, data_set, native};

/// The client with a lot of work, and another one.
const BUSY: &str = "10.0.0.1";
const OTHER: &str = "10.0.0.2";
/// The requests of the busy client: several times as many as can be worked on at a time.
const REQUESTS: usize = 24;
const RLE: &str = "1.2.840.10008.1.2.5";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

/// The data set of an image of 16 bits without its pixels, in study 1.1.
fn image(instance: &str, side: u16, frames: u32) -> DataSet {
    data_set("1.1", "1.2", instance)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .text(0x0028_0008, "IS", &frames.to_string())
        .us(0x0028_0010, &[side])
        .us(0x0028_0011, &[side])
        .us(0x0028_0100, &[16])
        .us(0x0028_0101, &[16])
        .us(0x0028_0102, &[15])
        .us(0x0028_0103, &[0])
}

fn native_image(instance: &str, side: u16, frames: u32) -> Vec<u8> {
    let samples = usize::from(side) * usize::from(side) * frames as usize;
    let pixels: Vec<u8> = (0..samples).flat_map(|number| (number as u16).to_le_bytes()).collect();
    image(instance, side, frames).element(0x7FE0_0010, "OW", &pixels).file(EXPLICIT)
}

/// A frame in RLE: both bytes of all samples are zero (PS3.5 §G).
fn rle_frame(side: u16) -> Vec<u8> {
    let samples = usize::from(side) * usize::from(side);
    assert_eq!(samples % 128, 0);
    let runs = [0x81, 0].repeat(samples / 128);
    let mut frame = [2, 64, 64 + runs.len() as u32].map(u32::to_le_bytes).concat();
    frame.resize(64, 0);
    [frame, runs.clone(), runs].concat()
}

fn path(instance: &str, rest: &str) -> String {
    format!("/studies/1.1/series/1.2/instances/{instance}{rest}")
}

/// Sends the requests of the busy client, then the other client's one, which must be answered before half of
/// the work of the first is done: first come, first served, all of the work would be done before.
async fn is_answered_in_between(busy: impl Fn(usize) -> RequestBuilder, other: RequestBuilder) {
    let finished = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for number in 0..REQUESTS {
        let (request, finished) = (busy(number).header("X-Forwarded-For", BUSY), finished.clone());
        tasks.push(tokio::spawn(async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200);
            response.bytes().await.unwrap();
            finished.fetch_add(1, Ordering::Relaxed);
        }));
    }
    // All of them wait, or are worked on.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let response = other.header("X-Forwarded-For", OTHER).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap();
    let before = finished.load(Ordering::Relaxed);
    assert!(before < REQUESTS / 2, "{before} of {REQUESTS} pieces of work were done before");
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_rendered_image_waits_for_no_rendered_images_of_another_client() {
    let server = Server::start().await;
    server.store(&[native_image("1.2.1", 1200, 1), native_image("1.2.2", 16, 1)]).await;
    let busy = |_| server.get(&path("1.2.1", "/rendered?viewport=8,8"));
    is_answered_in_between(busy, server.get(&path("1.2.2", "/rendered"))).await;
}

#[tokio::test]
async fn a_frame_waits_for_no_frames_of_another_client_that_are_decoded_in_this_process() {
    let server = Server::start().await;
    let file =
        |instance: &str, side| image(instance, side, 1).encapsulated(&[&[], &rle_frame(side)]).file(RLE);
    server.store(&[file("1.2.1", 1600), file("1.2.2", 16)]).await;
    let get = |instance: &str| server.get(&path(instance, "/frames/1")).header("Accept", decoded());
    is_answered_in_between(|_| get("1.2.1"), get("1.2.2")).await;
}

fn decoded() -> String {
    format!("application/octet-stream; transfer-syntax={EXPLICIT}")
}

#[tokio::test]
async fn a_transcoded_instance_waits_for_none_of_another_client() {
    let server = Server::start().await;
    let large = (0..REQUESTS).map(|number| native_image(&format!("1.2.1.{number}"), 320, 6));
    server.store(&large.chain([native_image("1.2.2", 16, 1)]).collect::<Vec<_>>()).await;
    let accept = format!("application/dicom; transfer-syntax={JPEG_LS}");
    let get = |instance: &str| server.get(&path(instance, "")).header("Accept", &accept);
    is_answered_in_between(|number| get(&format!("1.2.1.{number}")), get("1.2.2")).await;
}

#[tokio::test]
async fn an_animation_waits_for_none_of_another_client() {
    let server = Server::start().await;
    server.store(&[native_image("1.2.1", 200, 8), native_image("1.2.2", 16, 2)]).await;
    let get = |instance: &str| server.get(&path(instance, "/rendered")).header("Accept", "image/gif");
    is_answered_in_between(|_| get("1.2.1"), get("1.2.2")).await;
}

#[tokio::test]
async fn a_zip_archive_waits_for_none_of_another_client() {
    let server = Server::start().await;
    let archive = |series: &str, count: usize| {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for number in 0..count {
            writer.start_file(number.to_string(), SimpleFileOptions::default()).unwrap();
            writer.write_all(&native("1.1", series, &format!("{series}.{number}"))).unwrap();
        }
        writer.finish().unwrap().into_inner()
    };
    let post =
        |archive: Vec<u8>| server.post("/studies").header("Content-Type", "application/zip").body(archive);
    let busy = |number| post(archive(&format!("1.3.{number}"), 100));
    is_answered_in_between(busy, post(archive("1.4", 1))).await;
}

#[tokio::test]
async fn an_instance_as_metadata_waits_for_none_of_another_client() {
    let server = Server::start().await;
    // Private sequences of many items take long to read.
    let post = |instance: &str, items: usize| {
        let mut set = Map::new();
        let texts = [("00080016", CT), ("00080018", instance), ("0020000D", "1.1"), ("0020000E", "1.2")];
        for (tag, uid) in texts {
            set.insert(tag.into(), json!({"vr": "UI", "Value": [uid]}));
        }
        set.insert("00090010".into(), json!({"vr": "LO", "Value": ["A"]}));
        let item =
            json!({"00090010": {"vr": "LO", "Value": ["A"]}, "00091001": {"vr": "LO", "Value": ["B"]}});
        set.insert("00091001".into(), json!({"vr": "SQ", "Value": vec![item; items]}));
        let head = "\r\n--B\r\nContent-Type: application/dicom+json\r\n\r\n";
        let body = format!("{head}{}\r\n--B--", Value::Array(vec![set.into()]));
        let content_type = "multipart/related; type=\"application/dicom+json\"; boundary=B";
        server.post("/studies").header("Content-Type", content_type).body(body)
    };
    let busy = |number: usize| post(&format!("1.2.{number}"), 5000);
    is_answered_in_between(busy, post("1.2.99", 1)).await;
}

#[tokio::test]
async fn a_long_list_of_frames_in_many_fragments_takes_no_memory() {
    let program = Program::start();
    let mut fragments = vec![b"ab".as_slice(); 20_001];
    fragments[0] = &[];
    program.store(&[image("1.2.1", 100, 1).encapsulated(&fragments).file(RLE)]).await;
    let list = vec!["1"; 10_000].join(",");
    let url = format!("{}{}", program.url, path("1.2.1", &format!("/frames/{list}")));
    let accept = format!("multipart/related; type=\"application/octet-stream\"; transfer-syntax={RLE}");
    let client = reqwest::Client::new();
    let response = client.head(&url).header("Accept", &accept).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let length: u64 = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert!(length > 10_000 * 40_000, "{length}");
    // A range of the last frame.
    let range = format!("bytes={}-", length - 10_000);
    let response = client.get(&url).header("Accept", accept).header("Range", range).send().await.unwrap();
    let tail = response.bytes().await.unwrap();
    assert!(
        tail.len() == 10_000
            && [b"abab", b"baba"].contains(&tail.first_chunk().unwrap())
            && tail.ends_with(b"--\r\n")
    );
    let most = program.most_memory_kib();
    assert!(most < MAX_SERVER_KIB, "{most} KiB");
}

#[tokio::test]
async fn frames_of_a_deflated_instance_are_given_in_any_order_up_to_a_limit() {
    let server = Server::start().await;
    // The frames come after 20 MB that are inflated first.
    let pixels: Vec<u8> = (1..=3_u8).flat_map(|frame| [frame; 32]).collect();
    let noise = |number: u32| (number.wrapping_mul(2_654_435_761) >> 13) as u8 & 3;
    let noise: Vec<u8> = (0..20 << 20).map(|number: u32| noise(number.wrapping_mul(number | 1))).collect();
    let set = image("1.2.1", 4, 3).element(0x0029_1001, "OB", &noise);
    let set = set.element(0x7FE0_0010, "OW", &pixels);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(&set.bytes()).unwrap();
    let file = DataSet::explicit().raw(&deflate.finish().unwrap()).file(DEFLATED);
    assert_eq!(server.store(&[file]).await.status(), 200);
    let get = |rest: String| {
        server
            .get(&path("1.2.1", &rest))
            .header("Accept", "multipart/related; type=\"application/octet-stream\"")
    };
    for list in [vec![1, 2, 3], vec![3, 1, 2, 2]] {
        let names: Vec<String> = list.iter().map(u8::to_string).collect();
        let response = get(format!("/frames/{}", names.join(","))).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let frames = crate::harness::parts(response).await.into_iter().map(|(_, bytes)| bytes);
        assert!(frames.eq(list.iter().map(|&frame| vec![frame; 32])), "{list:?}");
    }
    // 20 MB for each of them are more than 16 GiB.
    let many = vec!["1"; 1000].join(",");
    assert_eq!(get(format!("/frames/{many}")).send().await.unwrap().status(), 406);
    let rendered = server.get(&path("1.2.1", &format!("/frames/{many}/rendered")));
    assert_eq!(rendered.send().await.unwrap().status(), 406);
}

#[tokio::test]
async fn a_response_that_has_not_begun_waits_for_memory_for_a_limited_time() {
    let server = Server::with(|config| {
        config.http.max_response_memory_bytes = 16 << 20;
        config.http.response_wait_seconds = 1;
    })
    .await;
    // RLE that the client does not read, once it is decoded.
    let held = image("1.2.1", 2112, 1).encapsulated(&[&[], &rle_frame(2112)]).file(RLE);
    let small = image("1.2.2", 608, 2).encapsulated(&[&[], &rle_frame(608), &rle_frame(608)]).file(RLE);
    server.store(&[held, small]).await;
    let mut holder = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /dicom-web{} HTTP/1.1\r\nHost: {}\r\nAccept: {}\r\n\r\n",
        path("1.2.1", "/frames/1"),
        server.address,
        decoded()
    );
    holder.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    holder.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    let parts = |of: &str| format!("multipart/related; type=\"{of}\"");
    for (rest, accept) in [
        ("/rendered", "image/png".to_owned()),
        ("/frames/1,2/rendered", parts("image/png")),
        ("/frames/1,2", parts("application/octet-stream")),
        ("/frames/1", decoded()),
        ("/pixeldata", parts("application/octet-stream")),
        ("/bulkdata", parts("application/octet-stream")),
    ] {
        let response = server.get(&path("1.2.2", rest)).header("Accept", accept).send();
        let response = tokio::time::timeout(Duration::from_secs(20), response).await;
        assert_eq!(response.expect("a response in time").unwrap().status(), 503, "{rest}");
    }
    drop(holder);
}
