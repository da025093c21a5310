//! The description is of the routes that there are.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The paths of `routes.rs` with their methods, names in braces left out.
fn routed() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../routes.rs");
    let (outer, inner) = text.split_once("fn dicom_web").unwrap();
    let mut routes = BTreeMap::new();
    for (part, prefix) in [(outer, ""), (inner, "/dicom-web")] {
        for route in part.split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            let handlers = route.split_once("\", ").unwrap().1;
            let handlers = handlers.split("\n").next().unwrap();
            let methods = ["get", "post", "put", "delete", "options"].into_iter();
            let methods = methods.filter(|method| handlers.contains(&format!("{method}(")));
            let methods = methods.map(str::to_ascii_uppercase).collect();
            routes.insert(anonymous(&format!("{prefix}{path}")), methods);
        }
    }
    routes
}

fn anonymous(path: &str) -> String {
    path.split('/')
        .map(|segment| if segment.starts_with('{') { "{}" } else { segment })
        .collect::<Vec<_>>()
        .join("/")
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let methods = |resource: &resources::Resource| {
        resource.operations.iter().map(|operation| operation.method.to_owned()).collect()
    };
    let described: BTreeMap<String, BTreeSet<String>> =
        RESOURCES.iter().map(|resource| (anonymous(resource.path), methods(resource))).collect();
    assert_eq!(described.len(), RESOURCES.len(), "a path is described twice");
    assert_eq!(described, routed());
}

#[test]
fn each_operation_has_its_own_name_and_states_what_it_answers() {
    let operations: Vec<_> = RESOURCES.iter().flat_map(|resource| resource.operations).collect();
    let names: BTreeSet<&str> = operations.iter().map(|operation| operation.id).collect();
    assert_eq!(names.len(), operations.len());
    for operation in operations {
        let statuses: BTreeSet<_> = operation.statuses.iter().collect();
        assert_eq!(statuses.len(), operation.statuses.len(), "{}", operation.id);
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
