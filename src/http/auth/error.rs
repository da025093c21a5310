//! The errors of authentication and authorization.

use crate::archive::access::{Caller, Right};

/// The reason why a request is not authorized.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request has no token.
    #[error("an access token is needed: Authorization: Bearer TOKEN")]
    Missing,
    /// The token is not valid; the text says why, and holds no part of the token.
    #[error("the access token {0}")]
    Invalid(&'static str),
    /// The token names no tenant.
    #[error(
        "the access token has no claim `{claim}` that is a tenant, 1 to 64 of a-z, 0-9 and - (auth.tenant_claim)"
    )]
    Tenant {
        /// The claim that should name a tenant.
        claim: String,
    },
    /// The caller lacks a right.
    #[error("the access token gives no right to {} (auth.{}_roles)", right.name(), right.name())]
    Right {
        /// The right that is needed.
        right: Right,
        /// The caller, for the audit log.
        caller: Box<Caller>,
    },
    /// The caller has opened a share that does not allow the operation; the text says why.
    #[error("the share {0}")]
    Share(&'static str),
    /// No key is available yet, so no token can be checked.
    #[error("the keys of the OpenID provider are not available (auth.issuer)")]
    NoKeys,
}
