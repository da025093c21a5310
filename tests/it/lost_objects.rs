//! Responses of many instances, of which some objects are missing or damaged (docs/decisions/0102).

use std::io::{Cursor, Read};

use cuspid::blobs::{Bucket, Key};
use futures_util::TryStreamExt;
use reqwest::Response;
use zip::ZipArchive;

use crate::harness::{EXPLICIT, Server, data_set, native, parts};

const ANY: &str = r#"multipart/related; type="application/dicom"; transfer-syntax=*"#;
const DEFAULT: &str = r#"multipart/related; type="application/dicom""#;
const JPEG_LS: &str =
    r#"multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80"#;
const BULK: &str = r#"multipart/related; type="application/octet-stream""#;
const IMAGES: &str = r#"multipart/related; type="image/png""#;
const ZIP: &str = "application/zip";

/// What happens to an object below a running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Deleted,
    Truncated,
    Flipped,
}

const FAULTS: [Fault; 3] = [Fault::Deleted, Fault::Truncated, Fault::Flipped];

/// A study of two series with three instances each, all with pixels.
async fn server() -> (Server, Vec<String>) {
    let server = Server::start().await;
    let uids: Vec<(String, String)> =
        (1..=6).map(|n| (format!("1.{}", 1 + n % 2), format!("1.2.{n}"))).collect();
    let files: Vec<_> = uids.iter().map(|(series, uid)| native("1.1", series, uid)).collect();
    assert_eq!(server.store(&files).await.status(), 200);
    (server, uids.into_iter().map(|(_, uid)| uid).collect())
}

async fn objects(server: &Server, instance: &str) -> Vec<Key> {
    let listed: Vec<_> = server.blobs.list(Bucket::Originals, "").try_collect().await.unwrap();
    let keys = listed.into_iter().map(|object| object.key);
    keys.filter(|key| key.path.contains(&format!("/{instance}-"))).collect()
}

async fn bytes_of(server: &Server, key: &Key) -> Vec<u8> {
    let size = server.blobs.size(key).await.unwrap().unwrap();
    server.blobs.read(key, 0..size).await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
}

async fn put(server: &Server, key: &Key, bytes: &[u8]) {
    server.blobs.delete(key).await.unwrap();
    let mut staged = server.blobs.stage().await.unwrap();
    staged.write(bytes).unwrap();
    server.blobs.put(staged, key).await.unwrap();
}

/// Damages the object of an instance; returns the bytes that it had.
async fn damage(server: &Server, instance: &str, fault: Fault) -> (Key, Vec<u8>) {
    let key = objects(server, instance).await.remove(0);
    let intact = bytes_of(server, &key).await;
    let mut bytes = intact.clone();
    match fault {
        Fault::Deleted => server.blobs.delete(&key).await.unwrap(),
        Fault::Truncated => put(server, &key, &bytes[..bytes.len() / 2]).await,
        Fault::Flipped => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            put(server, &key, &bytes).await;
        }
    }
    (key, intact)
}

async fn get(server: &Server, path: &str, accept: &str) -> Response {
    server.get(path).header("Accept", accept).send().await.unwrap()
}

/// The instances that the parts of a response are of.
async fn instances(response: Response) -> Vec<String> {
    let heads = parts(response).await.into_iter().map(|(head, _)| head);
    let of = |head: String| {
        let (_, rest) = head.split_once("/instances/").unwrap();
        rest.split(['/', '\r']).next().unwrap().to_owned()
    };
    let mut found: Vec<String> = heads.map(of).collect();
    found.dedup();
    found.sort();
    found
}

#[tokio::test]
async fn one_lost_object_costs_its_instance_alone() {
    for fault in FAULTS {
        // The second is the first in the order of responses.
        for position in [1, 3, 5] {
            let (server, uids) = server().await;
            let lost = &uids[position];
            let (key, intact) = damage(&server, lost, fault).await;
            let expected: Vec<_> = uids.iter().filter(|uid| *uid != lost).cloned().collect();
            for (path, accept) in [
                ("/studies/1.1", ANY),
                ("/studies/1.1", DEFAULT),
                ("/studies/1.1", JPEG_LS),
                ("/studies/1.1/bulkdata", BULK),
                ("/studies/1.1/pixeldata", BULK),
                ("/studies/1.1/rendered", IMAGES),
            ] {
                // The digest is of the whole object: a range of a damaged one cannot be told from others.
                if fault == Fault::Flipped && !path.ends_with("1.1") {
                    continue;
                }
                let response = get(&server, path, accept).await;
                let case = format!("{fault:?} {position} {path} {accept}");
                // An object of the right size is found to be damaged before the head only if it comes first,
                // or if it was found before. Otherwise the body has no end.
                let response = if response.status() == 200 {
                    assert!(fault == Fault::Flipped && position > 1 && accept == ANY, "{case}");
                    assert!(response.bytes().await.is_err(), "{case}");
                    get(&server, path, accept).await
                } else {
                    response
                };
                assert_eq!(response.status(), 206, "{case}");
                let headers = response.headers().clone();
                assert!(headers["warning"].to_str().unwrap().contains(lost.as_str()), "{case}");
                assert!(!headers.contains_key("etag") && headers["cache-control"] == "no-store", "{case}");
                assert_eq!(instances(response).await, expected, "{case}");
            }
            // Restored from a back-up.
            put(&server, &key, &intact).await;
            let response = get(&server, "/studies/1.1", ANY).await;
            assert_eq!((response.status().as_u16(), instances(response).await), (200, uids.clone()));
        }
    }
}

