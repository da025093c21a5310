//! Authentication over the whole server: valid tokens, the routes that each right opens, and tenants that are
//! separate on every route.

use std::collections::BTreeMap;
use std::time::Duration;

use cuspid::config::{AllowedOrigin, Config};
use cuspid::server;
use dicom_ul::pdu::Pdu;
use jsonwebtoken::{Algorithm, get_current_timestamp};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dimse::Peer;
use crate::fake_provider::{FakeProvider, Signer, claims};
use crate::harness::{STORE_TYPE, data_set, defaults, multipart, native};

/// A server with HTTP and DIMSE on a directory of its own, and a provider whose tokens the server accepts.
pub(crate) struct Guarded {
    pub(crate) server: server::Server,
    pub(crate) provider: FakeProvider,
    pub(crate) signer: Signer,
    pub(crate) client: Client,
    _directory: TempDir,
}

pub(crate) async fn guarded() -> Guarded {
    let signer = Signer::new(Algorithm::ES256, "k");
    let provider = FakeProvider::start(&[&signer]).await;
    let mut config = defaults();
    config.auth.issuer = provider.issuer.clone();
    config.dimse.tenants = ["CT_A=a", "CT_B=b"].map(|rule| rule.to_owned().try_into().unwrap()).into();
    config.preview.quiet_seconds = 0;
    config.http.allowed_origins = vec![AllowedOrigin::Any];
    let (server, directory) = start(config).await.unwrap();
    Guarded { server, provider, signer, client: Client::new(), _directory: directory }
}

async fn start(mut config: Config) -> anyhow::Result<(server::Server, TempDir)> {
    let directory = tempfile::tempdir().unwrap();
    config.storage.data = directory.path().to_owned();
    if config.http.listen.ip().is_loopback() {
        config.http.listen = "127.0.0.1:0".parse().unwrap();
    }
    if config.dimse.listen == defaults().dimse.listen {
        config.dimse.listen = "127.0.0.1:0".into();
    }
    Ok((server::start(config).await?, directory))
}

impl Guarded {
    /// A token of a tenant that may do everything.
    pub(crate) fn token(&self, tenant: &str) -> String {
        self.signer.sign(&claims(&self.provider.issuer, tenant))
    }

    /// A token of a tenant with one role.
    pub(crate) fn token_with(&self, tenant: &str, role: &str) -> String {
        let mut claims = claims(&self.provider.issuer, tenant);
        claims["realm_access"]["roles"] = json!([role]);
        self.signer.sign(&claims)
    }

