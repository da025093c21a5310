//! Authentication and authorization by access tokens of an OpenID provider (RFC 6750, RFC 9068, OpenID
//! Connect Discovery).
//!
//! [`require`] runs before the handler of every operation that needs a right; the list of resources
//! (`http/resources`) names the rights. A handler without a [`Caller`] from [`require`] can reach no data.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

use crate::archive::access::Caller;
use crate::config;
use crate::http::Service;
use crate::http::audit;
use crate::http::auth::credentials::Needs;
use crate::http::auth::provider::Provider;
use crate::http::auth::token::TokenRules;
use crate::http::error::Error as HttpError;
use crate::http::middleware::forwarding::Client;
use crate::http::request::base_url;

mod cookie;
pub(in crate::http) mod credentials;
pub(in crate::http) mod error;
#[cfg(test)]
mod fake_provider;
mod keys;
mod provider;
mod revocable;
mod sign_in;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use error::Error;
pub(crate) use sign_in::SignIn;

/// Authenticates callers by their tokens.
pub(crate) struct Authenticator {
    provider: Provider,
    rules: TokenRules,
    client_id: String,
    scope: String,
}

impl Authenticator {
    /// The authenticator that the settings describe; `None` if authentication is off.
    ///
    /// # Errors
    /// If the machine has no trusted certificates, so that no provider can be reached.
    pub(crate) fn new(settings: &config::AuthSettings) -> reqwest::Result<Option<Self>> {
        if !settings.is_on() {
            return Ok(None);
        }
        Ok(Some(Self {
            provider: Provider::new(settings)?,
            rules: TokenRules::of(settings),
            client_id: settings.client_id.clone(),
            scope: settings.scope.clone(),
        }))
    }

    /// Fetches the provider's keys regularly until `stop` is cancelled.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.provider.run(stop).await;
    }

    /// Whether there are keys to check tokens by.
    pub(crate) fn is_ready(&self) -> bool {
        self.provider.has_keys()
    }

    /// The name of the OpenID provider whose tokens callers need.
    pub(crate) fn issuer(&self) -> &str {
        self.provider.issuer()
    }

    /// The parameters by which pages of this server get tokens.
    pub(crate) fn sign_in(&self) -> SignIn {
        SignIn {
            issuer: self.issuer().to_owned(),
            client_id: self.client_id.clone(),
            scope: self.scope.clone(),
            endpoints: self.provider.endpoints(),
        }
    }

    /// The caller that a token names.
    async fn caller(&self, token: &str) -> Result<Caller, Error> {
        let header = self.rules.header(token)?;
        let keys = self.provider.keys_with(&header).await?;
        let key =
            keys.find(&header).ok_or(Error::Invalid("is signed by a key that the provider does not have"))?;
        self.rules.caller(token, &header, key)
    }
}

/// Middleware of an operation that needs a caller: passes the request on with its [`Caller`] if the caller
/// has what is needed.
pub(in crate::http) async fn require(
    State((service, needs)): State<(Arc<Service>, Needs)>,
    mut request: Request,
    next: Next,
) -> Response {
    let authorized = authorize(&service, needs, request.method(), request.uri(), request.headers()).await;
    let Authorized { mut caller, cookie, plain_uri } = match authorized {
        Ok(authorized) => authorized,
        Err(error) => {
            let asked = (request.method().clone(), request.uri().clone());
            return audit::refuse(&service, &asked, request.extensions(), error).await;
        }
    };
    caller.address = audit::address(request.extensions()).into();
    if service.auth.is_none()
        && let Some(Client(client)) = request.extensions().get::<Client>()
    {
        caller.client = client.to_string().into();
    }
    let is_private = service.auth.is_some() || caller.share.is_some() || plain_uri.is_some();
    if let Some(plain_uri) = plain_uri {
        *request.uri_mut() = plain_uri;
    }
    let watched_caller = caller.share.is_some().then(|| caller.clone());
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    if let Some(caller) = watched_caller {
        response = response.map(|body| revocable::watched(&service.archive, &caller, body));
    }
    if is_private {
        // No cache may give the response to another caller, and the caller's own cache must check the right
        // again.
        let private = HeaderValue::from_static("private, no-cache");
        response.headers_mut().entry(CACHE_CONTROL).or_insert(private);
    }
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The caller of a request who has what is needed.
struct Authorized {
    caller: Caller,
    /// The cookie to set, if the page needs one.
    cookie: Option<HeaderValue>,
    /// The URL without its signature, if it has one.
    plain_uri: Option<Uri>,
}

impl From<Caller> for Authorized {
    fn from(caller: Caller) -> Self {
        Self { caller, cookie: None, plain_uri: None }
    }
}

/// The caller of a request if the caller has what is needed.
async fn authorize(
    service: &Service,
    needs: Needs,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Authorized, HttpError> {
    let authorized = authenticate(service, needs, method, uri, headers).await?;
    needs.check(&authorized.caller)?;
    Ok(authorized)
}

/// The caller of a request: by a signed URL where the operation allows one, else by a token.
async fn authenticate(
    service: &Service,
    needs: Needs,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Authorized, HttpError> {
    if needs.by_url
        && let Some(signed) = credentials::caller_by_url(&service.archive, uri).await
    {
        let (caller, plain_uri) = signed?;
        return Ok(Authorized { plain_uri: Some(plain_uri), ..caller.into() });
    }
    // A server without authentication reads a token, too: whoever has opened a link sees what was shared, and
    // no more.
    if let Ok(token) = bearer_token(headers)
        && let Some(caller) = credentials::caller_by_capability(&service.archive, token).await
    {
        return Ok(caller?.into());
    }
    let Some(authenticator) = &service.auth else { return Ok(Caller::anonymous().into()) };
    if let Some(token) = cookie::token(method, uri.path(), headers)
        && !headers.contains_key(AUTHORIZATION)
    {
        return Ok(authenticator.caller(token).await?.into());
    }
    let token = bearer_token(headers)?;
    let caller = authenticator.caller(token).await?;
    let base_url = base_url::of(headers, &service.settings.public_url);
    Ok(Authorized { cookie: cookie::issue(token, headers, &base_url), ..caller.into() })
}

/// The token in the Authorization field (RFC 6750 §2.1). Tokens in URLs are not
/// read, because URLs are kept in logs and browser histories.
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

    /// The caller that `require` has authorized.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let known = parts.extensions.get::<Self>().cloned();
        known.ok_or_else(|| HttpError::from(Error::Missing).into_response())
    }
}
