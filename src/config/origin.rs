//! The origins of web pages that may use the server (setting `http.allowed_origins`), and what is on
//! loopback.

use std::net::IpAddr;

use serde::Deserialize;

/// An entry of `http.allowed_origins`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum AllowedOrigin {
    /// `*`: every origin.
    Any,
    /// `loopback`: the pages that programs on the machine of the browser serve.
    Loopback,
    /// One origin, as browsers write it.
    Exact(String),
}

impl AllowedOrigin {
    /// Whether an origin is allowed, which is the value of an Origin field.
    pub fn includes(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback => is_loopback_origin(origin),
            Self::Exact(allowed) => allowed == origin,
        }
    }
}

/// A text that is no origin.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` cannot be in http.allowed_origins: an entry is a scheme, a host and a port, as https://viewer.example or \
     http://localhost:3000, without a slash at the end; or `loopback`; or `*`"
)]
pub struct NotAnOrigin(String);

impl TryFrom<String> for AllowedOrigin {
    type Error = NotAnOrigin;

    fn try_from(text: String) -> Result<Self, NotAnOrigin> {
        let is_origin = text.split_once("://").is_some_and(|(scheme, authority)| {
            !scheme.is_empty() && !authority.is_empty() && !authority.contains(['/', '?', '#', '@', ' ', '*'])
        });
        match text.as_str() {
            "*" => Ok(Self::Any),
            "loopback" => Ok(Self::Loopback),
            // Browsers write `null` for pages without an origin, as those of files.
            "null" => Ok(Self::Exact(text)),
            _ if is_origin => Ok(Self::Exact(text.to_ascii_lowercase())),
            _ => Err(NotAnOrigin(text)),
        }
    }
}

/// Whether the page of an origin is served over HTTP by a program on the machine of the browser.
fn is_loopback_origin(origin: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| is_loopback_host(without_port(authority)))
}

/// The host of a host with or without a port.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a host without a port is this machine: `localhost`, a name below it (RFC 6761 §6.3), or an address
/// on loopback. Such names and addresses lead nowhere else, whoever makes a URL of them.
pub fn is_loopback_host(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || address_of(&host).is_some_and(|address| address.to_canonical().is_loopback())
}

/// The address that a host without a port is; IPv6 in brackets.
pub fn address_of(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => host.parse().ok().filter(IpAddr::is_ipv4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_allowed_by_kind_or_one_by_one() {
        for (entry, origin, expected) in [
            ("*", "https://any.example", true),
            ("*", "null", true),
            ("loopback", "http://localhost:3000", true),
            ("loopback", "https://LOCALHOST", true),
            ("loopback", "http://viewer.localhost:1", true),
            ("loopback", "http://127.9.9.9", true),
            ("loopback", "http://[::1]:3000", true),
            ("loopback", "http://[::ffff:127.0.0.1]", true),
            ("loopback", "null", false),
            ("loopback", "http://localhost.example", false),
            ("loopback", "http://127.0.0.1.example", false),
            ("loopback", "http://example/localhost", false),
            ("loopback", "file://localhost", false),
            ("loopback", "http://10.0.0.1", false),
            ("https://a.example", "https://a.example", true),
            ("https://A.example:1", "https://a.example:1", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:1", false),
            ("https://a.example", "https://b.a.example", false),
            ("null", "null", true),
            ("chrome-extension://abc", "chrome-extension://abc", true),
        ] {
            let entry_of = AllowedOrigin::try_from(entry.to_owned()).unwrap();
            assert_eq!(entry_of.includes(origin), expected, "{entry} {origin}");
        }
        for text in
            ["", "a.example", "https://a.example/", "https://a.example/x", "https://", "https://*.example"]
        {
            assert!(AllowedOrigin::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_cut_from_hosts() {
        for (host, expected) in [
            ("localhost:80", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(without_port(host), expected, "{host}");
        }
    }
}
