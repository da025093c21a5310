//! The OHIF viewer's files, its page and its configuration; the console's link to the viewer.

use std::fs;

use reqwest::Response;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::Server;

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const BUNDLE: &str = "console.log('a bundle')";

/// A server with a viewer of a few files; a directory beside the viewer's must not be served.
async fn server() -> (Server, TempDir) {
    let place = tempfile::tempdir().unwrap();
    let viewer = place.path().join("viewer");
    fs::create_dir_all(viewer.join("assets")).unwrap();
    for (name, text) in [
        ("viewer/index.html", "<html><head><script src=\"app.js\"></script></head></html>"),
        ("viewer/app.js", BUNDLE),
        ("viewer/app.js.gz", "compressed"),
        ("viewer/decoder.wasm", "\0asm"),
        ("viewer/app.bundle.0f6159c501addfe9.js", BUNDLE),
        ("viewer/assets/logo.svg", "<svg/>"),
        ("secret.js", "secret"),
    ] {
        fs::write(place.path().join(name), text).unwrap();
    }
    (Server::with(|config| config.viewer.directory = viewer).await, place)
}

async fn get(server: &Server, path: &str) -> Response {
    server.request("GET", format!("http://{}{path}", server.address)).send().await.unwrap()
}

#[tokio::test]
async fn files_have_their_types_and_states() {
    let (server, _place) = server().await;
    for (path, content_type, text, caching) in [
        ("/viewer/app.js", "text/javascript", BUNDLE, "no-cache"),
        ("/viewer/decoder.wasm", "application/wasm", "\0asm", "no-cache"),
        ("/viewer/assets/logo.svg", "image/svg+xml", "<svg/>", "no-cache"),
        ("/viewer/app.bundle.0f6159c501addfe9.js", "text/javascript", BUNDLE, IMMUTABLE),
    ] {
        let response = get(&server, path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], content_type);
        assert_eq!(response.headers()["cache-control"], caching);
        let etag = response.headers()["etag"].clone();
        assert_eq!(response.text().await.unwrap(), text);
        let again = server.request("GET", format!("http://{}{path}", server.address));
        let again = again.header("If-None-Match", etag).send().await.unwrap();
        assert_eq!(again.status(), 304);
    }
}

#[tokio::test]
async fn what_was_compressed_at_installation_is_served_as_it_is() {
    let (server, _place) = server().await;
    for (path, coding, text) in
        [("/viewer/app.js", Some("gzip"), "compressed"), ("/viewer/decoder.wasm", None, "\0asm")]
    {
        let request = server.request("GET", format!("http://{}{path}", server.address));
        let response = request.header("Accept-Encoding", "gzip, deflate, br").send().await.unwrap();
        let found = response.headers().get("content-encoding").map(|value| value.to_str().unwrap());
        assert_eq!(found, coding, "{path}");
        assert_eq!(response.text().await.unwrap(), text);
    }
}

#[tokio::test]
async fn each_view_gets_the_page_with_its_links_made_right() {
    let (server, _place) = server().await;
    for (path, base) in [
        ("/viewer/", "./"),
        ("/viewer/index.html", "./"),
        ("/viewer/viewer?StudyInstanceUIDs=1.2", "./"),
        ("/viewer/viewer/dicomweb?StudyInstanceUIDs=1.2", "./../"),
        ("/viewer/a/b/c", "./../../"),
    ] {
        let response = get(&server, path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        let page = response.text().await.unwrap();
        assert!(page.contains(&format!("<head><base href=\"{base}\"><script")), "{path}: {page}");
    }
}

#[tokio::test]
async fn the_viewer_is_configured_by_the_server() {
    let (server, _place) = server().await;
    let response = get(&server, "/viewer/app-config.js").await;
    assert_eq!(response.headers()["content-type"], "text/javascript; charset=utf-8");
    assert!(response.text().await.unwrap().contains("window.config"));
    // The address without a final slash.
    let response = get(&server, "/viewer").await;
    assert_eq!((response.status().as_u16(), response.url().path()), (200, "/viewer/"));
}

#[tokio::test]
async fn no_page_of_another_site_shows_the_pages_within_itself() {
    let (server, _place) = server().await;
    for path in
        ["/", "/viewer/", "/viewer/viewer?StudyInstanceUIDs=1.2", "/viewer/app.js", "/viewer/app-config.js"]
    {
        let response = get(&server, path).await;
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(
            ["'self'", "'none'"].iter().any(|who| policy.contains(&format!("frame-ancestors {who}"))),
            "{path}"
        );
        assert!(response.headers().contains_key("x-frame-options"), "{path}");
    }
}

#[tokio::test]
async fn nothing_outside_of_the_directory_is_served() {
    let (server, place) = server().await;
    let absolute = place.path().join("secret.js");
    for path in [
        "../secret.js",
        "assets/../../secret.js",
        "%2e%2e/secret.js",
        "..%2fsecret.js",
        "..%5csecret.js",
        "..\\secret.js",
        &format!("/{}", absolute.display()),
        &absolute.display().to_string(),
        "nothing.js",
        "app.js/nothing.js",
        "app%00.js",
        &format!("{}.js", "a".repeat(3000)),
    ] {
        // An HTTP client library would normalise the path.
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET /viewer/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
        assert!(!answer.contains("secret"), "{path}");
    }
}

#[tokio::test]
async fn without_a_viewer_its_url_tells_how_to_get_one() {
    let server = Server::with(|config| config.viewer.directory = "/nowhere".into()).await;
    for path in ["/viewer/", "/viewer/viewer?StudyInstanceUIDs=1.2"] {
        let response = get(&server, path).await;
        assert_eq!(response.status(), 404);
        let text = response.text().await.unwrap();
        assert!(text.contains("viewer.directory") && text.contains("make viewer"), "{text}");
        assert!(!text.contains("nowhere"), "no path of this machine is told to strangers: {text}");
    }
}

#[tokio::test]
async fn the_console_knows_whether_there_is_a_viewer() {
    let (with, place) = server().await;
    assert!(get(&with, "/").await.text().await.unwrap().contains("data-viewer=\"viewer/\""));
    fs::remove_dir_all(place.path().join("viewer")).unwrap();
    assert!(get(&with, "/").await.text().await.unwrap().contains("data-viewer=\"\""));
}
