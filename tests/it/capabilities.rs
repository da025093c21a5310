//! The descriptions of the server's capabilities, compared with its answers (PS3.18 §8.9; OpenAPI).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Server, native};

const WADL: &str = "application/vnd.sun.wadl+xml";

async fn openapi(server: &Server) -> Value {
    let url = format!("http://{}/openapi.json", server.address);
    let response = server.request("GET", url).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    response.json().await.unwrap()
}

#[tokio::test]
async fn the_base_url_describes_the_service() {
    let server = Server::start().await;
    for (accept, expected) in [
        ("*/*", Some(WADL)),
        (WADL, Some(WADL)),
        ("application/json", Some("application/json")),
        ("text/html, application/json;q=0.2, application/vnd.sun.wadl+xml;q=0.1", Some("application/json")),
        ("text/html", None),
    ] {
        for (method, path) in [("GET", ""), ("GET", "/"), ("OPTIONS", ""), ("OPTIONS", "/")] {
            let request = server.request(method, server.url(path)).header("Accept", accept);
            let response = request.send().await.unwrap();
            assert_eq!(response.status().is_success(), expected.is_some(), "{method} {path} {accept}");
            let expected = expected.unwrap_or("application/problem+json");
            assert_eq!(response.headers()["content-type"], expected);
            if response.status() == 200 {
                assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
            } else {
                assert_eq!(response.status(), 406);
                assert!(response.text().await.unwrap().contains(WADL));
            }
        }
    }
}

#[tokio::test]
async fn the_description_names_the_url_that_the_client_used() {
    let server = Server::start().await;
    let request =
        server.get("/").header("Accept", "application/json").header("X-Forwarded-Host", "pacs.example");
    let description: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(description["application"]["resources"]["@base"], "http://pacs.example/dicom-web");
    assert_eq!(openapi(&server).await["servers"][0]["url"], format!("http://{}", server.address));
}

#[tokio::test]
async fn each_path_has_the_methods_that_are_described() {
    let server = Server::start().await;
    for (path, item) in openapi(&server).await["paths"].as_object().unwrap() {
        let described = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        let mut described: BTreeSet<String> = described.map(|method| method.to_ascii_uppercase()).collect();
        described.insert("OPTIONS".into());
        let url = format!("http://{}{}", server.address, filled(path, ["1.2", "1.3", "1.4"]));
        let response = server.request("OPTIONS", url).send().await.unwrap();
        let allow = response.headers()["allow"].to_str().unwrap().to_owned();
        let allowed: BTreeSet<String> = allow.split(',').map(|method| method.trim().to_owned()).collect();
        assert_eq!(described, allowed, "{path}");
    }
}

#[tokio::test]
async fn answers_have_statuses_and_media_types_that_are_described() {
    let server = Server::start().await;
    server.store(&[native("1.1", "1.2", "1.3")]).await;
    let paths = openapi(&server).await["paths"].as_object().unwrap().clone();
    // A redirection leads to another path.
    for (path, item) in paths.iter().filter(|(path, _)| !["/viewer", "/view"].contains(&path.as_str())) {
        for uids in [["1.1", "1.2", "1.3"], ["1.1", "1.2", "9.9"], ["x", "x", "x"]] {
            for (name, value) in
                [("Accept", "*/*"), ("Accept", "x/y"), ("Range", "bytes=0-0"), ("Range", "bytes=999999999-")]
            {
                let url = format!("http://{}{}", server.address, filled(path, uids));
                let response = server.request("GET", url).header(name, value).send().await.unwrap();
                let status = response.status().as_u16();
                if item.get("get").is_none() {
                    assert_eq!(status, 405, "GET {path}");
                    continue;
                }
                let described = &item["get"]["responses"][status.to_string()];
                assert!(
                    described.is_object(),
                    "GET {path} {uids:?} {name}: {value}: {status} is not described"
                );
                if matches!(status, 200 | 206) {
                    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
                    let essence = content_type.split("; charset").next().unwrap();
                    let essence = essence
                        .split("; boundary")
                        .next()
                        .unwrap()
                        .split("; transfer-syntax")
                        .next()
                        .unwrap();
                    let essence = essence.split("; version").next().unwrap();
                    assert!(
                        described["content"][essence].is_object(),
                        "GET {path}: {essence} is not described"
                    );
                }
            }
        }
    }
}

fn filled(path: &str, [study, series, instance]: [&str; 3]) -> String {
    let path = path.replace("{study}", study).replace("{series}", series).replace("{instance}", instance);
    path.replace("{frames}", "1").replace("{path}", "00080008")
}
