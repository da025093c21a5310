//! Small bodies in JSON.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;

/// The largest body.
const MAX_BYTES: usize = 256 * 1024;

/// Reads a body in JSON.
///
/// # Errors
/// [`Error::UnsupportedMediaType`] if the body is of another type, which a form of a page of another site
/// could send; [`Error::Body`] if the body is too large or is not what is expected; [`Error::TimedOut`] if it
/// does not come.
pub(in crate::http) async fn read<T: DeserializeOwned>(
    service: &Service,
    head: &Head,
    body: Body,
) -> Result<T, Error> {
    let content_type = head.text(CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Error::UnsupportedMediaType("Content-Type: is application/json".into()));
    }
    let seconds = service.settings.idle_timeout_seconds;
    let read = timeout(Duration::from_secs(seconds), to_bytes(body, MAX_BYTES)).await;
    let bytes = read.map_err(|_| Error::TimedOut { seconds })?;
    let bytes = bytes
        .map_err(|_| Error::Body(format!("the body cannot be read, or is larger than {MAX_BYTES} bytes")))?;
    parse(&bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // A list of values without names would be read as an object, too.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::Body("the body is not a JSON object".into()));
    }
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let found = serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let (path, reason) = (error.path().to_string(), error.into_inner());
        let text = format!("is not what is expected: {reason}");
        match path.as_str() {
            // The fault is in the object itself, as one that ends too early.
            "." => Error::Body(format!("the body {text}")),
            _ if !reason.is_data() => Error::Body(format!("the body {text}")),
            _ => Error::Parameter { name: path, reason: text },
        }
    })?;
    text.end().map_err(|error| Error::Body(format!("the body is not what is expected: {error}")))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors count")]
    struct Form {
        study: u32,
        #[serde(default)]
        uses: Option<u8>,
        #[serde(default)]
        note: String,
    }

    #[test]
    fn the_member_at_fault_is_named() {
        for (text, name) in [
            (r#"{"study": 1, "uses": 256}"#, Some("uses")),
            (r#"{"study": -1, "uses": 2}"#, Some("study")),
            ("{\n  \"study\": 1,\n  \"note\": 5\n}", Some("note")),
            (r#"{"note": "a: \"b\"", "study": "x"}"#, Some("study")),
            (r#"{"study": 1"#, None),
            ("[1, 2]", None),
            ("", None),
        ] {
            let found = match parse::<Form>(text.as_bytes()).unwrap_err() {
                Error::Parameter { name, .. } => Some(name),
                Error::Body(_) => None,
                other => panic!("{text}: {other}"),
            };
            assert_eq!(found.as_deref(), name, "{text}");
        }
    }
}
