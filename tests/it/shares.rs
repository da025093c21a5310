//! Shares: a link opens what was shared and nothing else, as long as it may; and signed URLs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cuspid::archive::access::Tenant;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::harness::{Server, native, parts};

const STUDY: &str = "1.1";
/// The instances of the study as series and instance, and one of another study of the tenant.
const INSTANCES: [(&str, &str, &str); 5] = [
    ("1.1", "1.2", "1.3.1"),
    ("1.1", "1.2", "1.3.2"),
    ("1.1", "1.5", "1.6.1"),
    ("1.1", "1.5", "1.6.2"),
    ("2.1", "2.2", "2.3.1"),
];

async fn filled() -> Server {
    filled_with(|_| {}).await
}

async fn filled_with(change: impl FnOnce(&mut cuspid::config::Config)) -> Server {
    let server = Server::with(change).await;
    let files: Vec<_> =
        INSTANCES.iter().map(|(study, series, instance)| native(study, series, instance)).collect();
    assert_eq!(server.store(&files).await.status(), 200);
    server
}

/// A URL of the server, from its root.
fn root(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address)
}

async fn post(server: &Server, path: &str, body: &Value) -> Response {
    server.request("POST", root(server, path)).json(body).send().await.unwrap()
}

async fn posted(server: &Server, path: &str, body: &Value, status: u16) -> Value {
    let response = post(server, path, body).await;
    let found = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{path} {body}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Makes a share. Returns its identifier and the secret of its link.
async fn share(server: &Server, body: &Value) -> (String, String) {
    let made = posted(server, "/shares", body, 201).await;
    let secret = made["link"].as_str().unwrap().rsplit_once("/s/").unwrap().1.to_owned();
    assert!(secret.len() >= 24, "{secret}");
    (made["id"].as_str().unwrap().to_owned(), secret)
}

async fn open(server: &Server, secret: &str) -> String {
    let opened = posted(server, "/s/open", &json!({ "secret": secret }), 200).await;
    opened["token"].as_str().unwrap().to_owned()
}

fn get(server: &Server, path: &str, token: &str) -> RequestBuilder {
    server.request("GET", root(server, path)).bearer_auth(token)
}

async fn status(server: &Server, path: &str, token: &str) -> u16 {
    get(server, path, token).send().await.unwrap().status().as_u16()
}

async fn json_of(server: &Server, path: &str, token: &str) -> Value {
    let response = get(server, path, token).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

fn uids(found: &Value, tag: &str) -> BTreeSet<String> {
    let of = |one: &Value| one[tag]["Value"][0].as_str().unwrap().to_owned();
    found.as_array().unwrap().iter().map(of).collect()
}

/// The shares to test: the body, and the instances that are visible.
fn kinds() -> Vec<(Value, Vec<(&'static str, &'static str)>)> {
    vec![
        (
            json!({ "study": STUDY }),
            vec![("1.2", "1.3.1"), ("1.2", "1.3.2"), ("1.5", "1.6.1"), ("1.5", "1.6.2")],
        ),
        (json!({ "study": STUDY, "series": "1.5" }), vec![("1.5", "1.6.1"), ("1.5", "1.6.2")]),
        (json!({ "study": STUDY, "instances": ["1.3.2"] }), vec![("1.2", "1.3.2")]),
        (
            json!({ "study": STUDY, "instances": ["1.3.1", "1.6.2"] }),
            vec![("1.2", "1.3.1"), ("1.5", "1.6.2")],
        ),
    ]
}

/// A share that was opened.
struct Opened<'a> {
    server: &'a Server,
    token: String,
    /// The body of the request for the share.
    body: Value,
    /// The visible instances, by series.
    visible: Vec<(&'static str, &'static str)>,
    instances: BTreeSet<String>,
    series: BTreeSet<String>,
}

impl Opened<'_> {
    async fn json(&self, path: &str) -> Value {
        json_of(self.server, path, &self.token).await
    }

    /// Requests what is there if it is visible, and not there otherwise.
    async fn finds(&self, path: &str, is_visible: bool) {
        let found = status(self.server, path, &self.token).await;
        assert_eq!(found, if is_visible { 200 } else { 404 }, "{} {path}", self.body);
    }

    async fn check_searches(&self) {
        let Self { body, instances, series, .. } = self;
        let studies = self.json("/dicom-web/studies?includefield=ModalitiesInStudy,SOPClassesInStudy").await;
        assert_eq!(uids(&studies, "0020000D"), BTreeSet::from([STUDY.to_owned()]), "{body}");
        assert_eq!(studies[0]["00201208"]["Value"][0], instances.len(), "{body}");
        assert_eq!(studies[0]["00201206"]["Value"][0], series.len(), "{body}");
        for path in ["/dicom-web/series", "/dicom-web/studies/1.1/series"] {
            let found = self.json(path).await;
            assert_eq!(uids(&found, "0020000E"), *series, "{body} {path}");
            let found = found.as_array().unwrap();
            let counts = found.iter().map(|one| one["00201209"]["Value"][0].as_u64().unwrap());
            assert_eq!(counts.sum::<u64>(), instances.len() as u64, "{body} {path}");
        }
        for path in ["/dicom-web/instances", "/dicom-web/studies/1.1/instances"] {
            assert_eq!(uids(&self.json(path).await, "00080018"), *instances, "{body} {path}");
            let page = self.json(&format!("{path}?limit=1&offset={}", instances.len() - 1)).await;
            assert_eq!(page.as_array().unwrap().len(), 1);
        }
        for path in [
            "/dicom-web/studies/2.1/series",
            "/dicom-web/studies/2.1/instances",
            "/dicom-web/studies?StudyInstanceUID=2.1",
        ] {
            let response = get(self.server, path, &self.token).send().await.unwrap();
            let text = response.text().await.unwrap();
            assert!(text.is_empty() || text == "[]", "{path} {text}");
        }
    }

    /// Whole studies hold the visible part.
    async fn check_studies(&self) {
        let metadata = self.json("/dicom-web/studies/1.1/metadata").await;
        assert_eq!(uids(&metadata, "00080018"), self.instances, "{}", self.body);
        for form in ["multipart/related; type=\"application/dicom\"", "application/zip"] {
            let request = get(self.server, "/dicom-web/studies/1.1", &self.token);
            let response = request.header("Accept", form).send().await.unwrap();
            assert_eq!(response.status(), 200, "{} {form}", self.body);
            let bytes = match form {
                "application/zip" => response.bytes().await.unwrap().to_vec(),
                _ => parts(response).await.concat_bytes(),
            };
            for (_, _, instance) in INSTANCES {
                let is_in = bytes.windows(instance.len()).any(|window| window == instance.as_bytes());
                assert_eq!(is_in, self.instances.contains(instance), "{} {form} {instance}", self.body);
            }
        }
        for end in ["", "/metadata", "/rendered", "/thumbnail", "/pixeldata"] {
            self.finds(&format!("/dicom-web/studies/1.1{end}"), true).await;
            self.finds(&format!("/dicom-web/studies/2.1{end}"), false).await;
        }
    }

    async fn check_instances(&self) {
        const ENDS: [&str; 10] = [
            "",
            "/metadata",
            "/frames/1",
            "/rendered",
            "/thumbnail",
            "/bulkdata",
            "/pixeldata",
            "/bulkdata/7FE00010",
            "/frames/1/rendered",
            "/frames/1/thumbnail",
        ];
        for (study, of, instance) in INSTANCES {
            let is_visible = study == STUDY && self.visible.contains(&(of, instance));
            let base = format!("/dicom-web/studies/{study}/series/{of}/instances/{instance}");
            for end in ENDS {
                self.finds(&format!("{base}{end}"), is_visible).await;
            }
            let uids = format!("studyUID={study}&seriesUID={of}&objectUID={instance}");
            let wado = format!("/wado?requestType=WADO&{uids}&contentType=application/dicom");
            self.finds(&wado, is_visible).await;
        }
    }

    async fn check_series(&self) {
        for (study, of) in [("1.1", "1.2"), ("1.1", "1.5"), ("2.1", "2.2")] {
            let is_visible = study == STUDY && self.series.contains(of);
            for end in ["", "/metadata", "/rendered", "/thumbnail", "/pixeldata"] {
                self.finds(&format!("/dicom-web/studies/{study}/series/{of}{end}"), is_visible).await;
            }
            let is_whole = is_visible && !self.body["instances"].is_array();
            self.finds(&format!("/stream/studies/{study}/series/{of}/state"), is_whole).await;
        }
    }

    async fn check_changes(&self) {
        let page = self.json("/changes").await;
        let changes = page["changes"].as_array().unwrap();
        let changed: BTreeSet<String> = changes
            .iter()
            .flat_map(|change| change["instances"].as_array().unwrap())
            .map(|instance| instance.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(changed, self.instances, "{}", self.body);
        let me = self.json("/me").await;
        assert_eq!((&me["rights"], &me["share"]["study"]), (&json!(["read"]), &json!(STUDY)));
    }
}

#[tokio::test]
async fn a_link_opens_what_was_shared_and_nothing_else() {
    let server = filled().await;
    for (mut body, visible) in kinds() {
        body["mode"] = json!("download");
        let (_, secret) = share(&server, &body).await;
        let token = open(&server, &secret).await;
        let instances = visible.iter().map(|(_, instance)| (*instance).to_owned()).collect();
        let series = visible.iter().map(|(series, _)| (*series).to_owned()).collect();
        let opened = Opened { server: &server, token, body, visible, instances, series };
        opened.check_searches().await;
        opened.check_studies().await;
        opened.check_instances().await;
        opened.check_series().await;
        opened.check_changes().await;
    }
}

trait ConcatBytes {
    fn concat_bytes(self) -> Vec<u8>;
}

impl ConcatBytes for Vec<(String, Vec<u8>)> {
    fn concat_bytes(self) -> Vec<u8> {
        self.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }
}

#[tokio::test]
async fn a_validator_of_a_part_is_none_of_the_whole() {
    let server = filled().await;
    let mut tags = BTreeSet::new();
    for (body, _) in kinds() {
        let token = open(&server, &share(&server, &body).await.1).await;
        let response = get(&server, "/dicom-web/studies/1.1/metadata", &token).send().await.unwrap();
        tags.insert(response.headers()["etag"].to_str().unwrap().to_owned());
        assert_eq!(response.headers()["cache-control"], "private, no-cache");
    }
    assert_eq!(tags.len(), kinds().len());
}

#[tokio::test]
async fn who_may_view_may_not_download_and_nobody_may_change_anything() {
    let server = filled().await;
    let (id, secret) = share(&server, &json!({ "study": STUDY })).await;
    let token = open(&server, &secret).await;
    let instance = "/dicom-web/studies/1.1/series/1.2/instances/1.3.1";
    for path in ["/dicom-web/studies/1.1", "/dicom-web/studies/1.1/series/1.2", instance] {
        assert_eq!(status(&server, path, &token).await, 403, "{path}");
    }
    assert_eq!(status(&server, &format!("{instance}/frames/1"), &token).await, 200);
    for (method, path) in [
        ("POST", "/dicom-web/studies"),
        ("DELETE", "/dicom-web/studies/1.1"),
        ("DELETE", instance),
        ("POST", "/shares"),
        ("GET", "/shares"),
        ("DELETE", &format!("/shares/{id}")),
        ("GET", "/status"),
        ("GET", "/metrics"),
    ] {
        let response = server.request(method, root(&server, path)).bearer_auth(&token).send().await.unwrap();
        assert_eq!(response.status(), 403, "{method} {path}");
    }
}

#[tokio::test]
async fn a_link_ends_by_uses_time_and_revocation() {
    let server = filled().await;
    // Uses.
    let (id, secret) = share(&server, &json!({ "study": STUDY, "uses": 2 })).await;
    let first = open(&server, &secret).await;
    open(&server, &secret).await;
    assert_eq!(posted(&server, "/s/open", &json!({ "secret": secret }), 410).await["state"], "used-up");
    assert_eq!(posted(&server, "/s/about", &json!({ "secret": secret }), 410).await["state"], "used-up");
    assert_eq!(
        server.request("GET", root(&server, &format!("/s/{secret}"))).send().await.unwrap().status(),
        410
    );
    // Who has opened the link goes on.
    assert_eq!(status(&server, "/dicom-web/studies/1.1/metadata", &first).await, 200);
    let listed: Value = server
        .request("GET", root(&server, &format!("/shares/{id}")))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((&listed["uses"], &listed["state"]), (&json!(2), &json!("used-up")));
    assert!(listed.get("link").is_none());
    // Time.
    let (_, secret) = share(&server, &json!({ "study": STUDY, "expires_in": 1 })).await;
    let token = open(&server, &secret).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(status(&server, "/dicom-web/studies/1.1/metadata", &token).await, 401);
    assert_eq!(posted(&server, "/s/open", &json!({ "secret": secret }), 410).await["state"], "expired");
    // Revocation, of requests and of a response under way.
    let (id, secret) = share(&server, &json!({ "study": STUDY })).await;
    let token = open(&server, &secret).await;
    let mut events = get(&server, "/events", &token).send().await.unwrap();
    assert_eq!(events.status(), 200);
    let revoked = server.request("DELETE", root(&server, &format!("/shares/{id}"))).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    let began = Instant::now();
    assert_eq!(status(&server, "/dicom-web/studies/1.1/metadata", &token).await, 401);
    while let Ok(Some(_)) = events.chunk().await {}
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(posted(&server, "/s/open", &json!({ "secret": secret }), 410).await["state"], "revoked");
    // What is not there, and what was deleted.
    let unknown = json!({ "secret": "AAAAAAAAAAAAAAAAAAAAAAAA" });
    assert_eq!(posted(&server, "/s/open", &unknown, 404).await["state"], "unknown");
    let (_, secret) = share(&server, &json!({ "study": "2.1" })).await;
    let token = open(&server, &secret).await;
    assert_eq!(server.request("DELETE", server.url("/studies/2.1")).send().await.unwrap().status(), 204);
    assert_eq!(posted(&server, "/s/open", &json!({ "secret": secret }), 410).await["state"], "deleted");
    assert_eq!(status(&server, "/dicom-web/studies/2.1/metadata", &token).await, 404);
}

#[tokio::test]
async fn a_code_is_asked_for_and_its_tries_are_limited() {
    let server = filled_with(|config| {
        config.sharing.code_tries_per_minute = 3;
        config.sharing.max_wrong_codes = 1000;
    })
    .await;
    let (id, secret) = share(&server, &json!({ "study": STUDY, "code": "482913" })).await;
    let about = posted(&server, "/s/about", &json!({ "secret": secret }), 200).await;
    assert_eq!((&about["needs_code"], &about["study"]), (&json!(true), &Value::Null));
    posted(&server, "/s/open", &json!({ "secret": secret }), 403).await;
    posted(&server, "/s/open", &json!({ "secret": secret, "code": "482914" }), 403).await;
    let opened = posted(&server, "/s/open", &json!({ "secret": secret, "code": "482913" }), 200).await;
    assert_eq!(opened["study"]["patient"], "D. J.");
    // A minute may end in between: then there are three more tries.
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses
            .push(post(&server, "/s/open", &json!({ "secret": secret, "code": "482913" })).await.status());
    }
    assert!(statuses.iter().any(|status| *status == 429), "{statuses:?}");
    let shown = server.request("GET", root(&server, &format!("/shares/{id}"))).send().await.unwrap();
    let text = shown.text().await.unwrap();
    assert!(text.contains("\"has_code\":true") && !text.contains("482913"), "{text}");
}

