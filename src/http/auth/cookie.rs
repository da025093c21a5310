//! The access token in a cookie, for `/rendered` alone: a `<video>` element in a page of this server cannot
//! send an Authorization field (docs/decisions/0077-cookie-for-video-playback.md).

use axum::http::header::{COOKIE, HeaderMap};
use axum::http::{HeaderName, HeaderValue, Method};

const NAME: &str = "cuspid-rendered";
/// The site of the page that sent a request, as browsers report it (Fetch Metadata §2.3).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Browsers limit cookies to 4,096 bytes, name and attributes included; a longer token gets no cookie.
const MAX_TOKEN_BYTES: usize = 3800;

/// The token in the cookie of a request, if cookies count for this request.
pub(super) fn token<'a>(method: &Method, path: &str, headers: &'a HeaderMap) -> Option<&'a str> {
    let is_rendered = matches!(*method, Method::GET | Method::HEAD) && path.ends_with("/rendered");
    // Browsers without Fetch Metadata support SameSite at least.
    let is_of_this_origin = site(headers).is_none_or(|site| ["same-origin", "none"].contains(&site));
    if is_rendered && is_of_this_origin { kept(headers) } else { None }
}

/// The cookie for a page of this server; `base_url` is the URL of the DICOMweb service. `None` if the request
/// is not from a page of this origin, or if the page has the cookie already.
pub(super) fn issue(token: &str, headers: &HeaderMap, base_url: &str) -> Option<HeaderValue> {
    if site(headers) != Some("same-origin") || token.len() > MAX_TOKEN_BYTES || kept(headers) == Some(token) {
        return None;
    }
    let (origin, path) = match base_url.split_once("://") {
        Some((scheme, rest)) => (scheme, &rest[rest.find('/')?..]),
        None => ("http", base_url),
    };
    let secure = if origin == "https" { "; Secure" } else { "" };
    // The cookie ends with the browser's session; the token expires long before.
    let cookie = format!("{NAME}={token}; Path={path}/studies; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(cookie).ok()
}

fn site(headers: &HeaderMap) -> Option<&str> {
    headers.get(FETCH_SITE)?.to_str().ok()
}

fn kept(headers: &HeaderMap) -> Option<&str> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut cookies =
        fields.flat_map(|field| field.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, _)| *name == NAME).map(|(_, token)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(site: Option<&'static str>, cookie: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(site) = site {
            headers.insert(FETCH_SITE, HeaderValue::from_static(site));
        }
        headers.insert(COOKIE, HeaderValue::from_static(cookie));
        headers
    }

    #[test]
    fn the_cookie_counts_for_reading_what_is_rendered_in_a_page_of_this_origin() {
        let rendered = "/dicom-web/studies/1/series/2/instances/3/rendered";
        for (method, path, site, expected) in [
            (Method::GET, rendered, Some("same-origin"), Some("a.b.c")),
            (Method::HEAD, rendered, None, Some("a.b.c")),
            (Method::GET, rendered, Some("none"), Some("a.b.c")),
            (Method::GET, rendered, Some("same-site"), None),
            (Method::GET, rendered, Some("cross-site"), None),
            (Method::POST, rendered, Some("same-origin"), None),
            (Method::DELETE, rendered, Some("same-origin"), None),
            (Method::GET, "/dicom-web/studies/1/metadata", Some("same-origin"), None),
            (Method::GET, "/dicom-web/studies", Some("same-origin"), None),
        ] {
            let headers = headers(site, "x=y; cuspid-rendered=a.b.c");
            assert_eq!(token(&method, path, &headers), expected, "{method} {path} {site:?}");
        }
        assert_eq!(token(&Method::GET, rendered, &headers(None, "xcuspid-rendered=a.b.c; y")), None);
    }

    #[test]
    fn only_pages_of_this_origin_get_the_cookie_and_only_when_it_is_another() {
        let base_url = "https://pacs.example/p/dicom-web";
        let cookie = issue("a.b.c", &headers(Some("same-origin"), ""), base_url).unwrap();
        let expected = "cuspid-rendered=a.b.c; Path=/p/dicom-web/studies; HttpOnly; SameSite=Strict; Secure";
        assert_eq!(cookie, expected);
        let plain =
            issue("a.b.c", &headers(Some("same-origin"), ""), "http://127.0.0.1:80/dicom-web").unwrap();
        assert_eq!(plain, "cuspid-rendered=a.b.c; Path=/dicom-web/studies; HttpOnly; SameSite=Strict");
        for (site, cookie) in [
            (None, ""),
            (Some("none"), ""),
            (Some("same-site"), ""),
            (Some("cross-site"), ""),
            (Some("same-origin"), "cuspid-rendered=a.b.c"),
        ] {
            assert_eq!(issue("a.b.c", &headers(site, cookie), base_url), None, "{site:?} {cookie}");
        }
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        assert_eq!(issue(&long, &headers(Some("same-origin"), ""), base_url), None);
    }
}
