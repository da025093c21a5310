//! Makes the previews that are due, on threads of their own at the lowest priority: taking in never waits for them.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::archive::Archive;
use crate::archive::preview::{Due, Outcome, Turn};
use crate::config::Config;
use crate::queue::Delivery;
use crate::telemetry;

/// How long a worker waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The lowest priority there is.
const NICE: i32 = 19;

/// Makes previews until `stop`; what is half made then is given back.
pub async fn run(archive: Arc<Archive>, config: &Config, stop: CancellationToken) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = if config.preview.threads == 0 { (cores / 2).max(1) } else { config.preview.threads };
    let lease = Duration::from_secs(config.jobs.lease_seconds);
    let mut ends = Vec::new();
    for number in 0..threads {
        let (archive, stop) = (archive.clone(), stop.clone());
        let (end, ended) = oneshot::channel::<()>();
        let runtime = Handle::current();
        let worker = thread::Builder::new().name(format!("preview-{number}")).spawn(move || {
            // It ends with the thread, even if that panics.
            let _end = end;
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                warn!(%error, "previews are made at normal priority");
            }
            runtime.block_on(work(&archive, lease, &stop));
        });
        match worker {
            Ok(_) => ends.push(ended),
            Err(error) => error!(%error, "cannot start a thread for previews"),
        }
    }
    for ended in ends {
        // An error says that the other side is gone, which is what is waited for.
        let _ = ended.await;
    }
}

/// Makes one preview after the other until `stop`.
async fn work(archive: &Archive, lease: Duration, stop: &CancellationToken) {
    let mut at_hand = None;
    let works = async {
        loop {
            if let Err(error) = next(archive, lease, &mut at_hand).await {
                let error = format!("{error:#}");
                error!(error, "cannot work; trying again");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    };
    stop.run_until_cancelled(works).await;
    if let Some((due, delivery)) = at_hand
        && let Err(error) = give_back(archive, &due, &delivery).await
    {
        let error = format!("{error:#}");
        warn!(error, "cannot give work back; others get it when the lease ends");
    }
}

/// Waits for a preview that is to be made and makes it. Leaves it in `at_hand` while it is being made.
async fn next(
    archive: &Archive,
    lease: Duration,
    at_hand: &mut Option<(Due, Delivery)>,
) -> anyhow::Result<()> {
    let deliveries = archive.queue().receive(lease).await.context("cannot ask for work")?;
    for delivery in deliveries {
        let turn = archive.take_preview(&delivery.job, lease).await.context("cannot take work")?;
        match turn {
            Turn::Mine(due) => {
                let (due, delivery) = at_hand.insert((due, delivery));
                let done = make(archive, due, delivery, lease).await;
                *at_hand = None;
                return done;
            }
            // Announced anew, not kept: what is received often is taken for work that kills its workers.
            Turn::NotFor(wait) => {
                archive.queue().announce(&delivery.job, wait).await?;
                archive.queue().delete(&delivery).await?;
            }
            Turn::Nothing => archive.queue().delete(&delivery).await?,
        }
    }
    Ok(())
}

/// Makes a preview, and keeps it from others meanwhile.
async fn make(archive: &Archive, due: &Due, delivery: &Delivery, lease: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    let outcome = tokio::select! {
        outcome = archive.make_preview(due) => outcome.context("cannot record the outcome of a preview")?,
        lost = hold(archive, due, delivery, lease) => return lost,
    };
    telemetry::preview_ended(outcome.name(), start.elapsed());
    if matches!(outcome, Outcome::Overtaken | Outcome::Retried) {
        // It is due again, sooner or later: who is told then finds out when.
        archive.queue().announce(&delivery.job, Duration::ZERO).await?;
    }
    Ok(archive.queue().delete(delivery).await?)
}

/// Renews a lease until there is nothing left to hold: the series has changed.
async fn hold(archive: &Archive, due: &Due, delivery: &Delivery, lease: Duration) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(lease / 3).await;
        archive.queue().extend(delivery, lease).await?;
        if !archive.hold_preview(due, lease).await? {
            archive.queue().announce(&delivery.job, Duration::ZERO).await?;
            return Ok(archive.queue().delete(delivery).await?);
        }
    }
}

async fn give_back(archive: &Archive, due: &Due, delivery: &Delivery) -> anyhow::Result<()> {
    archive.hold_preview(due, Duration::ZERO).await?;
    Ok(archive.queue().extend(delivery, Duration::ZERO).await?)
}
