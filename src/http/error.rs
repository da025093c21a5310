//! The only place where an error becomes an HTTP status, with a body by RFC 9457 (PS3.18 §8.5).

use axum::http::header::{ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::archive;
use crate::archive::derived::mini::CutOutError;
use crate::archive::ingest::Refusal;
use crate::archive::read::whole::is_lost;
use crate::http::auth::error as auth;
use crate::telemetry;

/// Seconds after which a client may retry.
const RETRY_SECONDS: u32 = 5;
/// Seconds in which some of a client's requests should have ended.
const OTHERS_END_SECONDS: u32 = 1;

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An error of the archive.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// The request is not authorized.
    #[error(transparent)]
    Auth(#[from] auth::Error),
    /// A parameter, header field or path segment that is not valid.
    #[error("{name} {reason}")]
    Parameter {
        /// The name.
        name: String,
        /// The reason why it is not valid.
        reason: String,
    },
    /// A body that does not match its Content-Type.
    #[error("{0}")]
    Body(String),
    /// The client sent nothing for too long.
    #[error("the client sent nothing for {seconds} seconds (http.idle_timeout_seconds)")]
    TimedOut {
        /// The limit in force.
        seconds: u64,
    },
    /// The client sent less than the minimum.
    #[error("the client sent less than {bytes_per_second} bytes a second (ingest.min_bytes_per_second)")]
    TooSlow {
        /// The limit in force.
        bytes_per_second: u64,
    },
    /// The client accepts no representation; the text lists those that exist.
    #[error("{0}")]
    NotAcceptable(String),
    /// A body of a media type that is not supported.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// A body with a content coding that is not supported.
    #[error("Content-Encoding: can be gzip or identity")]
    ContentEncoding,
    /// The client has too many requests under way.
    #[error("there are {limit} requests of this client under way (http.max_requests_per_client)")]
    TooManyRequests {
        /// The limit in force.
        limit: usize,
    },
    /// The client has too many streams of events, or all clients together have.
    #[error(
        "there are too many listeners (changes.max_listeners, {limit}; changes.max_listeners_per_client)"
    )]
    TooManyListeners {
        /// The limit for all clients.
        limit: usize,
    },
    /// The representation existed, and does not any more.
    #[error("{0}")]
    Gone(String),
    /// A body beyond a limit.
    #[error("the body is larger than {limit} bytes (ingest.max_request_bytes)")]
    TooLarge {
        /// The limit in force.
        limit: u64,
    },
    /// A compressed body that grows out of proportion.
    #[error("the body is more than {limit} times as large as it is compressed (ingest.max_gzip_ratio)")]
    TooCompressed {
        /// The limit in force.
        limit: u64,
    },
    /// There are as many of a kind as there may be.
    #[error("{0}")]
    Full(String),
    /// The requested range lies beyond the end.
    #[error("Range: there are only {size} bytes")]
    Range {
        /// The size of the whole in bytes.
        size: u64,
    },
    /// Stored data cannot be read.
    #[error("what is stored cannot be read")]
    Damaged(#[source] anyhow::Error),
    /// No resource has this URL.
    #[error("no resource has this URL")]
    NoResource,
    /// The series is no volume that can be cut.
    #[error("{0}")]
    NoVolume(String),
    /// The settings do not allow the operation.
    #[error("{0}")]
    Forbidden(String),
    /// The request is for a host that is not this server.
    #[error(
        "Host: is no name of this server; without authentication it answers under names of loopback, and that of http.public_url"
    )]
    OtherHost,
    /// A page of another site sent a request that changes something.
    #[error("a page of another site sent the request; http.allowed_origins does not list its origin")]
    OtherSite,
    /// No viewer is installed.
    #[error("there is no viewer in the directory of viewer.directory: `make viewer` installs OHIF")]
    NoViewer,
    /// The Cuspid viewer is not installed.
    #[error("there is no viewer in the directory of view.directory: `make viewer` builds it")]
    NoView,
    /// The resource does not support the method.
    #[error("the resource does not support this method")]
    Method,
    /// The server cannot answer for now.
    #[error("{0}")]
    Unavailable(String),
}

/// The log text of a failure, as an extension of the response; the client does not see it.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) String);

