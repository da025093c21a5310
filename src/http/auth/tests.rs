//! Tokens that are true, and the many ways in which they are not; keys that come, change and cannot be had.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, encode, get_current_timestamp};
use serde_json::{Value, json};
use tokio_util::sync::DropGuard;

use super::fake_provider::{FakeProvider, Signer, claims, forged};
use super::keys::KeySet;
use super::*;
use crate::archive::access::{Right, Rights};
use crate::config::Config;

const ISSUER: &str = "https://login.example/realms/test";

fn settings(issuer: &str) -> config::AuthSettings {
    config::AuthSettings { issuer: issuer.into(), min_refresh_seconds: 1, ..Config::defaults().auth }
}

/// Settings with which an attempt to fetch the keys may follow the last one at once.
fn eager(issuer: &str) -> config::AuthSettings {
    config::AuthSettings { min_refresh_seconds: 0, ..settings(issuer) }
}

fn set(members: &[Value]) -> KeySet {
    KeySet::read(json!({ "keys": members }).to_string().as_bytes()).unwrap()
}

/// The result of checking a token with these keys.
fn judge(settings: &config::AuthSettings, keys: &KeySet, token: &str) -> Result<Caller, Error> {
    let rules = TokenRules::of(settings);
    let header = rules.header(token)?;
    let key = keys.find(&header).ok_or(Error::Invalid("is signed by a key that is not there"))?;
    rules.caller(token, &header, key)
}

fn refused(settings: &config::AuthSettings, keys: &KeySet, token: &str) -> String {
    judge(settings, keys, token).expect_err("this token must not be taken").to_string()
}

#[test]
fn a_token_by_any_algorithm_that_is_allowed_names_its_tenant_and_its_rights() {
    for name in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
        let signer = Signer::new(name.parse().unwrap(), name);
        let caller =
            judge(&settings(ISSUER), &set(&[signer.public()]), &signer.sign(&claims(ISSUER, "clinic-a")));
        let caller = caller.unwrap();
        assert_eq!((caller.tenant.as_str(), &*caller.subject), ("clinic-a", "u-1"), "{name}");
        assert_eq!(caller.rights, Rights::ALL);
        let narrow =
            config::AuthSettings { algorithms: vec![config::SigningAlgorithm::ES256], ..settings(ISSUER) };
        let token = signer.sign(&claims(ISSUER, "clinic-a"));
        assert_eq!(judge(&narrow, &set(&[signer.public()]), &token).is_ok(), name == "ES256");
    }
}

#[test]
fn a_token_of_another_time_issuer_or_audience_is_refused_with_the_reason() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let keys = set(&[signer.public()]);
    let now = get_current_timestamp();
    for (claim, value, reason) in [
        ("exp", json!(now - 31), "has expired"),
        ("exp", json!(0), "has expired"),
        ("exp", json!("soon"), "lacks"),
        ("exp", Value::Null, "lacks"),
        ("nbf", json!(now + 60), "not valid yet"),
        ("nbf", json!("later"), "cannot be read"),
        ("iss", json!("https://login.example/realms/other"), "another issuer"),
        ("iss", json!("https://login.example/realms/test/"), "another issuer"),
        ("iss", json!([ISSUER, "https://evil.example"]), "another issuer"),
        ("iss", Value::Null, "lacks"),
        ("aud", json!("account"), "none of auth.audiences"),
        ("aud", json!(["account", "cuspid-web"]), "none of auth.audiences"),
        ("aud", json!([]), "none of auth.audiences"),
        ("aud", Value::Null, "lacks"),
    ] {
        let mut claims = claims(ISSUER, "clinic-a");
        claims[claim] = value.clone();
        let found = refused(&settings(ISSUER), &keys, &signer.sign(&claims));
        assert!(found.contains(reason), "{claim} {value}: {found}");
    }
    for (claim, value) in [
        ("exp", json!(now - 10)),
        ("nbf", json!(now + 10)),
        ("exp", json!(now + 60)),
        ("aud", json!("cuspid")),
    ] {
        let mut claims = claims(ISSUER, "clinic-a");
        claims[claim] = value.clone();
        assert!(judge(&settings(ISSUER), &keys, &signer.sign(&claims)).is_ok(), "{claim} {value}");
    }
}

