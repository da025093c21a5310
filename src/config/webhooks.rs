//! Section `[webhooks]`: who gets the changes of the archive by requests of the server's own.

use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::config::Tenant;

/// The beginning of a secret, as Standard Webhooks has it.
const SECRET_PREFIX: &str = "whsec_";
/// The bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Section `[webhooks]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct WebhooksSettings {
    pub targets: Vec<WebhookTarget>,
    pub secret: String,
    pub timeout_seconds: u64,
    pub max_changes: usize,
    pub give_up_hours: u64,
}

/// An entry of `webhooks.targets`: `https://host/path`, or `tenant=https://host/path`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookTarget {
    /// The tenant whose changes are sent; of a server without authentication, the only one.
    pub tenant: Tenant,
    /// Whether the entry names the tenant.
    names_tenant: bool,
    /// The address.
    pub url: reqwest::Url,
}

/// A text that is no target.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot be in webhooks.targets: an entry is https://HOST/PATH or TENANT=https://HOST/PATH")]
pub struct NotAWebhookTarget(String);

impl TryFrom<String> for WebhookTarget {
    type Error = NotAWebhookTarget;

    fn try_from(text: String) -> Result<Self, NotAWebhookTarget> {
        read(&text).ok_or(NotAWebhookTarget(text))
    }
}

fn read(text: &str) -> Option<WebhookTarget> {
    // A URL may have `=` in its query.
    let (tenant, url) = match text.split_once('=').filter(|(tenant, _)| !tenant.contains(':')) {
        Some((tenant, url)) => (Some(tenant.trim().parse().ok()?), url),
        None => (None, text),
    };
    let url: reqwest::Url = url.trim().parse().ok()?;
    if !["https", "http"].contains(&url.scheme()) || !url.has_host() {
        return None;
    }
    Some(WebhookTarget {
        names_tenant: tenant.is_some(),
        tenant: tenant.unwrap_or_else(Tenant::default_tenant),
        url,
    })
}

impl WebhooksSettings {
    /// The settings that cannot be 0, with their values.
    pub(super) fn at_least_one(&self) -> [(&'static str, u64); 2] {
        [
            ("webhooks.timeout_seconds", self.timeout_seconds),
            ("webhooks.max_changes", self.max_changes as u64),
        ]
    }

    /// The bytes of the secret; `None` if it is not as it should be.
    pub fn key(&self) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(self.secret.strip_prefix(SECRET_PREFIX)?).ok()?;
        SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
    }

    pub(super) fn validate(&self, has_tenants: bool) -> anyhow::Result<()> {
        ensure!(
            self.targets.is_empty() || self.key().is_some(),
            "webhooks.secret cannot be used: it is `{SECRET_PREFIX}` and base64 of {} to {} random bytes, as of \
             `echo {SECRET_PREFIX}$(openssl rand -base64 32)`",
            SECRET_BYTES.start(),
            SECRET_BYTES.end()
        );
        for target in &self.targets {
            ensure!(
                target.names_tenant == has_tenants,
                "webhooks.targets: {}",
                match has_tenants {
                    true => "with auth.issuer, each entry names a tenant: TENANT=https://HOST/PATH",
                    false => "without auth.issuer there is one tenant, which no entry names",
                }
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_name_a_tenant() {
        for (text, expected) in [
            ("https://a.example/hook?x=1", Some(("default", "https://a.example/hook?x=1"))),
            ("clinic-a=https://a.example/hook?x=1", Some(("clinic-a", "https://a.example/hook?x=1"))),
            ("http://10.0.0.7:8080", Some(("default", "http://10.0.0.7:8080/"))),
            ("Clinic A=https://a.example", None),
            ("ftp://a.example", None),
            ("a.example", None),
            ("clinic-a=", None),
            ("", None),
        ] {
            let found = WebhookTarget::try_from(text.to_owned()).ok();
            let found = found.as_ref().map(|target| (target.tenant.as_str(), target.url.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_secret_has_enough_bytes() {
        let settings = |secret: String| WebhooksSettings {
            targets: Vec::new(),
            secret,
            timeout_seconds: 1,
            max_changes: 1,
            give_up_hours: 1,
        };
        for (bytes, is_key) in [(23, false), (24, true), (64, true), (65, false)] {
            let secret = format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
            assert_eq!(settings(secret).key().is_some(), is_key, "{bytes}");
        }
        for secret in ["", "whsec_", "whsec_%%%", "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"] {
            assert!(settings(secret.to_owned()).key().is_none(), "{secret}");
        }
    }
}
