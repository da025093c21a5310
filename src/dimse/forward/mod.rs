//! Forwarding by rule (setting `forward.rules`): instances that were stored are sent to AE titles, as SCU of
//! storage (PS3.4 §B).
//!
//! The feed of changes is the queue. For each destination a place in the feed is kept durably, and moves on
//! when the instances before it were sent. So an instance is sent again after a kill, and none is lost. A
//! destination that cannot be reached holds up its own place only.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::archive::Archive;
use crate::archive::lease::LeaseEnd;
use crate::budget::Budget;
use crate::config::Config;
use crate::dimse::forward::context::ForwardContext;
use crate::dimse::forward::flow::Flow;
use crate::dimse::forward::route::{ForwardRoute, routes};
use crate::telemetry;

mod context;
mod flow;
mod queue;
mod route;
mod sending;

/// The pause after a failure of the archive.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Forwarding to all destinations.
pub struct Forwarding {
    context: Arc<ForwardContext>,
    routes: Vec<ForwardRoute>,
}

impl Forwarding {
    /// Begins to forward by the rules of the settings: instances that are stored from now on are sent, after
    /// [`Forwarding::run`] is called.
    ///
    /// # Errors
    /// A rule that cannot be used; a failure of the index.
    pub async fn begin(archive: &Arc<Archive>, config: &Config, outgoing: Budget) -> anyhow::Result<Self> {
        let routes = routes(config)?;
        for route in &routes {
            archive.begin_forwarding(&route.caller, &route.title).await?;
        }
        let context = ForwardContext {
            archive: Arc::clone(archive),
            settings: config.dimse.clone(),
            outgoing,
            lease: Duration::from_secs(config.jobs.lease_seconds),
        };
        Ok(Self { context: Arc::new(context), routes })
    }

    /// Forwards until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut destinations = JoinSet::new();
        for route in self.routes {
            let (context, stop) = (Arc::clone(&self.context), stop.clone());
            destinations.spawn(async move {
                stop.run_until_cancelled(follow(&context, &route)).await;
            });
        }
        while let Some(ended) = destinations.join_next().await {
            if let Err(error) = ended {
                error!("forwarding to a destination panicked: {error}");
            }
        }
    }
}

/// Forwards to a destination, while this process has the lease.
async fn follow(context: &ForwardContext, route: &ForwardRoute) {
    loop {
        match take_and_follow(context, route).await {
            Ok(()) => sleep(context.lease / 2).await,
            Err(LeaseEnd::Lost) => {
                info!(dimse.destination = route.title, "another process forwards to this destination");
            }
            Err(LeaseEnd::Archive(error)) => {
                let error = telemetry::chain(&error);
                warn!(dimse.destination = route.title, error, "forwarding failed; trying again");
                sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

/// Takes the lease of a destination, and forwards. Returns at once if another process has the lease.
async fn take_and_follow(context: &ForwardContext, route: &ForwardRoute) -> Result<(), LeaseEnd> {
    let lease = context.archive.lease(&route.caller, &route.title, context.lease).await?;
    let Some(lease) = lease else { return Ok(()) };
    let mut flow = Flow::open(context, route, lease).await?;
    flow.run().await
}
