//! Whole instances, equal to the sent bytes (PS3.18 §10.4.1.1).

use crate::harness::{EXPLICIT, JPEG_LS, Server, encapsulated, native, parts};

const ANY: &str = r#"multipart/related; type="application/dicom"; transfer-syntax=*"#;

async fn server() -> Server {
    let server = Server::start().await;
    let instances =
        [native("1.1", "1.2", "1.3"), encapsulated("1.1", "1.2", "1.4"), native("1.1", "1.5", "1.6")];
    assert_eq!(server.store(&instances).await.status(), 200);
    server
}

#[tokio::test]
async fn a_study_comes_in_parts() {
    let server = server().await;
    let response = server.get("/studies/1.1").header("Accept", ANY).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let head = |uid, path| {
        let location = server.url(&format!("/studies/1.1/series/{path}"));
        format!("Content-Type: application/dicom; transfer-syntax={uid}\r\nContent-Location: {location}")
    };
    let expected = [
        (head(EXPLICIT, "1.2/instances/1.3"), native("1.1", "1.2", "1.3")),
        (head(JPEG_LS, "1.2/instances/1.4"), encapsulated("1.1", "1.2", "1.4")),
        (head(EXPLICIT, "1.5/instances/1.6"), native("1.1", "1.5", "1.6")),
    ];
    assert_eq!(parts(response).await, expected);
    let response = server.get("/studies/1.1/series/1.5").header("Accept", ANY).send().await.unwrap();
    assert_eq!(parts(response).await, expected[2..]);
}

#[tokio::test]
async fn a_study_in_another_transfer_syntax_has_another_etag() {
    let server = server().await;
    let explicit = format!("multipart/related; type=\"application/dicom\"; transfer-syntax={EXPLICIT}");
    let mut etags = Vec::new();
    for accept in [ANY, "multipart/related; type=\"application/dicom\"", &explicit] {
        let response = server.get("/studies/1.1").header("Accept", accept).send().await.unwrap();
        etags.push(response.headers()["etag"].clone());
        for (known, is_known) in [(etags.first(), etags.len() == 1), (etags.last(), true)] {
            let request = server.get("/studies/1.1").header("Accept", accept);
            let response = request.header("If-None-Match", known.unwrap()).send().await.unwrap();
            assert_eq!(response.status(), if is_known { 304 } else { 200 }, "{accept}");
        }
    }
}

#[tokio::test]
async fn one_instance_comes_alone_or_as_a_part() {
    let server = server().await;
    let path = "/studies/1.1/series/1.2/instances/1.4";
    let response =
        server.get(path).header("Accept", "application/dicom; transfer-syntax=*").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], format!("application/dicom; transfer-syntax={JPEG_LS}"));
    assert_eq!(response.bytes().await.unwrap(), encapsulated("1.1", "1.2", "1.4"));
    let response = server.get(path).header("Accept", ANY).send().await.unwrap();
    assert!(response.content_length().is_some());
    assert_eq!(parts(response).await[0].1, encapsulated("1.1", "1.2", "1.4"));
}

#[tokio::test]
async fn a_transfer_syntax_that_cannot_be_made_is_refused() {
    let server = server().await;
    for path in ["/studies/1.1", "/studies/1.1/series/1.2/instances/1.3"] {
        let accept =
            r#"multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.102"#;
        let response = server.get(path).header("Accept", accept).send().await.unwrap();
        assert_eq!(response.status(), 406, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_stored_is_not_found() {
    let server = server().await;
    for path in [
        "/studies/9",
        "/studies/1.1/series/9",
        "/studies/1.1/series/1.2/instances/9",
        "/studies/9/series/1.2",
    ] {
        let response = server.get(path).header("Accept", ANY).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
}