#[test]
fn a_token_for_another_use_is_refused() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let keys = set(&[signer.public()]);
    for (typ, expected) in [
        (None, true),
        (Some("JWT"), true),
        (Some("jwt"), true),
        (Some("at+jwt"), true),
        (Some("application/at+jwt"), true),
        (Some("id_token"), false),
        (Some("refresh+jwt"), false),
        (Some("logout+jwt"), false),
        (Some("dpop+jwt"), false),
        (Some(""), false),
    ] {
        let token = signer.sign_as(typ, &claims(ISSUER, "clinic-a"));
        assert_eq!(judge(&settings(ISSUER), &keys, &token).is_ok(), expected, "{typ:?}");
    }
    for (claim, value, expected) in [
        ("typ", json!("Bearer"), true),
        ("typ", json!("ID"), false),
        ("typ", json!("Refresh"), false),
        ("typ", json!("Offline"), false),
        ("typ", json!(1), false),
        ("token_use", json!("access"), true),
        ("token_use", json!("id"), false),
        ("at_hash", json!("x"), false),
        ("c_hash", json!("x"), false),
        ("nonce", json!("x"), true),
    ] {
        let mut claims = claims(ISSUER, "clinic-a");
        claims[claim] = value.clone();
        let outcome = judge(&settings(ISSUER), &keys, &signer.sign(&claims));
        assert_eq!(outcome.is_ok(), expected, "{claim} {value}");
        if let Err(error) = outcome {
            assert!(error.to_string().contains("no access token"), "{error}");
        }
    }
}

#[test]
fn who_has_no_private_key_cannot_sign() {
    let signer = Signer::new(Algorithm::RS256, "k");
    let public = signer.public();
    let claims = claims(ISSUER, "clinic-a");
    // The set of someone careless, that has a symmetric key in it.
    let symmetric =
        json!({ "kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode("secret"), "alg": "HS256" });
    let keys = set(&[public.clone(), symmetric]);
    for header in
        [json!({ "alg": "none", "kid": "k" }), json!({ "alg": "None" }), json!({ "kid": "k" }), json!({})]
    {
        let found = refused(&settings(ISSUER), &keys, &forged(&header, &claims, b""));
        assert!(found.contains("no JWT that is signed"), "{header}: {found}");
    }
    let modulus = URL_SAFE_NO_PAD.decode(public["n"].as_str().unwrap()).unwrap();
    for (secret, id) in
        [(&modulus[..], "k"), (public["n"].as_str().unwrap().as_bytes(), "k"), (b"secret", "s"), (b"", "k")]
    {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header =
                jsonwebtoken::Header { kid: Some(id.into()), ..jsonwebtoken::Header::new(algorithm) };
            let token = encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap();
            assert!(refused(&settings(ISSUER), &keys, &token).contains("auth.algorithms"));
        }
    }
}

#[test]
fn a_token_that_was_changed_is_refused() {
    let signer = Signer::new(Algorithm::RS256, "k");
    let keys = set(&[signer.public()]);
    let token = signer.sign(&claims(ISSUER, "clinic-a"));
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let other = signer.sign(&claims(ISSUER, "clinic-b"));
    let other_payload = other.split('.').nth(1).unwrap();
    let other_header = URL_SAFE_NO_PAD.encode(json!({ "alg": "PS256", "kid": "k" }).to_string());
    for changed in [
        format!("{header}.{other_payload}.{signature}"),
        format!("{other_header}.{payload}.{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}."),
        format!("{header}.{payload}.{}", &signature[..signature.len() - 4]),
        format!("{header}..{signature}"),
        String::new(),
        "...".to_owned(),
        "a.b.c".to_owned(),
    ] {
        refused(&settings(ISSUER), &keys, &changed);
    }
    for place in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[place] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        // The last letter of the signature has bits that mean nothing.
        if place + 1 < token.len() {
            refused(&settings(ISSUER), &keys, &changed);
        }
    }
}

