//! The OpenID provider, whose public keys the server needs (OpenID Connect Discovery 1.0 §4, RFC 7517).
//!
//! One task fetches the keys: regularly, and when a token names an unknown key, as after a rotation. Requests
//! wait for that task, which fetches no more often than `auth.min_refresh_seconds` allows, so that invented
//! names of keys cause no more traffic to the provider.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{AuthSettings, is_trustworthy};
use crate::http::auth::Error;
use crate::http::auth::keys::KeySet;
use crate::http::auth::sign_in::Endpoints;
use crate::http::auth::token::TokenHeader;
use crate::telemetry;

/// A provider, with the keys that were fetched last.
pub(super) struct Provider {
    issuer: String,
    client: Client,
    max_response_bytes: usize,
    refresh: Duration,
    min_refresh: Duration,
    /// The time that a request waits for an attempt: two timeouts of the provider.
    max_wait: Duration,
    state: watch::Sender<ProviderState>,
    /// Notified when a request waits for an attempt.
    requested: Notify,
}

/// The result of the attempts so far.
#[derive(Default)]
struct ProviderState {
    keys: Option<Arc<KeySet>>,
    endpoints: Endpoints,
    attempts: u64,
    /// The earliest time of the next attempt; `None` if there was no attempt.
    next_attempt: Option<Instant>,
}

/// The reason why the keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0} does not answer")]
    Unreachable(String, #[source] reqwest::Error),
    #[error("{0} answers with {1}")]
    Status(String, StatusCode),
    #[error("{url} answers with more than {limit} bytes (auth.max_response_bytes)")]
    TooLarge { url: String, limit: usize },
    #[error("{0} is not valid")]
    Unreadable(String, #[source] serde_json::Error),
    #[error("{url} is about the issuer `{named}`, which is not auth.issuer")]
    OtherIssuer { url: String, named: String },
    #[error("jwks_uri `{0}` is not https")]
    Untrustworthy(String),
    #[error("{0} holds no key that can check signatures")]
    NoKeys(String),
}

impl Provider {
    /// A provider whose keys were not fetched yet.
    ///
    /// # Errors
    /// If the machine has no trusted certificates.
    pub(super) fn new(settings: &AuthSettings) -> reqwest::Result<Self> {
        let timeout = Duration::from_secs(settings.timeout_seconds);
        let client = Client::builder().timeout(timeout).redirect(Policy::none()).build()?;
        Ok(Self {
            issuer: settings.issuer.clone(),
            client,
            max_response_bytes: settings.max_response_bytes,
            refresh: Duration::from_secs(settings.refresh_seconds),
            min_refresh: Duration::from_secs(settings.min_refresh_seconds),
            max_wait: 2 * timeout,
            state: watch::Sender::default(),
            requested: Notify::new(),
        })
    }

    /// The issuer, which is the provider's name in tokens.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The endpoints at which pages sign in.
    pub(super) fn endpoints(&self) -> Endpoints {
        self.state.borrow().endpoints.clone()
    }

    /// Whether the keys were fetched at least once.
    pub(super) fn has_keys(&self) -> bool {
        self.state.borrow().keys.is_some()
    }

    /// The keys; fetches them again if the key that the header names is unknown and the last attempt is long
    /// enough ago.
    ///
    /// # Errors
    /// [`Error::NoKeys`] if no keys were fetched so far.
    pub(super) async fn keys_with(&self, header: &TokenHeader) -> Result<Arc<KeySet>, Error> {
        let mut state = self.state.subscribe();
        let attempts = {
            let state = state.borrow();
            let is_known = state.keys.as_ref().is_some_and(|keys| keys.find(header).is_some());
            let is_too_soon = state.next_attempt.is_some_and(|next| Instant::now() < next);
            if is_known || is_too_soon {
                return state.keys.clone().ok_or(Error::NoKeys);
            }
            state.attempts
        };
        self.requested.notify_one();
        // With or without a result in time, the request continues with the keys at hand.
        let _ = timeout(self.max_wait, state.wait_for(|state| state.attempts > attempts)).await;
        state.borrow().keys.clone().ok_or(Error::NoKeys)
    }

    /// Fetches the keys regularly until `stop` is cancelled. The last keys stay in use while the provider
    /// fails.
    pub(super) async fn run(&self, stop: CancellationToken) {
        loop {
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = self.fetch() => fetched,
            };
            let pause = if fetched.is_ok() { self.refresh } else { self.min_refresh };
            self.record(fetched);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
                () = async { sleep(self.min_refresh).await; self.requested.notified().await } => {}
            }
        }
    }

    /// Stores the result of an attempt, and wakes the requests that wait for it.
    fn record(&self, fetched: Result<(KeySet, Endpoints), FetchError>) {
        let is_first = !self.has_keys();
        match &fetched {
            Ok(_) if is_first => info!("fetched the keys of the OpenID provider"),
            Ok(_) => {}
            Err(failure) => {
                let consequence = if is_first { "no token is accepted" } else { "the last ones stay in use" };
                warn!(
                    "cannot fetch the keys of the OpenID provider, {consequence}: {}",
                    telemetry::chain(failure)
                );
            }
        }
        self.state.send_modify(|state| {
            if let Ok((keys, endpoints)) = fetched {
                (state.keys, state.endpoints) = (Some(Arc::new(keys)), endpoints);
            }
            state.attempts += 1;
            state.next_attempt = Some(Instant::now() + self.min_refresh);
        });
    }

    async fn fetch(&self) -> Result<(KeySet, Endpoints), FetchError> {
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
            jwks_uri: String,
            #[serde(flatten)]
            endpoints: Endpoints,
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let answer = self.get(&url).await?;
        let configuration: Configuration =
            serde_json::from_slice(&answer).map_err(|error| FetchError::Unreadable(url.clone(), error))?;
        if configuration.issuer != self.issuer {
            return Err(FetchError::OtherIssuer { url, named: configuration.issuer });
        }
        let url = configuration.jwks_uri;
        if !is_trustworthy(&url) {
            return Err(FetchError::Untrustworthy(url));
        }
        let answer = self.get(&url).await?;
        let keys = KeySet::read(&answer).map_err(|error| FetchError::Unreadable(url.clone(), error))?;
        if keys.is_empty() { Err(FetchError::NoKeys(url)) } else { Ok((keys, configuration.endpoints)) }
    }

    /// The body at a URL, up to `max_response_bytes`.
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let unreachable =
            |error: reqwest::Error| FetchError::Unreachable(url.to_owned(), error.without_url());
        let mut response = self.client.get(url).send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(url.to_owned(), response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            if body.len() + piece.len() > self.max_response_bytes {
                return Err(FetchError::TooLarge { url: url.to_owned(), limit: self.max_response_bytes });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}
