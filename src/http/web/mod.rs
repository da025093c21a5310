//! Pages for people: the built-in console, the Cuspid viewer and the OHIF viewer.

use axum::http::HeaderValue;

pub(in crate::http) mod console;
mod files;
pub(in crate::http) mod view;
pub(in crate::http) mod viewer;

/// `Cache-Control` of a file whose URL has a hash of its bytes: browsers keep it, and do not ask again.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// `Cache-Control` of a file that another version may replace.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");
