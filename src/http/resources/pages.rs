//! The resources that are not of DICOM: the fast stream, this description, web pages and operations.

use axum::routing::on;

use crate::archive::access::Right;
use crate::http::audit::AuditRule;
use crate::http::auth::credentials::ByShare;
use crate::http::resources::openapi;
use crate::http::resources::operation::{Access, Handler, Operation, Resource};
use crate::http::resources::parameters::{AUDIT, CHANGES, CONDITIONS, EVENTS, RANGE, STREAM, USAGE};
use crate::http::web::{console, view, viewer};
use crate::http::{audit_log, changes, forwarding, me, ops, preview_stream, status, usage, webhooks};

/// The resources, in the order in which they are described.
pub(super) const RESOURCES: &[Resource] = &[
    // docs/fast-stream.md.
    Resource {
        path: "/stream/studies/{study}/series/{series}",
        operations: &[Operation {
            parameters: &[STREAM, CONDITIONS, RANGE],
            by_share: ByShare::View,
            by_url: true,
            gives: &["application/vnd.cuspid.stream"],
            statuses: &[200, 206, 304, 404, 406, 413, 416, 400, 429, 500, 503],
            ..Operation::get(
                "RetrieveStream",
                |method| on(method, preview_stream::stream),
                "slices of a series as JPEG 2000",
                "docs/fast-stream.md",
            )
        }],
    },
    // docs/changes.md.
    Resource {
        path: "/changes",
        operations: &[Operation {
            audit: AuditRule::Feed,
            parameters: &[CHANGES],
            by_share: ByShare::View,
            gives: &["application/json"],
            statuses: &[200, 400, 410, 429, 500, 503],
            ..Operation::get(
                "RetrieveChanges",
                |method| on(method, changes::changes),
                "the changes of all studies in order",
                "docs/changes.md",
            )
        }],
    },
    Resource {
        path: "/events",
        operations: &[Operation {
            audit: AuditRule::Feed,
            parameters: &[EVENTS],
            by_share: ByShare::View,
            gives: &["text/event-stream"],
            statuses: &[200, 400, 410, 429, 500, 503],
            ..Operation::get(
                "ListenToChanges",
                |method| on(method, changes::events),
                "changes as events, from now on",
                "docs/changes.md",
            )
        }],
    },
    Resource {
        path: "/forwarding/retry",
        operations: &[Operation {
            method: "POST",
            access: Access::Needs(Right::Administer),
            audit: AuditRule::None,
            takes: &["application/json"],
            gives: &["application/json"],
            statuses: &[200, 404, 408, 415, 429, 500, 503],
            ..Operation::get(
                "RetryForwarding",
                |method| on(method, forwarding::retry),
                "forwards the instances again that could not be sent to a destination",
                "docs/dimse.md",
            )
        }],
    },
    Resource {
        path: "/webhooks",
        operations: &[Operation {
            access: Access::Needs(Right::Administer),
            audit: AuditRule::None,
            gives: &["application/json"],
            statuses: &[200, 429, 500, 503],
            ..Operation::get(
                "RetrieveWebhooks",
                |method| on(method, webhooks::webhooks),
                "the state of the delivery of changes to webhooks",
                "docs/changes.md",
            )
        }],
    },
    // docs/audit.md.
    Resource {
        path: "/audit",
        operations: &[Operation {
            access: Access::Needs(Right::Administer),
            audit: AuditRule::InHandler,
            parameters: &[AUDIT],
            gives: &["application/json"],
            statuses: &[200, 400, 429, 500, 503],
            ..Operation::get(
                "ReadAuditLog",
                |method| on(method, audit_log::audit),
                "who saw, stored, deleted and searched for what",
                "docs/audit.md",
            )
        }],
    },
    // docs/usage.md.
    Resource {
        path: "/admin/usage",
        operations: &[Operation {
            access: Access::Needs(Right::Administer),
            audit: AuditRule::None,
            parameters: &[USAGE],
            gives: &["application/json", "text/csv"],
            statuses: &[200, 400, 406, 429, 500, 503],
            ..Operation::get(
                "ReadUsage",
                |method| on(method, usage::usage),
                "what the tenant has stored, and its usage by day",
                "docs/usage.md",
            )
        }],
    },
    Resource {
        path: "/stream/studies/{study}/series/{series}/state",
        operations: &[Operation {
            gives: &["application/json"],
            statuses: &[200, 404, 400, 429, 500, 503],
            by_share: ByShare::View,
            ..Operation::get(
                "RetrieveStreamState",
                |method| on(method, preview_stream::state),
                "progress of the slices of a series as JPEG 2000",
                "docs/fast-stream.md",
            )
        }],
    },
    Resource {
        path: "/openapi.json",
        // Public, because the description says how to authenticate.
        operations: &[Operation {
            access: Access::Public,
            audit: AuditRule::None,
            parameters: &[CONDITIONS, RANGE],
            gives: &["application/json"],
            statuses: &[200, 206, 304, 406, 416, 400, 429, 500, 503],
            ..Operation::get(
                "DescribeInOpenapi",
                |method| on(method, openapi),
                "this description",
                "OpenAPI 3.1",
            )
        }],
    },
    // The built-in web page.
    Resource {
        path: "/",
        operations: &[page("ShowConsole", |method| on(method, console::page), "the built-in web page", HTML)],
    },
    Resource {
        path: "/console/{path}",
        operations: &[Operation {
            statuses: &[200, 404, 429, 500, 503],
            ..page(
                "ShowConsoleFile",
                |method| on(method, console::file),
                "a script or style sheet of the page",
                FILES,
            )
        }],
    },
    Resource {
        path: "/me",
        operations: &[Operation {
            access: Access::Authenticated,
            audit: AuditRule::None,
            by_share: ByShare::View,
            statuses: &[200, 429, 500, 503],
            gives: &["application/json"],
            ..Operation::get(
                "ShowCaller",
                |method| on(method, me::me),
                "the caller's tenant and rights",
                "docs/security.md",
            )
        }],
    },
    Resource {
        path: "/status",
        operations: &[Operation {
            audit: AuditRule::None,
            statuses: &[200, 429, 500, 503],
            gives: &["application/json"],
            ..Operation::get(
                "ShowStatus",
                |method| on(method, status::status),
                "how the server is",
                "docs/console.md",
            )
        }],
    },
    // The OHIF viewer (docs/viewer.md).
    Resource {
        path: "/viewer",
        operations: &[Operation {
            statuses: &[308, 429],
            ..viewer("EnterViewer", |method| on(method, viewer::enter), "leads to the viewer")
        }],
    },
    Resource {
        path: "/viewer/",
        operations: &[Operation {
            gives: HTML,
            ..viewer("ShowViewer", |method| on(method, viewer::file), "the OHIF viewer")
        }],
    },
    Resource {
        path: "/viewer/app-config.js",
        operations: &[page(
            "ConfigureViewer",
            |method| on(method, viewer::configuration),
            "the viewer's configuration",
            SCRIPT,
        )],
    },
    Resource {
        path: "/viewer/{path}",
        operations: &[Operation {
            parameters: &[RANGE],
            gives: HTML,
            ..viewer("ShowViewerFile", |method| on(method, viewer::file), "a file of the viewer")
        }],
    },
    // The Cuspid viewer (docs/view.md).
    Resource {
        path: "/view",
        operations: &[Operation {
            statuses: &[308, 429],
            section: "docs/view.md",
            ..viewer("EnterView", |method| on(method, view::enter), "leads to the Cuspid viewer")
        }],
    },
    Resource {
        path: "/view/",
        operations: &[Operation {
            statuses: &[200, 404, 429, 500, 503],
            gives: HTML,
            section: "docs/view.md",
            ..viewer("ShowView", |method| on(method, view::page), "the Cuspid viewer")
        }],
    },
    Resource {
        path: "/view/{path}",
        operations: &[Operation {
            parameters: &[RANGE],
            gives: VIEW_FILES,
            section: "docs/view.md",
            ..viewer("ShowViewFile", |method| on(method, view::file), "a file of the Cuspid viewer")
        }],
    },
    // Operations.
    Resource {
        path: "/healthz",
        operations: &[page(
            "CheckHealth",
            |method| on(method, ops::healthz),
            "whether the process answers",
            TEXT,
        )],
    },
    Resource {
        path: "/readyz",
        operations: &[page(
            "CheckReadiness",
            |method| on(method, ops::readyz),
            "whether requests can be served",
            TEXT,
        )],
    },
    Resource {
        path: "/metrics",
        operations: &[Operation {
            access: Access::Needs(Right::Administer),
            ..page(
                "ReadMetrics",
                |method| on(method, ops::metrics),
                "metrics in the text format of Prometheus",
                TEXT,
            )
        }],
    },
];

const FILES: &[&str] = &["text/javascript", "text/css"];
const VIEW_FILES: &[&str] = &["text/javascript", "text/css", "application/wasm"];
const HTML: &[&str] = &["text/html"];
const SCRIPT: &[&str] = &["text/javascript"];
const TEXT: &[&str] = &["text/plain"];

/// A page, a script or a line of text, for everyone.
const fn page(
    id: &'static str,
    handler: Handler,
    summary: &'static str,
    gives: &'static [&'static str],
) -> Operation {
    let statuses = &[200, 429, 500, 503];
    let (access, audit) = (Access::Public, AuditRule::None);
    Operation { access, audit, gives, statuses, ..Operation::get(id, handler, summary, "docs") }
}

/// A file of a viewer, for everyone.
const fn viewer(id: &'static str, handler: Handler, summary: &'static str) -> Operation {
    let statuses = &[200, 206, 304, 404, 416, 429, 500, 503];
    let from = Operation::get(id, handler, summary, "docs/viewer.md");
    Operation { access: Access::Public, audit: AuditRule::None, statuses, ..from }
}
