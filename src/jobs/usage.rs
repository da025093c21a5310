//! Writes the traffic of tenants to the index.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::archive::Archive;
use crate::telemetry;

/// The pause between two writes: so much is lost by a kill.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes every few seconds, until `stop`, and once more then.
pub async fn run(archive: Arc<Archive>, stop: CancellationToken) {
    let mut is_stopped = false;
    while !is_stopped {
        is_stopped = stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none();
        if let Err(error) = archive.write_traffic().await {
            let error = telemetry::chain(&error);
            warn!(error, "cannot write the traffic of tenants; trying again");
        }
    }
}
