//! Reads from the connection and from trusted proxies who sent a request, and to which host (RFC 7239, RFC
//! 9112 §3.2).
//!
//! Everything after this middleware can rely on it: header fields of forwarding are there only if a trusted
//! proxy sent them (`http.trusted_proxies`), Host is there once, and [`Client`] is the client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{FORWARDED, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::budget::client_of;
use crate::config::Network;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::base_url::{has_port, is_host};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The header fields in which proxies report the client and the URL that the client used.
const FORWARDING: [HeaderName; 6] = [
    FORWARDED,
    FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-prefix"),
];
/// The ports of `http` and `https` URLs that name none.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The two ends of a connection, as an extension of each request.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Connection {
    /// The address that connected.
    pub(in crate::http) peer: IpAddr,
    /// The address and port that it connected to.
    pub(in crate::http) local: SocketAddr,
    /// Whether the connection has TLS.
    pub(in crate::http) is_tls: bool,
}

/// The client of a request, as an extension: that of the peer's address, or of the address that trusted
/// proxies report (see [`client_of`]).
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Client(pub(in crate::http) IpAddr);

/// The whole address of the client of a request, as an extension.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct ClientAddress(pub(in crate::http) IpAddr);

/// Middleware: refuses a request without one valid Host, and completes the request by what is known of the
/// connection.
pub(super) async fn resolve(
    State(service): State<Arc<Service>>,
    mut request: Request,
    next: Next,
) -> Response {
    let (version, uri) = (request.version(), request.uri().clone());
    if let Err(error) = set_host(version, &uri, request.headers_mut()) {
        return error.into_response();
    }
    if let Some(connection) = request.extensions().get::<Connection>().copied() {
        let headers = request.headers_mut();
        let client = resolve_client(headers, connection.peer, &service.settings.trusted_proxies);
        add_port(headers, connection.local.port(), connection.is_tls);
        if connection.is_tls {
            add_scheme(headers);
        }
        request.extensions_mut().insert(Client(client_of(client)));
        request.extensions_mut().insert(ClientAddress(client));
    }
    next.run(request).await
}

/// Checks that a request has one valid Host; of a request with a whole URL, the URL decides (RFC 9112
/// §3.2.2). Requests of HTTP/2 have `:authority` instead, or a Host that says the same (RFC 9113 §8.3.1).
///
/// # Errors
/// [`Error::Parameter`]. A request of HTTP/1.0 needs no Host.
fn set_host(version: Version, uri: &Uri, headers: &mut HeaderMap) -> Result<(), Error> {
    let mut fields = headers.get_all(HOST).iter();
    let (first, second) = (fields.next(), fields.next());
    if second.is_some() {
        return Err(wrong_host("is there more than once"));
    }
    let authority = uri.authority().map(|authority| authority.as_str());
    if version == Version::HTTP_2 && authority.is_some() {
        let differs = |field: &HeaderValue| authority.map(str::as_bytes) != Some(field.as_bytes());
        if first.is_some_and(differs) {
            return Err(wrong_host("differs from :authority"));
        }
        return replace_host(headers, authority.unwrap_or_default());
    }
    let Some(field) = first else {
        return if version == Version::HTTP_10 { Ok(()) } else { Err(wrong_host("is missing")) };
    };
    if !field.to_str().is_ok_and(is_host) {
        return Err(wrong_host("is no host with or without a port"));
    }
    authority.map_or(Ok(()), |authority| replace_host(headers, authority))
}

fn replace_host(headers: &mut HeaderMap, authority: &str) -> Result<(), Error> {
    let value = HeaderValue::try_from(authority).ok().filter(|_| is_host(authority));
    headers.insert(HOST, value.ok_or_else(|| wrong_host("is no host with or without a port"))?);
    Ok(())
}

fn wrong_host(reason: &str) -> Error {
    Error::Parameter { name: "Host".into(), reason: reason.into() }
}

/// The client of a request from a peer. Removes the header fields of forwarding if the peer is no trusted
/// proxy.
fn resolve_client(headers: &mut HeaderMap, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        FORWARDING.iter().for_each(|name| {
            headers.remove(name);
        });
        return peer.to_canonical();
    }
    let mut client = peer;
    // Each proxy adds the address that it saw at the end; what a proxy saw counts if the proxy is trusted.
    for reported in reported_clients(headers).iter().rev() {
        match reported {
            Some(address) if is_trusted(client) => client = *address,
            _ => break,
        }
    }
    client.to_canonical()
}