    /// Stops the server, so that none of its tasks runs after the test.
    pub(crate) async fn stop(self) {
        self.server.stop().await.unwrap();
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, token: Option<&str>, accept: &str) -> Response {
        let url = format!("http://{}{path}", self.server.http);
        let mut request = self.client.request(method.parse().unwrap(), url).header("Accept", accept);
        request = request.header("Origin", "https://viewer.example");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn store(&self, token: &str, instance: Vec<u8>) -> u16 {
        let url = format!("http://{}/dicom-web/studies", self.server.http);
        let request = self.client.post(url).header("Content-Type", STORE_TYPE).bearer_auth(token);
        request.body(multipart(&[instance])).send().await.unwrap().status().as_u16()
    }

    /// Every operation that is described: its method, its path, and the right that it needs.
    async fn operations(&self) -> Vec<(String, String, Option<String>)> {
        let description: Value = self.ask("GET", "/openapi.json", None, "*/*").await.json().await.unwrap();
        let mut operations = Vec::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                let right = operation["security"][0]["token"][0].as_str().map(str::to_owned);
                operations.push((method.to_ascii_uppercase(), filled(path), right));
            }
        }
        assert!(operations.len() > 80);
        operations
    }

    /// All answers for a tenant, from every route that reads stored data.
    async fn view(&self, token: &str) -> BTreeMap<String, (u16, Vec<u8>)> {
        let mut view = BTreeMap::new();
        for (method, path, right) in self.operations().await {
            let is_description = path.trim_end_matches('/') == "/dicom-web";
            // What stays after a deletion has a test of its own, and the time since the start is another in
            // each answer.
            // An image without a position is no volume.
            let is_apart =
                ["/changes", "/events", "/status"].contains(&path.as_str()) || path.ends_with("/mini");
            if method != "GET" || right.as_deref() != Some("read") || is_description || is_apart {
                continue;
            }
            for accept in ["*/*", "application/zip", "application/dicom"] {
                let answer = self.settled(&path, token, accept).await;
                view.insert(format!("{path} {accept}"), answer);
            }
        }
        view
    }

    /// The status and body of an answer, without its random boundary, once the derived objects behind it are
    /// ready (503 until then).
    async fn settled(&self, path: &str, token: &str, accept: &str) -> (u16, Vec<u8>) {
        loop {
            let response = self.ask("GET", path, Some(token), accept).await;
            let status = response.status().as_u16();
            let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
            let body = response.bytes().await.unwrap().to_vec();
            if status != 503 {
                let boundary = content_type.split_once("boundary=").map(|(_, boundary)| boundary.to_owned());
                return (
                    status,
                    boundary.map_or(body.clone(), |boundary| without(&body, boundary.as_bytes())),
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn without(bytes: &[u8], random: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut kept = Vec::new();
    while let Some(at) = position(rest, random) {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at + random.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}

fn position(bytes: &[u8], sought: &[u8]) -> Option<usize> {
    bytes.windows(sought.len()).position(|window| window == sought)
}

/// A path of the one instance that all tenants have.
pub(crate) fn filled(path: &str) -> String {
    let path = path.replace("{study}", "1.1").replace("{series}", "1.2").replace("{instance}", "1.3");
    let path = path.replace("{frames}", "1").replace("{path}", "7FE00010");
    if path.ends_with("/wado") {
        return format!("{path}?requestType=WADO&studyUID=1.1&seriesUID=1.2&objectUID=1.3");
    }
    // Searches: every result must be the tenant's own.
    let is_search = ["/studies", "/series", "/instances"].iter().any(|end| path.ends_with(end));
    if is_search { format!("{path}?includefield=PatientName") } else { path }
}

/// An image under the UIDs that all tenants use; the name has eight letters.
pub(crate) fn image(name: &str, pixel: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut file = native("1.1", "1.2", "1.3");
    let at = position(&file, b"Doe^Jane").unwrap();
    file[at..at + 8].copy_from_slice(name.as_bytes());
    let start = file.len() - 96;
    for (index, byte) in (0..).zip(&mut file[start..]) {
        *byte = pixel(index);
    }
    file
}

#[tokio::test]
async fn without_a_token_only_what_is_public_is_given() {
    let guarded = guarded().await;
    let mut expired = claims(&guarded.provider.issuer, "a");
    expired["exp"] = json!(get_current_timestamp() - 3600);
    let expired = guarded.signer.sign(&expired);
    for (method, path, right) in guarded.operations().await {
        let response = guarded.ask(&method, &path, None, "*/*").await;
        // The caller's own rights need a token and no right.
        if right.is_none() && path != "/me" {
            assert!(![401, 403].contains(&response.status().as_u16()), "{method} {path}");
            continue;
        }
        assert_eq!(response.status(), 401, "{method} {path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"cuspid\"");
        let response = guarded.ask(&method, &path, Some(&expired), "*/*").await;
        assert_eq!(response.status(), 401, "{method} {path}");
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("WWW-Authenticate"), "{exposed}");
        if method != "HEAD" {
            assert!(response.text().await.unwrap().contains("the access token has expired"));
        }
    }
    guarded.stop().await;
}

#[tokio::test]
async fn each_right_opens_what_needs_it_and_nothing_else() {
    let guarded = guarded().await;
    let operations = guarded.operations().await;
    for held in ["read", "write", "delete", "administer", "share"] {
        let token = guarded.token_with("a", &format!("cuspid-{held}"));
        for (method, path, right) in &operations {
            let Some(right) = right else { continue };
            let response = guarded.ask(method, path, Some(&token), "*/*").await;
            let status = response.status().as_u16();
            // A share needs the right to read, too, which is refused first.
            let is_share = path == "/shares" && *method == "POST";
            let right = if is_share && held == "share" { "read" } else { right.as_str() };
            assert_eq!(status == 403, right != held, "{held}: {method} {path}: {status}");
            if status == 403 {
                let challenge = &response.headers()["www-authenticate"];
                assert_eq!(challenge, "Bearer realm=\"cuspid\", error=\"insufficient_scope\"");
                let said = response.text().await.unwrap();
                assert!(*method == "HEAD" || said.contains(&format!("auth.{right}_roles")), "{said}");
            }
        }
    }
    let token = guarded.token("No Clinic");
    let response = guarded.ask("GET", "/dicom-web/studies", Some(&token), "*/*").await;
    assert_eq!(response.status(), 403);
    assert!(response.text().await.unwrap().contains("clinicId"));
    guarded.stop().await;
}

#[tokio::test]
async fn a_page_may_ask_whether_it_may_ask() {
    let guarded = guarded().await;
    let url = format!("http://{}/dicom-web/studies", guarded.server.http);
    let request =
        guarded.client.request("OPTIONS".parse().unwrap(), url).header("Origin", "https://viewer.example");
    let request = request.header("Access-Control-Request-Method", "GET");
    let response = request.header("Access-Control-Request-Headers", "authorization").send().await.unwrap();
    assert_eq!(response.status(), 204);
    let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("Authorization"), "{allowed}");
    guarded.stop().await;
}

#[tokio::test]
async fn tenants_with_the_same_uids_never_see_each_other() {
    let guarded = guarded().await;
    let [a, b, nobody] = ["a", "b", "nobody"].map(|tenant| guarded.token(tenant));
    assert_eq!(guarded.store(&a, image("Ann^Aaaa", |index| index)).await, 200);
    let nothing = guarded.view(&nobody).await;
    assert!(guarded.view(&b).await == nothing);
    for (token, is_empty) in [(&a, false), (&b, true), (&nobody, true)] {
        let (status, body) = guarded.settled("/status", token, "*/*").await;
        assert_eq!((status, position(&body, b"\"studies\":0").is_some()), (200, is_empty));
    }
    for (path, (status, body)) in &nothing {
        assert!([404, 406].contains(status) || body == b"[]" || body.is_empty(), "{path}: {status}");
    }
    // The same UIDs, another patient, other pixels: no conflict.
    assert_eq!(guarded.store(&b, image("Bob^Bbbb", |index| 96 - index)).await, 200);
    let (of_a, of_b) = (guarded.view(&a).await, guarded.view(&b).await);
    for (path, (status, body)) in &of_a {
        assert!(position(body, b"Bob^Bbbb").is_none(), "{path}");
        assert!(position(&of_b[path].1, b"Ann^Aaaa").is_none(), "{path}");
        if path.ends_with("*/*") {
            assert_eq!((*status, of_b[path].0), (200, 200), "{path}");
            assert!(*body != of_b[path].1, "{path} is the same for both");
        }
    }
    for path in ["/studies/1.1/series/1.2/instances/1.3", "/studies/1.1/series/1.2", "/studies/1.1"] {
        let path = format!("/dicom-web{path}");
        assert_eq!(guarded.ask("DELETE", &path, Some(&nobody), "*/*").await.status(), 404, "{path}");
    }
    assert_eq!(guarded.ask("DELETE", "/dicom-web/studies/1.1", Some(&a), "*/*").await.status(), 204);
    assert!(guarded.view(&a).await == nothing, "something is left");
    assert!(guarded.view(&b).await == of_b, "what is another's has changed");
    assert!(guarded.view(&nobody).await == nothing);
    guarded.stop().await;
}

#[tokio::test]
async fn a_tenant_gets_its_own_changes_alone_and_no_events_after_the_end_of_the_token() {
    let guarded = guarded().await;
    let mut short = claims(&guarded.provider.issuer, "a");
    // Tokens are accepted for some seconds more.
    short["exp"] = json!(get_current_timestamp() - defaults().auth.leeway_seconds + 4);
    let (short, b) = (guarded.signer.sign(&short), guarded.token("b"));
    let mut events = guarded.ask("GET", "/events", Some(&short), "*/*").await;
    assert_eq!(events.status(), 200);
    for (tenant, name) in [("a", "Ann^Aaaa"), ("b", "Bob^Bbbb")] {
        let file = image(name, |index| index);
        let of_tenant = if tenant == "a" { file } else { native("1.1", "1.2.2", "1.3.2") };
        assert_eq!(guarded.store(&guarded.token(tenant), of_tenant).await, 200);
    }
    for (token, series) in [(&guarded.token("a"), "1.2"), (&b, "1.2.2")] {
        let page: Value = guarded.ask("GET", "/changes", Some(token), "*/*").await.json().await.unwrap();
        let changes = page["changes"].as_array().unwrap();
        assert!(!changes.is_empty() && changes.iter().all(|change| change["series"] == series), "{page}");
    }
    let mut text = Vec::new();
    let whole = async {
        while let Some(chunk) = events.chunk().await.unwrap() {
            text.extend_from_slice(&chunk);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), whole).await.expect("the stream ends with the token");
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("event: stored") && !text.contains("1.2.2"), "{text}");
    guarded.stop().await;
}

#[tokio::test]
async fn a_video_in_a_page_of_this_server_comes_with_a_cookie_and_nothing_else_does() {
    let guarded = guarded().await;
    let (a, b) = (guarded.token("a"), guarded.token("b"));
    assert_eq!(guarded.store(&a, image("Ann^Aaaa", |index| index)).await, 200);
    let url = |path: &str| format!("http://{}/dicom-web/studies{path}", guarded.server.http);
    let from_page = |path: &str| guarded.client.get(url(path)).header("Sec-Fetch-Site", "same-origin");
    let response = from_page("").bearer_auth(&a).send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "private, no-cache");
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/dicom-web/studies; HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let rendered = "/1.1/series/1.2/instances/1.3/rendered";
    for (path, status) in [(rendered, 200), ("", 401), ("/1.1/metadata", 401), ("/1.1/thumbnail", 401)] {
        let response = from_page(path).header("Cookie", cookie).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(!response.headers().contains_key("set-cookie"));
    }
    // A token takes precedence over the cookie.
    let response = from_page(rendered).header("Cookie", cookie).bearer_auth(&b).send().await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(response.headers().contains_key("set-cookie"));
    let elsewhere = guarded.client.get(url(rendered)).header("Cookie", cookie);
    let response = elsewhere.header("Sec-Fetch-Site", "cross-site").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(
        !guarded.ask("GET", "/dicom-web/studies", Some(&a), "*/*").await.headers().contains_key("set-cookie")
    );
    guarded.stop().await;
}

#[tokio::test]
async fn devices_store_for_the_tenant_that_their_title_stands_for() {
    let guarded = guarded().await;
    let address = guarded.server.dimse.unwrap();
    for (title, comment) in [("CT_A", "of a"), ("CT_B", "of b")] {
        let (mut peer, answer) = Peer::ask_as(title, address).await;
        assert!(matches!(answer, Pdu::AssociationAC(_)), "{answer:?}");
        let instance = data_set("1.1", "1.2", "1.3").text(0x0020_4000, "LT", comment);
        peer.store(1, "1.3", &instance.bytes()).await;
        assert_eq!(peer.response().await, (1, 0x8001, 0));
    }
    let path = "/dicom-web/studies/1.1/series/1.2/instances/1.3";
    for (tenant, own, other) in [("a", "of a", "of b"), ("b", "of b", "of a")] {
        let (status, body) = guarded.settled(path, &guarded.token(tenant), "application/dicom").await;
        assert_eq!(status, 200);
        assert!(position(&body, own.as_bytes()).is_some() && position(&body, other.as_bytes()).is_none());
    }
    assert_eq!(guarded.settled(path, &guarded.token("default"), "*/*").await.0, 404);
    let (_, answer) = Peer::ask_as("STRANGER", address).await;
    let Pdu::AssociationRJ(rejection) = answer else { panic!("{answer:?}") };
    assert_eq!(rejection.source.to_string(), "calling AE title not recognized");
    guarded.stop().await;
}

#[tokio::test]
async fn a_server_without_authentication_stays_on_loopback() {
    type Change = fn(&mut Config);
    let cases: [(&str, Change); 2] = [
        ("http.listen", |config| config.http.listen = "0.0.0.0:0".parse().unwrap()),
        ("dimse.listen", |config| config.dimse.listen = "[::]:0".into()),
    ];
    for (setting, change) in cases {
        let mut config = defaults();
        change(&mut config);
        let error = start(config.clone()).await.err().expect("it must not start").to_string();
        assert!(error.contains(setting) && error.contains("auth.allow_anonymous"), "{error}");
        config.auth.allow_anonymous = true;
        assert!(start(config.clone()).await.is_ok(), "{setting}");
        config.auth.allow_anonymous = false;
        config.auth.issuer = "http://127.0.0.1:1/".into();
        assert!(start(config).await.is_ok(), "{setting}");
    }
}

#[tokio::test]
async fn a_server_whose_provider_is_down_starts_and_says_so() {
    let mut config = defaults();
    let signer = Signer::new(Algorithm::ES256, "k");
    config.auth.issuer = "http://127.0.0.1:1/realms/x".into();
    let (server, _directory) = start(config.clone()).await.unwrap();
    let token = signer.sign(&claims(&config.auth.issuer, "a"));
    let client = Client::new();
    let get = async |path: &str| {
        let url = format!("http://{}{path}", server.http);
        client.get(url).bearer_auth(&token).send().await.unwrap()
    };
    assert_eq!(get("/healthz").await.status(), 200);
    for path in ["/readyz", "/dicom-web/studies"] {
        let response = get(path).await;
        assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (503, true));
        assert!(response.text().await.unwrap().contains("auth.issuer"));
    }
}

