//! Finds out whether instances can be stored: at the start, and after one was not.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::telemetry;

/// The time between two probes.
const INTERVAL: Duration = Duration::from_secs(5);

/// Probes now, and whenever there is a reason, until `stop`.
pub async fn run(archive: Arc<Archive>, stop: CancellationToken) {
    telemetry::storing(true);
    let probes = async {
        loop {
            archive.probe_storing().await;
            archive.storing_suspected(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(probes).await;
}
