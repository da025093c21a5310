//! Limits the requests that one client may have under way, so that no client takes all connections (RFC 6585
//! §4).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::Service;
use crate::http::error::Error;
use crate::http::middleware::forwarding::Client;
use crate::http::response::holding_body::HoldingBody;

/// Whether a path is about the server itself, and not limited: monitoring must work when the server is at its
/// busiest.
pub(in crate::http) fn is_about_server(path: &str) -> bool {
    ["/healthz", "/readyz", "/metrics"].contains(&path)
}

/// Middleware: passes a request on if its client has fewer than `http.max_requests_per_client` under way.
pub(super) async fn limit(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>().copied();
    let Some(Client(client)) = client.filter(|_| !is_about_server(request.uri().path())) else {
        return next.run(request).await;
    };
    match service.client_limit.acquire(client) {
        Some(permit) => next.run(request).await.map(|body| HoldingBody::wrap(body, permit)),
        None => Error::TooManyRequests { limit: service.settings.max_requests_per_client }.into_response(),
    }
}

/// The number of requests under way, by client.
pub(crate) struct ClientConcurrencyLimit {
    limit: usize,
    under_way: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one request under way, until dropped.
struct Permit {
    limit: Arc<ClientConcurrencyLimit>,
    client: IpAddr,
}

impl ClientConcurrencyLimit {
    /// Allows `limit` requests to each client.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, under_way: Mutex::default() })
    }

    /// A permit for one more request of a client; `None` if the client has reached the limit.
    fn acquire(self: &Arc<Self>, client: IpAddr) -> Option<Permit> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(client).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Permit { limit: Arc::clone(self), client })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut under_way = self.limit.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = under_way.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_no_more_requests_under_way_than_the_limit() {
        let limit = ClientConcurrencyLimit::new(2);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        let first = limit.acquire(one).unwrap();
        let _second = limit.acquire(one).unwrap();
        assert!(limit.acquire(one).is_none());
        drop(limit.acquire(other).unwrap());
        drop(first);
        assert!(limit.acquire(one).is_some());
        assert_eq!(limit.under_way.lock().unwrap().len(), 1, "a client without requests takes no memory");
    }
}
