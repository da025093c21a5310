//! Finds what was lost: work that nobody announced, because whoever should have died, and objects that nobody deleted.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::archive::{Archive, Error};

/// Looks once in `every`, until `stop`.
pub async fn run(archive: Arc<Archive>, every: Duration, stop: CancellationToken) {
    let looks = async {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = look(&archive, every).await {
                let error = format!("{:#}", anyhow::Error::new(error));
                warn!(error, "cannot look for what was lost; the next look will");
            }
        }
    };
    stop.run_until_cancelled(looks).await;
}

async fn look(archive: &Archive, every: Duration) -> Result<(), Error> {
    let deleted = archive.sweep_garbage().await?;
    if deleted > 0 {
        info!("deleted {deleted} objects whose deletion was not finished");
    }
    archive.announce_overdue_previews(every).await?;
    Ok(())
}
