//! Instances and frames in other transfer syntaxes than the stored one (PS3.18 §8.7.3).

use cuspid::blobs::{Bucket, ListedObject};
use futures_util::TryStreamExt;
use reqwest::Response;

use crate::harness::{EXPLICIT, JPEG_LS, Server, data_set, encapsulated, native, parts};

const PATH: &str = "/studies/1.1/series/1.2/instances/1.3";
const LOSSLESS: [&str; 4] = ["4.80", "4.70", "4.90", "5"];

async fn server() -> Server {
    let server = Server::start().await;
    assert_eq!(server.store(&[native("1.1", "1.2", "1.3"), colour("1.4")]).await.status(), 200);
    server
}

/// Two frames of 8 x 8 pixels in red, green and blue.
fn colour(instance: &str) -> Vec<u8> {
    let pixels: Vec<u8> = (0..384_u32).map(|at| (at * at / 60) as u8).collect();
    data_set("1.1", "1.2", instance)
        .us(0x0028_0002, &[3])
        .text(0x0028_0004, "CS", "RGB")
        .us(0x0028_0006, &[0])
        .text(0x0028_0008, "IS", "2")
        .us(0x0028_0010, &[8])
        .us(0x0028_0011, &[8])
        .us(0x0028_0100, &[8])
        .us(0x0028_0101, &[8])
        .us(0x0028_0102, &[7])
        .us(0x0028_0103, &[0])
        .element(0x7FE0_0010, "OB", &pixels)
        .file(EXPLICIT)
}

fn syntax(leaf: &str) -> String {
    format!("1.2.840.10008.1.2.{leaf}")
}

async fn instance(server: &Server, path: &str, leaf: &str) -> Response {
    let accept = format!("application/dicom; transfer-syntax={}", syntax(leaf));
    server.get(path).header("Accept", accept).send().await.unwrap()
}

async fn kept(server: &Server) -> Vec<ListedObject> {
    server.blobs.list(Bucket::Temporary, "").try_collect().await.unwrap()
}

#[tokio::test]
async fn what_one_server_makes_another_one_reads() {
    let server = server().await;
    for instance_path in [PATH, "/studies/1.1/series/1.2/instances/1.4"] {
        let pixels = format!("{instance_path}/bulkdata/7FE00010");
        let get = |server: &Server| {
            server.get(&pixels).header("Accept", "multipart/related; type=application/octet-stream").send()
        };
        let expected = parts(get(&server).await.unwrap()).await.into_iter().flat_map(|part| part.1);
        let expected: Vec<u8> = expected.collect();
        for leaf in LOSSLESS.into_iter().chain(["1.99"]) {
            let response = instance(&server, instance_path, leaf).await;
            assert_eq!(response.status(), 200, "{leaf}");
            let content_type = format!("application/dicom; transfer-syntax={}", syntax(leaf));
            assert_eq!(response.headers()["content-type"], content_type);
            let length = response.content_length();
            let file = response.bytes().await.unwrap();
            assert_eq!(length, Some(file.len() as u64));

            let other = Server::start().await;
            let stored = other.store(&[file.to_vec()]).await;
            assert_eq!(stored.status(), 200, "{leaf}: {}", stored.text().await.unwrap());
            let metadata = other.json(&format!("{instance_path}/metadata")).await;
            assert_eq!(metadata[0]["00083002"]["Value"][0], syntax(leaf));
            let found = parts(get(&other).await.unwrap()).await.into_iter().flat_map(|part| part.1);
            assert!(found.collect::<Vec<_>>() == expected, "{leaf}");
        }
    }
}

#[tokio::test]
async fn a_lossy_instance_has_a_uid_of_its_own_each_time_the_same() {
    let server = server().await;
    let path = "/studies/1.1/series/1.2/instances/1.4";
    for leaf in ["4.50", "4.81", "4.91"] {
        let file = instance(&server, path, leaf).await.bytes().await.unwrap();
        for entry in kept(&server).await {
            server.blobs.delete(&entry.key).await.unwrap();
        }
        assert!(file == instance(&server, path, leaf).await.bytes().await.unwrap(), "{leaf}");
        let other = Server::start().await;
        assert_eq!(other.store(&[file.to_vec()]).await.status(), 200);
        let found = other.json("/instances?StudyInstanceUID=1.1").await;
        let uid = found[0]["00080018"]["Value"][0].as_str().unwrap().to_owned();
        assert!(uid.starts_with("2.25.") && uid.len() <= 64, "{uid}");
        let metadata = other.json(&format!("/studies/1.1/series/1.2/instances/{uid}/metadata")).await;
        assert_eq!(metadata[0]["00082112"]["Value"][0]["00081155"]["Value"][0], "1.4");
        assert!(metadata[0]["00282112"]["Value"][0].as_f64().unwrap() > 0.0);
    }
}

#[tokio::test]
async fn a_transcoded_instance_has_ranges_and_an_entity_tag() {
    let server = server().await;
    for accept in ["application/dicom", "multipart/related; type=\"application/dicom\""] {
        let get = || server.get(PATH).header("Accept", format!("{accept}; transfer-syntax={JPEG_LS}"));
        let whole = get().send().await.unwrap();
        let etag = whole.headers()["etag"].clone();
        let whole = whole.bytes().await.unwrap();
        let part = get().header("Range", "bytes=10-499").send().await.unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(part.headers()["etag"], etag);
        assert_eq!(part.bytes().await.unwrap(), whole.slice(10..500));
        assert_eq!(get().header("If-None-Match", etag).send().await.unwrap().status(), 304);
    }
}

