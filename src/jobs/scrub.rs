//! Scrubs the originals. Hashing them is background work.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::archive::Archive;
use crate::archive::maintenance::scrub::Scrub;
use crate::telemetry;

/// The pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// Reads every original once in `interval`, until `stop`.
pub async fn run(archive: Arc<Archive>, interval: Duration, stop: CancellationToken) {
    let scrub = Scrub::new(archive, interval);
    while !stop.is_cancelled() {
        let wait = match scrub.run(&stop).await {
            Ok(wait) => wait,
            Err(error) => {
                let error = telemetry::chain(&error);
                warn!(error, "the scrub failed; it continues later");
                FAILURE_PAUSE
            }
        };
        stop.run_until_cancelled(sleep(wait)).await;
    }
}
