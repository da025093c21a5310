//! Finds lost work: previews whose job was never announced because a process was killed, and entries of the
//! deletion queue whose objects were not deleted.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::archive::derived::preview::announce_overdue_previews;
use crate::archive::maintenance::delete::collect_garbage;
use crate::archive::{Archive, Error};
use crate::telemetry;

/// Looks for lost work once per `interval`, until `stop`.
pub async fn run(archive: Arc<Archive>, interval: Duration, stop: CancellationToken) {
    let rounds = async {
        loop {
            tokio::time::sleep(interval).await;
            if let Err(error) = reconcile(&archive, interval).await {
                let error = telemetry::chain(&error);
                warn!(error, "cannot look for lost work; trying again after the interval");
            }
        }
    };
    stop.run_until_cancelled(rounds).await;
}

async fn reconcile(archive: &Archive, interval: Duration) -> Result<(), Error> {
    let deleted = collect_garbage(archive).await?;
    if deleted > 0 {
        info!("deleted {deleted} objects whose deletion was not finished");
    }
    announce_overdue_previews(archive, interval).await?;
    Ok(())
}
