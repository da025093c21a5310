//! The queue without a service: it receives the jobs that are due in the index.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock;
use crate::index::Index;
use crate::index::previews::DuePreview;
use crate::queue::{Delivery, Error, Job, Queue};

/// The wait of a worker without a job.
const POLL: Duration = Duration::from_secs(1);
/// The most jobs that are received at a time: another worker may take the first of them.
const MAX_JOBS: usize = 8;

/// The jobs that are due in an index. Leases are taken in the index, so that most methods here do nothing.
pub struct EmbeddedQueue {
    index: Arc<Index>,
}

impl EmbeddedQueue {
    /// The queue of an index.
    pub fn new(index: Arc<Index>) -> Self {
        Self { index }
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn announce(&self, _: &Job, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn receive(&self, _: Duration) -> Result<Vec<Delivery>, Error> {
        let due = self.index.due_previews(clock::now_millis(), MAX_JOBS).await;
        let due =
            due.map_err(|source| Error { operation: "look for due previews", source: source.into() })?;
        if due.is_empty() {
            tokio::time::sleep(POLL).await;
        }
        let delivery = |due: DuePreview| {
            let DuePreview { tenant, record } = due;
            let job = Job { tenant, study: record.study, series: record.series };
            Delivery { job, receipt: String::new() }
        };
        Ok(due.into_iter().map(delivery).collect())
    }

    async fn extend(&self, _: &Delivery, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn delete(&self, _: &Delivery) -> Result<(), Error> {
        Ok(())
    }
}
