//! Retries of transactions after conflicts, mostly with other processes.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backoff::{Backoff, jitter};
use crate::index::Error;
use crate::table;

/// The time from the first attempt after which a conflict is not retried.
const MAX_TOTAL: Duration = Duration::from_secs(60);
/// The maximum number of times that the wait doubles.
const MAX_DOUBLINGS: u32 = 3;
/// The bounds of the longest wait after an attempt.
const MIN_WAIT: Duration = Duration::from_millis(2);
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The attempts at a transaction.
pub(crate) struct ConflictRetries {
    first: Instant,
    last: Instant,
    /// The number of retries so far.
    pub(crate) count: u32,
}

impl Default for ConflictRetries {
    fn default() -> Self {
        let now = Instant::now();
        Self { first: now, last: now, count: 0 }
    }
}

impl ConflictRetries {
    /// Whether to retry after an attempt with this outcome. If so, waits first, for a random time.
    ///
    /// The longest wait depends on the duration of the last attempt: concurrent transactions take about as
    /// long, and a transaction that fails may cost as much as one that succeeds.
    pub(crate) async fn should_retry<T>(&mut self, outcome: &Result<T, Error>) -> bool {
        if !is_conflict(outcome) || self.first.elapsed() >= MAX_TOTAL {
            return false;
        }
        self.count += 1;
        let backoff = Backoff::new(self.last.elapsed() * 2, MAX_WAIT);
        sleep(jitter(backoff.limit(self.count.min(MAX_DOUBLINGS)).max(MIN_WAIT))).await;
        self.last = Instant::now();
        true
    }
}

/// Whether an attempt met another state of the table than it expected.
pub(crate) fn is_conflict<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Table(table::Error::Conflict(_))))
}
