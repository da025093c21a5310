//! QIDO-RS: results, their URLs, paging and errors (PS3.18 §10.6). What matches is tested in `query`.

use crate::harness::{Server, native};

async fn two_studies() -> Server {
    let server = Server::start().await;
    let instances = [
        native("1.1", "1.2", "1.3"),
        native("1.1", "1.2", "1.4"),
        native("1.1", "1.5", "1.6"),
        native("2.1", "2.2", "2.3"),
    ];
    assert_eq!(server.store(&instances).await.status(), 200);
    server
}

#[tokio::test]
async fn each_resource_finds_what_is_within_it() {
    let server = two_studies().await;
    for (path, results, url) in [
        ("/studies", 2, "/studies/"),
        ("/series", 3, "/studies/"),
        ("/instances", 4, "/studies/"),
        ("/studies/1.1/series", 2, "/studies/1.1/series/"),
        ("/studies/1.1/instances", 3, "/studies/1.1/series/"),
        ("/studies/1.1/series/1.2/instances", 2, "/studies/1.1/series/1.2/instances/"),
        ("/studies?StudyInstanceUID=1.1%5C2.1", 2, "/studies/"),
        ("/studies?limit=1&offset=1&fuzzymatching=true&includefield=00081030%2C00080060", 1, "/studies/"),
        ("/studies?PatientName=nobody", 0, ""),
        ("/studies/9.9/series", 0, ""),
        ("/studies?accept=application/dicom+json", 2, "/studies/"),
    ] {
        let json = server.json(path).await;
        let found = json.as_array().unwrap();
        assert_eq!(found.len(), results, "{path}");
        for result in found {
            let retrieve_url = result["00081190"]["Value"][0].as_str().unwrap();
            assert!(retrieve_url.starts_with(&server.url(url)), "{path}: {retrieve_url}");
        }
    }
}

#[tokio::test]
async fn more_results_than_given_are_announced() {
    let server = two_studies().await;
    let response = server.get("/instances?limit=3").send().await.unwrap();
    assert!(response.headers()["warning"].to_str().unwrap().starts_with("299 "));
    let response = server.get("/instances?limit=4").send().await.unwrap();
    assert!(!response.headers().contains_key("warning"));
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let server = Server::start().await;
    for (path, name) in [
        ("/studies?limit=many", "limit"),
        ("/studies?NoSuchKeyword=1", "NoSuchKeyword"),
        ("/studies/1..1/series", "study"),
    ] {
        let response = server.get(path).send().await.unwrap();
        assert_eq!(response.status(), 400, "{path}");
        let problem: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["parameter"], name, "{path}");
    }
}

#[tokio::test]
async fn the_media_type_is_negotiated() {
    let server = Server::start().await;
    for (accept, status, content_type) in [
        ("application/dicom+json", 200, "application/dicom+json"),
        ("application/json", 200, "application/json"),
        ("*/*", 200, "application/dicom+json"),
        ("text/html", 406, "application/problem+json"),
    ] {
        let response = server.get("/studies").header("Accept", accept).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (status, &content_type.parse().unwrap())
        );
    }
}
