//! The description in OpenAPI 3.1.

use serde_json::{Map, Value as Json, json};

use crate::dicom::dictionary;
use crate::http::describe::{matched, path_parameters};
use crate::http::resources::operation::{Access, Operation, Resource};
use crate::http::resources::parameters::{Parameter, ParameterLocation, ParameterType};

/// The name of the security scheme.
const SCHEME: &str = "token";

/// Describes resources; `server_url` precedes their paths. `issuer` is the OpenID provider whose tokens
/// callers need, if authentication is on.
pub(super) fn describe(
    server_url: &str,
    issuer: Option<&str>,
    resources: impl Iterator<Item = &'static Resource> + Clone,
) -> Json {
    let paths: Map<String, Json> =
        resources.clone().map(|resource| (resource.path.to_owned(), path_item(resource))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Cuspid",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A DICOMweb server",
            "description": "STOW-RS, QIDO-RS, WADO-RS and WADO-URI as DICOM PS3.18 describes them. \
                 Every resource that supports GET supports HEAD.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": server_url }],
        "paths": paths,
        "components": {
            "parameters": match_parameters(resources),
            "responses": { "Problem": problem() },
            "securitySchemes": { SCHEME: security(issuer) },
        },
    })
}

fn security(issuer: Option<&str>) -> Json {
    let about = match issuer {
        Some(issuer) => format!("an access token of {issuer} whose roles give the right that is named"),
        None => "not needed: this server is configured without authentication".to_owned(),
    };
    json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": about })
}

fn path_item(resource: &Resource) -> Json {
    let mut item = Map::new();
    let in_path: Vec<Json> = path_parameters(resource.path)
        .map(|name| {
            let about = about_path_parameter(name);
            json!({ "name": name, "in": "path", "required": true, "description": about, "schema": { "type": "string" } })
        })
        .collect();
    if !in_path.is_empty() {
        item.insert("parameters".to_owned(), json!(in_path));
    }
    for operation in resource.operations {
        item.insert(operation.method.to_ascii_lowercase(), described(operation));
        if operation.method == "GET" {
            let head = Operation { method: "HEAD", gives: &[], ..*operation };
            let mut described = described(&head);
            described["operationId"] = json!(format!("{}Head", operation.id));
            item.insert("head".to_owned(), described);
        }
    }
    Json::Object(item)
}

fn described(operation: &Operation) -> Json {
    let responses: Map<String, Json> = operation
        .all_statuses()
        .map(|status| (status.to_string(), response(status, operation.gives)))
        .collect();
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.section,
        "responses": responses,
    });
    match operation.access {
        Access::Public => {}
        Access::Authenticated => described["security"] = json!([{ SCHEME: [] }]),
        Access::Needs(right) => described["security"] = json!([{ SCHEME: [right.name()] }]),
    }
    let named = operation.parameters.iter().copied().flatten().map(parameter);
    let matches = operation.matches.into_iter().flat_map(matched).filter_map(dictionary::keyword);
    let matches = matches.map(|keyword| json!({ "$ref": format!("#/components/parameters/{keyword}") }));
    let parameters: Vec<Json> = named.chain(matches).collect();
    if !parameters.is_empty() {
        described["parameters"] = json!(parameters);
    }
    if !operation.takes.is_empty() {
        described["requestBody"] = json!({ "required": true, "content": contents(operation.takes) });
    }
    described
}

fn response(status: u16, media_types: &[&str]) -> Json {
    let about = match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted: some were stored, or with warnings",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        409 => "Conflict: none was stored; the body says why",
        _ => return json!({ "$ref": "#/components/responses/Problem" }),
    };
    match status {
        204 | 304 => json!({ "description": about }),
        _ if media_types.is_empty() => json!({ "description": about }),
        _ => json!({ "description": about, "content": contents(media_types) }),
    }
}

fn contents(media_types: &[&str]) -> Map<String, Json> {
    media_types.iter().map(|media_type| ((*media_type).to_owned(), json!({}))).collect()
}

fn parameter(parameter: &Parameter) -> Json {
    let location = match parameter.location {
        ParameterLocation::Query => "query",
        ParameterLocation::Header => "header",
    };
    let schema = match parameter.kind {
        ParameterType::Text => json!({ "type": "string" }),
        ParameterType::Number => json!({ "type": "integer", "minimum": 0 }),
        ParameterType::Boolean => json!({ "type": "boolean" }),
    };
    json!({
        "name": parameter.name,
        "in": location,
        "required": parameter.is_required,
        "description": parameter.about,
        "schema": schema,
    })
}

/// The attributes that any search matches, by keyword.
fn match_parameters(resources: impl Iterator<Item = &'static Resource>) -> Map<String, Json> {
    let operations = resources.flat_map(|resource| resource.operations);
    let tags = operations.filter_map(|operation| operation.matches).flat_map(matched);
    let described = tags.filter_map(|tag| {
        let keyword = dictionary::keyword(tag)?;
        let about = format!(
            "match {tag} ({}); any attribute goes by its keyword or its tag",
            dictionary::vr(tag, false).as_str()
        );
        let schema = json!({ "type": "string" });
        Some((
            keyword.to_owned(),
            json!({ "name": keyword, "in": "query", "description": about, "schema": schema }),
        ))
    });
    described.collect()
}

fn problem() -> Json {
    json!({
        "description": "What was wrong (RFC 9457); 429 and 503 say in Retry-After when to try again",
        "headers": { "Retry-After": { "description": "seconds to wait", "schema": { "type": "integer" } } },
        "content": { "application/problem+json": { "schema": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": { "type": "string" },
                "title": { "type": "string" },
                "status": { "type": "integer" },
                "detail": { "type": "string" },
                "parameter": { "type": "string", "description": "the parameter at fault" },
            },
        } } },
    })
}

fn about_path_parameter(name: &str) -> &'static str {
    match name {
        "study" => "Study Instance UID",
        "series" => "Series Instance UID",
        "instance" => "SOP Instance UID",
        "share" => "identifier of a share",
        "secret" => "secret of a link",
        "frames" => "frame numbers from 1, with commas",
        _ => "a path, which may hold slashes",
    }
}