/// The addresses that proxies report, the nearest proxy's last; `None` for what is no address, as `unknown`.
fn reported_clients(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let listed = |name: &HeaderName| {
        let fields = headers.get_all(name).iter().filter_map(|field| field.to_str().ok());
        fields.flat_map(|field| field.split(',')).map(str::to_owned).collect::<Vec<_>>()
    };
    let parameter = |element: &String| {
        let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
        address(value)
    };
    let forwarded = listed(&FORWARDED);
    if forwarded.is_empty() {
        listed(&FORWARDED_FOR).iter().map(|text| address(text)).collect()
    } else {
        forwarded.iter().map(parameter).collect()
    }
}

/// An address with or without brackets, quotation marks and a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Adds the port of the connection to a Host without one. Some clients leave the port out, and URLs that are
/// made of their Host would lead elsewhere. Where a proxy reports on the client, the port is the proxy's
/// matter.
fn add_port(headers: &mut HeaderMap, port: u16, is_tls: bool) {
    let is_forwarded = FORWARDING.iter().any(|name| headers.contains_key(name));
    let Some(host) = headers.get(HOST).and_then(|value| value.to_str().ok()) else { return };
    let default = if is_tls { HTTPS_PORT } else { HTTP_PORT };
    if is_forwarded || has_port(host) || port == default {
        return;
    }
    if let Ok(host) = HeaderValue::try_from(format!("{host}:{port}")) {
        headers.insert(HOST, host);
    }
}

