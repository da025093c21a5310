//! Behaviour that all resources share: errors, methods, browsers on other origins.

use crate::harness::Server;

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
    let server = Server::start().await;
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
    let server = Server::with(|config| config.http.allowed_origins = vec!["https://a.example".into()]).await;
    for (origin, allowed) in [("https://a.example", true), ("https://b.example", false)] {
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
