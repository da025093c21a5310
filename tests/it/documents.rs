//! Rendered documents, videos and reports (PS3.18 §10.4.1.1.3, Table 8.7.4-1).

use crate::build::DataSet;
use crate::harness::{EXPLICIT, Server};

const PATH: &str = "/studies/1.1/series/1.2/instances/1.3/rendered";
const PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";
const STL: &str = "1.2.840.10008.5.1.4.1.1.104.3";
const REPORT: &str = "1.2.840.10008.5.1.4.1.1.88.33";
const VIDEO: &str = "1.2.840.10008.5.1.4.1.1.77.1.4.1";

fn instance(class: &str) -> DataSet {
    DataSet::explicit()
        .text(0x0008_0016, "UI", class)
        .text(0x0008_0018, "UI", "1.3")
        .text(0x0020_000D, "UI", "1.1")
        .text(0x0020_000E, "UI", "1.2")
}

fn document(class: &str, bytes: &[u8], media_type: &str, length: Option<u32>) -> Vec<u8> {
    let set = instance(class).element(0x0042_0011, "OB", bytes).text(0x0042_0012, "LO", media_type);
    match length {
        Some(length) => set.element(0x0042_0015, "UL", &length.to_le_bytes()),
        None => set,
    }
    .file(EXPLICIT)
}

#[tokio::test]
async fn a_document_is_given_as_it_was_before_it_was_encapsulated() {
    let large = [b"%PDF-1.7\n".as_slice(), &[b'x'; 2000], b"%%EOF"].concat();
    assert!(large.len() % 2 == 0);
    let odd = &large[..large.len() - 1];
    let triangles = [1, 2, 3, 0];
    for (class, bytes, media_type, length, expected, content_type) in [
        (PDF, odd, "application/pdf", Some(odd.len() as u32), odd, "application/pdf"),
        (PDF, odd, "application/pdf", None, odd, "application/pdf"),
        (PDF, &large[..], "", None, &large[..], "application/pdf"),
        (PDF, b"%PDF-tiny", "application/pdf", Some(9), b"%PDF-tiny".as_slice(), "application/pdf"),
        (PDF, b"%PDF-tiny", "application/pdf", None, b"%PDF-tiny", "application/pdf"),
        (PDF, b"<a/>", "text/XML; x", Some(4), b"<a/>", "text/xml"),
        (PDF, b"evil", "a/b\r\nX: y", Some(4), b"evil", "application/pdf"),
        (STL, &triangles, "model/stl", None, &triangles, "model/stl"),
    ] {
        let server = Server::start().await;
        server.store(&[document(class, bytes, media_type, length)]).await;
        let response = server.get(PATH).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], content_type);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let is_caged = response.headers().contains_key("content-security-policy");
        assert_eq!(is_caged, content_type != "application/pdf", "{content_type}");
        assert_eq!(response.bytes().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_document_has_ranges_validators_and_a_head() {
    let server = Server::start().await;
    server.store(&[document(PDF, &[b'p'; 3001], "application/pdf", Some(3001))]).await;
    let whole = server.get(PATH).header("Range", "bytes=0-").send().await.unwrap();
    assert_eq!(whole.status(), 206);
    assert_eq!(whole.headers()["content-range"], "bytes 0-3000/3001");
    let tag = whole.headers()["etag"].clone();
    let known = server.get(PATH).header("If-None-Match", tag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    let head = server.request("HEAD", server.url(PATH)).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "3001");
    assert_eq!(head.headers()["accept-ranges"], "bytes");
    let beyond = server.get(PATH).header("Range", "bytes=3001-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);
}

#[tokio::test]
async fn a_video_is_one_stream_whatever_its_fragments() {
    for (syntax, accept, expected) in [
        ("1.2.840.10008.1.2.4.100", "*/*", Some("video/mpeg")),
        ("1.2.840.10008.1.2.4.102", "video/mp4", Some("video/mp4")),
        ("1.2.840.10008.1.2.4.102", "video/*;q=0.5", Some("video/mp4")),
        ("1.2.840.10008.1.2.4.107", "*/*", Some("video/mp4")),
        ("1.2.840.10008.1.2.4.107", "video/H265", Some("video/H265")),
        ("1.2.840.10008.1.2.4.102", "image/jpeg", None),
    ] {
        let server = Server::start().await;
        let set = instance(VIDEO)
            .us(0x0028_0002, &[3])
            .text(0x0028_0004, "CS", "YBR_PARTIAL_420")
            .text(0x0028_0008, "IS", "30")
            .us(0x0028_0010, &[4])
            .us(0x0028_0011, &[4])
            .us(0x0028_0100, &[8])
            .us(0x0028_0101, &[8])
            .us(0x0028_0102, &[7])
            .us(0x0028_0103, &[0]);
        let stored = server.store(&[set.encapsulated(&[&[0; 4], b"ftyp", b"moov"]).file(syntax)]).await;
        assert_eq!(stored.status(), 200);
        let response =
            server.get(PATH).header("Accept", accept).header("Range", "bytes=0-").send().await.unwrap();
        let Some(expected) = expected else {
            assert_eq!(response.status(), 406);
            assert!(response.text().await.unwrap().contains("video/mp4"));
            continue;
        };
        assert_eq!(response.status(), 206, "{syntax} {accept}");
        assert_eq!(response.headers()["content-range"], "bytes 0-7/8");
        assert_eq!(response.headers()["content-type"], expected);
        assert_eq!(response.bytes().await.unwrap(), "ftypmoov");
    }
}

fn report() -> Vec<u8> {
    let name = DataSet::explicit().text(0x0008_0104, "LO", "Finding <b>");
    let item = DataSet::explicit().text(0x0040_A040, "CS", "TEXT").sequence(0x0040_A043, &[name]).text(
        0x0040_A160,
        "UT",
        "<script>alert(1)</script>",
    );
    instance(REPORT).text(0x0010_0010, "PN", "Doe^Jane").sequence(0x0040_A730, &[item]).file(EXPLICIT)
}

#[tokio::test]
async fn a_report_is_a_page_or_text_as_the_client_likes() {
    let server = Server::start().await;
    server.store(&[report()]).await;
    for (accept, expected) in [
        ("*/*", "text/html; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/*;q=0.5, text/html;q=0.1", "text/plain; charset=utf-8"),
    ] {
        let response = server.get(PATH).header("Accept", accept).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], expected, "{accept}");
        let text = response.text().await.unwrap();
        assert!(text.contains("Jane Doe") && text.contains("Finding"), "{text}");
    }
    let refused = server.get(PATH).header("Accept", "application/pdf").send().await.unwrap();
    assert_eq!(refused.status(), 406);
    assert!(refused.text().await.unwrap().contains("text/html, text/plain"));
}

#[tokio::test]
async fn a_report_cannot_run_scripts() {
    let server = Server::start().await;
    server.store(&[report()]).await;
    let response = server.get(PATH).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let html = response.text().await.unwrap();
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
}

#[tokio::test]
async fn a_document_can_be_the_part_of_a_multipart_answer() {
    let server = Server::start().await;
    server.store(&[document(PDF, b"%PDF-tiny", "application/pdf", Some(9))]).await;
    let accept = "multipart/related; type=\"application/pdf\"";
    let response = server.get(PATH).header("Accept", accept).send().await.unwrap();
    let parts = crate::harness::parts(response).await;
    let location = server.url(PATH.trim_end_matches("/rendered"));
    let head = format!("Content-Type: application/pdf\r\nContent-Location: {location}");
    assert_eq!(parts, [(head, b"%PDF-tiny".to_vec())]);
}
