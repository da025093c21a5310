//! Queues of jobs for workers: series whose preview is to be made.
//!
//! The job itself is written in the index, in the transaction that makes it necessary; a queue only names the
//! series. A job that the queue loses is found in the index, and a job that the queue delivers twice is done
//! once, because a worker first takes a lease in the index.

use std::time::Duration;

use async_trait::async_trait;

use crate::dicom::uid::{SeriesUid, StudyUid};

pub mod embedded;
pub mod sqs;

/// A series whose preview may have to be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job {
    /// The tenant of the series.
    pub tenant: String,
    /// The study.
    pub study: StudyUid,
    /// The series.
    pub series: SeriesUid,
}

/// A job that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The job.
    pub job: Job,
    /// The handle of this delivery at the queue.
    pub receipt: String,
}

/// A failure of a queue.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct Error {
    /// The operation that failed.
    pub operation: &'static str,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A queue of jobs.
///
/// # Contract
/// - A job that was announced is received at least once, not before its delay, unless the queue loses it.
/// - A delivery that is neither extended nor deleted is received again after the time for which it was
///   received.
/// - Every method may be called again after any failure.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Announces a job that can be done after `delay`. May do nothing if the job was announced a moment ago.
    async fn announce(&self, job: &Job, delay: Duration) -> Result<(), Error>;

    /// Receives jobs; waits some seconds for one, and returns none if none comes. Other workers do not
    /// receive these jobs for `lease`.
    async fn receive(&self, lease: Duration) -> Result<Vec<Delivery>, Error>;

    /// Prolongs the time in which other workers do not receive a delivery.
    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), Error>;

    /// Deletes a delivery, whose job is done.
    async fn delete(&self, delivery: &Delivery) -> Result<(), Error>;
}