#[test]
fn a_key_is_used_for_what_it_is_for() {
    let signer = Signer::new(Algorithm::RS256, "k");
    let other = Signer::new(Algorithm::RS256, "other");
    let elliptic = Signer::new(Algorithm::ES256, "k");
    let token = signer.sign(&claims(ISSUER, "clinic-a"));
    let with = |name: &str, value: Value| {
        let mut key = signer.public();
        key[name] = value;
        key
    };
    for (members, is_taken) in [
        (vec![signer.public()], true),
        (vec![with("alg", Value::Null)], true),
        (vec![with("use", json!("sig"))], true),
        (vec![with("key_ops", json!(["verify"]))], true),
        // The same name for keys of two types (RFC 7517 §4.5).
        (vec![elliptic.public(), json!("rubbish"), json!({ "kty": "new" }), signer.public()], true),
        (vec![with("use", json!("enc"))], false),
        (vec![with("key_ops", json!(["encrypt"]))], false),
        (vec![with("alg", json!("RSA-OAEP"))], false),
        (vec![with("alg", json!("PS256"))], false),
        (vec![with("kty", json!("EC"))], false),
        (vec![with("n", json!("!"))], false),
        (vec![with("kid", json!("K"))], false),
        (vec![elliptic.public()], false),
        (vec![other.public()], false),
        (vec![], false),
    ] {
        let found = judge(&settings(ISSUER), &set(&members), &token);
        assert_eq!(found.is_ok(), is_taken, "{}", json!(members));
    }
    for text in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
        assert!(KeySet::read(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_token_without_a_key_id_is_checked_by_the_only_key_that_suits() {
    let named = Signer::new(Algorithm::ES256, "k");
    let public = named.public();
    let token = named.anonymous().sign(&claims(ISSUER, "clinic-a"));
    let [ed, es] = [Algorithm::EdDSA, Algorithm::ES256].map(|algorithm| Signer::new(algorithm, "o").public());
    assert!(judge(&settings(ISSUER), &set(&[public.clone(), ed]), &token).is_ok());
    assert!(refused(&settings(ISSUER), &set(&[public, es]), &token).contains("not there"));
}

#[test]
fn tenant_and_roles_are_where_the_settings_say() {
    let signer = Signer::new(Algorithm::EdDSA, "k");
    let keys = set(&[signer.public()]);
    let told = |tenant_claim: &str, roles_claim: &str, more: Value| {
        let settings = config::AuthSettings {
            tenant_claim: tenant_claim.into(),
            roles_claim: roles_claim.into(),
            ..settings(ISSUER)
        };
        let mut all = claims(ISSUER, "clinic-a");
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        judge(&settings, &keys, &signer.sign(&all))
    };
    let read = Rights::of(&[Right::Read]);
    for (tenant_claim, roles_claim, more, tenant, rights) in [
        ("clinicId", "realm_access.roles", json!({}), "clinic-a", Rights::ALL),
        ("org.id", "groups", json!({ "org": { "id": "x" }, "groups": ["cuspid-read", 7] }), "x", read),
        (
            "https://a.b/org",
            "scope",
            json!({ "https://a.b/org": "y", "scope": "openid cuspid-read" }),
            "y",
            read,
        ),
        (
            "clinicId",
            "scope",
            json!({ "scope": "Cuspid-Read cuspid-readers" }),
            "clinic-a",
            Rights::default(),
        ),
        ("clinicId", "roles", json!({ "roles": { "cuspid-read": true } }), "clinic-a", Rights::default()),
        ("clinicId", "nothing.at.all", json!({}), "clinic-a", Rights::default()),
    ] {
        let caller = told(tenant_claim, roles_claim, more).unwrap();
        assert_eq!((caller.tenant.as_str(), caller.rights), (tenant, rights), "{tenant_claim} {roles_claim}");
    }
    for value in
        [json!("Clinic A"), json!("a/b"), json!(".."), json!(""), json!(7), json!(["clinic-a"]), Value::Null]
    {
        let error = told("clinicId", "realm_access.roles", json!({ "clinicId": value })).unwrap_err();
        assert!(matches!(&error, Error::Tenant { claim } if claim == "clinicId"), "{value}: {error}");
    }
    assert!(matches!(told("org.id", "x", json!({ "org": "x" })), Err(Error::Tenant { .. })));
}

#[test]
fn long_tokens_and_critical_extensions_are_refused() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let keys = set(&[signer.public()]);
    let mut long = claims(ISSUER, "clinic-a");
    long["more"] = json!("x".repeat(Config::defaults().auth.max_token_bytes));
    assert!(refused(&settings(ISSUER), &keys, &signer.sign(&long)).contains("auth.max_token_bytes"));
    let header = json!({ "alg": "ES256", "kid": "k", "crit": ["b64"], "b64": false });
    let token = forged(&header, &claims(ISSUER, "clinic-a"), b"x");
    assert!(refused(&settings(ISSUER), &keys, &token).contains("critical"));
}

#[test]
fn a_token_is_in_one_authorization_field_and_nowhere_else() {
    let find = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer_token(&headers).map(str::to_owned)
    };
    assert_eq!(find(&["Bearer a.b.c"]).unwrap(), "a.b.c");
    assert_eq!(find(&["bearer   a.b.c "]).unwrap(), "a.b.c");
    for none in [&[][..], &["Basic YTpi"], &["a.b.c"], &[""]] {
        assert!(matches!(find(none), Err(Error::Missing)), "{none:?}");
    }
    // It is then no JWT.
    assert_eq!(find(&["Bearer"]).unwrap(), "");
    assert!(matches!(find(&["Bearer a.b.c", "Bearer d.e.f"]), Err(Error::Invalid(_))));
}

/// An authenticator that runs until the guard is dropped.
fn run(settings: &config::AuthSettings) -> (Arc<Authenticator>, DropGuard) {
    let authenticator = Arc::new(Authenticator::new(settings).unwrap().unwrap());
    let stop = CancellationToken::new();
    let (running, stopped) = (Arc::clone(&authenticator), stop.clone());
    tokio::spawn(async move { running.run(stopped).await });
    (authenticator, stop.drop_guard())
}

/// Presents a token whose key is not there until a condition holds. Each time waits for an attempt to fetch
/// the keys (`min_refresh_seconds` is 0).
async fn present_until(authenticator: &Authenticator, token: &str, mut holds: impl FnMut(bool) -> bool) {
    let presented = async { while !holds(authenticator.caller(token).await.is_ok()) {} };
    tokio::time::timeout(Duration::from_secs(30), presented).await.expect("the condition holds in time");
}

#[tokio::test]
async fn keys_rotate_without_a_restart() {
    let [old, new] = ["old", "new"].map(|id| Signer::new(Algorithm::ES256, id));
    let provider = FakeProvider::start(&[&old]).await;
    let (authenticator, _stop) = run(&eager(&provider.issuer));
    let [by_old, by_new] = [&old, &new].map(|signer| signer.sign(&claims(&provider.issuer, "a")));
    // The first request waits for the keys.
    assert!(authenticator.caller(&by_old).await.is_ok());
    assert!(authenticator.caller(&by_new).await.is_err());
    provider.publish(&[&new]);
    present_until(&authenticator, &by_new, |is_accepted| is_accepted).await;
    assert!(authenticator.caller(&by_old).await.is_err(), "a key that the provider took back");
}

#[tokio::test]
async fn invented_key_ids_do_not_reach_the_provider() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let provider = FakeProvider::start(&[&signer]).await;
    let patient = config::AuthSettings { min_refresh_seconds: 600, ..settings(&provider.issuer) };
    let (authenticator, _stop) = run(&patient);
    assert!(authenticator.caller(&signer.sign(&claims(&provider.issuer, "a"))).await.is_ok());
    for number in 0..50 {
        let header = json!({ "alg": "ES256", "kid": format!("invented-{number}") });
        let token = forged(&header, &claims(&provider.issuer, "a"), b"x");
        assert!(matches!(authenticator.caller(&token).await, Err(Error::Invalid(_))));
    }
    assert_eq!(provider.fetches(), 1);
}

