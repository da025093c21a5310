//! The router has the resources of the list, behind the rights that the list names.

use axum::http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;
use crate::archive::access::Right;
use crate::config::Config;
use crate::http::audit::AuditRule;

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
const PUBLIC: [&str; 12] = [
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
];

#[test]
fn every_operation_needs_the_right_that_goes_with_its_method() {
    for resource in all() {
        for operation in resource.operations {
            let expected = match (operation.method, resource.path) {
                ("GET", path) if PUBLIC.contains(&path) => Access::Public,
                ("GET", "/me") => Access::Authenticated,
                ("GET", "/metrics" | "/audit") => Access::Needs(Right::Administer),
                ("GET" | "OPTIONS", _) => Access::Needs(Right::Read),
                ("POST", _) => Access::Needs(Right::Write),
                ("DELETE", _) => Access::Needs(Right::Delete),
                (other, path) => panic!("{other} {path} is not expected"),
            };
            assert_eq!(operation.access, expected, "{} {}", operation.method, resource.path);
        }
    }
}

/// The operations whose responses hold no data of patients, besides those that need no right.
const WITHOUT_PATIENTS: [&str; 5] = ["/dicom-web", "/dicom-web/", "/me", "/status", "/metrics"];

#[test]
fn every_operation_with_data_of_patients_has_its_event_in_the_audit_log() {
    for resource in all() {
        let path = resource.path;
        for operation in resource.operations {
            let expected: &[AuditRule] = match (operation.method, operation.access) {
                (_, Access::Public) => &[AuditRule::None],
                _ if WITHOUT_PATIENTS.contains(&path) => &[AuditRule::None],
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
