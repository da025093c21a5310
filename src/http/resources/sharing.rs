//! The resources of shares, their links, and signed URLs.

use axum::routing::on;

use crate::archive::access::Right;
use crate::http::audit::AuditRule;
use crate::http::auth::credentials::ByShare;
use crate::http::resources::operation::{Access, Handler, Operation, Resource};
use crate::http::resources::parameters::{Parameter, ParameterType, query};
use crate::http::sharing::{links, shares, sign};

const SECTION: &str = "docs/sharing.md";
const JSON: &[&str] = &["application/json"];

/// The parameters of the list of shares.
const PAGING: &[Parameter] = &[
    query("limit", ParameterType::Number, "maximal number of shares"),
    query("before", ParameterType::Text, "identifier of the share before which to go on, of `next`"),
];

/// The resources, in the order in which they are described.
pub(super) const RESOURCES: &[Resource] = &[
    Resource {
        path: "/shares",
        operations: &[
            Operation {
                parameters: &[PAGING],
                statuses: &[200, 400, 429, 500, 503],
                ..managed("ListShares", |method| on(method, shares::list), "shares, the newest first")
            },
            Operation {
                method: "POST",
                audit: AuditRule::InArchive,
                takes: JSON,
                statuses: &[201, 400, 404, 408, 409, 415, 429, 500, 503],
                ..managed("MakeShare", |method| on(method, shares::make), "makes a share with a link")
            },
        ],
    },
    Resource {
        path: "/shares/{share}",
        operations: &[
            managed("ShowShare", |method| on(method, shares::show), "a share"),
            Operation {
                method: "DELETE",
                audit: AuditRule::InArchive,
                gives: &[],
                statuses: &[204, 404, 400, 429, 500, 503],
                ..managed("RevokeShare", |method| on(method, shares::revoke), "revokes a share")
            },
        ],
    },
    Resource {
        path: "/s/{secret}",
        operations: &[Operation {
            gives: &["text/html"],
            access: Access::Public,
            statuses: &[200, 404, 410, 400, 429, 500, 503],
            ..managed("ShowLink", |method| on(method, links::page), "the page of a link")
        }],
    },
    Resource {
        path: "/s/about",
        operations: &[Operation {
            statuses: &[200, 404, 410, 400, 408, 415, 429, 500, 503],
            ..linked("DescribeLink", |method| on(method, links::about), "the state of a link")
        }],
    },
    Resource {
        path: "/s/open",
        operations: &[Operation {
            statuses: &[200, 403, 404, 410, 400, 408, 415, 429, 500, 503],
            ..linked("OpenLink", |method| on(method, links::open), "opens a link, which counts as a use")
        }],
    },
    Resource {
        path: "/sign",
        operations: &[Operation {
            method: "POST",
            takes: JSON,
            gives: JSON,
            audit: AuditRule::None,
            by_share: ByShare::View,
            statuses: &[200, 400, 408, 415, 429, 500, 503],
            ..Operation::get("SignUrls", |method| on(method, sign::sign), "signs URLs", SECTION)
        }],
    },
];

/// An operation of those who manage shares.
const fn managed(id: &'static str, handler: Handler, summary: &'static str) -> Operation {
    Operation {
        access: Access::Needs(Right::Share),
        audit: AuditRule::None,
        gives: JSON,
        statuses: &[200, 404, 400, 429, 500, 503],
        ..Operation::get(id, handler, summary, SECTION)
    }
}

/// An operation of the page of a link, for everyone who has the link.
const fn linked(id: &'static str, handler: Handler, summary: &'static str) -> Operation {
    Operation {
        method: "POST",
        access: Access::Public,
        audit: AuditRule::None,
        takes: JSON,
        gives: JSON,
        ..Operation::get(id, handler, summary, SECTION)
    }
}