#[tokio::test]
async fn a_provider_that_fails_locks_nobody_out_whose_key_is_known() {
    let [signer, stranger] = ["k", "stranger"].map(|id| Signer::new(Algorithm::ES256, id));
    let provider = FakeProvider::start(&[&signer]).await;
    let (authenticator, _stop) = run(&eager(&provider.issuer));
    let token = signer.sign(&claims(&provider.issuer, "a"));
    assert!(authenticator.caller(&token).await.is_ok());
    for answer in [None, Some("rubbish".to_owned()), Some("{\"keys\":[]}".to_owned())] {
        provider.answer_with(answer);
        let before = provider.fetches();
        let unknown = stranger.sign(&claims(&provider.issuer, "a"));
        present_until(&authenticator, &unknown, |_| provider.fetches() > before + 1).await;
        assert!(authenticator.caller(&token).await.is_ok());
        assert!(matches!(authenticator.caller(&unknown).await, Err(Error::Invalid(_))));
    }
}

#[tokio::test]
async fn without_keys_nobody_comes_in_until_the_provider_is_there() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let provider = FakeProvider::start(&[&signer]).await;
    let issuer = provider.issuer.clone();
    provider.answer_with(None);
    let (authenticator, _stop) = run(&eager(&issuer));
    let token = signer.sign(&claims(&issuer, "a"));
    assert!(matches!(authenticator.caller(&token).await, Err(Error::NoKeys)));
    assert!(!authenticator.is_ready());
    provider.publish(&[&signer]);
    present_until(&authenticator, &token, |is_accepted| is_accepted).await;
    assert!(authenticator.is_ready());
}

