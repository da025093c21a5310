//! Makes the previews that are due, on threads of their own at the lowest priority: taking in never waits for them.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::archive::preview::Due;
use crate::archive::{Archive, Error};
use crate::config::Preview;
use crate::telemetry;

/// How often an idle worker looks for work.
const POLL: Duration = Duration::from_secs(1);
/// The lowest priority there is.
const NICE: i32 = 19;

/// Makes previews until `stop`; what is half made then is made anew after the next start.
pub async fn run(archive: Arc<Archive>, settings: Preview, stop: CancellationToken) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = if settings.threads == 0 { (cores / 2).max(1) } else { settings.threads };
    let claims = Arc::new(Claims { taken: Mutex::new(HashSet::new()), threads });
    let mut ends = Vec::new();
    for number in 0..threads {
        let (archive, claims, stop) = (archive.clone(), claims.clone(), stop.clone());
        let (end, ended) = oneshot::channel::<()>();
        let runtime = Handle::current();
        let worker = thread::Builder::new().name(format!("preview-{number}")).spawn(move || {
            // It ends with the thread, even if that panics.
            let _end = end;
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                warn!(%error, "previews are made at normal priority");
            }
            runtime.block_on(stop.run_until_cancelled(work(&archive, &claims)));
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

/// What the workers have in hand, so that no two make the same preview.
struct Claims {
    taken: Mutex<HashSet<String>>,
    threads: usize,
}

impl Claims {
    /// Takes the first of `due` that nobody has.
    fn take(self: &Arc<Self>, due: Vec<Due>) -> Option<Claim> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let due = due.into_iter().find(|due| taken.insert(due.name()))?;
        Some(Claim { due, claims: self.clone() })
    }
}

/// A preview that one worker makes; the claim ends when it is dropped.
struct Claim {
    due: Due,
    claims: Arc<Claims>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.due.name());
    }
}

/// Makes one preview after the other, for ever.
async fn work(archive: &Archive, claims: &Arc<Claims>) {
    loop {
        match next(archive, claims).await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(POLL).await,
            Err(error) => {
                error!(%error, "the state of previews cannot be read or written");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// Makes the most overdue preview that nobody makes; whether there was one.
async fn next(archive: &Archive, claims: &Arc<Claims>) -> Result<bool, Error> {
    // As many as there are workers: one of them is free if that many are due.
    let due = archive.due_previews(claims.threads).await?;
    let Some(claim) = claims.take(due) else { return Ok(false) };
    let start = Instant::now();
    let outcome = archive.make_preview(&claim.due).await?;
    telemetry::preview_ended(outcome.name(), start.elapsed());
    Ok(true)
}
