//! Deleting a study, a series or an instance. PS3.18 has no such transaction; the method is that of RFC 9110
//! §9.3.5, on the resources of PS3.18 §10.1.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::archive::access::Caller;
use crate::archive::maintenance::delete;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::path::Target;

/// `DELETE` of a study, a series or an instance: 204 when it is durably deleted, with all derived objects.
pub(crate) async fn delete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
) -> Result<StatusCode, Error> {
    if !service.settings.allow_delete {
        return Err(Error::Forbidden("this server does not delete (http.allow_delete)".into()));
    }
    delete::delete(&service.archive, &caller, scope).await?;
    Ok(StatusCode::NO_CONTENT)
}
