//! Behaviour that all resources share: errors, methods, browsers on other origins.

use cuspid::config::AllowedOrigin;

use crate::harness::{STORE_TYPE, Server, multipart, native};

#[tokio::test]
async fn unknown_urls_and_methods_are_problems() {
    let server = Server::start().await;
    for (method, path, status) in
        [("GET", "/nothing", 404), ("PUT", "/studies", 405), ("POST", "/series", 405)]
    {
        let response = server.request(method, server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(response.headers().contains_key("x-request-id"));
    }
}

#[tokio::test]
async fn each_resource_tells_its_methods() {
    let server = Server::start().await;
    for (path, allow) in [("/studies", "GET,HEAD,POST, OPTIONS"), ("/series", "GET,HEAD, OPTIONS")] {
        let sorted = |list: &str| {
            let mut names: Vec<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
            names.sort();
            names
        };
        for (method, status) in [("OPTIONS", 204), ("DELETE", 405)] {
            let response = server.request(method, server.url(path)).send().await.unwrap();
            assert_eq!(response.status(), status, "{method} {path}");
            assert_eq!(
                sorted(response.headers()["allow"].to_str().unwrap()),
                sorted(allow),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_use_the_server() {
    let server = Server::with(|config| config.http.allowed_origins = vec![AllowedOrigin::Any]).await;
    let preflight = server
        .request("OPTIONS", server.url("/studies"))
        .header("Origin", "https://viewer.example")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization, range");
    let response = preflight.send().await.unwrap();
    assert_eq!(response.status(), 204);
    let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap();
    for name in ["Authorization", "Accept", "Content-Type", "Range", "If-None-Match"] {
        assert!(allowed.contains(name), "{name}");
    }
    let response = server.get("/studies").header("Origin", "https://viewer.example").send().await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers()["cross-origin-resource-policy"], "cross-origin");
    let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
    for name in ["Content-Length", "Content-Range", "ETag", "Location", "Warning"] {
        assert!(exposed.contains(name), "{name}");
    }
}

#[tokio::test]
async fn only_listed_origins_are_let_in() {
    let listed = AllowedOrigin::try_from("https://a.example".to_owned()).unwrap();
    let server = Server::with(|config| config.http.allowed_origins = vec![listed]).await;
    for (origin, allowed) in
        [("https://a.example", true), ("https://b.example", false), ("http://localhost:3000", false)]
    {
        let response = server.get("/studies").header("Origin", origin).send().await.unwrap();
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
    }
}

#[tokio::test]
async fn a_request_keeps_the_identifier_of_its_proxy() {
    let server = Server::start().await;
    let response = server.get("/studies").header("X-Request-Id", "abc-1").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "abc-1");
}

const INSTANCE: &str = "/studies/1.1/series/1.2/instances/1.3";

/// The status of a request with header fields.
async fn status(server: &Server, method: &str, path: &str, fields: &[(&str, &str)]) -> u16 {
    let mut request = server.request(method, server.url(path));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    if method == "POST" {
        let body = multipart(&[native("1.1", "1.2", "1.3")]);
        request = request.header("Content-Type", STORE_TYPE).body(body);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn without_authentication_no_page_of_another_site_stores_or_deletes() {
    let server = Server::start().await;
    assert_eq!(status(&server, "POST", "/studies", &[]).await, 200);
    let own = format!("http://{}", server.address);
    let (cross, same) = (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-origin"));
    for fields in [
        &[("Origin", "https://any.example")] as &[_],
        &[("Origin", "null")],
        &[cross],
        &[cross, ("Origin", "https://any.example")],
        &[("Sec-Fetch-Site", "same-site"), ("Origin", "https://any.localhost.example")],
    ] {
        for (method, path) in [("POST", "/studies"), ("POST", "/studies/1.1"), ("DELETE", INSTANCE)] {
            assert_eq!(status(&server, method, path, fields).await, 403, "{method} {fields:?}");
        }
        assert_eq!(status(&server, "GET", INSTANCE, fields).await, 200, "{fields:?}");
    }
    for fields in [
        &[] as &[_],
        &[("Origin", own.as_str())],
        &[("Origin", own.as_str()), same],
        &[("Origin", "http://localhost:3000")],
    ] {
        assert_eq!(status(&server, "POST", "/studies", fields).await, 200, "{fields:?}");
    }
    assert_eq!(status(&server, "DELETE", INSTANCE, &[("Origin", own.as_str())]).await, 204);
}

#[tokio::test]
async fn without_authentication_the_server_answers_under_its_own_names() {
    let server = Server::with(|config| config.http.public_url = "https://pacs.example/p".into()).await;
    for (host, expected) in [
        ("127.0.0.1", 200),
        ("localhost:1", 200),
        ("[::1]:8080", 200),
        ("pacs.example", 200),
        ("rebound.example", 421),
        ("10.0.0.1", 421),
    ] {
        for (method, path) in [("GET", "/studies"), ("POST", "/studies")] {
            assert_eq!(status(&server, method, path, &[("Host", host)]).await, expected, "{method} {host}");
        }
        for path in ["/", "/metrics", "/openapi.json", "/console/main.js"] {
            let request = server.request("GET", format!("http://{}{path}", server.address));
            let response = request.header("Host", host).send().await.unwrap();
            assert_eq!(response.status(), expected, "{path} {host}");
        }
        let health = server.request("GET", format!("http://{}/healthz", server.address));
        assert_eq!(health.header("Host", host).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_page_of_any_site_may_store_if_that_was_chosen() {
    let server = Server::with(|config| config.http.allowed_origins = vec![AllowedOrigin::Any]).await;
    let fields = [("Origin", "https://any.example"), ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(status(&server, "POST", "/studies", &fields).await, 200);
}

#[tokio::test]
async fn only_trusted_proxies_say_where_a_request_is_from() {
    for (trusted, expected) in
        [("127.0.0.0/8", "https://pacs.example:8443/"), ("10.0.0.1", "http://127.0.0.1:")]
    {
        let network = trusted.to_owned().try_into().unwrap();
        let server = Server::with(|config| config.http.trusted_proxies = vec![network]).await;
        assert_eq!(status(&server, "POST", "/studies", &[]).await, 200);
        let request = server.get(&format!("{INSTANCE}/metadata")).header("X-Forwarded-Host", "pacs.example");
        let request = request.header("X-Forwarded-Port", "8443").header("X-Forwarded-Proto", "https");
        let metadata: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        let uri = metadata[0]["7FE00010"]["BulkDataURI"].as_str().unwrap();
        assert!(uri.starts_with(expected), "{trusted}: {uri}");
    }
}