#[tokio::test]
async fn wrong_codes_lock_a_link_also_for_tries_at_the_same_time() {
    let server = filled_with(|config| {
        config.sharing.code_tries_per_minute = 1000;
        config.sharing.max_wrong_codes = 4;
    })
    .await;
    let (_, secret) = share(&server, &json!({ "study": STUDY, "code": "482913" })).await;
    let wrong = json!({ "secret": secret, "code": "000000" });
    let tries = futures_util::future::join_all((0..12).map(|_| post(&server, "/s/open", &wrong))).await;
    let compared = tries.iter().filter(|response| response.status() == 403).count();
    assert_eq!(compared, 4);
    let right = json!({ "secret": secret, "code": "482913" });
    assert_eq!(posted(&server, "/s/open", &right, 410).await["state"], "locked");
}

#[tokio::test]
async fn what_a_share_may_be_has_limits() {
    let server = filled_with(|config| {
        config.sharing.max_shares = 3;
        config.sharing.max_instances = 1;
        config.sharing.max_note_characters = 10;
    })
    .await;
    for (change, status) in [
        (json!({ "note": "eleven chars" }), 400),
        (json!({ "instances": ["1.3.1", "1.3.2"] }), 400),
        (json!({ "instances": ["2.3.1"] }), 404),
        (json!({ "instances": ["1.6.1"], "series": "1.2" }), 404),
        (json!({ "series": "2.2" }), 404),
        (json!({ "study": "9.9" }), 404),
        (json!({ "study": "../x" }), 400),
        (json!({ "expires_in": 0 }), 400),
        (json!({ "expires_in": 90 * 24 * 60 * 60 + 1 }), 400),
        (json!({ "uses": 0 }), 400),
        (json!({ "code": "12345" }), 400),
        (json!({ "code": "1".repeat(65) }), 400),
        // A code or a list that came out empty must not open more.
        (json!({ "code": "" }), 400),
        (json!({ "code": "      " }), 400),
        (json!({ "instances": [] }), 400),
        (json!({ "mode": "own" }), 400),
        (json!({ "unknown": 1 }), 400),
    ] {
        let mut body = json!({ "study": STUDY });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(post(&server, "/shares", &body).await.status(), status, "{body}");
    }
    let large = json!({ "study": STUDY, "note": "x".repeat(300 * 1024) });
    assert_eq!(post(&server, "/shares", &large).await.status(), 400);
    let form = server.request("POST", root(&server, "/shares")).header("Content-Type", "text/plain");
    assert_eq!(form.body("{}").send().await.unwrap().status(), 415);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(share(&server, &json!({ "study": STUDY })).await.0);
    }
    let full = post(&server, "/shares", &json!({ "study": STUDY })).await;
    assert_eq!(full.status(), 409);
    assert!(full.text().await.unwrap().contains("sharing.max_shares"));
    let path = format!("/shares/{}", ids[1]);
    assert_eq!(server.request("DELETE", root(&server, &path)).send().await.unwrap().status(), 204);
    ids.remove(1);
    ids.push(share(&server, &json!({ "study": STUDY })).await.0);
    let listed = server.request("GET", root(&server, "/shares?limit=2")).send().await.unwrap();
    let listed: Value = listed.json().await.unwrap();
    let rest = root(&server, &format!("/shares?before={}", listed["next"].as_str().unwrap()));
    let rest: Value = server.request("GET", rest).send().await.unwrap().json().await.unwrap();
    let both = listed["shares"].as_array().unwrap().iter().chain(rest["shares"].as_array().unwrap());
    let found: Vec<_> = both.map(|share| share["id"].as_str().unwrap().to_owned()).collect();
    ids.reverse();
    assert_eq!(found, ids);
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test]
async fn the_page_of_a_link_tells_no_site_and_no_cache() {
    let server = filled().await;
    let (_, secret) = share(&server, &json!({ "study": STUDY })).await;
    for (path, status) in [
        (format!("/s/{secret}"), 200),
        ("/s/nothing".to_owned(), 404),
        (format!("/s/{}", "x".repeat(5000)), 404),
    ] {
        let page = server.request("GET", root(&server, &path)).header("Accept", "text/html");
        let page = page.header("Sec-Fetch-Mode", "navigate").header("Sec-Fetch-Dest", "document");
        let page = page.send().await.unwrap();
        assert_eq!(page.status(), status, "{path}");
        for (name, expected) in
            [("referrer-policy", "no-referrer"), ("cache-control", "no-store"), ("x-robots-tag", "noindex")]
        {
            assert_eq!(page.headers()[name], expected);
        }
        let text = page.text().await.unwrap();
        assert!(text.contains("share-page.js") && !text.contains("Doe") && !text.contains(&secret), "{text}");
    }
}

