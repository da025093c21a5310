//! How many requests one client may have under way: what keeps one from taking the places of all (RFC 6585 §4).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName};
use hyper::body::{Frame, SizeHint};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address at the other end of a connection, as an extension of each request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The clients that have requests under way.
pub(crate) struct FairShare {
    limit: usize,
    under_way: Mutex<HashMap<IpAddr, usize>>,
}

/// A request's place, until it is dropped.
pub(crate) struct Place {
    share: Arc<FairShare>,
    client: IpAddr,
}

impl FairShare {
    /// `limit` requests a client.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, under_way: Mutex::default() })
    }

    /// A place for one more request of a client; `None` if it has as many as it may have.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(client).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Place { share: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.share.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = under_way.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whose request it is: the client that the last proxy saw, or else the peer itself.
///
/// Whoever connects without a proxy can name any client. That gains it no more than its connections, which are limited as a whole.
pub(crate) fn client(headers: &HeaderMap, Peer(peer): Peer) -> IpAddr {
    let forwarded = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
    let last = forwarded.and_then(|list| list.rsplit(',').next()).map(str::trim);
    last.and_then(|address| address.parse().ok()).unwrap_or(peer)
}

/// A body that holds a place until it has been sent.
pub(crate) struct Placed {
    /// The body.
    pub(crate) body: Body,
    /// The place of its request.
    pub(crate) _place: Place,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_places_and_no_more() {
        let share = FairShare::new(2);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        let first = share.take(one).unwrap();
        let _second = share.take(one).unwrap();
        assert!(share.take(one).is_none());
        drop(share.take(other).unwrap());
        drop(first);
        assert!(share.take(one).is_some());
        assert_eq!(share.under_way.lock().unwrap().len(), 1, "who has none under way is forgotten");
    }

    #[test]
    fn a_proxy_tells_whose_request_it_is() {
        for (field, expected) in [
            (None, "127.0.0.1"),
            (Some("10.0.0.7"), "10.0.0.7"),
            (Some("10.9.9.9, 10.0.0.7"), "10.0.0.7"),
            (Some("2001:db8::1"), "2001:db8::1"),
            (Some("unknown"), "127.0.0.1"),
            (Some(""), "127.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(field) = field {
                headers.insert(FORWARDED_FOR, field.parse().unwrap());
            }
            let peer = Peer("127.0.0.1".parse().unwrap());
            assert_eq!(client(&headers, peer), expected.parse::<IpAddr>().unwrap(), "{field:?}");
        }
    }
}
