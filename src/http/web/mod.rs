//! Pages for people: the built-in console, the Cuspid viewer and the OHIF viewer.

use axum::http::HeaderValue;
use quick_xml::escape::escape;

use crate::http::Service;
use crate::http::auth::Authenticator;

pub(in crate::http) mod console;
mod files;
pub(in crate::http) mod view;
pub(in crate::http) mod viewer;

/// `Cache-Control` of a file whose URL has a hash of its bytes: browsers keep it, and do not ask again.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// `Cache-Control` of a file that another version may replace.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");

/// A page with the parameters of signing in, if authentication is on, and its policy: the page requests its
/// token from another origin.
fn with_sign_in(service: &Service, page: String, policy: &'static str) -> (String, HeaderValue) {
    let plain = HeaderValue::from_static(policy);
    let Some(sign_in) = service.auth.as_ref().map(Authenticator::sign_in) else { return (page, plain) };
    let parameters = format!("data-sign-in=\"{}\"", escape(sign_in.to_json()));
    let page = page.replacen("data-sign-in=\"\"", &parameters, 1);
    let origin = sign_in.token_origin();
    let with_origin = origin.and_then(|origin| HeaderValue::try_from(format!("{policy} {origin}")).ok());
    (page, with_origin.unwrap_or(plain))
}
