//! The OpenID provider, of which the server needs the public keys only (OpenID Connect Discovery 1.0 §4, RFC 7517).
//!
//! One task fetches them: regularly, and when a token names a key that is not there, as after a rotation. Requests wait for it, and
//! never make it ask more often than `auth.min_refresh_seconds` allows: who invents names of keys reaches the provider no faster.

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
use crate::http::auth::keys::Keys;
use crate::http::auth::sign_in::Endpoints;
use crate::http::auth::token::Header;
use crate::http::error::chain;

/// A provider, and the keys that it had last.
pub(super) struct Provider {
    issuer: String,
    client: Client,
    max_response_bytes: usize,
    refresh: Duration,
    min_refresh: Duration,
    /// How long a request waits for an attempt: two answers of the provider.
    patience: Duration,
    state: watch::Sender<State>,
    /// A request waits for an attempt.
    wanted: Notify,
}

/// What the attempts so far came to.
#[derive(Default)]
struct State {
    keys: Option<Arc<Keys>>,
    endpoints: Endpoints,
    attempts: u64,
    /// From when on there may be another attempt; at once if there was none.
    next: Option<Instant>,
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0} does not answer")]
    Unreachable(String, #[source] reqwest::Error),
    #[error("{0} answers with {1}")]
    Status(String, StatusCode),
    #[error("{url} answers with more than {limit} bytes (auth.max_response_bytes)")]
    TooLarge { url: String, limit: usize },
    #[error("{0} is not what it should be")]
    Unreadable(String, #[source] serde_json::Error),
    #[error("{url} is about the issuer `{named}`, which is not auth.issuer")]
    OtherIssuer { url: String, named: String },
    #[error("jwks_uri `{0}` is not https")]
    Untrustworthy(String),
    #[error("{0} holds no key by which a signature can be checked")]
    NoKeys(String),
}

impl Provider {
    /// A provider of which nothing is known yet.
    ///
    /// # Errors
    /// The machine has no certificates to trust.
    pub(super) fn new(settings: &AuthSettings) -> reqwest::Result<Self> {
        let patience = Duration::from_secs(settings.timeout_seconds);
        let client = Client::builder().timeout(patience).redirect(Policy::none()).build()?;
        Ok(Self {
            issuer: settings.issuer.clone(),
            client,
            max_response_bytes: settings.max_response_bytes,
            refresh: Duration::from_secs(settings.refresh_seconds),
            min_refresh: Duration::from_secs(settings.min_refresh_seconds),
            patience: 2 * patience,
            state: watch::Sender::default(),
            wanted: Notify::new(),
        })
    }

    /// Its name.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where it lets pages sign in.
    pub(super) fn endpoints(&self) -> Endpoints {
        self.state.borrow().endpoints.clone()
    }

    /// Whether the keys were ever fetched.
    pub(super) fn has_keys(&self) -> bool {
        self.state.borrow().keys.is_some()
    }

    /// The keys, fetched anew if the one that the header names is not among them and if that is not too soon.
    ///
    /// # Errors
    /// [`Error::NoKeys`] if there are none.
    pub(super) async fn keys_with(&self, header: &Header) -> Result<Arc<Keys>, Error> {
        let mut state = self.state.subscribe();
        let attempts = {
            let state = state.borrow();
            let is_known = state.keys.as_ref().is_some_and(|keys| keys.find(header).is_some());
            let is_too_soon = state.next.is_some_and(|next| Instant::now() < next);
            if is_known || is_too_soon {
                return state.keys.clone().ok_or(Error::NoKeys);
            }
            state.attempts
        };
        self.wanted.notify_one();
        // Whether there is an answer or none in time, what is there now has to do.
        let _ = timeout(self.patience, state.wait_for(|state| state.attempts > attempts)).await;
        state.borrow().keys.clone().ok_or(Error::NoKeys)
    }

    /// Fetches the keys again and again until `stop` is cancelled. Those that are there stay while others cannot be had.
    pub(super) async fn run(&self, stop: CancellationToken) {
        loop {
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = self.fetch() => fetched,
            };
            let pause = if fetched.is_ok() { self.refresh } else { self.min_refresh };
            self.settle(fetched);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
                () = async { sleep(self.min_refresh).await; self.wanted.notified().await } => {}
            }
        }
    }

    /// Notes what an attempt came to, and lets those go on who wait for it.
    fn settle(&self, fetched: Result<(Keys, Endpoints), Failure>) {
        let is_first = !self.has_keys();
        match &fetched {
            Ok(_) if is_first => info!("the keys of the OpenID provider are there"),
            Ok(_) => {}
            Err(failure) => {
                let consequence = if is_first { "nobody is let in" } else { "those that are there stay" };
                warn!("cannot fetch the keys of the OpenID provider, {consequence}: {}", chain(failure));
            }
        }
        self.state.send_modify(|state| {
            if let Ok((keys, endpoints)) = fetched {
                (state.keys, state.endpoints) = (Some(Arc::new(keys)), endpoints);
            }
            state.attempts += 1;
            state.next = Some(Instant::now() + self.min_refresh);
        });
    }

    async fn fetch(&self) -> Result<(Keys, Endpoints), Failure> {
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
            serde_json::from_slice(&answer).map_err(|error| Failure::Unreadable(url.clone(), error))?;
        if configuration.issuer != self.issuer {
            return Err(Failure::OtherIssuer { url, named: configuration.issuer });
        }
        let url = configuration.jwks_uri;
        if !is_trustworthy(&url) {
            return Err(Failure::Untrustworthy(url));
        }
        let answer = self.get(&url).await?;
        let keys = Keys::read(&answer).map_err(|error| Failure::Unreadable(url.clone(), error))?;
        if keys.is_empty() { Err(Failure::NoKeys(url)) } else { Ok((keys, configuration.endpoints)) }
    }

    /// The body of a URL, of a bounded length.
    async fn get(&self, url: &str) -> Result<Vec<u8>, Failure> {
        let unreachable = |error: reqwest::Error| Failure::Unreachable(url.to_owned(), error.without_url());
        let mut response = self.client.get(url).send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(url.to_owned(), response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            if body.len() + piece.len() > self.max_response_bytes {
                return Err(Failure::TooLarge { url: url.to_owned(), limit: self.max_response_bytes });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}
