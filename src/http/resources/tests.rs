//! The router has the resources of the list, behind the rights that the list names.

use axum::http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;
use crate::archive::access::Right;
use crate::config::Config;
use crate::http::audit::AuditRule;
use crate::http::auth::credentials::ByShare;
use crate::http::resources::operation::Access;

async fn status(router: &Router, method: &str, path: &str) -> StatusCode {
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    let request = request.body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

/// A path with a text for each parameter.
fn filled(path: &str) -> String {
    path.replace("{path}", "a/b").replace(['{', '}'], "")
}

/// The paths that need no right.
const PUBLIC: [&str; 15] = [
    "/openapi.json",
    "/",
    "/console/{path}",
    "/viewer",
    "/viewer/",
    "/viewer/app-config.js",
    "/viewer/{path}",
    "/view",
    "/view/",
    "/view/{path}",
    "/healthz",
    "/readyz",
    "/s/{secret}",
    "/s/about",
    "/s/open",
];

#[test]
fn every_operation_needs_the_right_that_goes_with_its_method() {
    for resource in all() {
        for operation in resource.operations {
            let expected = match (operation.method, resource.path) {
                ("GET" | "POST", path) if PUBLIC.contains(&path) => Access::Public,
                (_, "/shares" | "/shares/{share}") => Access::Needs(Right::Share),
                ("POST", "/sign") => Access::Needs(Right::Read),
                ("GET", "/me") => Access::Authenticated,
                ("GET", "/metrics" | "/audit" | "/admin/usage" | "/webhooks") => {
                    Access::Needs(Right::Administer)
                }
                ("GET" | "OPTIONS", _) => Access::Needs(Right::Read),
                ("POST", "/forwarding/retry") => Access::Needs(Right::Administer),
                ("POST", _) => Access::Needs(Right::Write),
                ("DELETE", _) => Access::Needs(Right::Delete),
                (other, path) => panic!("{other} {path} is not expected"),
            };
            assert_eq!(operation.access, expected, "{} {}", operation.method, resource.path);
        }
    }
}

/// The operations whose responses hold no data of patients, besides those that need no right.
const WITHOUT_PATIENTS: [&str; 9] = [
    "/dicom-web",
    "/dicom-web/",
    "/me",
    "/status",
    "/metrics",
    "/sign",
    "/webhooks",
    "/admin/usage",
    // What is sent is recorded when it is sent.
    "/forwarding/retry",
];

#[test]
fn every_operation_with_data_of_patients_has_its_event_in_the_audit_log() {
    for resource in all() {
        let path = resource.path;
        for operation in resource.operations {
            let expected: &[AuditRule] = match (operation.method, operation.access) {
                (_, Access::Public) => &[AuditRule::None],
                _ if WITHOUT_PATIENTS.contains(&path) => &[AuditRule::None],
                ("GET", _) if path.starts_with("/shares") => &[AuditRule::None],
                ("POST" | "DELETE", _) => &[AuditRule::InArchive],
                _ if path == "/audit" => &[AuditRule::InHandler],
                _ if path.ends_with("/wado") => &[AuditRule::ByUri],
                _ if operation.matches.is_some() => &[AuditRule::Query],
                _ if !path.contains("/studies/{study}") => &[AuditRule::Feed],
                _ => &[AuditRule::Viewed, AuditRule::Thumbnails, AuditRule::Instances, AuditRule::Whole],
            };
            assert!(
                expected.contains(&operation.audit),
                "{} {path}: {:?}",
                operation.method,
                operation.audit
            );
            if path.ends_with("/thumbnail") {
                assert_eq!(operation.audit, AuditRule::Thumbnails, "{path}");
            }
        }
    }
}

#[test]
fn the_table_of_the_documentation_has_each_operation_with_what_it_needs() {
    let documented =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let rows = documented.split("## Who may use what").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = rows.lines().filter(|line| line.contains(" `/")).collect();
    let expected = all().flat_map(|resource| {
        resource.operations.iter().map(|operation| {
            let right = match operation.access {
                Access::Public => "everyone",
                Access::Authenticated => "a token",
                Access::Needs(right) => right.name(),
            };
            let (share, url) = match (operation.access, operation.by_share, operation.by_url) {
                (Access::Public, ..) => ("yes", "not needed"),
                (_, ByShare::No, by_url) => ("no", if by_url { "yes" } else { "no" }),
                (_, ByShare::View, by_url) => ("view", if by_url { "yes" } else { "no" }),
                (_, ByShare::Download, by_url) => ("download", if by_url { "yes" } else { "no" }),
            };
            format!("| {} `{}` | {right} | {share} | {url} |", operation.method, resource.path)
        })
    });
    let expected: Vec<String> = expected.collect();
    assert_eq!(rows, expected, "\n{}", expected.join("\n"));
}

#[test]
fn only_reading_is_open_to_who_has_no_account() {
    for operation in all().flat_map(|resource| resource.operations) {
        let is_open = operation.by_share != ByShare::No || operation.by_url;
        let is_reading = matches!(operation.access, Access::Authenticated | Access::Needs(Right::Read));
        assert!(!is_open || is_reading, "{}", operation.id);
        assert!(!operation.by_url || operation.method == "GET", "{}", operation.id);
    }
}

#[test]
fn a_path_finds_its_resource() {
    let template = |path: &str| find(path).map(|operation| operation.id);
    for (path, expected) in [
        ("/dicom-web/studies/1.2", Some("RetrieveStudy")),
        ("/dicom-web/studies/1.2/thumbnail", Some("RetrieveStudyThumbnail")),
        ("/dicom-web/studies/1/series/2/instances/3/bulkdata/a/b", Some("RetrieveBulkdata")),
        ("/stream/studies/1/series/2", Some("RetrieveStream")),
        ("/dicom-web/studies//thumbnail", None),
        ("/dicom-web/studies/1/nothing", None),
        ("/s/about", None),
        ("", None),
    ] {
        assert_eq!(template(path), expected, "{path}");
    }
}

#[tokio::test]
async fn an_operation_that_needs_a_right_answers_nobody_without_a_token() {
    let mut config = Config::defaults();
    config.auth.issuer = "http://127.0.0.1:9/realms/test".into();
    let router = router(&Service::for_tests(&config));
    for resource in all() {
        let path = filled(resource.path);
        for operation in resource.operations {
            let is_refused = status(&router, operation.method, &path).await == StatusCode::UNAUTHORIZED;
            assert_eq!(is_refused, operation.access != Access::Public, "{} {path}", operation.method);
        }
        assert_eq!(status(&router, "PATCH", &path).await, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(status(&router, "HEAD", "/metrics").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&router, "OPTIONS", "/metrics").await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn paths_that_are_not_in_the_list_are_not_found() {
    let mut config = Config::defaults();
    // Any path below an installed viewer may be one of its views.
    config.viewer.directory = "no such directory".into();
    let router = router(&Service::for_tests(&config));
    for path in [
        "/nothing",
        "/dicom-web/nothing",
        "/dicom-web/studies/1/series/2/instances/3/nothing",
        "/dicom-web/studies/1/series/2/instances/3/bulkdata/4/../../../nothing",
        "/DICOM-WEB/studies",
        "/dicom%2Dweb/studies",
        "/viewer/../dicom-web/studies",
        "/metrics/",
        "/console/",
    ] {
        assert_eq!(status(&router, "GET", path).await, StatusCode::NOT_FOUND, "{path}");
    }
}
