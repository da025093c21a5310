//! The URL of the DICOMweb service for clients: by setting, else as proxies report it (RFC 7239), else by
//! Host.
//!
//! The header fields have passed `http/middleware/forwarding.rs`: those of proxies that are not trusted were
//! removed, and Host has the port of the connection.

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HOST};

/// The path of the DICOMweb service below the server's own URL.
const SERVICE: &str = "/dicom-web";

/// The service's URL, without a final slash, to which `/studies/…` can be appended.
///
/// `public_url` has precedence if it is not empty. A value of a header field is used only if it is a valid
/// part of a URL, because responses repeat it. The port in X-Forwarded-Port is used if the host has none:
/// many proxies report the two apart.
pub(crate) fn of(headers: &HeaderMap, public_url: &str) -> String {
    if !public_url.is_empty() {
        return format!("{}{SERVICE}", public_url.trim_end_matches('/'));
    }
    let header = |name: &str| first(headers.get(name)?.to_str().ok()?);
    let forwarded = headers.get(FORWARDED).and_then(|value| first(value.to_str().ok()?)).unwrap_or_default();
    let scheme = parameter(forwarded, "proto").or_else(|| header("x-forwarded-proto"));
    let scheme = scheme.filter(|scheme| ["http", "https"].contains(scheme)).unwrap_or("http");
    let reported = parameter(forwarded, "host").or_else(|| header("x-forwarded-host"));
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let Some(host) = reported.filter(|host| is_host(host)).or(host.filter(|host| is_host(host))) else {
        // A path alone is a valid reference.
        return SERVICE.to_owned();
    };
    let port = header("x-forwarded-port").and_then(|port| port.parse::<u16>().ok());
    let port = port.filter(|&port| port != 0 && port != default_port(scheme) && !has_port(host));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let prefix = header("x-forwarded-prefix").filter(|prefix| is_path(prefix)).unwrap_or_default();
    format!("{scheme}://{host}{port}{}{SERVICE}", prefix.trim_end_matches('/'))
}

/// Whether a host, with or without a port, has a port.
pub(in crate::http) fn has_port(host: &str) -> bool {
    host.rsplit(']').next().unwrap_or_default().contains(':')
}

/// The port of URLs of a scheme that name none.
fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// The first of a list: the value that the outermost proxy set.
fn first(list: &str) -> Option<&str> {
    list.split(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// A parameter of a Forwarded element.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// Whether a text can be a host with or without a port in a URL.
pub(in crate::http) fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_path(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_~%".contains(&byte);
    text.starts_with('/') && !text.starts_with("//") && text.len() <= 255 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn the_url_is_the_one_that_the_client_used() {
        let host = ("host", "pacs:8080");
        for (fields, setting, expected) in [
            (vec![host], "", "http://pacs:8080/dicom-web"),
            (vec![host], "https://a.example/p/", "https://a.example/p/dicom-web"),
            (vec![host, ("x-forwarded-proto", "https")], "", "https://pacs:8080/dicom-web"),
            (
                vec![host, ("x-forwarded-host", "a.example, b"), ("x-forwarded-proto", "https, http")],
                "",
                "https://a.example/dicom-web",
            ),
            (vec![host, ("x-forwarded-prefix", "/p/")], "", "http://pacs:8080/p/dicom-web"),
            (
                vec![host, ("forwarded", "for=1.2.3.4; Proto=https;host=\"a.example:1\", for=x;host=y")],
                "",
                "https://a.example:1/dicom-web",
            ),
            (vec![("host", "[::1]:8080")], "", "http://[::1]:8080/dicom-web"),
            (
                vec![host, ("x-forwarded-host", "a.example"), ("x-forwarded-port", "8443")],
                "",
                "http://a.example:8443/dicom-web",
            ),
            (
                vec![("host", "[::1]"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "8443, 80")],
                "",
                "https://[::1]:8443/dicom-web",
            ),
            (vec![("host", "a"), ("x-forwarded-port", "80")], "", "http://a/dicom-web"),
            (
                vec![("host", "a"), ("x-forwarded-port", "443"), ("x-forwarded-proto", "https")],
                "",
                "https://a/dicom-web",
            ),
            (vec![("host", "a"), ("x-forwarded-port", "443")], "", "http://a:443/dicom-web"),
            (vec![host, ("x-forwarded-port", "9999")], "", "http://pacs:8080/dicom-web"),
            (
                vec![("host", "a"), ("forwarded", "host=\"b:1\""), ("x-forwarded-port", "2")],
                "",
                "http://b:1/dicom-web",
            ),
            (vec![], "", "/dicom-web"),
        ] {
            let headers: HeaderMap = fields
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            assert_eq!(of(&headers, setting), expected);
        }
    }

    #[test]
    fn what_cannot_be_part_of_a_url_is_not_believed() {
        for (name, value) in [
            ("x-forwarded-host", "evil\"},{"),
            ("x-forwarded-host", "evil/path"),
            ("forwarded", "host=\"a b\""),
            ("x-forwarded-proto", "javascript"),
            ("x-forwarded-prefix", "//evil"),
            ("x-forwarded-prefix", "/\"x"),
            ("x-forwarded-port", "0"),
            ("x-forwarded-port", "65536"),
            ("x-forwarded-port", "8080/evil"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "pacs".parse().unwrap());
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
            assert_eq!(of(&headers, ""), "http://pacs/dicom-web", "{name}: {value}");
        }
    }
}
