//! Deleting studies, series and instances (RFC 9110 §9.3.5).

use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{Server, native};

const INSTANCE: &str = "/studies/1.2/series/1.2.1/instances/1.2.1.1";

async fn server() -> Server {
    let server = Server::start().await;
    let instances = [
        native("1.2", "1.2.1", "1.2.1.1"),
        native("1.2", "1.2.1", "1.2.1.2"),
        native("1.2", "1.2.2", "1.2.2.1"),
        native("1.3", "1.3.1", "1.3.1.1"),
    ];
    assert_eq!(server.store(&instances).await.status(), 200);
    server
}

async fn delete(server: &Server, path: &str) -> StatusCode {
    server.request("DELETE", server.url(path)).send().await.unwrap().status()
}

async fn status(server: &Server, path: &str) -> StatusCode {
    server.get(path).send().await.unwrap().status()
}

fn count(result: &Value, tag: &str) -> u64 {
    result[tag]["Value"][0].as_u64().unwrap()
}

#[tokio::test]
async fn what_is_deleted_is_gone_from_every_answer() {
    for (path, instances, series) in
        [(INSTANCE, 3, 3), ("/studies/1.2/series/1.2.1", 2, 2), ("/studies/1.2", 1, 1)]
    {
        let server = server().await;
        let response = server.request("DELETE", server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 204, "{path}");
        assert_eq!(response.bytes().await.unwrap(), "");
        for gone in [path.to_owned(), format!("{path}/metadata"), format!("{INSTANCE}/frames/1")] {
            assert_eq!(status(&server, &gone).await, 404, "{gone}");
        }
        assert_eq!(delete(&server, path).await, 404, "{path}");
        assert_eq!(server.json("/instances").await.as_array().unwrap().len(), instances, "{path}");
        assert_eq!(server.json("/series").await.as_array().unwrap().len(), series, "{path}");
        assert_eq!(status(&server, "/studies/1.3/metadata").await, 200);
    }
}

#[tokio::test]
async fn counts_follow_and_the_last_instance_takes_series_and_study_with_it() {
    let server = server().await;
    for (uid, left) in [
        ("1.2.1/instances/1.2.1.2", Some((2, 2))),
        ("1.2.1/instances/1.2.1.1", Some((1, 1))),
        ("1.2.2/instances/1.2.2.1", None),
    ] {
        assert_eq!(delete(&server, &format!("/studies/1.2/series/{uid}")).await, 204);
        let found = server.get("/studies?StudyInstanceUID=1.2").send().await.unwrap();
        let found: Vec<Value> = found.json().await.unwrap();
        let counts = found.first().map(|study| (count(study, "00201208"), count(study, "00201206")));
        assert_eq!(counts, left);
    }
    assert_eq!(server.store(&[native("1.2", "1.2.1", "1.2.1.1")]).await.status(), 200);
    assert_eq!(status(&server, INSTANCE).await, 200);
}

#[tokio::test]
async fn an_etag_from_before_does_not_hold() {
    let server = server().await;
    let etag = server.get("/studies/1.2/metadata").send().await.unwrap().headers()["etag"].clone();
    let again = async || {
        let request = server.get("/studies/1.2/metadata").header("If-None-Match", &etag);
        request.send().await.unwrap().status()
    };
    assert_eq!(again().await, 304);
    assert_eq!(delete(&server, INSTANCE).await, 204);
    assert_eq!(again().await, 200);
    assert_eq!(delete(&server, "/studies/1.2").await, 204);
    assert_eq!(again().await, 404);
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_is_told_apart() {
    let server = server().await;
    for path in ["/studies/1.9", "/studies/1.2/series/1.3.1", "/studies/1.3/series/1.3.1/instances/1.2.1.1"] {
        assert_eq!(delete(&server, path).await, 404, "{path}");
    }
    assert_eq!(delete(&server, "/studies/1.2.x").await, 400);
    for path in ["/studies", "/studies/1.2/metadata", "/studies/1.2/series"] {
        assert_eq!(delete(&server, path).await, 405, "{path}");
    }
    assert_eq!(server.json("/instances").await.as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_setting_forbids_it() {
    let server = Server::with(|config| config.http.allow_delete = false).await;
    assert_eq!(server.store(&[native("1.2", "1.2.1", "1.2.1.1")]).await.status(), 200);
    let response = server.request("DELETE", server.url(INSTANCE)).send().await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(response.text().await.unwrap().contains("http.allow_delete"));
    assert_eq!(status(&server, INSTANCE).await, 200);
}

#[tokio::test]
async fn no_page_of_another_site_may_delete() {
    let server = server().await;
    let request =
        server.request("OPTIONS", server.url(INSTANCE)).header("Origin", "https://elsewhere.example");
    let response = request.header("Access-Control-Request-Method", "DELETE").send().await.unwrap();
    let allowed = response.headers()["access-control-allow-methods"].to_str().unwrap().to_owned();
    assert!(!allowed.contains("DELETE"), "{allowed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_study_of_many_instances_goes_while_others_are_stored() {
    let server = std::sync::Arc::new(Server::start().await);
    let file = |series: usize, number: usize| {
        native("1.2", &format!("1.2.{series}"), &format!("1.2.{series}.{number}"))
    };
    let first: Vec<_> = (0..400).map(|number| file(number % 3, number)).collect();
    assert_eq!(server.store(&first).await.status(), 200);
    let storing = tokio::spawn({
        let (server, late) = (server.clone(), (400..500).map(|number| file(7, number)).collect::<Vec<_>>());
        async move { server.store(&late).await.status() }
    });
    assert_eq!(delete(&server, "/studies/1.2").await, 204);
    assert_eq!(storing.await.unwrap(), 200);
    let left = server.json("/instances").await.as_array().unwrap().len() as u64;
    assert!(left <= 100, "{left}");
    let studies = server.json("/studies").await;
    let counted = studies.as_array().unwrap().first().map_or(0, |study| count(study, "00201208"));
    assert_eq!(counted, left);
    // Each UID is free, or stored with these bytes.
    let all: Vec<_> = first.into_iter().chain((400..500).map(|number| file(7, number))).collect();
    assert_eq!(server.store(&all).await.status(), 200);
    assert_eq!(count(&server.json("/studies").await[0], "00201208"), 500);
}
