//! Sending a request, again where that may help: what was throttled, timed out, or met a failure of the service.
//!
//! The client's own retries are off: whether an attempt may have taken effect must be known, and every attempt counted.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::table::Error;
use crate::telemetry;

/// The wait after the first attempt is at most this long; each further one at most twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_millis(25);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Errors of a service that has too much to do: nothing was done.
const THROTTLED: &[&str] = &[
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "ThrottlingError",
    "RequestLimitExceeded",
    "LimitExceededException",
];
/// Errors that say that another request is in the way.
const IN_THE_WAY: &[&str] = &["TransactionInProgressException", "TransactionConflictException"];

/// How requests are sent.
#[derive(Debug)]
pub(super) struct Sender {
    places: Semaphore,
    max_attempts: u32,
    patience: Duration,
}

/// The attempts at one operation.
pub(super) struct Attempts<'a> {
    sender: &'a Sender,
    started: Instant,
    count: u32,
    /// Whether one of them may have taken effect.
    pub(super) is_unclear: bool,
}

/// What an attempt that failed tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It did nothing, and may be repeated.
    Refused,
    /// It may have taken effect, and may be repeated.
    Unclear,
    /// Repeating it would change nothing.
    Final,
}

impl Sender {
    /// `max_requests` are sent at the same time; an operation is tried up to `max_attempts` times, and not again after
    /// `patience`.
    pub(super) fn new(max_requests: usize, max_attempts: u32, patience: Duration) -> Self {
        Self { places: Semaphore::new(max_requests), max_attempts, patience }
    }

    /// No attempt yet.
    pub(super) fn attempts(&self) -> Attempts<'_> {
        Attempts { sender: self, started: Instant::now(), count: 0, is_unclear: false }
    }
}

impl Attempts<'_> {
    /// Sends a request until it is answered, or refused for good, or there are no attempts left.
    ///
    /// # Errors
    /// That of the last attempt.
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
                // The semaphore is never closed; without a place it would only be one request more.
                let _place = self.sender.places.acquire().await;
                telemetry::table_requested(operation);
                request().await
            };
            let error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match judge(&error) {
                Verdict::Final => return Err(error),
                Verdict::Refused => {}
                Verdict::Unclear => self.is_unclear = true,
            }
            if !self.again().await {
                return Err(error);
            }
        }
    }

    /// Whether there is another attempt; waits before it says so, longer each time, and not as long as others do.
    pub(super) async fn again(&mut self) -> bool {
        self.count += 1;
        let most = LONGEST_WAIT.min(FIRST_WAIT * (1 << (self.count - 1).min(10)));
        let wait = most.mul_f64(random());
        if self.count >= self.sender.max_attempts || self.started.elapsed() + wait > self.sender.patience {
            return false;
        }
        telemetry::table_retried();
        sleep(wait).await;
        true
    }
}

/// A number between 0 and 1.
fn random() -> f64 {
    let random = RandomState::new().build_hasher().finish() >> 11;
    random as f64 / (1_u64 << 53) as f64
}

fn judge<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Verdict {
    match error {
        SdkError::ConstructionFailure(_) => Verdict::Final,
        // It may have been sent whole before the connection failed.
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            Verdict::Unclear
        }
        SdkError::ServiceError(context) => {
            let code = context.err().code().unwrap_or_default();
            if THROTTLED.contains(&code) || IN_THE_WAY.contains(&code) {
                Verdict::Refused
            } else if context.raw().status().is_server_error() {
                Verdict::Unclear
            } else {
                Verdict::Final
            }
        }
        _ => Verdict::Final,
    }
}

/// An error of the client as one of the table.
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
            assert_eq!(attempts.again().await, is_left);
        }
        let by_time = Sender::new(1, 1000, Duration::from_millis(200));
        let mut attempts = by_time.attempts();
        while attempts.again().await {}
        assert!(attempts.started.elapsed() < Duration::from_secs(10));
    }
}
