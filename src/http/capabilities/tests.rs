//! The description is of the routes that there are.

use std::collections::BTreeSet;

use axum::http::Method;

use super::*;
use crate::archive::access::Right;
use crate::dicom::dictionary;

/// The methods and paths of `routes.rs`, names in braces left out.
fn routed() -> BTreeSet<String> {
    let text = include_str!("../routes.rs");
    let (outer, inner) = text.split_once("fn dicom_web").unwrap();
    let mut routes = BTreeSet::new();
    for (part, prefix) in [(outer, ""), (inner, "/dicom-web")] {
        for route in part.split(".route(").skip(1) {
            // Up to the next call, a comment, or the end of the function.
            let end = ["\n        .", "\n        //", "\n}"].iter().filter_map(|end| route.find(end)).min();
            let mut words = route[..end.unwrap_or(route.len())].splitn(3, '"').skip(1);
            let (path, handlers) = (anonymous(words.next().unwrap()), words.next().unwrap());
            for method in ["get", "post", "put", "delete", "options"] {
                if handlers.contains(&format!("{method}(")) {
                    routes.insert(format!("{} {prefix}{path}", method.to_ascii_uppercase()));
                }
            }
        }
    }
    routes
}

/// What anyone may read, in full.
const PUBLIC: [&str; 11] = [
    "/openapi.json",
    "/",
    "/console/console.css",
    "/console/console.js",
    "/console/sign-in.js",
    "/viewer",
    "/viewer/",
    "/viewer/app-config.js",
    "/viewer/{path}",
    "/healthz",
    "/readyz",
];

#[test]
fn every_operation_needs_the_right_that_goes_with_its_method() {
    for resource in RESOURCES {
        for operation in resource.operations {
            let expected = match (operation.method, resource.path) {
                ("GET", path) if PUBLIC.contains(&path) => Access::Public,
                ("GET", "/metrics") => Access::Needs(Right::Administer),
                ("GET" | "OPTIONS", _) => Access::Needs(Right::Read),
                ("POST", _) => Access::Needs(Right::Write),
                ("DELETE", _) => Access::Needs(Right::Delete),
                (other, path) => panic!("{other} {path} is not expected"),
            };
            assert_eq!(operation.access, expected, "{} {}", operation.method, resource.path);
        }
    }
}

#[test]
fn each_resource_is_found_by_its_own_path() {
    for resource in RESOURCES {
        let path = resource.path.replace("{path}", "a/b").replace(['{', '}'], "");
        for operation in resource.operations {
            let found = find(&operation.method.parse().unwrap(), &path);
            assert_eq!(found, Found::Operation(operation.access), "{} {path}", operation.method);
        }
        assert!(
            matches!(find(&Method::PATCH, &path), Found::Methods(methods) if methods.contains("GET")),
            "{path}"
        );
    }
}

#[test]
fn what_is_not_in_the_list_is_not_there() {
    for path in [
        "",
        "/nothing",
        "/dicom-web/nothing",
        "/dicom-web/studies/",
        "/dicom-web/studies//series",
        "/dicom-web/studies/1/series/2/instances/3/bulkdata/",
        "/DICOM-WEB/studies",
        "/dicom%2Dweb/studies",
        "/viewer/../dicom-web/studies",
        "/metrics/",
        "/console/",
    ] {
        let expected =
            if path.starts_with("/viewer/") { Found::Operation(Access::Public) } else { Found::Nothing };
        assert_eq!(find(&Method::GET, path), expected, "{path}");
    }
    assert_eq!(find(&Method::HEAD, "/metrics"), Found::Operation(Access::Needs(Right::Administer)));
    assert_eq!(find(&Method::OPTIONS, "/metrics"), Found::Methods("GET, HEAD".into()));
}

fn anonymous(path: &str) -> String {
    path.split('/')
        .map(|segment| if segment.starts_with('{') { "{}" } else { segment })
        .collect::<Vec<_>>()
        .join("/")
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let described: BTreeSet<String> = RESOURCES
        .iter()
        .flat_map(|resource| {
            let path = anonymous(resource.path);
            resource.operations.iter().map(move |operation| format!("{} {path}", operation.method))
        })
        .collect();
    let routed = routed();
    assert_eq!(routed.difference(&described).collect::<Vec<_>>(), Vec::<&String>::new(), "are not described");
    assert_eq!(described.difference(&routed).collect::<Vec<_>>(), Vec::<&String>::new(), "are not there");
}

#[test]
fn each_operation_has_its_own_name_and_states_what_it_answers() {
    let operations: Vec<_> = RESOURCES.iter().flat_map(|resource| resource.operations).collect();
    let names: BTreeSet<&str> = operations.iter().map(|operation| operation.id).collect();
    assert_eq!(names.len(), operations.len());
    for operation in operations {
        let statuses: BTreeSet<_> = operation.all_statuses().collect();
        assert_eq!(statuses.len(), operation.all_statuses().count(), "{}", operation.id);
        let named = operation.parameters.iter().copied().flatten().map(|parameter| parameter.name);
        let matched = operation.matches.into_iter().flat_map(matched).filter_map(dictionary::keyword);
        let parameters: Vec<&str> = named.chain(matched).collect();
        let distinct: BTreeSet<_> = parameters.iter().collect();
        assert_eq!(distinct.len(), parameters.len(), "{}", operation.id);
        assert_eq!(operation.takes.is_empty(), operation.method != "POST", "{}", operation.id);
    }
}

#[test]
fn wadl_in_json_lists_what_may_be_repeated() {
    let resources = RESOURCES.iter().filter(|resource| resource.path == "/dicom-web/studies");
    let json = wadl::describe("http://a/b", resources.map(|resource| ("studies", resource))).json();
    let resources = &json["application"]["resources"];
    assert_eq!(resources["@base"], "http://a/b");
    let method = &resources["resource"][0]["method"][0];
    assert_eq!((&method["@name"], &method["@id"]), (&"GET".into(), &"SearchStudies".into()));
    assert_eq!(method["request"]["param"][0]["@name"], "Accept");
    assert_eq!(method["response"][0]["representation"][0]["@mediaType"], "application/dicom+json");
    assert!(method["doc"][0]["value"].as_str().unwrap().contains("§10.6"));
}

#[test]
fn the_openapi_description_refers_to_what_is_in_it() {
    let description = openapi::describe("http://a", Some("https://b"), RESOURCES);
    for (path, item) in description["paths"].as_object().unwrap() {
        let in_path = item["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = in_path.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(names, path_parameters(path).collect::<Vec<_>>(), "{path}");
    }
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(description.pointer(pointer).is_some(), "{pointer}");
    }
    let mut identifiers = BTreeSet::new();
    for identifier in text.split("\"operationId\":\"").skip(1) {
        let identifier = identifier.split('"').next().unwrap();
        assert!(identifiers.insert(identifier), "{identifier} is there twice");
    }
}
