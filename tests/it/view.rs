//! The Cuspid viewer's page and files; the console's link to the viewer.

use std::fs;

use reqwest::Response;
use tempfile::TempDir;

use crate::harness::Server;

const PAGE: &str =
    "<!doctype html><html data-sign-in=\"\" data-ohif=\"\"><head><base href=\"../\"></head></html>";
const SCRIPT: &str = "console.log('a viewer')";

/// A server with a viewer of a few files.
async fn server() -> (Server, TempDir) {
    let place = tempfile::tempdir().unwrap();
    let view = place.path().join("view");
    fs::create_dir_all(&view).unwrap();
    for (name, text) in [
        ("index.html", PAGE),
        ("view.0f6159c501addfe9.js", SCRIPT),
        ("view.0f6159c501addfe9.js.br", "compressed"),
        ("openjpeg.0f6159c501addfe9.wasm", "\0asm"),
    ] {
        fs::write(view.join(name), text).unwrap();
    }
    fs::write(place.path().join("secret.js"), "secret").unwrap();
    let configured = Server::with(|config| {
        config.view.directory = view;
        config.viewer.directory = "/nowhere".into();
    });
    (configured.await, place)
}

async fn get(server: &Server, path: &str) -> Response {
    server.request("GET", format!("http://{}{path}", server.address)).send().await.unwrap()
}

#[tokio::test]
async fn the_page_is_asked_for_again_and_its_files_never() {
    let (server, _place) = server().await;
    for (path, content_type, text, caching) in [
        ("/view/", "text/html; charset=utf-8", PAGE, "no-cache"),
        ("/view/index.html", "text/html; charset=utf-8", PAGE, "no-cache"),
        ("/view//index.html", "text/html; charset=utf-8", PAGE, "no-cache"),
        ("/view/%69ndex.html", "text/html; charset=utf-8", PAGE, "no-cache"),
        ("/view/?study=1.2&series=1.3", "text/html; charset=utf-8", PAGE, "no-cache"),
        ("/view/view.0f6159c501addfe9.js", "text/javascript", SCRIPT, "public, max-age=31536000, immutable"),
        (
            "/view/openjpeg.0f6159c501addfe9.wasm",
            "application/wasm",
            "\0asm",
            "public, max-age=31536000, immutable",
        ),
    ] {
        let response = get(&server, path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], content_type);
        assert_eq!(response.headers()["cache-control"], caching);
        assert_eq!(response.text().await.unwrap(), text);
    }
    let script = server.request("GET", format!("http://{}/view/view.0f6159c501addfe9.js", server.address));
    let script = script.header("Accept-Encoding", "gzip, br").send().await.unwrap();
    assert_eq!(script.headers()["content-encoding"], "br");
}

#[tokio::test]
async fn the_address_without_a_final_slash_keeps_its_query() {
    let (server, _place) = server().await;
    let response = get(&server, "/view?study=1.2").await;
    assert_eq!(response.status(), 200);
    assert_eq!((response.url().path(), response.url().query()), ("/view/", Some("study=1.2")));
}

#[tokio::test]
async fn scripts_of_this_server_alone_run_and_no_other_site_shows_the_page() {
    let (server, _place) = server().await;
    for path in ["/view/", "/view/view.0f6159c501addfe9.js"] {
        let response = get(&server, path).await;
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        for part in ["default-src 'none'", "script-src 'self' 'wasm-unsafe-eval';", "frame-ancestors 'self'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe-inline"), "{path}: {policy}");
        assert_eq!(response.headers()["x-frame-options"], "SAMEORIGIN");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn nothing_outside_of_the_directory_is_served() {
    let (server, _place) = server().await;
    for path in ["%2e%2e/secret.js", "..%2fsecret.js", "..%5csecret.js", "nothing.js", "view.js/nothing.js"] {
        let response = get(&server, &format!("/view/{path}")).await;
        assert!(response.status().is_client_error(), "{path}: {}", response.status());
        assert!(!response.text().await.unwrap().contains("secret"), "{path}");
    }
}

#[tokio::test]
async fn ranges_of_files_are_those_of_other_resources() {
    let (server, place) = server().await;
    fs::write(place.path().join("view/empty.js"), "").unwrap();
    let script = "view.0f6159c501addfe9.js";
    let whole = SCRIPT.len();
    for (file, range, status, length) in [
        ("empty.js", "bytes=0-0", 416, None),
        ("empty.js", "bytes=0-", 416, None),
        (script, "bytes=0-1,3-4", 200, Some(whole)),
        (script, "bytes=0-1", 206, Some(2)),
        (script, "bytes=99999-", 416, None),
    ] {
        let request = server.request("GET", format!("http://{}/view/{file}", server.address));
        let response = request.header("Range", range).send().await.unwrap();
        assert_eq!(response.status(), status, "{file} {range}");
        if let Some(length) = length {
            assert_eq!(response.bytes().await.unwrap().len(), length, "{file} {range}");
        }
    }
}

#[tokio::test]
async fn without_the_viewer_its_url_tells_how_to_get_it() {
    let server = Server::with(|config| config.view.directory = "/nowhere".into()).await;
    let response = get(&server, "/view/?study=1.2").await;
    assert_eq!(response.status(), 404);
    let text = response.text().await.unwrap();
    assert!(text.contains("view.directory") && text.contains("make viewer"), "{text}");
    assert!(!text.contains("nowhere"), "no path of this machine is told to strangers: {text}");
}

#[tokio::test]
async fn the_console_knows_whether_the_viewer_is_there() {
    let (with, place) = server().await;
    assert!(get(&with, "/").await.text().await.unwrap().contains("data-view=\"view/\""));
    fs::remove_dir_all(place.path().join("view")).unwrap();
    assert!(get(&with, "/").await.text().await.unwrap().contains("data-view=\"\""));
}
