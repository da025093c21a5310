//! Every operation with every kind of credentials, against the table in docs/security.md.

use jsonwebtoken::{Algorithm, get_current_timestamp};
use reqwest::Response;
use serde_json::{Value, json};

use crate::auth::{Guarded, filled, guarded, image};
use crate::fake_provider::{Signer, claims};
use crate::harness::native;

/// A line of the table.
#[derive(Debug)]
struct Row {
    method: String,
    path: String,
    right: String,
    share: String,
    url: String,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Unauthorized,
    Forbidden,
    /// As if nothing were stored there.
    NotThere,
    Usual,
}

fn rows() -> Vec<Row> {
    let table = include_str!("../../docs/security.md").split("## Who may use what").nth(1).unwrap();
    let lines = table.split("\n## ").next().unwrap().lines().filter(|line| line.contains(" `/"));
    let read = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (method, path) = cells[0].split_once(' ').unwrap();
        let [right, share, url] = [1, 2, 3].map(|at: usize| cells[at].to_owned());
        Row { method: method.into(), path: path.trim_matches('`').into(), right, share, url }
    };
    lines.map(read).collect()
}

impl Row {
    /// Whether the answer depends on what is stored.
    fn is_of_objects(&self) -> bool {
        let path = &self.path;
        self.method == "GET"
            && (path.contains("{study}")
                || path.ends_with("/wado")
                || ["/dicom-web/studies", "/dicom-web/series", "/dicom-web/instances", "/changes"]
                    .contains(&path.as_str()))
    }

    /// The path of a request. What changes something is sent to what is not there.
    fn request(&self) -> String {
        let path = filled(&self.path);
        if self.method == "GET" { path } else { path.replace("1.1", "9.9") }
    }

    /// The answer to a caller of the tenant with these rights; `sees` says whether the caller may see what is
    /// requested.
    fn by_token(&self, rights: &[&str], sees: bool) -> Answer {
        match self.right.as_str() {
            "everyone" => Answer::Usual,
            "a token" => Answer::Usual,
            right if !rights.contains(&right) => Answer::Forbidden,
            // Its link reads.
            "share" if self.method == "POST" && self.path == "/shares" && !rights.contains(&"read") => {
                Answer::Forbidden
            }
            _ if !sees && self.is_of_objects() => Answer::NotThere,
            _ => Answer::Usual,
        }
    }

    fn by_share(&self, may_download: bool, sees: bool) -> Answer {
        match self.share.as_str() {
            _ if self.right == "everyone" => Answer::Usual,
            "no" => Answer::Forbidden,
            "download" if !may_download => Answer::Forbidden,
            _ if !sees && self.is_of_objects() => Answer::NotThere,
            _ => Answer::Usual,
        }
    }

    fn without_credentials(&self) -> Answer {
        if self.right == "everyone" { Answer::Usual } else { Answer::Unauthorized }
    }

    fn by_url(&self, sees: bool) -> Answer {
        match self.url.as_str() {
            "yes" if sees => Answer::Usual,
            "yes" => Answer::NotThere,
            _ => self.without_credentials(),
        }
    }
}

/// What kind of answer a response is.
async fn answer(row: &Row, response: Response) -> Answer {
    match response.status().as_u16() {
        401 => return Answer::Unauthorized,
        403 => return Answer::Forbidden,
        404 if row.is_of_objects() => return Answer::NotThere,
        _ => {}
    }
    if !row.is_of_objects() {
        return Answer::Usual;
    }
    let is_search = row.path == "/changes"
        || ["/studies", "/series", "/instances"].iter().any(|end| row.path.ends_with(end));
    let body = response.bytes().await.unwrap();
    let is_empty = body.is_empty() || &body[..] == b"[]" || body.starts_with(b"{\"changes\":[]");
    if is_search && is_empty { Answer::NotThere } else { Answer::Usual }
}

