//! Files of an installed page, from a directory.

use std::io::{self, ErrorKind};
use std::path::Path;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, StatusCode, Uri};
use tower_http::services::ServeDir;

use crate::http::error::Error;
use crate::http::web::{IMMUTABLE, REVALIDATED};

/// The response with the file at `path` in a directory, compressed if it was compressed at installation, and
/// its `Cache-Control`.
pub(super) async fn serve(
    directory: &Path,
    path: String,
    request: Request,
) -> Result<(Response<Body>, HeaderValue), Error> {
    let caching = if has_hash(&path) { IMMUTABLE } else { REVALIDATED };
    let (mut head, body) = request.into_parts();
    head.uri = Uri::try_from(path).map_err(|_| Error::NoResource)?;
    let mut files = ServeDir::new(directory).append_index_html_on_directories(false);
    files = files.precompressed_br().precompressed_gzip();
    match files.try_call(Request::from_parts(head, body)).await {
        Ok(found) if found.status() == StatusCode::NOT_FOUND => Err(Error::NoResource),
        Ok(found) => Ok((found.map(Body::new), caching)),
        Err(error) if is_missing(&error) => Err(Error::NoResource),
        Err(error) => Err(Error::Damaged(error.into())),
    }
}

/// The text of a file of a directory; `missing` is the error if there is no such file.
pub(super) async fn read(directory: &Path, name: &str, missing: Error) -> Result<String, Error> {
    let text = tokio::fs::read_to_string(directory.join(name)).await;
    text.map_err(|error| if is_missing(&error) { missing } else { Error::Damaged(error.into()) })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
}

/// Whether the name of a file has a hash of its bytes, as `app.bundle.0f6159c501addfe9.js`: another file has
/// another name. A file without may be replaced by a new installation.
fn has_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_hash = |part: &str| part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split('.').any(is_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_whose_names_have_a_hash_never_change() {
        for (path, expected) in [
            ("/app.bundle.0f6159c501addfe9.js", true),
            ("/34b1e6b1deb5828e.wasm", true),
            ("/ort/a34f9d1faa5f3315.woff2", true),
            ("/app.bundle.css", false),
            ("/0f6159c501addfe9/index.js", false),
            ("/a.0f6159c501addfeg.js", false),
        ] {
            assert_eq!(has_hash(path), expected, "{path}");
        }
    }
}