#[tokio::test]
async fn a_provider_that_is_another_or_says_too_much_has_no_keys() {
    let signer = Signer::new(Algorithm::ES256, "k");
    for configuration in [
        json!({ "issuer": "https://other.example", "jwks_uri": "CERTS" }),
        json!({ "issuer": "ISSUER/", "jwks_uri": "CERTS" }),
        json!({ "issuer": "ISSUER", "jwks_uri": "http://keys.example/certs" }),
        json!({ "issuer": "ISSUER", "jwks_uri": "file:///etc/passwd" }),
        json!({ "issuer": "ISSUER" }),
        json!({ "issuer": "ISSUER", "jwks_uri": "CERTS", "more": "x".repeat(5000) }),
    ] {
        let provider = FakeProvider::start(&[&signer]).await;
        let filled =
            configuration.to_string().replace("CERTS", "ISSUER/certs").replace("ISSUER", &provider.issuer);
        provider.describe(&serde_json::from_str(&filled).unwrap());
        let (authenticator, _stop) =
            run(&config::AuthSettings { max_response_bytes: 4096, ..settings(&provider.issuer) });
        let token = signer.sign(&claims(&provider.issuer, "a"));
        assert!(matches!(authenticator.caller(&token).await, Err(Error::NoKeys)), "{filled}");
        assert_eq!(provider.fetches(), 0, "{filled}");
    }
}
