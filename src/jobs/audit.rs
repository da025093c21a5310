//! Sweeps old records from the audit log.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::archive::Archive;
use crate::telemetry;

/// The pause between two sweeps.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Sweeps once an hour, until `stop`.
pub async fn run(archive: Arc<Archive>, stop: CancellationToken) {
    let rounds = async {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Err(error) = archive.sweep_audit().await {
                let error = telemetry::chain(&error);
                warn!(error, "cannot sweep old records of the audit log; trying again after an hour");
            }
        }
    };
    stop.run_until_cancelled(rounds).await;
}
