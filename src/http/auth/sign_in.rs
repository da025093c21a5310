//! How this server's own pages, the console and the viewer, get tokens: authorization code with PKCE (RFC 6749 §4.1, RFC 7636). The
//! server tells them where; it sees the token only when they use it.

use axum::http::Uri;
use serde::{Deserialize, Serialize};

/// What a page has to know.
#[derive(Debug, Serialize)]
pub(crate) struct SignIn {
    /// Whose tokens callers must have.
    pub(super) issuer: String,
    /// As whom the provider knows the pages; empty if it does not.
    pub(super) client_id: String,
    /// What they ask for.
    pub(super) scope: String,
    /// Where they ask; nothing as long as the provider has not said it.
    #[serde(flatten)]
    pub(super) endpoints: Endpoints,
}

/// Where a provider lets pages sign in, as it says itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Endpoints {
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
}

impl SignIn {
    /// Whether the pages are known to the provider.
    pub(crate) fn is_possible(&self) -> bool {
        !self.client_id.is_empty()
    }

    /// All of it for a script.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts can be written as JSON")
    }

    /// The origin that gives tokens.
    pub(crate) fn token_origin(&self) -> Option<String> {
        let url: Uri = self.endpoints.token_endpoint.as_ref()?.parse().ok()?;
        Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
    }
}
