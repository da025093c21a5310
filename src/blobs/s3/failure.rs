//! What went wrong with S3, in the words of [`Error`]; the SDK's own errors go no further.

use std::error::Error as StdError;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

use crate::blobs::Error;

/// Why a request failed, for the log. It holds no secrets: neither what was signed nor with what.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The store answered that it did not do it.
    #[error("the store answered {status} {code} (request {request_id}){}{message}", separator(.message))]
    Answer {
        /// The HTTP status.
        status: u16,
        /// S3's error code, as in `SlowDown`; empty if the answer had none.
        code: String,
        /// What the store says to people; may be empty.
        message: String,
        /// What the store's own log names the request.
        request_id: String,
    },
    /// There was no answer, or none that could be read.
    #[error("the store did not answer: {0}")]
    Silence(String),
    /// The answer was read, and is not one to that request.
    #[error("the store answered {0}")]
    Nonsense(&'static str),
}

impl Failure {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        match error.raw_response() {
            Some(answer) => Self::Answer {
                status: answer.status().as_u16(),
                code: error.code().unwrap_or_default().to_owned(),
                message: error.message().unwrap_or_default().to_owned(),
                request_id: answer.request_id().unwrap_or("unknown").to_owned(),
            },
            None => Self::Silence(causes(error)),
        }
    }

    /// The HTTP status of the answer; 0 if there was none.
    pub(super) fn status(&self) -> u16 {
        if let Self::Answer { status, .. } = self { *status } else { 0 }
    }

    /// S3's error code; empty if there was none.
    pub(super) fn code(&self) -> &str {
        if let Self::Answer { code, .. } = self { code } else { "" }
    }

    /// Whether the answer says that there is no such object (and not that there is no such bucket).
    pub(super) fn is_not_found(&self) -> bool {
        self.status() == 404 && self.code() != "NoSuchBucket"
    }

    /// Whether the condition of the request did not hold.
    pub(super) fn is_precondition_failed(&self) -> bool {
        self.status() == 412
    }

    /// A label for metrics: one of few.
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
        // 507 by MinIO and Garage, a code by Ceph.
        let is_full = self.status() == 507 || matches!(self.code(), "QuotaExceeded" | "XMinioStorageFull");
        if is_full { Error::NoSpace { operation } } else { Error::Backend { operation, source: self.into() } }
    }
}

/// An error and what caused it, for people.
pub(super) fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many an error repeats its cause.
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
