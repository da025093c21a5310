//! The DIMSE door: C-ECHO and C-STORE as SCP, over associations by PS3.8.
//!
//! Bytes become pieces of PDUs in [`pdu`], a conversation in `association`, requests in [`command`]; each service
//! has its file, and outcomes become statuses in `status` only.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::archive::Archive;
use crate::config::Dimse;
use crate::dimse::association::{Door, serve};
use crate::dimse::tenants::Callers;
use crate::telemetry;

pub mod association;
pub mod c_echo;
pub mod c_store;
pub mod command;
pub mod connection;
pub mod negotiation;
pub mod pdu;
pub mod status;
pub mod tenants;

/// How long accepting pauses when the system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves associations until `shutdown`; returns when the last of them has ended.
///
/// Beyond `max_associations`, as many again are read and rejected; beyond those, connections are closed unread.
pub async fn run(
    listener: TcpListener,
    archive: Arc<Archive>,
    settings: Dimse,
    callers: Callers,
    shutdown: CancellationToken,
) {
    let max_associations = settings.max_associations;
    let places = Arc::new(Semaphore::new(max_associations));
    let door = Arc::new(Door { archive, settings, callers, shutdown });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = door.shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("cannot accept a DIMSE connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if connections.len() >= 2 * max_associations {
            continue;
        }
        // Responses are small and awaited; a socket that refuses the option only answers later.
        let _ = stream.set_nodelay(true);
        let (door, place) = (door.clone(), places.clone().try_acquire_owned().ok());
        connections.spawn(async move {
            telemetry::associations_changed(1.0);
            serve(stream, &door, place.is_some()).await;
            telemetry::associations_changed(-1.0);
        });
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!("an association panicked: {error}");
    }
}
