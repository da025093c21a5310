//! Keeps pages of other sites from using a server without authentication.
//!
//! Such a server does whatever reaches it. A browser on the same machine or network reaches it for any page:
//! under the page's own name, if that name is made to lead here (DNS rebinding), and with forms, whose result
//! a page cannot read. So the server answers under its own names only, and pages of other sites can change
//! nothing (Fetch standard, "Origin header"; Fetch Metadata §2.3). With authentication no such request has a
//! token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::{HttpSettings, address_of, is_loopback_host, without_port};
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::base_url;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Paths that answer under every name: monitoring uses any, and their answers hold nothing.
const ANY_HOST: [&str; 2] = ["/healthz", "/readyz"];

/// Middleware: refuses requests under names that are not the server's, and changes by pages of other sites.
pub(super) async fn guard(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let settings = &service.settings;
    let checked = match &service.auth {
        Some(_) => Ok(()),
        None if ANY_HOST.contains(&path) => Ok(()),
        None => check_host(settings, request.headers())
            .and_then(|()| check_page(settings, request.method(), request.headers())),
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Checks that Host is a name that leads to this server only: one on loopback, that of `http.public_url`, or,
/// where the server listens elsewhere than on loopback, an address. A client of HTTP/1.0 without Host is no
/// browser.
fn check_host(settings: &HttpSettings, headers: &HeaderMap) -> Result<(), Error> {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return Ok(()) };
    let host = without_port(host);
    let is_public = public_host(&settings.public_url).is_some_and(|public| public.eq_ignore_ascii_case(host));
    let is_address = !settings.listen.ip().is_loopback() && address_of(host).is_some();
    if is_loopback_host(host) || is_public || is_address { Ok(()) } else { Err(Error::OtherHost) }
}

/// The host of a URL.
fn public_host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?', '#']).next().map(without_port)
}

/// Checks that a request which changes something comes from a program, from a page of this server, or from a
/// page of an allowed origin.
fn check_page(settings: &HttpSettings, method: &Method, headers: &HeaderMap) -> Result<(), Error> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return Ok(());
    }
    let site = headers.get(FETCH_SITE).map(|site| site.to_str().unwrap_or_default());
    if site.is_some_and(|site| ["same-origin", "none"].contains(&site)) {
        return Ok(());
    }
    let is_allowed = |origin: &str| {
        settings.allowed_origins.iter().any(|allowed| allowed.includes(origin))
            // Browsers leave out Sec-Fetch-Site where a URL is neither https nor on loopback.
            || (site.is_none() && is_own(origin, settings, headers))
    };
    let mut origins =
        headers.get_all(ORIGIN).iter().map(|origin| origin.to_str().unwrap_or_default()).peekable();
    let is_page = site.is_some() || origins.peek().is_some();
    let is_refused = is_page && (origins.peek().is_none() || !origins.all(is_allowed));
    if is_refused { Err(Error::OtherSite) } else { Ok(()) }
}

/// Whether an origin is that of this server's own pages, under the name that the client used.
fn is_own(origin: &str, settings: &HttpSettings, headers: &HeaderMap) -> bool {
    let base_url = base_url::of(headers, &settings.public_url);
    let is_of_url = base_url.strip_prefix(origin).is_some_and(|rest| rest.starts_with('/'));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    is_of_url || (host.is_some() && host == authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_server_answers_under_its_own_names_only() {
        for (listen, public_url, host, expected) in [
            ("127.0.0.1:80", "", "127.0.0.1", true),
            ("127.0.0.1:80", "", "127.0.0.1:8080", true),
            ("127.0.0.1:80", "", "localhost:8080", true),
            ("127.0.0.1:80", "", "[::1]:8080", true),
            ("127.0.0.1:80", "", "pacs.localhost", true),
            ("127.0.0.1:80", "", "rebound.example", false),
            ("127.0.0.1:80", "", "localhost.example", false),
            ("127.0.0.1:80", "", "127.0.0.1.example:8080", false),
            ("127.0.0.1:80", "", "10.0.0.1", false),
            ("127.0.0.1:80", "", "[2001:db8::1]", false),
            ("127.0.0.1:80", "https://pacs.example:8443/p", "PACS.example", true),
            ("127.0.0.1:80", "https://pacs.example", "pacs.example:8080", true),
            ("127.0.0.1:80", "https://pacs.example", "other.example", false),
            ("127.0.0.1:80", "https://pacs.example", "localhost", true),
            ("0.0.0.0:80", "", "10.0.0.1:8080", true),
            ("0.0.0.0:80", "", "[2001:db8::1]:8080", true),
            ("0.0.0.0:80", "", "localhost", true),
            ("0.0.0.0:80", "", "rebound.example", false),
            ("0.0.0.0:80", "", "10.0.0.1.example", false),
        ] {
            let mut settings = Config::defaults().http;
            (settings.listen, settings.public_url) = (listen.parse().unwrap(), public_url.to_owned());
            let is_answered = check_host(&settings, &headers(&[("host", host)])).is_ok();
            assert_eq!(is_answered, expected, "{listen} {public_url} {host}");
        }
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let (host, proxy) = (("host", "10.0.0.1:8080"), ("x-forwarded-host", "pacs.example"));
        let (cross, same_site) = (("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"));
        let (own, other) = (("origin", "http://10.0.0.1:8080"), ("origin", "https://other.example"));
        let listed = ("origin", "https://viewer.example");
        for (fields, expected) in [
            (&[host] as &[_], true),
            (&[host, own], true),
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host, ("sec-fetch-site", "none")], true),
            // A proxy that reports no name: the browser knows better.
            (&[host, ("sec-fetch-site", "same-origin"), other], true),
            (&[host, proxy, ("x-forwarded-proto", "https"), ("origin", "https://pacs.example")], true),
            (&[host, proxy, ("origin", "https://pacs.example.other.example")], false),
            (&[host, other], false),
            (&[host, ("origin", "null")], false),
            (&[host, ("origin", "")], false),
            (&[host, ("origin", "http://10.0.0.1:8081")], false),
            (&[host, cross], false),
            (&[host, same_site], false),
            (&[host, cross, other], false),
            (&[host, cross, own], false),
            (&[host, ("sec-fetch-site", "x")], false),
            (&[host, listed], true),
            (&[host, cross, listed], true),
            (&[host, same_site, ("origin", "http://localhost:3000")], true),
            (&[host, ("origin", "http://localhost:3000")], true),
        ] {
            let mut settings = Config::defaults().http;
            let added = "https://viewer.example".to_owned().try_into().unwrap();
            settings.allowed_origins.push(added);
            for method in ["POST", "DELETE", "PUT", "PATCH", "PROPFIND"] {
                let method = method.parse().unwrap();
                let is_passed = check_page(&settings, &method, &headers(fields)).is_ok();
                assert_eq!(is_passed, expected, "{method} {fields:?}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(check_page(&settings, &method.parse().unwrap(), &headers(fields)).is_ok());
            }
        }
    }
}
