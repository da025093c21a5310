//! The sending of requests, with retries of those that were throttled, timed out, or met a failure of the
//! service.
//!
//! The retries of the SDK are off, because every attempt is counted, and the caller must know whether one may
//! have taken effect.

use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::table::Error;
use crate::telemetry;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(2));

/// Error codes of throttled requests, which had no effect.
const THROTTLED: &[&str] = &[
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "ThrottlingError",
    "RequestLimitExceeded",
    "LimitExceededException",
];
/// Error codes of requests that conflict with another transaction.
const CONFLICTS: &[&str] = &["TransactionInProgressException", "TransactionConflictException"];

/// Sends requests, with a limit on concurrent ones.
#[derive(Debug)]
pub(super) struct Sender {
    permits: Semaphore,
    max_attempts: u32,
    max_duration: Duration,
}

/// The attempts at one operation.
pub(super) struct RequestAttempts<'a> {
    sender: &'a Sender,
    started: Instant,
    count: u32,
    /// Whether one of the attempts may have taken effect.
    pub(super) is_unclear: bool,
}

/// The class of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureClass {
    /// The request had no effect, and may be repeated.
    Refused,
    /// The request may have taken effect, and may be repeated.
    Unclear,
    /// A retry would fail, too.
    Permanent,
}

impl Sender {
    /// Sends at most `max_requests` at the same time, and tries an operation at most `max_attempts` times and
    /// for at most `max_duration`.
    pub(super) fn new(max_requests: usize, max_attempts: u32, max_duration: Duration) -> Self {
        Self { permits: Semaphore::new(max_requests), max_attempts, max_duration }
    }

    /// Begins an operation, without an attempt yet.
    pub(super) fn attempts(&self) -> RequestAttempts<'_> {
        RequestAttempts { sender: self, started: Instant::now(), count: 0, is_unclear: false }
    }
}

impl RequestAttempts<'_> {
    /// Sends a request until it is answered, or fails permanently, or no attempts are left.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub(super) async fn send<T, E, F>(
        &mut self,
        operation: &'static str,
        request: impl Fn() -> F,
    ) -> Result<T, SdkError<E>>
    where
        E: ProvideErrorMetadata,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        loop {
            let outcome = {
                // The semaphore is never closed; without a permit there would only be one more request.
                let _permit = self.sender.permits.acquire().await;
                telemetry::table_requested(operation);
                request().await
            };
            let error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match classify(&error) {
                FailureClass::Permanent => return Err(error),
                FailureClass::Refused => {}
                FailureClass::Unclear => self.is_unclear = true,
            }
            if !self.retry().await {
                return Err(error);
            }
        }
    }

    /// Waits before another attempt; `false` if no attempts are left.
    pub(super) async fn retry(&mut self) -> bool {
        self.count += 1;
        let wait = BACKOFF.wait(self.count);
        if self.count >= self.sender.max_attempts || self.started.elapsed() + wait > self.sender.max_duration
        {
            return false;
        }
        telemetry::table_retried();
        sleep(wait).await;
        true
    }
}

fn classify<E: ProvideErrorMetadata>(error: &SdkError<E>) -> FailureClass {
    match error {
        SdkError::ConstructionFailure(_) => FailureClass::Permanent,
        // The request may have been sent whole before the connection failed.
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            FailureClass::Unclear
        }
        SdkError::ServiceError(context) => {
            let code = context.err().code().unwrap_or_default();
            if THROTTLED.contains(&code) || CONFLICTS.contains(&code) {
                FailureClass::Refused
            } else if context.raw().status().is_server_error() {
                FailureClass::Unclear
            } else {
                FailureClass::Permanent
            }
        }
        _ => FailureClass::Permanent,
    }
}

/// Converts an error of the SDK to one of the table.
pub(super) fn failed<E>(operation: &'static str, error: SdkError<E>) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    Error::Backend { operation, source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_end_by_number_and_by_time() {
        let by_number = Sender::new(1, 4, Duration::from_secs(60));
        let mut attempts = by_number.attempts();
        for is_left in [true, true, true, false] {
            assert_eq!(attempts.retry().await, is_left);
        }
        let by_time = Sender::new(1, 1000, Duration::from_millis(200));
        let mut attempts = by_time.attempts();
        while attempts.retry().await {}
        assert!(attempts.started.elapsed() < Duration::from_secs(10));
    }
}
