//! Instances as a zip file (docs/decisions/0060).

use std::io::{Cursor, Read};

use cuspid::config::Config;
use reqwest::Response;
use zip::{CompressionMethod, ZipArchive};

use crate::harness::{EXPLICIT, JPEG_LS, Server, data_set, encapsulated, native};

fn numbered(series: &str, instance: &str, number: &str) -> Vec<u8> {
    data_set("1.1", series, instance)
        .text(0x0020_0011, "IS", "7")
        .text(0x0020_0013, "IS", number)
        .file(EXPLICIT)
}

/// A study of two series: three instances whose numbers run against their UIDs and one without a number, and
/// one compressed.
async fn server_with(change: impl FnOnce(&mut Config)) -> (Server, Vec<(String, Vec<u8>)>) {
    let server = Server::with(change).await;
    let files = [
        ("1.2", "1.2.3", numbered("1.2", "1.2.3", "-1")),
        ("1.2", "1.2.2", numbered("1.2", "1.2.2", "9")),
        ("1.2", "1.2.1", numbered("1.2", "1.2.1", "10")),
        ("1.2", "1.2.0", numbered("1.2", "1.2.0", "")),
        ("1.15", "1.15.1", encapsulated("1.1", "1.15", "1.15.1")),
    ];
    let bytes: Vec<Vec<u8>> = files.iter().map(|(_, _, file)| file.clone()).collect();
    assert_eq!(server.store(&bytes).await.status(), 200);
    let entries = files.map(|(series, instance, file)| (format!("1.1/{series}/{instance}.dcm"), file));
    (server, entries.into())
}

async fn server() -> (Server, Vec<(String, Vec<u8>)>) {
    server_with(|_| {}).await
}

async fn get(server: &Server, path: &str) -> Response {
    server.get(path).header("Accept", "application/zip").send().await.unwrap()
}

/// The entries of a zip file in their order, names and bytes.
async fn entries(response: Response) -> Vec<(String, Vec<u8>)> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/zip");
    let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let bytes = response.bytes().await.unwrap();
    assert_eq!(bytes.len(), length);
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        assert_eq!(entry.compression(), CompressionMethod::Stored);
        let name = entry.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        // Reading to the end checks the checksum.
        entry.read_to_end(&mut bytes).unwrap();
        entries.push((name, bytes));
    }
    entries
}

#[tokio::test]
async fn each_level_is_a_zip_file_of_what_was_sent() {
    let (server, expected) = server().await;
    for (path, expected, name) in [
        ("/studies/1.1", &expected[..], "1.1.zip"),
        ("/studies/1.1/series/1.2", &expected[..4], "1.2.zip"),
        ("/studies/1.1/series/1.15/instances/1.15.1", &expected[4..], "1.15.1.zip"),
    ] {
        let response = get(&server, path).await;
        assert_eq!(response.headers()["content-disposition"], format!("attachment; filename=\"{name}\""));
        assert_eq!(entries(response).await, expected, "{path}");
    }
    assert_eq!(get(&server, "/studies/1.9").await.status(), 404);
}

#[tokio::test]
async fn a_study_of_several_pages_of_the_index_comes_whole() {
    let server = Server::start().await;
    let name = |number: usize| format!("1.2.{number}");
    let files: Vec<_> = (0..450).map(|number| native("1.1", "1.2", &name(number))).collect();
    assert_eq!(server.store(&files).await.status(), 200);
    let mut found = entries(get(&server, "/studies/1.1").await).await;
    let mut expected: Vec<_> = files
        .into_iter()
        .enumerate()
        .map(|(number, file)| (format!("1.1/1.2/{}.dcm", name(number)), file))
        .collect();
    found.sort();
    expected.sort();
    assert!(found == expected);
}

#[tokio::test]
async fn a_part_of_a_series_goes_by_position_in_the_order_of_instance_number() {
    let (server, expected) = server().await;
    let path = "/studies/1.1/series/1.2?instances=";
    for (part, range) in [("2-3", 1..3), ("1", 0..1), ("3-", 2..4), ("4-100", 3..4), ("1-4", 0..4)] {
        let response = get(&server, &format!("{path}{part}")).await;
        assert_eq!(entries(response).await, expected[range], "{part}");
    }
    assert_eq!(get(&server, &format!("{path}5-6")).await.status(), 404);
    for wrong in ["0-1", "2-1", "x", ""] {
        assert_eq!(get(&server, &format!("{path}{wrong}")).await.status(), 400, "{wrong}");
    }
    for elsewhere in ["/studies/1.1?instances=1", "/studies/1.1/series/1.2/instances/1.2.1?instances=1"] {
        assert_eq!(get(&server, elsewhere).await.status(), 400, "{elsewhere}");
    }
}

