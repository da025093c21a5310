//! A fake OpenID provider for unit and integration tests: it publishes generated keys.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use axum::Router;
use axum::body::Body;
use axum::http::{Response, Uri};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A private key with its name.
pub(crate) struct Signer {
    algorithm: Algorithm,
    id: Option<String>,
    key: EncodingKey,
}

impl Signer {
    pub(crate) fn new(algorithm: Algorithm, id: &str) -> Self {
        let ecdsa = |signing| EcdsaKeyPair::generate(signing).unwrap().to_pkcs8v1().unwrap();
        let key = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING).as_ref()),
            Algorithm::ES384 => EncodingKey::from_ec_der(ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING).as_ref()),
            Algorithm::EdDSA => {
                EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref())
            }
            _ => {
                let der = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
                let text = STANDARD.encode(der.as_ref());
                let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
                EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
            }
        };
        Self { algorithm, id: Some(id.to_owned()), key }
    }

    /// The same key, without a key ID in tokens.
    pub(crate) fn anonymous(mut self) -> Self {
        self.id = None;
        self
    }

    /// The public key, as a JWK Set has it.
    pub(crate) fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = self.id.clone();
        serde_json::to_value(jwk).unwrap()
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(Some("JWT"), claims)
    }

    /// A token of a type.
    pub(crate) fn sign_as(&self, typ: Option<&str>, claims: &Value) -> String {
        let typ = typ.map(str::to_owned);
        let header = Header { kid: self.id.clone(), typ, ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

/// Claims in the form of Keycloak, with all rights, valid for five minutes.
pub(crate) fn claims(issuer: &str, tenant: &str) -> Value {
    let now = get_current_timestamp();
    json!({
        "iss": issuer,
        "aud": ["account", "cuspid"],
        "sub": "u-1",
        "iat": now,
        "exp": now + 300,
        "clinicId": tenant,
        "realm_access": { "roles": ["cuspid-read", "cuspid-write", "cuspid-delete", "cuspid-administer", "cuspid-share"] },
    })
}

/// A token by someone without a key.
pub(crate) fn forged(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let [header, claims] = [header, claims].map(|json| encoded(json.to_string().as_bytes()));
    format!("{header}.{claims}.{}", encoded(signature))
}

/// A provider that runs until it is dropped.
pub(crate) struct FakeProvider {
    pub(crate) issuer: String,
    shared: Arc<Mutex<ProviderResponses>>,
    running: JoinHandle<()>,
}

/// The responses of the provider, and the number of requests.
struct ProviderResponses {
    configuration: String,
    /// `None` if the provider fails.
    keys: Option<String>,
    fetches: usize,
}

impl FakeProvider {
    /// Starts a provider with these keys.
    pub(crate) async fn start(signers: &[&Signer]) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), signers).await
    }

    /// Starts a provider at an address.
    pub(crate) async fn at(address: SocketAddr, signers: &[&Signer]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let issuer = format!("http://{}/realms/test", listener.local_addr().unwrap());
        let configuration = json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/certs"),
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
        });
        let shared = ProviderResponses { configuration: configuration.to_string(), keys: None, fetches: 0 };
        let shared = Arc::new(Mutex::new(shared));
        let answering = shared.clone();
        let router =
            Router::new().fallback(async move |uri: Uri| answer(&mut answering.lock().unwrap(), &uri));
        let running = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let provider = Self { issuer, shared, running };
        provider.publish(signers);
        provider
    }

    /// Replaces the keys.
    pub(crate) fn publish(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.public()).collect();
        self.answer_with(Some(json!({ "keys": keys }).to_string()));
    }

    /// Replaces the response with the keys; `None` is a failure.
    pub(crate) fn answer_with(&self, keys: Option<String>) {
        self.shared.lock().unwrap().keys = keys;
    }

    /// Replaces the provider's configuration.
    pub(crate) fn describe(&self, configuration: &Value) {
        self.shared.lock().unwrap().configuration = configuration.to_string();
    }

    /// The number of requests for the keys.
    pub(crate) fn fetches(&self) -> usize {
        self.shared.lock().unwrap().fetches
    }
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn answer(shared: &mut ProviderResponses, uri: &Uri) -> Response<Body> {
    let body = match uri.path() {
        "/realms/test/.well-known/openid-configuration" => Some(shared.configuration.clone()),
        "/realms/test/certs" => {
            shared.fetches += 1;
            shared.keys.clone()
        }
        _ => None,
    };
    let status = if body.is_some() { 200 } else { 500 };
    Response::builder().status(status).body(Body::from(body.unwrap_or_default())).unwrap()
}
