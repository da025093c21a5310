//! Usage and limits: what `GET /admin/usage` says after stores and deletions, and stores that a limit
//! refuses.

use cuspid::clock::{date, now_millis};
use cuspid::config::Config;
use cuspid::server;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::auth::guarded;
use crate::dimse::Peer;
use crate::harness::{STORE_TYPE, Server, data_set, embedded, multipart, native};

/// Sets the plan of all tenants.
fn plan(config: &mut Config, limits: &str) {
    config.quotas.plans = vec![format!("small {limits}").try_into().unwrap()];
    config.quotas.tenants = vec!["*=small".to_owned().try_into().unwrap()];
}

async fn usage(server: &Server) -> Value {
    let response =
        server.request("GET", format!("http://{}/admin/usage", server.address)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    response.json().await.unwrap()
}

async fn delete(server: &Server, path: &str) {
    assert_eq!(server.request("DELETE", server.url(path)).send().await.unwrap().status(), 204);
}

fn file(instance: &str) -> Vec<u8> {
    native("1.2", "1.2.1", instance)
}

/// The status and the texts of the Warning header fields.
fn outcome(response: &Response) -> (u16, String) {
    let warnings = response.headers().get_all("warning").iter().map(|value| value.to_str().unwrap());
    (response.status().as_u16(), warnings.collect::<Vec<_>>().join("; "))
}

#[tokio::test]
async fn usage_is_what_was_stored_deleted_asked_for_and_sent() {
    let server = Server::start().await;
    assert_eq!(usage(&server).await["stored"], json!({ "studies": 0, "instances": 0, "bytes": 0 }));
    let files = [file("1.2.1.1"), file("1.2.1.2"), native("1.3", "1.3.1", "1.3.1.1")];
    let bytes: usize = files.iter().map(Vec::len).sum();
    for _ in 0..2 {
        assert_eq!(server.store(&files).await.status(), 200);
    }
    delete(&server, "/studies/1.3").await;
    let read = server.get("/studies/1.2/metadata").send().await.unwrap().bytes().await.unwrap();
    server.engine.archive.write_traffic().await.unwrap();
    let usage = usage(&server).await;
    let left = bytes - files[2].len();
    assert_eq!(usage["stored"], json!({ "studies": 1, "instances": 2, "bytes": left }));
    assert_eq!((&usage["tenant"], &usage["plan"]), (&json!("default"), &Value::Null));
    let today = date(now_millis());
    let [day] = usage["days"].as_array().unwrap().as_slice() else { panic!("{usage}") };
    assert_eq!((&day["date"], &usage["to"]), (&json!(today), &json!(today)));
    assert_eq!(day["stored"], json!({ "studies": 2, "instances": 3, "bytes": bytes }));
    assert_eq!(day["deleted"], json!({ "studies": 1, "instances": 1, "bytes": files[2].len() }));
    // Usage before, two stores, a deletion and metadata.
    assert_eq!(day["calls"], 5);
    assert!(day["sent_bytes"].as_u64().unwrap() > read.len() as u64, "{day}");

    let url = format!("http://{}/admin/usage", server.address);
    let csv = server.request("GET", url).header("Accept", "text/csv").send().await.unwrap();
    assert_eq!((csv.status().as_u16(), &csv.headers()["content-type"]), (200, &"text/csv".parse().unwrap()));
    let text = csv.text().await.unwrap();
    let row = text.lines().nth(1).unwrap();
    let expected = format!("{today},default,2,3,{bytes},1,1,{},5,", files[2].len());
    assert!(row.starts_with(&expected), "{row} {expected}");
    assert_eq!(text.lines().count(), 2);
}

#[tokio::test]
async fn administrators_see_the_usage_of_their_own_tenant_alone() {
    let guarded = guarded().await;
    let reader = guarded.token_with("a", "cuspid-read");
    for (query, token, accept, status) in [
        ("", Some(guarded.token("a")), "*/*", 200),
        ("?tenant=a", Some(guarded.token("a")), "*/*", 200),
        ("?tenant=b", Some(guarded.token("a")), "*/*", 400),
        ("?from=2026-11-31", Some(guarded.token("a")), "*/*", 400),
        ("", Some(guarded.token("a")), "text/html", 406),
        ("", Some(reader), "*/*", 403),
        ("", None, "*/*", 401),
    ] {
        let response = guarded.ask("GET", &format!("/admin/usage{query}"), token.as_deref(), accept).await;
        assert_eq!(response.status(), status, "{query} {accept}");
        let text = response.text().await.unwrap();
        assert_eq!(text.contains("\"tenant\":\"a\""), status == 200, "{text}");
        if status == 400 {
            assert!(
                text.contains(&query[1..query.find('=').unwrap()]),
                "the error names the parameter: {text}"
            );
        }
    }
    guarded.stop().await;
}

#[tokio::test]
async fn a_limit_warns_before_it_refuses_and_a_deletion_makes_room_at_once() {
    let server = Server::with(|config| plan(config, "instances=10")).await;
    let files: Vec<Vec<u8>> = (1..=13).map(|number| file(&format!("1.2.1.{number}"))).collect();
    assert_eq!(outcome(&server.store(&files[..8]).await), (200, String::new()));
    let (status, warnings) = outcome(&server.store(&files[8..9]).await);
    assert_eq!(status, 200);
    assert!(warnings.contains("9 of 10 instances of the plan small are used (90 %)"), "{warnings}");

    let (status, warnings) = outcome(&server.store(&files[9..12]).await);
    assert_eq!(status, 202);
    assert!(warnings.contains("A700: out of resources") && warnings.contains("10 of 10"), "{warnings}");
    let refused = server.store(&files[12..]).await;
    assert_eq!(refused.status(), 507);
    let body: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    let failed = &body["00081198"]["Value"][0];
    assert_eq!(failed["00081197"]["Value"][0], 0xA700);
    assert!(body.to_string().contains("the plan's limit of 10 instances is reached"), "{body}");
    assert_eq!(usage(&server).await["stored"]["instances"], 10);
    assert_eq!(usage(&server).await["plan"]["instances"], 10);

    // What is stored is not touched, can be read, and is answered as before when it is sent again.
    assert_eq!(server.store(&files[..9]).await.status(), 200);
    assert_eq!(server.get("/studies/1.2/metadata").send().await.unwrap().status(), 200);
    delete(&server, "/studies/1.2/series/1.2.1/instances/1.2.1.1").await;
    assert_eq!(server.store(&files[12..]).await.status(), 200);
    assert_eq!(server.store(&files[..1]).await.status(), 507);
}

#[tokio::test]
async fn a_limit_of_studies_refuses_new_ones_only_and_one_of_bytes_goes_by_the_originals() {
    let size = file("1.2.1.1").len();
    let server = Server::with(|config| plan(config, &format!("studies=2 bytes={}", 5 * size))).await;
    for (study, instance, status) in [
        ("1.2", "1.2.1.1", 200),
        ("1.3", "1.3.1.1", 200),
        ("1.4", "1.4.1.1", 507),
        ("1.3", "1.3.1.2", 200),
        ("1.2", "1.2.1.2", 200),
        ("1.2", "1.2.1.3", 200),
        ("1.2", "1.2.1.4", 507),
    ] {
        let stored = server.store(&[native(study, &format!("{study}.1"), instance)]).await;
        assert_eq!(stored.status(), status, "{instance}");
    }
    assert_eq!(usage(&server).await["stored"], json!({ "studies": 2, "instances": 5, "bytes": 5 * size }));
}

#[tokio::test]
async fn a_limit_holds_for_dimse_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = embedded(directory.path());
    config.dimse.listen = "127.0.0.1:0".into();
    plan(&mut config, "instances=2");
    let store = async |http, instance: &str| {
        let request = Client::new().post(format!("http://{http}/dicom-web/studies"));
        let request = request.header("Content-Type", STORE_TYPE).body(multipart(&[file(instance)]));
        request.send().await.unwrap().status().as_u16()
    };
    let running = server::start(config.clone()).await.unwrap();
    assert_eq!(store(running.http, "1.2.1.1").await, 200);
    running.stop().await.unwrap();
    let running = server::start(config).await.unwrap();
    let (mut peer, _) = Peer::ask_as("PEER", running.dimse.unwrap()).await;
    for (message, instance, status) in [(1, "1.2.1.2", 0), (2, "1.2.1.3", 0xA700), (3, "1.2.1.2", 0)] {
        peer.store(message, instance, &data_set("1.2", "1.2.1", instance).bytes()).await;
        assert_eq!(peer.response().await, (message, 0x8001, status), "{instance}");
    }
    assert_eq!(store(running.http, "1.2.1.4").await, 507);
    let response = Client::new().get(format!("http://{}/admin/usage", running.http)).send().await.unwrap();
    let usage: Value = response.json().await.unwrap();
    assert_eq!(usage["stored"]["instances"], 2);
    // The server that was stopped has written what it had counted.
    assert!(usage["days"][0]["calls"].as_u64().unwrap() >= 1, "{usage}");
    drop(peer);
    running.stop().await.unwrap();
}