#[tokio::test]
async fn a_file_set_has_its_directory_first_and_names_that_media_can_have() {
    let (server, expected) = server().await;
    let found = entries(get(&server, "/studies/1.1?dicomdir=true").await).await;
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let file = |series: usize, number: usize| format!("DICOM/SE{series:06}/IM{number:06}");
    let files = [file(1, 1), file(1, 2), file(1, 3), file(1, 4), file(2, 1)];
    assert_eq!(names[0], "DICOMDIR");
    assert_eq!(names[1..], files);
    for ((_, found), (_, expected)) in found[1..].iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    let directory = &found[0].1;
    assert_eq!(&directory[128..132], b"DICM");
    let again = entries(get(&server, "/studies/1.1?dicomdir=true").await).await;
    assert_eq!(again, found, "the same bytes each time");
    let found = entries(get(&server, "/studies/1.1?dicomdir=false").await).await;
    assert_eq!(found, expected);
    assert_eq!(get(&server, "/studies/1.1?dicomdir=yes").await.status(), 400);
}

#[tokio::test]
async fn a_client_gets_what_it_prefers_and_no_transfer_syntax_that_it_excludes() {
    let (server, _) = server().await;
    let (series, jpeg) = ("/studies/1.1/series/1.2", "/studies/1.1/series/1.15/instances/1.15.1");
    let instances = r#"multipart/related; type="application/dicom"; transfer-syntax=*"#;
    for (path, accept, expected) in [
        (series, format!("{instances}, application/zip;q=0.5"), "multipart/related"),
        (series, format!("application/zip, {instances};q=0.5"), "application/zip"),
        (series, "*/*".to_owned(), "multipart/related"),
        (series, "application/zip; transfer-syntax=*".to_owned(), "application/zip"),
        (series, format!("application/zip; transfer-syntax={EXPLICIT}"), "application/zip"),
        (jpeg, format!("application/zip; transfer-syntax={JPEG_LS}"), "application/zip"),
        (jpeg, format!("application/zip; transfer-syntax={EXPLICIT}"), "406"),
        ("/studies/1.1", format!("application/zip; transfer-syntax={EXPLICIT}"), "406"),
    ] {
        let response = server.get(path).header("Accept", &accept).send().await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap().split(';').next().unwrap();
        let status = response.status();
        let found = if status == 200 { content_type } else { status.as_str() };
        assert_eq!(found, expected, "{path} {accept}");
    }
    let response = server.get(&format!("{series}?accept=application/zip")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/zip");
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let (server, _) = server().await;
    let path = "/studies/1.1/series/1.2";
    let mut tags = Vec::new();
    for query in ["", "?instances=1-2", "?instances=1-3", "?dicomdir=true", "?dicomdir=true&instances=1-2"] {
        let path = format!("{path}{query}");
        let etag = get(&server, &path).await.headers()["etag"].to_str().unwrap().to_owned();
        let request = server.get(&path).header("Accept", "application/zip").header("If-None-Match", &etag);
        assert_eq!(request.send().await.unwrap().status(), 304, "{query}");
        assert!(!tags.contains(&etag), "{query}");
        tags.push(etag);
    }
    assert_eq!(server.store(&[native("1.1", "1.2", "1.2.9")]).await.status(), 200);
    let after = get(&server, path).await.headers()["etag"].to_str().unwrap().to_owned();
    assert!(!tags.contains(&after));
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_anything_is_sent() {
    let (server, _) = server_with(|config| config.http.max_zip_instances = 4).await;
    let response = get(&server, "/studies/1.1").await;
    assert_eq!(response.status(), 413);
    assert!(response.text().await.unwrap().contains("http.max_zip_instances"));
    assert_eq!(get(&server, "/studies/1.1/series/1.2").await.status(), 200);
}

#[tokio::test]
async fn head_tells_what_get_would() {
    let (server, _) = server().await;
    let url = server.url("/studies/1.1");
    let head = server.request("HEAD", url).header("Accept", "application/zip").send().await.unwrap();
    let get = get(&server, "/studies/1.1").await;
    for name in ["content-length", "content-type", "etag", "content-disposition"] {
        assert_eq!(head.headers()[name], get.headers()[name], "{name}");
    }
}
