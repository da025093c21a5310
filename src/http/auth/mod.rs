//! Who the caller is, and whether it may: access tokens of an OpenID provider (RFC 6750, RFC 9068, OpenID Connect Discovery).
//!
//! [`gate`] stands before every handler. What it lets through is in the list of resources (`capabilities/resources.rs`) with the
//! right that it needs; what is not there does not exist. A handler that has no [`Caller`] from the gate can reach no data.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

use crate::archive::access::{Caller, Right};
use crate::config;
use crate::http::Service;
use crate::http::auth::provider::Provider;
use crate::http::auth::token::Rules;
use crate::http::capabilities::{Access, Found, find};
use crate::http::error::Error as HttpError;
use crate::http::middleware::concurrency_limit::{Peer, client};
use crate::http::request::base_url;

mod cookie;
#[cfg(test)]
mod fake_provider;
mod keys;
mod provider;
mod sign_in;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use sign_in::SignIn;

/// Why a caller is not let through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no token.
    #[error("an access token is needed: Authorization: Bearer TOKEN")]
    Missing,
    /// The token proves nothing; the text says why, and holds nothing of it.
    #[error("the access token {0}")]
    Invalid(&'static str),
    /// The token names no tenant.
    #[error(
        "the access token has no claim `{claim}` that is a tenant, 1 to 64 of a-z, 0-9 and - (auth.tenant_claim)"
    )]
    Tenant {
        /// The claim that should.
        claim: String,
    },
    /// The caller has no such right.
    #[error("the access token gives no right to {} (auth.{}_roles)", right.name(), right.name())]
    Right {
        /// The right that is needed.
        right: Right,
    },
    /// Nothing can be proved yet.
    #[error("the keys of the OpenID provider cannot be had (auth.issuer)")]
    NoKeys,
}

/// Tells callers by their tokens.
pub(crate) struct Authenticator {
    provider: Provider,
    rules: Rules,
    client_id: String,
    scope: String,
}

impl Authenticator {
    /// The one that the settings describe; `None` if there is no authentication.
    ///
    /// # Errors
    /// The machine has no certificates to trust, so that no provider can be asked.
    pub(crate) fn new(settings: &config::AuthSettings) -> reqwest::Result<Option<Self>> {
        if !settings.is_on() {
            return Ok(None);
        }
        Ok(Some(Self {
            provider: Provider::new(settings)?,
            rules: Rules::of(settings),
            client_id: settings.client_id.clone(),
            scope: settings.scope.clone(),
        }))
    }

    /// Keeps the provider's keys at hand until `stop` is cancelled.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.provider.run(stop).await;
    }

    /// Whether there are keys to check tokens by.
    pub(crate) fn is_ready(&self) -> bool {
        self.provider.has_keys()
    }

    /// Whose tokens callers must have.
    pub(crate) fn issuer(&self) -> &str {
        self.provider.issuer()
    }

    /// How pages of this server get tokens.
    pub(crate) fn sign_in(&self) -> SignIn {
        SignIn {
            issuer: self.issuer().to_owned(),
            client_id: self.client_id.clone(),
            scope: self.scope.clone(),
            endpoints: self.provider.endpoints(),
        }
    }

    /// The caller whose token it is.
    async fn caller(&self, token: &str) -> Result<Caller, Error> {
        let header = self.rules.header(token)?;
        let keys = self.provider.keys_with(&header).await?;
        let key =
            keys.find(&header).ok_or(Error::Invalid("is signed by a key that the provider does not have"))?;
        self.rules.caller(token, &header, key)
    }
}

/// Lets a request through to its handler, with its [`Caller`], if that one has the right that the resource needs.
pub(crate) async fn gate(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let needed = match find(request.method(), request.uri().path()) {
        Found::Operation(Access::Public) => return next.run(request).await,
        Found::Operation(Access::Needs(right)) => right,
        Found::Methods(methods) => return ([(ALLOW, methods)], HttpError::Method).into_response(),
        Found::Nothing => return HttpError::NoResource.into_response(),
    };
    let (mut caller, cookie) =
        match admit(&service, needed, request.method(), request.uri(), request.headers()).await {
            Ok(admitted) => admitted,
            Err(error) => return HttpError::from(error).into_response(),
        };
    if service.auth.is_none()
        && let Some(peer) = request.extensions().get::<Peer>()
    {
        caller.client = client(request.headers(), *peer).to_string().into();
    }
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    if service.auth.is_some() {
        // It is for this caller: no cache gives it to another, and the caller's own asks again whether it still may.
        let private = HeaderValue::from_static("private, no-cache");
        response.headers_mut().entry(CACHE_CONTROL).or_insert(private);
    }
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The caller of a request, if it has a right; and a cookie to give to it, if it needs one.
async fn admit(
    service: &Service,
    needed: Right,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(Caller, Option<HeaderValue>), Error> {
    let (caller, cookie) = match &service.auth {
        Some(authenticator) => match cookie::token(method, uri.path(), headers) {
            Some(token) if !headers.contains_key(AUTHORIZATION) => (authenticator.caller(token).await?, None),
            _ => {
                let token = bearer_token(headers)?;
                let caller = authenticator.caller(token).await?;
                let base_url = base_url::of(headers, &service.settings.public_url);
                (caller, cookie::issue(token, headers, &base_url))
            }
        },
        None => (Caller::anonymous(), None),
    };
    if !caller.rights.include(needed) {
        return Err(Error::Right { right: needed });
    }
    Ok((caller, cookie))
}

/// The token in the Authorization field (RFC 6750 §2.1). In a URL it would get into logs and histories.
fn bearer_token(headers: &HeaderMap) -> Result<&str, Error> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next().ok_or(Error::Missing)?;
    if fields.next().is_some() {
        return Err(Error::Invalid("is one of several"));
    }
    let text = field.to_str().map_err(|_| Error::Invalid("is not in ASCII"))?;
    let (scheme, token) = text.trim().split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Error::Missing);
    }
    Ok(token.trim())
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    /// What the gate found out.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let known = parts.extensions.get::<Self>().cloned();
        known.ok_or_else(|| HttpError::from(Error::Missing).into_response())
    }
}