/// Adds the scheme of a connection with TLS, as a proxy reports it, unless a proxy has reported one.
fn add_scheme(headers: &mut HeaderMap) {
    let is_reported = headers.contains_key(FORWARDED) || headers.contains_key(FORWARDED_PROTO);
    if !is_reported {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| (*text).to_owned().try_into().unwrap()).collect()
    }

    #[test]
    fn a_request_has_one_valid_host() {
        for (version, uri, fields, expected) in [
            (Version::HTTP_11, "/", &[("host", "a:1")] as &[_], Ok(Some("a:1"))),
            (Version::HTTP_11, "/", &[("host", "[::1]")], Ok(Some("[::1]"))),
            (Version::HTTP_11, "http://b/x", &[("host", "a")], Ok(Some("b"))),
            (Version::HTTP_11, "http://user@b/x", &[("host", "a")], Err(())),
            (Version::HTTP_11, "/", &[], Err(())),
            (Version::HTTP_11, "http://b/x", &[], Err(())),
            (Version::HTTP_10, "/", &[], Ok(None)),
            (Version::HTTP_11, "/", &[("host", "")], Err(())),
            (Version::HTTP_11, "/", &[("host", "a b")], Err(())),
            (Version::HTTP_11, "/", &[("host", "a/b")], Err(())),
            (Version::HTTP_11, "/", &[("host", "a"), ("host", "a")], Err(())),
            (Version::HTTP_10, "/", &[("host", "a"), ("host", "b")], Err(())),
            (Version::HTTP_2, "https://a:1/x", &[], Ok(Some("a:1"))),
            (Version::HTTP_2, "https://a:1/x", &[("host", "a:1")], Ok(Some("a:1"))),
            (Version::HTTP_2, "/x", &[("host", "a:1")], Ok(Some("a:1"))),
            (Version::HTTP_2, "https://a:1/x", &[("host", "b:1")], Err(())),
            (Version::HTTP_2, "https://user@a/x", &[], Err(())),
            (Version::HTTP_2, "/x", &[], Err(())),
        ] {
            let mut headers = headers(fields);
            let outcome = set_host(version, &uri.parse().unwrap(), &mut headers).map_err(|_| ());
            let host = outcome.map(|()| headers.get(HOST).map(|value| value.to_str().unwrap()));
            assert_eq!(host, expected, "{version:?} {uri} {fields:?}");
        }
    }

    #[test]
    fn a_client_is_whom_the_last_trusted_proxy_saw() {
        for (peer, fields, expected) in [
            ("127.0.0.1", &[] as &[_], "127.0.0.1"),
            ("127.0.0.1", &[("x-forwarded-for", "10.0.0.7")], "10.0.0.7"),
            ("::ffff:127.0.0.1", &[("x-forwarded-for", "10.0.0.7")], "10.0.0.7"),
            ("127.0.0.1", &[("x-forwarded-for", "10.9.9.9, 10.0.0.7")], "10.0.0.7"),
            // A proxy of the network 192.0.2.0/24 in front of one on this machine.
            ("127.0.0.1", &[("x-forwarded-for", "6.6.6.6, 10.0.0.7, 192.0.2.9")], "10.0.0.7"),
            ("127.0.0.1", &[("x-forwarded-for", "10.0.0.7"), ("x-forwarded-for", "192.0.2.9")], "10.0.0.7"),
            ("127.0.0.1", &[("x-forwarded-for", "127.0.0.1")], "127.0.0.1"),
            ("127.0.0.1", &[("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
            ("127.0.0.1", &[("x-forwarded-for", "10.0.0.7:4711")], "10.0.0.7"),
            ("127.0.0.1", &[("x-forwarded-for", "unknown")], "127.0.0.1"),
            ("127.0.0.1", &[("x-forwarded-for", "10.0.0.7, unknown, 192.0.2.9")], "192.0.2.9"),
            ("127.0.0.1", &[("x-forwarded-for", "")], "127.0.0.1"),
            ("127.0.0.1", &[("forwarded", "for=\"[2001:db8::1]:4711\";proto=https")], "2001:db8::1"),
            ("127.0.0.1", &[("forwarded", "for=6.6.6.6, proto=https;For=10.0.0.7")], "10.0.0.7"),
            ("127.0.0.1", &[("forwarded", "for=_hidden"), ("x-forwarded-for", "6.6.6.6")], "127.0.0.1"),
            ("10.0.0.9", &[("x-forwarded-for", "10.0.0.7")], "10.0.0.9"),
            ("10.0.0.9", &[("forwarded", "for=10.0.0.7")], "10.0.0.9"),
        ] {
            let trusted = networks(&["127.0.0.0/8", "192.0.2.0/24"]);
            let mut headers = headers(fields);
            let client = resolve_client(&mut headers, peer.parse().unwrap(), &trusted);
            assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{peer} {fields:?}");
        }
    }

    #[test]
    fn only_trusted_proxies_report_anything() {
        for (peer, is_kept) in [("127.0.0.1", true), ("10.0.0.1", false), ("::1", false)] {
            let fields = FORWARDING.map(|name| (name, HeaderValue::from_static("x")));
            let mut headers = HeaderMap::from_iter(fields);
            headers.insert("x-request-id", HeaderValue::from_static("x"));
            resolve_client(&mut headers, peer.parse().unwrap(), &networks(&["127.0.0.1"]));
            assert_eq!(headers.len(), if is_kept { FORWARDING.len() + 1 } else { 1 }, "{peer}");
        }
    }

    #[test]
    fn a_host_without_port_gets_the_one_of_the_connection() {
        for (port, is_tls, expected) in
            [(443, true, "pacs"), (80, true, "pacs:80"), (443, false, "pacs:443"), (8443, true, "pacs:8443")]
        {
            let mut headers = headers(&[("host", "pacs")]);
            add_port(&mut headers, port, is_tls);
            assert_eq!(headers[HOST], expected, "{port} {is_tls}");
        }
        for (fields, port, expected) in [
            (&[("host", "pacs")] as &[_], 8080, "pacs:8080"),
            (&[("host", "127.0.0.1")], 8080, "127.0.0.1:8080"),
            (&[("host", "[::1]")], 8080, "[::1]:8080"),
            (&[("host", "[::1]:1")], 8080, "[::1]:1"),
            (&[("host", "pacs:1")], 8080, "pacs:1"),
            (&[("host", "pacs")], 80, "pacs"),
            (&[("host", "pacs"), ("x-forwarded-proto", "https")], 8080, "pacs"),
            (&[("host", "pacs"), ("forwarded", "for=10.0.0.7")], 8080, "pacs"),
        ] {
            let mut headers = headers(fields);
            add_port(&mut headers, port, false);
            assert_eq!(headers[HOST], expected, "{fields:?} {port}");
        }
    }

    #[test]
    fn a_connection_with_tls_makes_https_urls_unless_a_proxy_reports_another() {
        for (fields, expected) in [
            (&[] as &[_], Some("https")),
            (&[("x-forwarded-for", "10.0.0.7")], Some("https")),
            (&[("x-forwarded-proto", "http")], Some("http")),
            (&[("forwarded", "proto=http")], None),
        ] {
            let mut headers = headers(fields);
            add_scheme(&mut headers);
            let scheme = headers.get(FORWARDED_PROTO).map(|value| value.to_str().unwrap());
            assert_eq!(scheme, expected, "{fields:?}");
        }
    }
}
