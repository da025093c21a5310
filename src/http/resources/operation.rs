//! A resource and its operations.

use std::sync::Arc;

use axum::routing::{MethodFilter, MethodRouter};

use crate::archive::access::Right;
use crate::http::Service;
use crate::http::audit::AuditRule;
use crate::http::auth::credentials::{ByShare, Needs};
use crate::http::resources::parameters::Parameter;
use crate::query::Level;

/// A resource, by the template of its path.
pub(in crate::http) struct Resource {
    /// The path, with parameters in braces; `{frames}` is a list of numbers from 1, `{path}` may hold
    /// slashes.
    pub(in crate::http) path: &'static str,
    /// The methods of the resource. Every resource with GET has HEAD too, which is not listed.
    pub(in crate::http) operations: &'static [Operation],
}

/// A method of a resource.
#[derive(Clone, Copy)]
pub(in crate::http) struct Operation {
    /// The name of the method, as `GET`.
    pub(in crate::http) method: &'static str,
    /// The name of the transaction, without spaces; unique.
    pub(in crate::http) id: &'static str,
    /// Makes the route to the handler, for the method that it is given.
    pub(in crate::http) handler: Handler,
    /// The right that a caller must have.
    pub(in crate::http) access: Access,
    /// The event of the audit log.
    pub(in crate::http) audit: AuditRule,
    /// Whether callers who have opened a share may use the operation. A new operation says so itself.
    pub(in crate::http) by_share: ByShare,
    /// Whether a signed URL may take the place of a token.
    pub(in crate::http) by_url: bool,
    /// The effect or the result, in a line.
    pub(in crate::http) summary: &'static str,
    /// The document that specifies the operation, with the section.
    pub(in crate::http) section: &'static str,
    /// The parameters besides those in the path.
    pub(in crate::http) parameters: &'static [&'static [Parameter]],
    /// Of a search: the level of the results, which decides on the attributes that can be matched.
    pub(in crate::http) matches: Option<Level>,
    /// The media types of the request's body; empty if there is no body.
    pub(in crate::http) takes: &'static [&'static str],
    /// The media types of the response's body, the default first.
    pub(in crate::http) gives: &'static [&'static str],
    /// The status codes of responses, besides those of [`Access`].
    pub(in crate::http) statuses: &'static [u16],
}

/// Makes the route to a handler.
pub(in crate::http) type Handler = fn(MethodFilter) -> MethodRouter<Arc<Service>>;

/// The right that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Access {
    /// None: the response holds no data of any tenant.
    Public,
    /// A valid token, whatever rights it gives: the response is about the caller alone.
    Authenticated,
    /// A right of the caller, in the caller's own tenant.
    Needs(Right),
}

impl Operation {
    /// `GET`, which needs the right to read, and by which the data of the study in the path are viewed.
    pub(super) const fn get(
        id: &'static str,
        handler: Handler,
        summary: &'static str,
        section: &'static str,
    ) -> Self {
        Self {
            method: "GET",
            id,
            handler,
            access: Access::Needs(Right::Read),
            audit: AuditRule::Viewed,
            by_share: ByShare::No,
            by_url: false,
            summary,
            section,
            parameters: &[],
            matches: None,
            takes: &[],
            gives: &[],
            statuses: &[],
        }
    }

    /// What the operation needs of its caller; `None` if it is for everyone.
    pub(in crate::http) fn needs(&self) -> Option<Needs> {
        let right = match self.access {
            Access::Public => return None,
            Access::Authenticated => None,
            Access::Needs(right) => Some(right),
        };
        Some(Needs { right, by_share: self.by_share, by_url: self.by_url })
    }

    /// All status codes of responses: an operation that needs a right can fail for want of a valid token or
    /// of the right, and every operation for its Host.
    pub(in crate::http) fn all_statuses(&self) -> impl Iterator<Item = u16> {
        let of_access: &[u16] = match self.access {
            Access::Public => &[],
            Access::Authenticated => &[401],
            Access::Needs(_) => &[401, 403],
        };
        let of_access = of_access.iter().filter(|status| !self.statuses.contains(status));
        let of_host = [400, 421].into_iter().filter(|status| !self.statuses.contains(status));
        self.statuses.iter().chain(of_access).copied().chain(of_host)
    }
}
