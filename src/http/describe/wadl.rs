//! The description as a WADL document, in XML and in JSON (PS3.18 Annex G, Annex H; WADL, W3C submission of
//! 2009).

use std::collections::BTreeMap;

use quick_xml::escape::escape;
use serde_json::{Map, Value as Json, json};

use crate::archive::access::Right;
use crate::dicom::attributes::Tag;
use crate::dicom::dictionary;
use crate::http::describe::{matched, path_parameters};
use crate::http::resources::operation::{Access, Operation, Resource};
use crate::http::resources::parameters::{Parameter, ParameterLocation, ParameterType};

const NAMESPACE: &str = "http://wadl.dev.java.net/2009/02";
/// Elements that occur once in their parent (PS3.18 §G.2.2); all others form arrays in JSON.
const UNIQUE: [&str; 2] = ["resources", "request"];

/// An element of the document.
pub(super) struct WadlElement {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: String,
    children: Vec<Self>,
}

/// Describes the resources below a base URL; paths are given without it.
pub(super) fn describe<'a>(
    base_url: &str,
    resources: impl Iterator<Item = (&'a str, &'static Resource)>,
) -> WadlElement {
    let mut root = PathNode::default();
    for (path, resource) in resources {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        let node = segments.fold(&mut root, |node, segment| node.children.entry(segment).or_default());
        node.operations = resource.operations;
    }
    let tree = WadlElement::new("resources", [("base", base_url.to_owned())]).with(root.elements());
    WadlElement::new(
        "application",
        [("xmlns", NAMESPACE.to_owned()), ("xmlns:xs", "http://www.w3.org/2001/XMLSchema".to_owned())],
    )
    .with([tree])
}

/// Resources by the segments of their paths.
#[derive(Default)]
struct PathNode<'a> {
    operations: &'static [Operation],
    children: BTreeMap<&'a str, Self>,
}

impl PathNode<'_> {
    /// The methods of this resource, and the resources below it.
    fn elements(&self) -> Vec<WadlElement> {
        let methods = self.operations.iter().map(method);
        let resources = self.children.iter().map(|(segment, node)| {
            let names = path_parameters(segment).map(|name| {
                let attributes =
                    [("name", name), ("style", "template"), ("type", "xs:string"), ("required", "true")];
                WadlElement::new("param", attributes.map(|(name, value)| (name, value.to_owned())))
            });
            let below = names.chain(node.elements()).collect::<Vec<_>>();
            WadlElement::new("resource", [("path", (*segment).to_owned())]).with(below)
        });
        methods.chain(resources).collect()
    }
}

fn method(operation: &Operation) -> WadlElement {
    let representation =
        |media_type: &&str| WadlElement::new("representation", [("mediaType", (*media_type).to_owned())]);
    let authorization = match operation.access {
        Access::Public | Access::Authenticated => None,
        Access::Needs(right) => Some(authorization(right)),
    };
    let accept = (!operation.gives.is_empty()).then(|| accept(operation.gives));
    let parameters = operation.parameters.iter().copied().flatten().map(parameter);
    let matches = operation.matches.into_iter().flat_map(matched).flat_map(match_parameters);
    let bodies = operation.takes.iter().map(representation);
    let request = WadlElement::new("request", []).with(
        accept
            .into_iter()
            .chain(authorization)
            .chain(parameters)
            .chain(matches)
            .chain(bodies)
            .collect::<Vec<_>>(),
    );
    let (succeeding, failing): (Vec<u16>, Vec<u16>) =
        operation.all_statuses().partition(|&status| status < 400);
    let response = |statuses: Vec<u16>, media_types: &[&str]| {
        let list = statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        WadlElement::new("response", [("status", list)])
            .with(media_types.iter().map(representation).collect::<Vec<_>>())
    };
    let doc = WadlElement {
        text: format!("{} ({})", operation.summary, operation.section),
        ..WadlElement::new("doc", [])
    };
    let attributes = [("id", operation.id.to_owned()), ("name", operation.method.to_owned())];
    WadlElement::new("method", attributes).with([
        doc,
        request,
        response(succeeding, operation.gives),
        response(failing, &["application/problem+json"]),
    ])
}

