//! Failures of requests to S3, and their conversion to [`Error`]; the SDK's own errors stay in this module.

use std::error::Error as StdError;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

use crate::blobs::Error;

/// The failure of a request, for the log. It holds no secrets: no signature, and no signed data.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestFailure {
    /// The service answered with an error.
    #[error("the store answered {status} {code} (request {request_id}){}{message}", separator(.message))]
    ErrorStatus {
        /// The HTTP status.
        status: u16,
        /// S3's error code, as in `SlowDown`; empty if the answer had none.
        code: String,
        /// The message of the service; may be empty.
        message: String,
        /// The id of the request in the log of the service.
        request_id: String,
    },
    /// There was no answer, or the answer could not be read.
    #[error("the store did not answer: {0}")]
    NoResponse(String),
    /// The answer was read, but does not fit the request.
    #[error("the store answered {0}")]
    InvalidResponse(&'static str),
}

impl RequestFailure {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        match error.raw_response() {
            Some(answer) => Self::ErrorStatus {
                status: answer.status().as_u16(),
                code: error.code().unwrap_or_default().to_owned(),
                message: error.message().unwrap_or_default().to_owned(),
                request_id: answer.request_id().unwrap_or("unknown").to_owned(),
            },
            None => Self::NoResponse(causes(error)),
        }
    }

    /// The HTTP status of the answer; 0 if there was none.
    pub(super) fn status(&self) -> u16 {
        if let Self::ErrorStatus { status, .. } = self { *status } else { 0 }
    }

    /// S3's error code; empty if there was none.
    pub(super) fn code(&self) -> &str {
        if let Self::ErrorStatus { code, .. } = self { code } else { "" }
    }

    /// Whether the service found no such object (a missing bucket is another failure).
    pub(super) fn is_not_found(&self) -> bool {
        self.status() == 404 && self.code() != "NoSuchBucket"
    }

    /// Whether the condition of the request did not hold.
    pub(super) fn is_precondition_failed(&self) -> bool {
        self.status() == 412
    }

    /// A label for metrics, one of a fixed set.
    pub(super) fn label(&self) -> &'static str {
        match self.status() {
            0 => "unreachable",
            429 | 503 => "throttled",
            status if status >= 500 => "failed",
            404 => "not_found",
            412 => "precondition",
            _ => "refused",
        }
    }

    pub(super) fn into_error(self, operation: String) -> Error {
        // MinIO and Garage answer 507, Ceph a code.
        let is_full = self.status() == 507 || matches!(self.code(), "QuotaExceeded" | "XMinioStorageFull");
        if is_full { Error::NoSpace { operation } } else { Error::Backend { operation, source: self.into() } }
    }
}

/// The messages of an error and its causes.
pub(super) fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors repeat the message of their cause.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn separator(message: &str) -> &'static str {
    if message.is_empty() { "" } else { ": " }
}
