//! Makes the previews that are due. Their encoding is background work, so that ingest is not slowed down.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::archive::Archive;
use crate::archive::derived::preview::{self, Due, Outcome, PreviewLease};
use crate::archive::derived::transcode;
use crate::config::Config;
use crate::queue::Delivery;
use crate::telemetry;

/// The pause of a worker after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Makes previews until `stop`; the lease of an unfinished preview is then released.
pub async fn run(archive: Arc<Archive>, config: &Config, stop: CancellationToken) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = if config.preview.threads == 0 { (cores / 2).max(1) } else { config.preview.threads };
    let lease = Duration::from_secs(config.jobs.lease_seconds);
    let mut workers = JoinSet::new();
    for _ in 0..threads {
        let (archive, stop) = (archive.clone(), stop.clone());
        workers.spawn(async move { run_worker(&archive, lease, &stop).await });
    }
    // A panic was printed when it happened.
    while workers.join_next().await.is_some() {}
}

/// Makes one preview after the other until `stop`.
async fn run_worker(archive: &Arc<Archive>, lease: Duration, stop: &CancellationToken) {
    let mut current = None;
    let jobs = async {
        loop {
            if let Err(error) = run_next(archive, lease, &mut current).await {
                let error = format!("{error:#}");
                error!(error, "a preview job failed; trying again");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    };
    stop.run_until_cancelled(jobs).await;
    if let Some((due, delivery)) = current
        && let Err(error) = release(archive, &due, &delivery).await
    {
        let error = format!("{error:#}");
        warn!(error, "cannot release a preview job; another worker gets the job when its lease ends");
    }
}

/// Waits for a preview that is due and makes it. `current` holds the preview while it is being made.
async fn run_next(
    archive: &Arc<Archive>,
    lease: Duration,
    current: &mut Option<(Due, Delivery)>,
) -> anyhow::Result<()> {
    let deliveries = archive.queue().receive(lease).await.context("cannot receive jobs")?;
    for delivery in deliveries {
        let turn = preview::take_preview(archive, &delivery.job, lease)
            .await
            .context("cannot acquire the lease of a preview")?;
        match turn {
            PreviewLease::Acquired(due) => {
                let (due, delivery) = current.insert((due, delivery));
                let done = make(archive, due, delivery, lease).await;
                let due = current.take().map(|(due, _)| due);
                if let (Ok(true), Some(due)) = (&done, due) {
                    // Without a lease: frames that are encoded twice are the same.
                    let (tenant, scope) = due.scope();
                    let encoded = transcode::encode_ahead(archive, tenant, &scope).await;
                    encoded.context("cannot encode frames ahead")?;
                }
                return done.map(drop);
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

/// Makes a preview, and renews its lease meanwhile. Returns whether the preview is there.
async fn make(archive: &Archive, due: &Due, delivery: &Delivery, lease: Duration) -> anyhow::Result<bool> {
    let start = Instant::now();
    let outcome = tokio::select! {
        outcome = preview::make_preview(archive, due) => outcome.context("cannot record the outcome of a preview")?,
        lost = renew_lease(archive, due, delivery, lease) => return lost.map(|()| false),
    };
    telemetry::preview_ended(outcome.name(), start.elapsed());
    if matches!(outcome, Outcome::Stale | Outcome::Retried) {
        // The preview is due again, and the worker that receives the job finds out when.
        archive.queue().announce(&delivery.job, Duration::ZERO).await?;
    }
    archive.queue().delete(delivery).await?;
    Ok(outcome == Outcome::Made)
}

/// Renews a lease until it is lost because the series has changed.
async fn renew_lease(
    archive: &Archive,
    due: &Due,
    delivery: &Delivery,
    lease: Duration,
) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(lease / 3).await;
        archive.queue().extend(delivery, lease).await?;
        if !preview::hold_preview(archive, due, lease).await? {
            archive.queue().announce(&delivery.job, Duration::ZERO).await?;
            return Ok(archive.queue().delete(delivery).await?);
        }
    }
}

/// Gives up the lease of an unfinished preview, so that another worker can make it at once.
async fn release(archive: &Archive, due: &Due, delivery: &Delivery) -> anyhow::Result<()> {
    preview::hold_preview(archive, due, Duration::ZERO).await?;
    Ok(archive.queue().extend(delivery, Duration::ZERO).await?)
}
