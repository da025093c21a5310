//! BulkDataURI and Content-Location, brought to one form so that they can be compared (RFC 3986 §5.2).

/// A URI reference in full, given the URL of the request. `base` has a scheme and a host.
pub(super) fn resolve(base: &str, reference: &str) -> String {
    let reference = reference.trim();
    if has_scheme(reference) {
        return reference.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("http", base));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(with_host) = reference.strip_prefix("//") {
        return format!("{scheme}://{with_host}");
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = match reference.strip_prefix('/') {
        Some(absolute) => absolute.to_owned(),
        None if folder.is_empty() => reference.to_owned(),
        None => format!("{folder}/{reference}"),
    };
    format!("{scheme}://{host}/{}", without_dots(&joined))
}

fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// A path with its `.` and `..` segments carried out; those of a query or a fragment stay.
fn without_dots(path: &str) -> String {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (path, rest) = path.split_at(end);
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    format!("{}{rest}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_against_the_request() {
        for (reference, expected) in [
            ("http://other/x", "http://other/x"),
            ("urn:uuid:1", "urn:uuid:1"),
            ("//other/x", "https://other/x"),
            ("/x/y", "https://h:1/x/y"),
            ("bulk/1", "https://h:1/dicom-web/bulk/1"),
            ("./bulk/./1", "https://h:1/dicom-web/bulk/1"),
            ("../../../bulk", "https://h:1/bulk"),
            (" bulk?a=../1 ", "https://h:1/dicom-web/bulk?a=../1"),
            ("1.2/a:b", "https://h:1/dicom-web/1.2/a:b"),
        ] {
            assert_eq!(resolve("https://h:1/dicom-web/studies", reference), expected, "{reference}");
        }
        assert_eq!(resolve("http://h", "a"), "http://h/a");
    }
}
