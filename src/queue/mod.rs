//! Telling workers that there is work: series whose preview is to be made.
//!
//! The work itself is written in the index, in the transaction that makes it necessary; a queue only tells where to
//! look. What it loses is found there again, what it tells twice is done once: a worker first takes a lease in the index.

use std::time::Duration;

use async_trait::async_trait;

use crate::dicom::uid::{SeriesUid, StudyUid};

pub mod embedded;
pub mod sqs;

/// A series whose preview may have to be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The study.
    pub study: StudyUid,
    /// The series.
    pub series: SeriesUid,
}

/// A job that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What to look at.
    pub job: Job,
    /// By which the queue knows this delivery.
    pub receipt: String,
}

/// Why a queue failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct Error {
    /// What could not be done.
    pub operation: &'static str,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A queue of jobs.
///
/// # Contract
/// - A job that was announced is received at least once, not before its delay, unless the queue loses it.
/// - A delivery that is neither extended nor deleted is received again after the time for which it was received.
/// - Every method may be called again after any failure.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Announces a job that can be done after a while. May do nothing if it was announced a moment ago.
    async fn announce(&self, job: &Job, delay: Duration) -> Result<(), Error>;

    /// Receives jobs, for some seconds waiting for one; none if there are none. Others do not receive them for `lease`.
    async fn receive(&self, lease: Duration) -> Result<Vec<Delivery>, Error>;

    /// Keeps a delivery from others for another while.
    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), Error>;

    /// Says that a delivery needs no more work.
    async fn delete(&self, delivery: &Delivery) -> Result<(), Error>;
}
