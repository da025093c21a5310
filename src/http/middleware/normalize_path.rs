//! Removes superfluous slashes from paths: at the end, or doubled where a client joined a base URL and a
//! resource (PS3.18 §8.2).

use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::Next;
use axum::response::Response;

/// Middleware: rewrites the path of a request to a DICOM service.
pub(super) async fn normalize_path(mut request: Request, next: Next) -> Response {
    if let Some(normalized) = normalized(request.uri()) {
        *request.uri_mut() = normalized;
    }
    next.run(request).await
}

/// The URL without empty path segments; `None` if there are none, or if the URL is not one of a DICOM
/// service.
fn normalized(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let is_of_service = matches!(segments.first(), Some(&("dicom-web" | "wado")));
    let normalized = format!("/{}", segments.join("/"));
    if !is_of_service || normalized == path {
        return None;
    }
    let path_and_query = match uri.query() {
        Some(query) => format!("{normalized}?{query}"),
        None => normalized,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_segments_are_left_out() {
        for (path, expected) in [
            ("/dicom-web/studies/", Some("/dicom-web/studies")),
            ("/dicom-web//studies?PatientName=a//b/", Some("/dicom-web/studies?PatientName=a//b/")),
            ("//dicom-web/studies/1.2//metadata//", Some("/dicom-web/studies/1.2/metadata")),
            ("/wado/?requestType=WADO", Some("/wado?requestType=WADO")),
            ("/dicom-web/", Some("/dicom-web")),
            ("/dicom-web/studies", None),
            ("/viewer/", None),
            ("/", None),
        ] {
            let uri: Uri = path.parse().unwrap();
            assert_eq!(normalized(&uri).map(|uri| uri.to_string()).as_deref(), expected, "{path}");
        }
    }
}