async fn posted(guarded: &Guarded, path: &str, token: Option<&str>, body: &Value) -> Value {
    let url = format!("http://{}{path}", guarded.server.http);
    let mut request = guarded.client.post(url).json(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{path} {body}");
    response.json().await.unwrap()
}

/// Makes a share and opens its link. Returns the identifier and the token.
async fn opened(guarded: &Guarded, token: &str, share: &Value) -> (String, String) {
    let made = posted(guarded, "/shares", Some(token), share).await;
    let secret = made["link"].as_str().unwrap().rsplit_once("/s/").unwrap().1;
    let opened = posted(guarded, "/s/open", None, &json!({ "secret": secret })).await;
    (made["id"].as_str().unwrap().to_owned(), opened["token"].as_str().unwrap().to_owned())
}

/// The query of a signature for a path.
async fn signature(guarded: &Guarded, token: &str, path: &str, seconds: u64) -> String {
    let signed =
        posted(guarded, "/sign", Some(token), &json!({ "urls": [path], "expires_in": seconds })).await;
    let url = signed["urls"][0].as_str().unwrap();
    url.split_once("cuspid-key=").map(|(_, signature)| format!("cuspid-key={signature}")).unwrap()
}

#[tokio::test]
async fn no_cell_of_the_table_is_another() {
    let guarded = guarded().await;
    let (a, b) = (guarded.token("a"), guarded.token("b"));
    assert_eq!(guarded.store(&a, image("Ann^Aaaa", |index| index)).await, 200);
    assert_eq!(guarded.store(&a, native("2.1", "2.2", "2.3")).await, 200);
    let tokens = tokens(&guarded, &a, &b).await;
    let rows = rows();
    assert!(rows.len() > 60);
    let mut cells = 0;
    for row in &rows {
        let path = row.request();
        let methods: &[&str] = if row.method == "GET" { &["GET", "HEAD"] } else { &[&row.method] };
        for (name, token, expected) in &tokens {
            for method in methods {
                let response = guarded.ask(method, &path, token.as_deref(), "*/*").await;
                // A head does not show whether a list is empty.
                let expected = expected(row);
                let found = answer(row, response).await;
                let is_head_of_list = *method == "HEAD"
                    && [found, expected].contains(&Answer::NotThere)
                    && ![Answer::Unauthorized, Answer::Forbidden].contains(&found);
                assert!(
                    found == expected || is_head_of_list,
                    "{method} {path} with {name}: {found:?}, not {expected:?}"
                );
                cells += 1;
            }
        }
        cells += by_signed_urls(&guarded, row, &path, &a, &b).await;
    }
    assert!(cells > 2000, "{cells}");
    guarded.stop().await;
}

type Expected = Box<dyn Fn(&Row) -> Answer>;

/// The kinds of tokens, each with the answer that it gets.
async fn tokens(guarded: &Guarded, a: &str, b: &str) -> Vec<(String, Option<String>, Expected)> {
    const ALL: [&str; 5] = ["read", "write", "delete", "administer", "share"];
    let issuer = &guarded.provider.issuer;
    let mut expired = claims(issuer, "a");
    expired["exp"] = json!(get_current_timestamp() - 3600);
    let mut foreign = claims(issuer, "a");
    foreign["iss"] = json!("https://other.example");
    let forger = Signer::new(Algorithm::ES256, "k");
    let (_, view) = opened(guarded, a, &json!({ "study": "1.1" })).await;
    let (_, download) =
        opened(guarded, a, &json!({ "study": "1.1", "series": "1.2", "mode": "download" })).await;
    let (_, list) =
        opened(guarded, a, &json!({ "study": "1.1", "instances": ["1.3"], "mode": "download" })).await;
    let (_, other) = opened(guarded, a, &json!({ "study": "2.1", "mode": "download" })).await;
    let (revoked_id, revoked) = opened(guarded, a, &json!({ "study": "1.1", "mode": "download" })).await;
    let (_, ended) =
        opened(guarded, a, &json!({ "study": "1.1", "mode": "download", "expires_in": 1 })).await;
    let revoke = guarded.ask("DELETE", &format!("/shares/{revoked_id}"), Some(a), "*/*").await;
    assert_eq!(revoke.status(), 204);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let forged = format!("{}A", &view[..view.len() - 1]);
    let forged = if forged == view { format!("{}E", &view[..view.len() - 1]) } else { forged };
    let mut all: Vec<(String, Option<String>, Expected)> = Vec::new();
    let mut add =
        |name: &str, token: Option<String>, expected: Expected| all.push((name.into(), token, expected));
    add("nothing", None, Box::new(Row::without_credentials));
    for (name, token) in [
        ("an expired token", guarded.signer.sign(&expired)),
        ("a forged token", forger.sign(&claims(issuer, "a"))),
        ("a token of another provider", guarded.signer.sign(&foreign)),
        ("a text", "abc".to_owned()),
        ("a forged share", forged),
        ("a revoked share", revoked),
        ("a share that has ended", ended),
    ] {
        add(name, Some(token), Box::new(Row::without_credentials));
    }
    for right in ALL {
        let token = guarded.token_with("a", &format!("cuspid-{right}"));
        add(right, Some(token), Box::new(move |row| row.by_token(&[right], true)));
    }
    add("no right", Some(guarded.token_with("a", "another")), Box::new(|row| row.by_token(&[], true)));
    add("all rights", Some(a.to_owned()), Box::new(|row| row.by_token(&ALL, true)));
    add("another tenant", Some(b.to_owned()), Box::new(|row| row.by_token(&ALL, false)));
    add("a share to view", Some(view), Box::new(|row| row.by_share(false, true)));
    add("a share to download", Some(download), Box::new(|row| row.by_share(true, true)));
    // The stream is of whole series.
    add(
        "a share of a list",
        Some(list),
        Box::new(|row| row.by_share(true, !row.path.starts_with("/stream"))),
    );
    // Searches and changes are of the shared study, which is another.
    add(
        "a share of another study",
        Some(other),
        Box::new(|row| row.by_share(true, !row.path.contains("{study}") && !row.path.ends_with("/wado"))),
    );
    all
}

/// Sends a request for a line with each kind of signed URL. Returns their number.
async fn by_signed_urls(guarded: &Guarded, row: &Row, path: &str, a: &str, b: &str) -> usize {
    let joint = if path.contains('?') { '&' } else { '?' };
    let signable = if row.url == "yes" { path } else { "/dicom-web/studies/1.1/thumbnail" };
    let own = signature(guarded, a, signable, 600).await;
    let of_other_resource = signature(guarded, a, "/dicom-web/studies/2.1/thumbnail", 600).await;
    let of_other_tenant = signature(guarded, b, signable, 600).await;
    let (_, share) = opened(guarded, a, &json!({ "study": "2.1", "mode": "download" })).await;
    let of_share = signature(guarded, &share, signable, 600).await;
    let forged = own.replacen("cuspid-expires=1", "cuspid-expires=2", 1);
    let is_public = row.right == "everyone";
    let refused = if is_public { Answer::Usual } else { Answer::Unauthorized };
    let cases = [
        ("its signature", own, row.by_url(true)),
        ("that of another resource", of_other_resource, refused),
        ("that of another tenant", of_other_tenant, row.by_url(false)),
        ("that of a share of another study", of_share, row.by_url(false)),
        ("a forged one", forged, refused),
    ];
    let count = cases.len();
    for (name, query, expected) in cases {
        let response = guarded.ask(&row.method, &format!("{path}{joint}{query}"), None, "*/*").await;
        let found = answer(row, response).await;
        assert_eq!(found, expected, "{} {path} with {name}", row.method);
    }
    count
}
