//! Paths with slashes too many: at their end, or doubled where a client joined a base URL and a resource (PS3.18 §8.2).

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// The URL that a client means by one below a service's base that has empty segments; `None` if there are none.
pub(crate) fn tidied(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let is_of_service = matches!(segments.first(), Some(&("dicom-web" | "wado")));
    let tidy = format!("/{}", segments.join("/"));
    if !is_of_service || tidy == path {
        return None;
    }
    let tidy = match uri.query() {
        Some(query) => format!("{tidy}?{query}"),
        None => tidy,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(tidy).ok()?);
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
            assert_eq!(tidied(&uri).map(|uri| uri.to_string()).as_deref(), expected, "{path}");
        }
    }
}
