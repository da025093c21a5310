//! The descriptions in WADL and OpenAPI.

use std::collections::BTreeSet;

use super::*;
use crate::dicom::dictionary;
use crate::http::resources::all;

#[test]
fn each_operation_has_its_own_name_and_states_what_it_answers() {
    let operations: Vec<_> = all().flat_map(|resource| resource.operations).collect();
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
        // A cut-out is stored by its parameters alone.
        let has_body = operation.method == "POST" && operation.id != "StoreCutOut";
        assert_eq!(operation.takes.is_empty(), !has_body, "{}", operation.id);
    }
}

#[test]
fn wadl_in_json_lists_what_may_be_repeated() {
    let resources = all().filter(|resource| resource.path == "/dicom-web/studies");
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
    let description = openapi::describe("http://a", Some("https://b"), all());
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
