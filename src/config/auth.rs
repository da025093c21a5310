//! Section `[auth]`: the OpenID provider, its tokens and the roles that give rights.

use anyhow::ensure;
use serde::Deserialize;

use crate::config::{is_loopback_host, without_port};

/// The largest accepted leeway: clocks that differ more must be set right.
const MAX_LEEWAY_SECONDS: u64 = 600;

/// Section `[auth]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct AuthSettings {
    pub issuer: String,
    pub allow_anonymous: bool,
    pub audiences: Vec<String>,
    pub tenant_claim: String,
    pub roles_claim: String,
    pub read_roles: Vec<String>,
    pub write_roles: Vec<String>,
    pub delete_roles: Vec<String>,
    pub administer_roles: Vec<String>,
    pub share_roles: Vec<String>,
    pub algorithms: Vec<SigningAlgorithm>,
    pub leeway_seconds: u64,
    pub max_token_bytes: usize,
    pub refresh_seconds: u64,
    pub min_refresh_seconds: u64,
    pub timeout_seconds: u64,
    pub max_response_bytes: usize,
    pub client_id: String,
    pub scope: String,
}

/// The signature algorithm of a token (RFC 7518 §3.1, RFC 8037). Only asymmetric ones: with `none` or a
/// symmetric algorithm, anyone who has the public key could sign tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the standard's names")]
pub enum SigningAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl AuthSettings {
    /// Whether authentication is on.
    pub fn is_on(&self) -> bool {
        !self.issuer.is_empty()
    }

    pub(super) fn validate(&self) -> anyhow::Result<()> {
        if !self.is_on() {
            return Ok(());
        }
        let issuer = &self.issuer;
        ensure!(
            is_trustworthy(issuer),
            "auth.issuer cannot be `{issuer}`: it begins with https:// (or with http:// on loopback)"
        );
        for (name, is_empty) in [
            ("auth.audiences", self.audiences.iter().all(String::is_empty)),
            ("auth.tenant_claim", self.tenant_claim.is_empty()),
            ("auth.roles_claim", self.roles_claim.is_empty()),
            ("auth.algorithms", self.algorithms.is_empty()),
        ] {
            ensure!(!is_empty, "{name} cannot be empty");
        }
        for (name, seconds) in [
            ("auth.refresh_seconds", self.refresh_seconds),
            ("auth.min_refresh_seconds", self.min_refresh_seconds),
            ("auth.timeout_seconds", self.timeout_seconds),
        ] {
            ensure!(seconds > 0, "{name} cannot be 0");
        }
        ensure!(
            self.client_id.is_empty() || !self.audiences.contains(&self.client_id),
            "auth.audiences cannot have `{}`, which is auth.client_id: it is the audience of ID tokens, which would be taken for \
             access tokens",
            self.client_id
        );
        let leeway = self.leeway_seconds;
        ensure!(
            leeway <= MAX_LEEWAY_SECONDS,
            "auth.leeway_seconds cannot be {leeway}: it is at most {MAX_LEEWAY_SECONDS}"
        );
        Ok(())
    }
}

/// Whether a response from a URL is authentic: over TLS, or on loopback.
pub fn is_trustworthy(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return url.starts_with("https://") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    is_loopback_host(without_port(authority))
}
