//! Health, metrics and the built-in page.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{EXPLICIT, Server, data_set, embedded, native};

#[tokio::test]
async fn a_running_server_is_healthy_and_ready() {
    let server = Server::start().await;
    let root = format!("http://{}", server.address);
    for (path, content_type) in [
        ("/healthz", "text/plain"),
        ("/readyz", "text/plain"),
        ("/metrics", "text/plain"),
        ("/", "text/html"),
        ("/console/console.css", "text/css"),
        ("/console/main.js", "text/javascript"),
    ] {
        let response = server.request("GET", format!("{root}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let found = response.headers()["content-type"].to_str().unwrap();
        assert!(found.starts_with(content_type), "{path}: {found}");
    }
}

#[tokio::test]
async fn the_status_has_figures_of_the_server_and_of_the_tenant() {
    let server = Server::start().await;
    let url = format!("http://{}/status", server.address);
    let status = async || -> serde_json::Value {
        let response = server.request("GET", url.clone()).send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    };
    let before = status().await;
    assert_eq!(before["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&before["can_store"], &before["tenant"]), (&true.into(), &"default".into()));
    assert!(before["uptime_seconds"].is_u64() && before["max_instance_bytes"].is_u64(), "{before}");
    if let Some(disk) = before["disk"].as_object() {
        let bytes = |name: &str| disk[name].as_u64().unwrap();
        assert!(bytes("free_bytes") <= bytes("total_bytes") && bytes("total_bytes") > 0, "{before}");
    }
    for study in ["1.2.1", "1.2.2"] {
        let (series, instance) = (format!("{study}.1"), format!("{study}.1.1"));
        assert_eq!(server.store(&[native(study, &series, &instance)]).await.status(), 200);
    }
    let after = status().await;
    assert_eq!(after["studies"], 2, "{after}");
}

#[tokio::test]
async fn a_person_who_opens_a_study_in_a_browser_is_led_to_the_console() {
    let server = Server::with(|config| {
        config.view.directory = "/nowhere".into();
        config.viewer.directory = "/nowhere".into();
    });
    let server = server.await;
    let root = format!("http://{}", server.address);
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let visit = async |path: &str, mode: &str| {
        let request = browser.get(format!("{root}{path}"));
        let request = request.header("accept", "text/html,*/*;q=0.8").header("sec-fetch-mode", mode);
        request.header("sec-fetch-dest", "document").send().await.unwrap()
    };
    let led = visit("/dicom-web/studies/1.2.3", "navigate").await;
    assert_eq!(led.status(), 303);
    assert_eq!(led.headers()["location"], format!("{root}/#/studies/1.2.3"));
    let page = visit("/nonsense", "navigate").await;
    assert_eq!(
        (page.status().as_u16(), page.headers()["content-type"].to_str().unwrap()),
        (404, "text/html; charset=utf-8")
    );
    // A page that is not installed says how to install it, and an unknown series its name.
    for (path, text) in [
        ("/view/", "`make viewer` builds it"),
        ("/viewer/", "`make viewer` installs OHIF"),
        ("/dicom-web/studies/1.2.3/series/1.2.3.4/metadata", "1.2.3"),
    ] {
        let page = visit(path, "navigate").await;
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8", "{path}");
        let page = page.text().await.unwrap();
        assert!(page.contains(text), "{path}: {page}");
    }
    // A cache gives a page to nobody else, and what others get to no browser.
    for path in ["/dicom-web/studies", "/dicom-web/studies/1.2.3", "/nonsense", "/view/"] {
        for mode in ["navigate", "cors"] {
            let response = visit(path, mode).await;
            let vary = response.headers().get_all("vary").iter().map(|value| value.to_str().unwrap());
            let vary = vary.collect::<Vec<_>>().join(", ");
            assert!(
                vary.contains("Sec-Fetch-Mode") && vary.contains("Sec-Fetch-Dest"),
                "{path} {mode}: {vary}"
            );
        }
    }
    // Programs, and those who say what they want, get what they always got.
    for (path, mode) in [
        ("/dicom-web/studies/1.2.3", "cors"),
        ("/dicom-web/studies/1.2.3?accept=application/zip", "navigate"),
    ] {
        let response = visit(path, mode).await;
        assert_ne!(response.status(), 303, "{path} {mode}");
    }
}

#[tokio::test]
async fn browsers_keep_the_files_of_the_console_until_they_change() {
    let server = Server::start().await;
    let root = format!("http://{}/", server.address);
    let page = server.request("GET", root.clone()).send().await.unwrap();
    assert_eq!(page.headers()["cache-control"], "no-cache");
    let page = page.text().await.unwrap();
    let (_, script) = page.split_once("<script src=\"").unwrap();
    let (path, _) = script.split_once('"').unwrap();
    assert!(
        path.starts_with("console/") && path.ends_with("/main.js") && path != "console/main.js",
        "{path}"
    );
    for (path, caching) in [(path, "public, max-age=31536000, immutable"), ("console/main.js", "no-cache")] {
        let file = server.request("GET", format!("{root}{path}")).send().await.unwrap();
        assert_eq!(
            (file.status().as_u16(), file.headers()["cache-control"].to_str().unwrap()),
            (200, caching),
            "{path}"
        );
    }
    let other = server.request("GET", format!("{root}console/00000000/main.js")).send().await.unwrap();
    assert_eq!(other.status(), 404, "the files of another version");
}

#[tokio::test]
async fn a_client_that_takes_nothing_gives_its_place_to_the_next() {
    let server = Server::with(|config| {
        config.http.max_connections = 1;
        config.http.idle_timeout_seconds = 1;
    })
    .await;
    // More than the buffers of two sockets hold.
    let large = data_set("1.2", "1.2.1", "1.2.1.1").element(0x7FE0_0010, "OW", &vec![0; 64 << 20]);
    assert!(server.store(&[large.file(EXPLICIT)]).await.status().is_success());
    let mut stalled = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /dicom-web/studies/1.2/series/1.2.1/instances/1.2.1.1 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n";
    stalled.write_all(request.as_bytes()).await.unwrap();
    // Once the answer has begun, the permit is taken.
    stalled.read_exact(&mut [0; 16]).await.unwrap();
    let status = async |path: &str| {
        let url = format!("http://{}{path}", server.address);
        server.request("GET", url).header("Connection", "close").send().await.unwrap().status().as_u16()
    };
    assert_eq!([status("/dicom-web/studies").await, status("/healthz").await], [503, 200]);
    let next = async {
        while status("/dicom-web/studies").await == 503 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), next).await.expect("the place is free in time");
    assert_eq!(status("/dicom-web/studies").await, 200);
}

#[tokio::test]
async fn the_data_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;

    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let server = cuspid::server::start(embedded(&data)).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files = [("index.redb", 0o600), ("index.redb.wal", 0o600)];
    for (name, expected) in [("", 0o700), ("originals", 0o700), ("staging", 0o700)].into_iter().chain(files) {
        assert_eq!(mode(&data.join(name)), expected, "{name}");
    }
    server.stop().await.unwrap();
}