impl From<CutOutError> for Error {
    fn from(error: CutOutError) -> Self {
        match error {
            CutOutError::Archive(error) => Self::Archive(error),
            CutOutError::Parameter { name, reason } => Self::Parameter { name: name.into(), reason },
            CutOutError::NoVolume(_) => Self::NoVolume(error.to_string()),
        }
    }
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Self::Archive(error) if error.is_no_space() => StatusCode::INSUFFICIENT_STORAGE,
            Self::Archive(archive::Error::NotFound(_)) | Self::NoResource | Self::NoViewer | Self::NoView => {
                StatusCode::NOT_FOUND
            }
            Self::Archive(
                archive::Error::Unsupported(_)
                | archive::Error::NotDeidentified(_)
                | archive::Error::TooLarge(_)
                | archive::Error::Damaged(_),
            )
            | Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Archive(archive::Error::NotReady(_) | archive::Error::Busy | archive::Error::Audit(_))
            | Self::Unavailable(_)
            | Self::Auth(auth::Error::NoKeys) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Auth(auth::Error::Missing | auth::Error::Invalid(_)) => StatusCode::UNAUTHORIZED,
            Self::Auth(auth::Error::Tenant { .. } | auth::Error::Right { .. } | auth::Error::Share(_)) => {
                StatusCode::FORBIDDEN
            }
            Self::Archive(
                archive::Error::Internal(_) | archive::Error::Blobs(_) | archive::Error::Index(_),
            ) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Parameter { .. } | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::TimedOut { .. } | Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType(_) | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests { .. } | Self::TooManyListeners { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Gone(_) => StatusCode::GONE,
            Self::Full(_) | Self::NoVolume(_) => StatusCode::CONFLICT,
            Self::Archive(archive::Error::TooMany(_))
            | Self::TooLarge { .. }
            | Self::TooCompressed { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Forbidden(_) | Self::OtherSite => StatusCode::FORBIDDEN,
            Self::OtherHost => StatusCode::MISDIRECTED_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        let is_inside = status == StatusCode::INTERNAL_SERVER_ERROR;
        let detail = match &self {
            Self::Archive(error) if is_lost(error) => {
                "what is stored is missing or damaged; the server's log names the object".to_owned()
            }
            _ if status == StatusCode::INSUFFICIENT_STORAGE => {
                "no space left on the server's storage; its log says where".to_owned()
            }
            _ if is_inside => "the server failed; its log says why".to_owned(),
            _ => self.to_string(),
        };
        let mut problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": detail,
        });
        if let Self::Parameter { name, .. } = &self {
            problem["parameter"] = json!(name);
        }
        let content_type = [(CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, content_type, problem.to_string()).into_response();
        // A panic was logged where it happened.
        if status.is_server_error() && !matches!(self, Self::Archive(archive::Error::Internal(_))) {
            response.extensions_mut().insert(Cause(telemetry::chain(&self)));
        }
        let headers = response.headers_mut();
        match &self {
            Self::Auth(error) if status != StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(WWW_AUTHENTICATE, challenge(error));
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
            }
            Self::TooManyRequests { .. } | Self::TooManyListeners { .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(OTHERS_END_SECONDS));
            }
            Self::ContentEncoding => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity"));
            }
            _ if status == StatusCode::NOT_ACCEPTABLE => {
                headers.insert(VARY, HeaderValue::from_static("Accept"));
            }
            Self::Range { size } => {
                if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                    headers.insert(CONTENT_RANGE, value);
                }
            }
            _ => {}
        }
        response
    }
}

/// The challenge to a caller (RFC 6750 §3). A request without a token gets no error code.
fn challenge(error: &auth::Error) -> HeaderValue {
    let of_token = |reason| {
        format!(
            "Bearer realm=\"cuspid\", error=\"invalid_token\", error_description=\"the access token {reason}\""
        )
    };
    match error {
        auth::Error::Missing | auth::Error::NoKeys => HeaderValue::from_static("Bearer realm=\"cuspid\""),
        auth::Error::Invalid(reason) => {
            HeaderValue::try_from(of_token(reason)).expect("reasons are in ASCII, without quotation marks")
        }
        auth::Error::Tenant { .. } | auth::Error::Right { .. } | auth::Error::Share(_) => {
            HeaderValue::from_static("Bearer realm=\"cuspid\", error=\"insufficient_scope\"")
        }
    }
}

/// The Failure Reason (0008,1197) of an instance that was not stored (PS3.18 §I.2.2).
pub(crate) fn failure_reason(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::NonPatientObject => 0x0122,
        Refusal::Unreadable(_) | Refusal::Metadata(_) | Refusal::Attributes(_) => 0xC000,
        Refusal::NoTransferSyntax(_) => 0xC122,
        Refusal::TooLarge { .. } | Refusal::NoSpace | Refusal::Busy | Refusal::Quota(_) => 0xA700,
        Refusal::OtherStudy { .. }
        | Refusal::OtherInstance { .. }
        | Refusal::Different
        | Refusal::Elsewhere => 0xA900,
        Refusal::Failed(_) => 0x0110,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_inside_is_logged_and_not_shown() {
        let response = Error::Damaged(anyhow::anyhow!("secret")).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.extensions().get::<Cause>().unwrap().0.ends_with(": secret"));
    }

    #[test]
    fn what_may_succeed_later_says_when() {
        let response = Error::from(archive::Error::NotReady("preview".into())).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "5");
    }
}
