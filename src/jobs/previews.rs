//! Encodes slices when they are stored, and makes the previews that are due. Encoding is background work, so
//! that ingest is not slowed down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::archive::Archive;
use crate::archive::derived::preview::{self, Due, Outcome, PreviewLease, ahead};
use crate::archive::derived::transcode;
use crate::config::Config;
use crate::queue::{Delivery, Job};
use crate::telemetry;

/// The pause of a worker after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// The shortest pause before another look at a series whose preview could not be taken.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The preview that a worker makes, with its delivery if it came from the queue.
type Current = Option<(Due, Option<Delivery>)>;

/// The jobs of a worker.
#[derive(Debug, Clone, Copy)]
enum JobsOf {
    /// Those of the queue: of all processes, and those that a process has lost.
    Queue,
    /// The series whose slices this process has encoded: no other process has to encode them again.
    Process,
}

/// Encodes slices and makes previews until `stop`; the lease of an unfinished preview is then released.
pub async fn run(archive: Arc<Archive>, config: &Config, stop: CancellationToken) {
    let lease = Duration::from_secs(config.jobs.lease_seconds);
    let mut workers = JoinSet::new();
    for jobs in [JobsOf::Queue, JobsOf::Queue, JobsOf::Process, JobsOf::Process] {
        let (archive, stop) = (archive.clone(), stop.clone());
        workers.spawn(async move { run_worker(&archive, jobs, lease, &stop).await });
    }
    workers.spawn(async move {
        stop.run_until_cancelled(ahead::encode_stored(&archive)).await;
    });
    // A panic was printed when it happened.
    while workers.join_next().await.is_some() {}
}

/// Makes one preview after the other until `stop`.
async fn run_worker(archive: &Arc<Archive>, jobs: JobsOf, lease: Duration, stop: &CancellationToken) {
    let mut current = None;
    let jobs = async {
        loop {
            let ended = match jobs {
                JobsOf::Queue => run_next(archive, lease, &mut current).await,
                JobsOf::Process => run_own(archive, lease, &mut current).await,
            };
            if let Err(error) = ended {
                let error = format!("{error:#}");
                error!(error, "a preview job failed; trying again");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    };
    stop.run_until_cancelled(jobs).await;
    if let Some((due, delivery)) = current
        && let Err(error) = release(archive, &due, delivery.as_ref()).await
    {
        let error = format!("{error:#}");
        warn!(error, "cannot release a preview job; another worker gets the job when its lease ends");
    }
}

/// Waits for a preview that is due and makes it. `current` holds the preview while it is being made.
async fn run_next(archive: &Arc<Archive>, lease: Duration, current: &mut Current) -> anyhow::Result<()> {
    let deliveries = archive.queue().receive(lease).await.context("cannot receive jobs")?;
    for delivery in deliveries {
        match take(archive, &delivery.job, lease).await? {
            PreviewLease::Acquired(due) => {
                return make_current(archive, due, Some(delivery), lease, current).await;
            }
            // Announced again, not left in the queue: a queue gives up a message that is received too often.
            PreviewLease::RetryAfter(wait) => {
                archive.queue().announce(&delivery.job, wait).await?;
                archive.queue().delete(&delivery).await?;
            }
            PreviewLease::NotPending => archive.queue().delete(&delivery).await?,
        }
    }
    Ok(())
}

/// Waits for a series that this process has encoded, and makes its preview.
async fn run_own(archive: &Arc<Archive>, lease: Duration, current: &mut Current) -> anyhow::Result<()> {
    let job = ahead::next_quiet(archive).await;
    match take(archive, &job, lease).await {
        Ok(PreviewLease::Acquired(due)) => make_current(archive, due, None, lease, current).await,
        Ok(PreviewLease::RetryAfter(wait)) => {
            ahead::postpone(archive, &job, wait.max(RETRY_PAUSE));
            Ok(())
        }
        Ok(PreviewLease::NotPending) => Ok(()),
        Err(error) => {
            ahead::postpone(archive, &job, FAILURE_PAUSE);
            Err(error)
        }
    }
}

async fn take(archive: &Archive, job: &Job, lease: Duration) -> anyhow::Result<PreviewLease> {
    preview::take_preview(archive, job, lease).await.context("cannot acquire the lease of a preview")
}

/// Makes a preview that was taken, and then frames ahead of their requests.
async fn make_current(
    archive: &Arc<Archive>,
    due: Due,
    delivery: Option<Delivery>,
    lease: Duration,
    current: &mut Current,
) -> anyhow::Result<()> {
    let (due, delivery) = current.insert((due, delivery));
    let done = make(archive, due, delivery.as_ref(), lease).await;
    let due = current.take().map(|(due, _)| due);
    if let (Ok(true), Some(due)) = (&done, due) {
        // Without a lease: frames that are encoded twice are the same.
        let (tenant, scope) = due.scope();
        let encoded = transcode::encode_ahead(archive, tenant, &scope).await;
        encoded.context("cannot encode frames ahead")?;
    }
    done.map(drop)
}

/// Makes a preview, and renews its lease meanwhile. Returns whether the preview is there.
async fn make(
    archive: &Archive,
    due: &Due,
    delivery: Option<&Delivery>,
    lease: Duration,
) -> anyhow::Result<bool> {
    let start = Instant::now();
    let outcome = tokio::select! {
        outcome = preview::make_preview(archive, due) => outcome.context("cannot record the outcome of a preview")?,
        lost = renew_lease(archive, due, delivery, lease) => {
            lost?;
            return end(archive, due, delivery, true).await.map(|()| false);
        }
    };
    telemetry::preview_ended(outcome.name(), start.elapsed());
    end(archive, due, delivery, matches!(outcome, Outcome::Stale | Outcome::Retried)).await?;
    Ok(outcome == Outcome::Made)
}

/// Ends a job. One that is due again is announced: the worker that receives the job finds out when.
async fn end(
    archive: &Archive,
    due: &Due,
    delivery: Option<&Delivery>,
    is_due_again: bool,
) -> anyhow::Result<()> {
    if is_due_again {
        archive.queue().announce(&due.job(), Duration::ZERO).await?;
    }
    if let Some(delivery) = delivery {
        archive.queue().delete(delivery).await?;
    }
    Ok(())
}

/// Renews a lease until it is lost because the series has changed.
async fn renew_lease(
    archive: &Archive,
    due: &Due,
    delivery: Option<&Delivery>,
    lease: Duration,
) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(lease / 3).await;
        if let Some(delivery) = delivery {
            archive.queue().extend(delivery, lease).await?;
        }
        if !preview::hold_preview(archive, due, lease).await? {
            return Ok(());
        }
    }
}

/// Gives up the lease of an unfinished preview, so that another worker can make it at once.
async fn release(archive: &Archive, due: &Due, delivery: Option<&Delivery>) -> anyhow::Result<()> {
    preview::hold_preview(archive, due, Duration::ZERO).await?;
    match delivery {
        Some(delivery) => Ok(archive.queue().extend(delivery, Duration::ZERO).await?),
        None => Ok(archive.queue().announce(&due.job(), Duration::ZERO).await?),
    }
}
