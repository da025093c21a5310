//! Sign-in on this server's own pages, the console and the viewer: authorization code with PKCE (RFC 6749
//! §4.1, RFC 7636). The server gives the pages the parameters; it receives the token only with requests.

use axum::http::Uri;
use serde::{Deserialize, Serialize};

/// The parameters of signing in.
#[derive(Debug, Serialize)]
pub(crate) struct SignIn {
    /// The name of the provider.
    pub(super) issuer: String,
    /// The name of the pages at the provider; empty if they are not registered.
    pub(super) client_id: String,
    /// The scope of the tokens.
    pub(super) scope: String,
    /// The endpoints; empty until they were fetched.
    #[serde(flatten)]
    pub(super) endpoints: Endpoints,
}

/// The endpoints of a provider, from its configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Endpoints {
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
}

impl SignIn {
    /// Whether the pages are registered at the provider.
    pub(crate) fn is_possible(&self) -> bool {
        !self.client_id.is_empty()
    }

    /// The parameters as JSON, for a script.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts can be written as JSON")
    }

    /// The origin of the token endpoint.
    pub(crate) fn token_origin(&self) -> Option<String> {
        let url: Uri = self.endpoints.token_endpoint.as_ref()?.parse().ok()?;
        Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
    }
}