#[tokio::test]
async fn pages_are_told_where_to_sign_in() {
    let mut config = defaults();
    let signer = Signer::new(Algorithm::ES256, "k");
    let provider = FakeProvider::start(&[&signer]).await;
    config.auth.issuer = provider.issuer.clone();
    config.auth.client_id = "cuspid-web".into();
    let (server, _directory) = start(config).await.unwrap();
    let get = async |path: &str| reqwest::get(format!("http://{}{path}", server.http)).await.unwrap();
    while get("/readyz").await.status() != 200 {}
    let script = get("/viewer/app-config.js").await.text().await.unwrap();
    let (_, told) = script.split_once("const signIn = ").unwrap();
    let told: Value = serde_json::from_str(told.split_once(";\n").unwrap().0).unwrap();
    assert_eq!((&told["issuer"], &told["client_id"]), (&json!(provider.issuer), &json!("cuspid-web")));
    let page = get("/").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let origin = provider.issuer.strip_suffix("/realms/test").unwrap();
    assert!(policy.ends_with(&format!("connect-src 'self' {origin}")), "{policy}");
    assert!(page.text().await.unwrap().contains("&quot;client_id&quot;:&quot;cuspid-web&quot;"));
}

#[tokio::test]
async fn refusals_and_first_uses_of_tokens_are_in_the_audit_log() {
    let guarded = guarded().await;
    let reader = guarded.token_with("a", "cuspid-read");
    for (method, path, token, status) in [
        ("GET", "/dicom-web/studies", None, 401),
        ("GET", "/dicom-web/studies", Some("no token"), 401),
        ("GET", "/dicom-web/studies", Some("no token"), 401),
        ("DELETE", "/dicom-web/studies/1.2.3", Some(reader.as_str()), 403),
        ("DELETE", "/dicom-web/studies/1.2.4", Some(&reader), 403),
        ("GET", "/audit", Some(&reader), 403),
        ("GET", "/dicom-web/studies", Some(&reader), 200),
        ("GET", "/me", Some(&reader), 200),
    ] {
        assert_eq!(
            guarded.ask(method, path, token, "*/*").await.status(),
            status,
            "{method} {path} {token:?}"
        );
    }
    let log = guarded.server.archive.audit();
    let outlines = async |tenant: &str| {
        let page = log.list(tenant, &Default::default(), None, 100).await.unwrap();
        let outline = |record: &cuspid::audit::record::AuditRecord| {
            let entry = &record.entry;
            let text = entry.detail.as_ref().or(entry.query.as_ref()).cloned().unwrap_or_default();
            assert!(tenant == "!server" || entry.user.address == "127.0.0.1", "{entry:?}");
            format!("{} {} {text}", entry.event.name(), entry.user.user)
        };
        page.records.iter().rev().map(outline).collect::<Vec<_>>()
    };
    let expected = [
        "security-alert u-1 DELETE /dicom-web/studies/…: no right to delete",
        "security-alert u-1 GET /audit: no right to administer",
        "user-authentication u-1 ",
        "query u-1 /dicom-web/studies",
    ];
    assert_eq!(outlines("a").await, expected);
    let of_server = outlines("!server").await;
    assert_eq!(of_server.len(), 2, "{of_server:?}");
    assert!(of_server[1].starts_with("security-alert  the access token"), "{of_server:?}");
    // The log of another tenant is not shown, whoever asks.
    let page = guarded.ask("GET", "/audit", Some(&guarded.token("b")), "*/*").await;
    let page: Value = page.json().await.unwrap();
    let events: Vec<_> = page["records"].as_array().unwrap().iter().map(|record| &record["event"]).collect();
    assert_eq!(events, ["audit-log-used", "user-authentication"]);
    // A peer that no rule lets in.
    let (_, answer) = Peer::ask_as("CT_X", guarded.server.dimse.unwrap()).await;
    assert!(matches!(answer, Pdu::AssociationRJ(_)));
    assert!(outlines("!server").await[2].starts_with("security-alert CT_X association with "));
    guarded.stop().await;
}