fn accept(gives: &[&str]) -> WadlElement {
    let default = gives.first().copied().unwrap_or_default().to_owned();
    let options =
        gives.iter().map(|media_type| WadlElement::new("option", [("value", (*media_type).to_owned())]));
    let attributes = [("name", "Accept".to_owned()), ("style", "header".to_owned()), ("default", default)];
    WadlElement::new("param", attributes).with(options.collect::<Vec<_>>())
}

/// The access token of a caller; a server without authentication ignores the field.
fn authorization(right: Right) -> WadlElement {
    let attributes = [("name", "Authorization"), ("style", "header"), ("type", "xs:string")];
    let about = format!(
        "Bearer and an access token that gives the right to {}, if there is authentication",
        right.name()
    );
    let doc = WadlElement { text: about, ..WadlElement::new("doc", []) };
    WadlElement::new("param", attributes.map(|(name, value)| (name, value.to_owned()))).with([doc])
}

fn parameter(parameter: &Parameter) -> WadlElement {
    let style = match parameter.location {
        ParameterLocation::Query => "query",
        ParameterLocation::Header => "header",
    };
    let kind = match parameter.kind {
        ParameterType::Text => "xs:string",
        ParameterType::Number => "xs:int",
        ParameterType::Boolean => "xs:boolean",
    };
    let mut attributes =
        vec![("name", parameter.name.to_owned()), ("style", style.to_owned()), ("type", kind.to_owned())];
    if parameter.is_required {
        attributes.push(("required", "true".to_owned()));
    }
    let doc = WadlElement { text: parameter.about.to_owned(), ..WadlElement::new("doc", []) };
    WadlElement::new("param", attributes).with([doc])
}

/// The parameters of an attribute that a search matches: the keyword and the tag.
fn match_parameters(tag: Tag) -> impl Iterator<Item = WadlElement> {
    let names = dictionary::keyword(tag).map(str::to_owned).into_iter().chain([tag.to_string()]);
    names.map(|name| WadlElement::new("param", [("name", name), ("style", "query".to_owned())]))
}

impl WadlElement {
    fn new(name: &'static str, attributes: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { name, attributes: attributes.into_iter().collect(), text: String::new(), children: Vec::new() }
    }

    fn with(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// The document in XML.
    pub(super) fn xml(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        self.write_xml(0, &mut out);
        out
    }

    fn write_xml(&self, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        *out += &format!("{indent}<{}", self.name);
        for (name, value) in &self.attributes {
            *out += &format!(" {name}=\"{}\"", escape(value));
        }
        if self.children.is_empty() {
            *out += &match self.text.as_str() {
                "" => "/>\n".to_owned(),
                text => format!(">{}</{}>\n", escape(text), self.name),
            };
            return;
        }
        *out += ">\n";
        self.children.iter().for_each(|child| child.write_xml(depth + 1, out));
        *out += &format!("{indent}</{}>\n", self.name);
    }

    /// The document in JSON.
    pub(super) fn json(&self) -> Json {
        json!({ self.name: self.members() })
    }

    fn members(&self) -> Json {
        let mut members = Map::new();
        for (name, value) in &self.attributes {
            members.insert(format!("@{name}"), json!(value));
        }
        if !self.text.is_empty() {
            members.insert("value".to_owned(), json!(self.text));
        }
        for child in &self.children {
            if UNIQUE.contains(&child.name) {
                members.insert(child.name.to_owned(), child.members());
            } else if let Json::Array(list) = members.entry(child.name).or_insert_with(|| json!([])) {
                list.push(child.members());
            }
        }
        Json::Object(members)
    }
}
