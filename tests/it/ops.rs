//! Health, metrics and the built-in page.

use crate::harness::Server;

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
        ("/console/console.js", "text/javascript"),
    ] {
        let response = server.request("GET", format!("{root}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let found = response.headers()["content-type"].to_str().unwrap();
        assert!(found.starts_with(content_type), "{path}: {found}");
    }
}