#[tokio::test]
async fn requests_at_the_same_time_get_the_same_bytes_and_leave_one_object() {
    let server = server().await;
    let requests = (0..8).map(|_| async { instance(&server, PATH, "4.90").await.bytes().await.unwrap() });
    let answers = futures_util::future::join_all(requests).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let kept = kept(&server).await;
    assert_eq!(kept.len(), 1);
    assert!(kept[0].key.path.starts_with("default/1.1/1.2/1.3-"), "{}", kept[0].key);
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let server = Server::with(|config| config.derived.cache_max_bytes = 10).await;
    assert_eq!(server.store(&[native("1.1", "1.2", "1.3")]).await.status(), 200);
    for leaf in LOSSLESS {
        assert_eq!(instance(&server, PATH, leaf).await.status(), 200);
        let kept = kept(&server).await;
        assert_eq!(kept.len(), 1);
        assert!(kept[0].key.path.contains(&syntax(leaf)), "{}", kept[0].key);
    }
}

#[tokio::test]
async fn what_can_be_made_is_listed_where_nothing_else_will_do() {
    let server = server().await;
    let response = instance(&server, PATH, "4.51").await;
    assert_eq!(response.status(), 406);
    let text = response.text().await.unwrap();
    for leaf in LOSSLESS.into_iter().chain(["1.99", "4.81", "4.91"]) {
        assert!(
            text.contains(&format!("application/dicom; transfer-syntax={}", syntax(leaf))),
            "{leaf}: {text}"
        );
    }
    // 16 bits are too many for baseline JPEG.
    assert!(!text.contains(&syntax("4.50")), "{text}");
}

#[tokio::test]
async fn frames_are_encoded_one_by_one_and_in_parts() {
    let server = server().await;
    let get = |list: &str, accept: String| {
        server.get(&format!("{PATH}/frames/{list}")).header("Accept", accept).send()
    };
    for (leaf, essence) in [("4.80", "image/jls"), ("4.70", "image/jpeg"), ("5", "image/dicom-rle")] {
        let uid = syntax(leaf);
        let single = get("2", format!("{essence}; transfer-syntax={uid}")).await.unwrap();
        assert_eq!(single.headers()["content-type"], format!("{essence}; transfer-syntax={uid}"));
        let single = single.bytes().await.unwrap();
        let accept = format!("multipart/related; type=\"{essence}\"");
        let both = parts(get("3,2", accept).await.unwrap()).await;
        let head = format!("Content-Type: {essence}; transfer-syntax={uid}\r\n");
        assert!(both[0].0.starts_with(&head), "{}", both[0].0);
        assert_eq!((both.len(), &both[1].1[..]), (2, &single[..]));
        let octets = format!("application/octet-stream; transfer-syntax={uid}");
        assert_eq!(get("2", octets).await.unwrap().bytes().await.unwrap(), single);
    }
}

#[tokio::test]
async fn a_whole_instance_that_is_kept_gives_its_frames() {
    let server = server().await;
    let get = async |number: u32| {
        let path = format!("{PATH}/frames/{number}");
        let accept = format!("application/octet-stream; transfer-syntax={JPEG_LS}");
        server.get(&path).header("Accept", accept).send().await.unwrap().bytes().await.unwrap()
    };
    let made = [get(1).await, get(2).await, get(3).await];
    let whole = instance(&server, PATH, "4.80").await.bytes().await.unwrap();
    assert_eq!([get(1).await, get(2).await, get(3).await], made);

    // Other bytes in its place show where frames come from.
    let mut other = whole.to_vec();
    let end = other.len() - 8;
    other[end - made[2].len()..end].fill(7);
    let mut staged = server.blobs.stage().await.unwrap();
    staged.write(&other).unwrap();
    server.blobs.put(staged, &kept(&server).await[0].key).await.unwrap();
    assert_eq!([get(1).await, get(2).await], made[..2]);
    assert_eq!(get(3).await, vec![7; made[2].len()]);
    server.blobs.delete(&kept(&server).await[0].key).await.unwrap();
    assert_eq!(get(3).await, made[2]);
}

#[tokio::test]
async fn frames_that_cannot_be_decoded_are_refused_and_leave_nothing() {
    let server = Server::start().await;
    assert_eq!(server.store(&[encapsulated("1.1", "1.2", "1.3")]).await.status(), 200);
    let response = instance(&server, PATH, "5").await;
    assert_eq!(response.status(), 406);
    assert!(response.text().await.unwrap().contains("frame 1"));
    let frame = format!("{PATH}/frames/1");
    let response = server.get(&frame).header("Accept", "image/dicom-rle").send().await.unwrap();
    assert_eq!(response.status(), 406);
    assert_eq!(kept(&server).await, []);
}

#[tokio::test]
async fn a_report_among_images_is_given_as_it_is() {
    let server = server().await;
    assert_eq!(server.store(&[data_set("1.1", "1.2", "1.5").file(EXPLICIT)]).await.status(), 200);
    let accept = format!("multipart/related; type=\"application/dicom\"; transfer-syntax={JPEG_LS}");
    let response = server.get("/studies/1.1").header("Accept", accept.as_str()).send().await.unwrap();
    let parts = parts(response).await;
    let types: Vec<&str> = parts.iter().filter_map(|part| part.0.lines().next()).collect();
    let of = |uid: &str| format!("Content-Type: application/dicom; transfer-syntax={uid}");
    assert_eq!(types, [of(JPEG_LS), of(JPEG_LS), of(EXPLICIT)]);
    // As the only instance of the answer, it cannot be transcoded.
    let alone = server.get("/studies/1.1/series/1.2/instances/1.5").header("Accept", accept).send();
    assert_eq!(alone.await.unwrap().status(), 406);
}
