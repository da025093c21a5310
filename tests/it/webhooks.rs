//! Webhooks: the changes come to a target in order, signed, and none is lost.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuspid::config::Config;
use cuspid::server::{self, Server};
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::engine;
use crate::harness::{EXPLICIT, data_set, embedded};

const KEY: [u8; 32] = [7; 32];
/// The longest time in which what must come comes.
const LIMIT: Duration = Duration::from_secs(60);

/// A request that a target got.
#[derive(Clone)]
struct Delivery {
    id: String,
    body: Value,
}

/// A target that answers each request with the next of the given codes, and then with 204.
#[derive(Clone)]
struct Target {
    url: String,
    codes: Arc<Mutex<Vec<u16>>>,
    got: Arc<Mutex<Vec<Delivery>>>,
}

impl Target {
    async fn start(codes: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, codes)
    }

    fn on(listener: TcpListener, codes: &[u16]) -> Self {
        let url = format!("http://{}/hook?token=secret", listener.local_addr().unwrap());
        let codes = codes.iter().rev().copied().collect();
        let target = Self { url, codes: Arc::new(Mutex::new(codes)), got: Arc::default() };
        let routes = axum::Router::new().route("/hook", post(take)).with_state(target.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        target
    }

    /// What the target got, as soon as it has so many requests.
    async fn got(&self, count: usize) -> Vec<Delivery> {
        let began = Instant::now();
        loop {
            let got = self.got.lock().unwrap().clone();
            if got.len() >= count {
                return got;
            }
            assert!(began.elapsed() < LIMIT, "{} requests of {count}", got.len());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn take(State(target): State<Target>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp, signature) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &body].concat();
    let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
    if hmac::verify(&key, &signed, &signature).is_err() || headers["content-type"] != "application/json" {
        return StatusCode::IM_A_TEAPOT;
    }
    let body = serde_json::from_slice(&body).unwrap();
    target.got.lock().unwrap().push(Delivery { id, body });
    let code = target.codes.lock().unwrap().pop().unwrap_or(204);
    StatusCode::from_u16(code).unwrap()
}

fn config(data: &Path, url: &str) -> Config {
    let mut config = embedded(data);
    config.webhooks.targets = vec![url.to_owned().try_into().unwrap()];
    config.webhooks.secret = format!("whsec_{}", STANDARD.encode(KEY));
    config
}

/// Stores an instance of a study of its own, after the target's place is known.
async fn store(address: SocketAddr, study: &str) {
    let began = Instant::now();
    while webhooks(address).await["targets"] == json!([]) {
        assert!(began.elapsed() < LIMIT);
        sleep(Duration::from_millis(20)).await;
    }
    let instance = data_set(study, &format!("{study}.1"), &format!("{study}.1.1")).file(EXPLICIT);
    let url = format!("http://{address}/dicom-web/studies");
    let request = reqwest::Client::new().post(url).header("Content-Type", "application/dicom");
    assert_eq!(request.body(instance).send().await.unwrap().status(), 200);
}

async fn get(address: SocketAddr, path: &str) -> Value {
    let response = reqwest::get(format!("http://{address}{path}")).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn webhooks(address: SocketAddr) -> Value {
    get(address, "/webhooks").await
}

/// The studies of the changes of deliveries.
fn studies(got: &[Delivery]) -> Vec<String> {
    let changes = got.iter().flat_map(|delivery| delivery.body["changes"].as_array().unwrap());
    changes.map(|change| change["study"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn changes_are_delivered_in_order_and_signed() {
    let place = tempdir().unwrap();
    let target = Target::start(&[]).await;
    let server = server::start(config(place.path(), &target.url)).await.unwrap();
    store(server.http, "1.2").await;
    target.got(1).await;
    store(server.http, "1.3").await;
    let got = target.got(2).await;
    assert_eq!(studies(&got), ["1.2", "1.3"]);
    let first = &got[0].body;
    assert_eq!(first["tenant"], "default");
    assert_eq!(first["changes"], get(server.http, "/changes?study=1.2").await["changes"]);
    assert_eq!(first["next"], got[1].body["after"]);
    assert_ne!(got[0].id, got[1].id);
    let report = webhooks(server.http).await;
    let state = &report["targets"][0];
    assert_eq!(state["target"], target.url.split("/hook").next().unwrap(), "the rest may be secret");
    assert_eq!((&state["attempts"], &state["error"]), (&json!(0), &json!(null)));
    assert_eq!(report["failures"], json!([]));
}

#[tokio::test]
async fn a_delivery_that_fails_is_repeated_with_the_same_name() {
    let place = tempdir().unwrap();
    let target = Target::start(&[503, 302]).await;
    let server = server::start(config(place.path(), &target.url)).await.unwrap();
    store(server.http, "1.2").await;
    let got = target.got(3).await;
    assert_eq!(studies(&got), ["1.2", "1.2", "1.2"]);
    assert!(got.iter().all(|delivery| delivery.id == got[0].id));
    store(server.http, "1.3").await;
    assert_eq!(studies(&target.got(4).await[3..]), ["1.3"]);
}

#[tokio::test]
async fn what_changed_while_the_target_was_away_comes_after_a_restart() {
    let place = tempdir().unwrap();
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let url = format!("http://{address}/hook?token=secret");
    let server = server::start(config(place.path(), &url)).await.unwrap();
    for study in ["1.2", "1.3"] {
        store(server.http, study).await;
    }
    let began = Instant::now();
    let error = loop {
        let error = webhooks(server.http).await["targets"][0]["error"].clone();
        if let Some(error) = error.as_str() {
            break error.to_owned();
        }
        assert!(began.elapsed() < LIMIT);
        sleep(Duration::from_millis(20)).await;
    };
    assert!(!error.contains("secret"), "{error}");
    server.stop().await.unwrap();

    let target = Target::on(TcpListener::bind(address).await.unwrap(), &[]);
    let server = server::start(config(place.path(), &url)).await.unwrap();
    store(server.http, "1.4").await;
    let began = Instant::now();
    loop {
        let found = studies(&target.got(1).await);
        if found == ["1.2", "1.3", "1.4"] {
            break;
        }
        assert!(found.len() < 3 && began.elapsed() < LIMIT, "{found:?}");
        sleep(Duration::from_millis(20)).await;
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_delivery_that_was_given_up_is_listed_and_can_be_read() {
    let place = tempdir().unwrap();
    let target = Target::start(&[500]).await;
    let mut config = config(place.path(), &target.url);
    config.webhooks.give_up_hours = 0;
    let server = server::start(config).await.unwrap();
    store(server.http, "1.2").await;
    target.got(1).await;
    store(server.http, "1.3").await;
    assert_eq!(studies(&target.got(2).await[1..]), ["1.3"]);
    let report = webhooks(server.http).await;
    let failure = &report["failures"][0];
    assert_eq!(report["failures"].as_array().unwrap().len(), 1);
    assert_eq!(failure["error"], "the target answers with 500 Internal Server Error");
    let after = failure["after"].as_str().unwrap();
    let missed = get(server.http, &format!("/changes?after={after}&limit=1")).await;
    assert_eq!(missed["changes"][0]["study"], "1.2");
    assert_eq!(missed["next"], failure["next"]);
}

#[tokio::test]
async fn of_several_servers_one_delivers() {
    let place = tempdir().unwrap();
    let target = Target::start(&[]).await;
    let shared = engine::cloud(config(place.path(), &target.url), place.path()).await;
    let mut servers: Vec<Server> = Vec::new();
    for number in 0..2 {
        let mut config = shared.clone();
        config.storage.data = place.path().join(number.to_string());
        servers.push(server::start(config).await.unwrap());
    }
    let expected: Vec<String> = (0..10).map(|number| format!("1.2.{number}")).collect();
    for (number, study) in expected.iter().enumerate() {
        store(servers[number % 2].http, study).await;
        target.got(number + 1).await;
    }
    // What both had sent would be there twice.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(studies(&target.got(10).await), expected);
}