#[tokio::test]
async fn a_thumbnail_shows_another_instance_or_a_placeholder() {
    let (server, uids) = server().await;
    let path = "/studies/1.1/thumbnail";
    // In the order of instances, the middle ones of the two series.
    for lost in [&uids[3], &uids[2]] {
        damage(&server, lost, Fault::Deleted).await;
    }
    let other = get(&server, path, "image/png").await;
    assert_eq!(other.status(), 200);
    let shown = other.headers()["etag"].clone();
    assert!(!shown.to_str().unwrap().contains("sheet"), "{shown:?}");
    let (server, uids) = self::server().await;
    for uid in &uids {
        damage(&server, uid, Fault::Deleted).await;
    }
    let placeholder = get(&server, path, "image/png").await;
    assert_eq!(placeholder.status(), 200);
    assert!(placeholder.headers()["etag"].to_str().unwrap().contains("sheet"));
}

#[tokio::test]
async fn a_zip_file_names_what_is_missing() {
    for fault in FAULTS {
        for path in ["/studies/1.1", "/studies/1.1?dicomdir=true"] {
            let (server, uids) = server().await;
            let (lost, case) = (&uids[4], format!("{fault:?} {path}"));
            damage(&server, lost, fault).await;
            let response = get(&server, path, ZIP).await;
            assert_eq!(response.status(), 200, "{case}");
            let is_known = response.headers().contains_key("warning");
            assert_eq!(is_known, fault != Fault::Flipped, "{case}");
            assert_eq!(response.headers().contains_key("etag"), !is_known, "{case}");
            let length = response.content_length().unwrap();
            let body = response.bytes().await.unwrap();
            assert_eq!(body.len() as u64, length, "{case}");
            let mut zip = ZipArchive::new(Cursor::new(body)).unwrap();
            let (mut found, mut texts) = (Vec::new(), Vec::new());
            for index in 0..zip.len() {
                let mut entry = zip.by_index(index).unwrap();
                let name = entry.name().unwrap().into_owned();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                match bytes.get(128..132) {
                    Some(b"DICM") if name != "DICOMDIR" => found.push(bytes),
                    Some(b"DICM") => {}
                    _ => texts.push((name, String::from_utf8(bytes).unwrap())),
                }
            }
            assert_eq!(found.len(), 5, "{case}");
            let [(name, text)] = texts.as_slice() else { panic!("{case}: {texts:?}") };
            assert!(text.contains(lost.as_str()), "{case}: {text}");
            match is_known {
                true => assert_eq!(name, "MISSING.TXT"),
                false => assert!(name.ends_with(".txt") || name.contains("/NO"), "{name}"),
            }
        }
    }
}

#[tokio::test]
async fn a_response_without_any_object_is_an_error() {
    for fault in FAULTS {
        let (server, uids) = server().await;
        for uid in &uids {
            damage(&server, uid, fault).await;
        }
        let series = "/studies/1.1/series/1.1";
        let instance = format!("{series}/instances/{}", uids[1]);
        for (path, accept) in [
            ("/studies/1.1".to_owned(), ANY),
            (series.to_owned(), ANY),
            (instance.clone(), ANY),
            (instance, "application/dicom; transfer-syntax=*"),
            ("/studies/1.1".to_owned(), ZIP),
            ("/studies/1.1?dicomdir=true".to_owned(), ZIP),
            ("/studies/1.1/pixeldata".to_owned(), BULK),
            ("/studies/1.1/rendered".to_owned(), IMAGES),
        ] {
            if fault == Fault::Flipped && (path.ends_with("data") || path.ends_with("rendered")) {
                continue;
            }
            let response = get(&server, &path, accept).await;
            assert_eq!(response.status(), 500, "{fault:?} {path} {accept}");
            let problem = response.text().await.unwrap();
            assert!(problem.contains("missing or damaged"), "{fault:?} {path} {accept}: {problem}");
        }
        let metadata = server.json("/studies/1.1/metadata").await;
        assert_eq!(metadata.as_array().unwrap().len(), 6, "metadata are in the index");
    }
}

#[tokio::test]
async fn an_object_that_is_read_twice_or_sent_while_it_is_verified_is_never_half_a_part() {
    let server = Server::start().await;
    let large = |uid: &str, size: usize| {
        data_set("1.1", "1.1", uid).element(0x0009_1010, "OB", &vec![7; size]).file(EXPLICIT)
    };
    let files = [large("1.2.1", 1_000_000), large("1.2.2", 1_000_000), large("1.2.3", 18_000_000)];
    assert!(server.store(&files).await.status().is_success());
    damage(&server, "1.2.2", Fault::Flipped).await;
    // The body ends without its last delimiter. From then on, the head names the instance.
    for expected in [vec!["1.2.1", "1.2.3"], vec!["1.2.1"]] {
        let response = get(&server, "/studies/1.1", ANY).await;
        assert!(response.bytes().await.is_err(), "{expected:?}");
        for _ in 0..2 {
            let response = get(&server, "/studies/1.1", ANY).await;
            assert_eq!(response.status(), 206);
            assert_eq!(instances(response).await, expected);
        }
        // More than is verified before it is sent.
        damage(&server, "1.2.3", Fault::Flipped).await;
    }
}