async fn signed(server: &Server, path: &str, token: Option<&str>) -> String {
    let request = server.request("POST", root(server, "/sign")).json(&json!({ "urls": [path] }));
    let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let body: Value = response.json().await.unwrap();
    body["urls"][0].as_str().unwrap().to_owned()
}

async fn status_of(server: &Server, url: &str) -> u16 {
    server.request("GET", url.to_owned()).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_signed_url_opens_one_resource_for_some_minutes() {
    let server = filled().await;
    let thumbnail = "/dicom-web/studies/1.1/thumbnail?viewport=64,64";
    let url = signed(&server, thumbnail, None).await;
    assert_eq!(status_of(&server, &url).await, 200);
    assert_eq!(server.request("HEAD", url.clone()).send().await.unwrap().status(), 200);
    // Anything else in the URL.
    for (from, to) in [
        ("studies/1.1", "studies/2.1"),
        ("viewport=64,64", "viewport=64,65"),
        ("thumbnail", "rendered"),
        ("cuspid-expires=1", "cuspid-expires=2"),
        ("cuspid-key=default", "cuspid-key=another"),
        ("?viewport", "?accept=image/png&viewport"),
    ] {
        let other = url.replacen(from, to, 1);
        assert_ne!(other, url, "{from}");
        assert_eq!(status_of(&server, &other).await, 401, "{other}");
    }
    let (start, code) = url.rsplit_once("cuspid-signature=").unwrap();
    for at in 0..code.len() {
        let mut other = code.as_bytes().to_vec();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = format!("{start}cuspid-signature={}", String::from_utf8(other).unwrap());
        assert_eq!(status_of(&server, &other).await, 401, "{other}");
    }
    for other in [format!("{start}cuspid-signature="), start.to_owned(), format!("{url}&a=b")] {
        assert_eq!(status_of(&server, &other).await, 401, "{other}");
    }
    // Every kind of resource that a page needs.
    let instance = "/dicom-web/studies/1.1/series/1.2/instances/1.3.1";
    for path in [
        "/dicom-web/studies/1.1?accept=application/zip".to_owned(),
        format!("{instance}/rendered"),
        format!("{instance}/frames/1"),
        format!("{instance}/frames/1/thumbnail"),
    ] {
        assert_eq!(status_of(&server, &signed(&server, &path, None).await).await, 200, "{path}");
    }
    for path in [
        "/dicom-web/studies",
        "/changes",
        "/shares",
        "/metrics",
        "/status",
        "/nothing",
        "https://a.example/",
        "dicom-web/studies/1.1",
        "/dicom-web/studies/1.1?cuspid-key=a",
    ] {
        let response = post(&server, "/sign", &json!({ "urls": [path] })).await;
        assert_eq!(response.status(), 400, "{path}");
    }
    for wrong in [
        json!({ "urls": [thumbnail], "expires_in": 3601 }),
        json!({ "urls": [thumbnail], "expires_in": 0 }),
        json!({ "urls": vec![thumbnail; 201] }),
    ] {
        assert_eq!(post(&server, "/sign", &wrong).await.status(), 400);
    }
}

#[tokio::test]
async fn a_signed_url_ends_with_its_time_its_key_and_its_share() {
    let server = filled().await;
    let thumbnail = "/dicom-web/studies/1.1/thumbnail";
    let short = posted(&server, "/sign", &json!({ "urls": [thumbnail], "expires_in": 1 }), 200).await;
    let short = short["urls"][0].as_str().unwrap().to_owned();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(status_of(&server, &short).await, 401);
    // Of a share: its objects alone.
    let (id, secret) = share(&server, &json!({ "study": STUDY, "series": "1.5" })).await;
    let token = open(&server, &secret).await;
    let own = signed(&server, "/dicom-web/studies/1.1/series/1.5/thumbnail", Some(&token)).await;
    let other = signed(&server, "/dicom-web/studies/1.1/series/1.2/thumbnail", Some(&token)).await;
    assert_eq!((status_of(&server, &own).await, status_of(&server, &other).await), (200, 404));
    let zip = json!({ "urls": ["/dicom-web/studies/1.1?accept=application/zip"] });
    let request = server.request("POST", root(&server, "/sign")).json(&zip).bearer_auth(&token);
    assert_eq!(request.send().await.unwrap().status(), 400);
    // Without the share in it, the signature is another.
    let (start, end) = own.split_once("&cuspid-share=").unwrap();
    let without = format!("{start}&{}", end.split_once('&').unwrap().1);
    assert_eq!(status_of(&server, &without).await, 401);
    let revoked = server.request("DELETE", root(&server, &format!("/shares/{id}"))).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    assert_eq!(status_of(&server, &own).await, 401);
    // The key.
    let url = signed(&server, thumbnail, None).await;
    assert_eq!(status_of(&server, &url).await, 200);
    server.engine.archive.delete_signing_keys(&Tenant::default_tenant()).await.unwrap();
    assert_eq!(status_of(&server, &url).await, 401);
    assert_eq!(status_of(&server, &signed(&server, thumbnail, None).await).await, 200);
}

#[tokio::test]
async fn forged_capabilities_are_refused() {
    let server = filled().await;
    let (_, secret) = share(&server, &json!({ "study": STUDY })).await;
    let token = open(&server, &secret).await;
    let path = "/dicom-web/studies/1.1/metadata";
    assert_eq!(status(&server, path, &token).await, 200);
    for at in "cuspid-share.".len()..token.len() {
        let mut forged = token.clone().into_bytes();
        forged[at] = match forged[at] {
            b'A' => b'B',
            b'.' => b'-',
            _ => b'A',
        };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(status(&server, path, &forged).await, 401, "{forged}");
    }
    for forged in ["cuspid-share.", "cuspid-share...", "cuspid-share.YQ.1.YQ"] {
        assert_eq!(status(&server, path, forged).await, 401, "{forged}");
    }
}
