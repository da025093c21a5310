//! The DIMSE protocol layer: C-ECHO, C-STORE, C-FIND, C-MOVE, C-GET and storage commitment as SCP, C-STORE
//! and C-ECHO as SCU, forwarding by rule, over associations as per PS3.8.
//!
//! [`pdu`] splits the bytes of a connection into pieces of PDUs, [`association`] carries out the state
//! machine, [`command`] reads requests. Each service has a file, and only [`status`] turns outcomes into
//! statuses.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::archive::Archive;
use crate::budget::{Budget, share_of};
use crate::config::DimseSettings;
use crate::connections::Connections;
use crate::dimse::acceptor::Acceptor;
use crate::dimse::callers::Callers;
use crate::dimse::establish::serve;
use crate::dimse::report_sender::ReportSender;
use crate::telemetry;
use crate::tls::ServerTls;

pub mod acceptor;
pub mod association;
pub mod c_echo;
pub mod c_find;
pub mod c_store;
pub mod callers;
pub mod command;
pub mod commitment;
pub mod connection;
pub mod establish;
pub mod forward;
pub mod identifier;
pub mod models;
pub mod negotiation;
pub mod operation;
pub mod pdu;
pub mod query_keys;
pub mod report;
pub mod report_sender;
pub mod requestor;
pub mod retrieve;
pub mod service;
pub mod status;

/// The pause after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listeners of DIMSE.
pub struct Listeners {
    /// The one without TLS.
    pub plain: Option<TcpListener>,
    /// The one with TLS.
    pub tls: Option<(TcpListener, Arc<ServerTls>)>,
}

impl Listeners {
    /// Accepts a connection.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Option<Arc<ServerTls>>)> {
        let plain = async {
            match &self.plain {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        let tls = async {
            match &self.tls {
                Some((listener, tls)) => (listener.accept().await, tls.clone()),
                None => pending().await,
            }
        };
        tokio::select! {
            accepted = plain => accepted.map(|(stream, address)| (stream, address, None)),
            (accepted, tls) = tls => accepted.map(|(stream, address)| (stream, address, Some(tls))),
        }
    }
}

/// The places of the associations that the server requests, shared by destinations.
pub fn outgoing_places(settings: &DimseSettings) -> Budget {
    let share = settings.max_outgoing_associations_per_destination;
    Budget::of_places(settings.max_outgoing_associations, share)
}

/// Serves associations until `shutdown`; returns when the last association has ended.
///
/// Beyond `max_associations`, or the share of an address, the requests of as many associations again are read
/// and rejected. A further connection takes the place of the oldest one that has sent no request yet; if
/// there is none, it is closed unread.
pub async fn run(
    listeners: Listeners,
    archive: Arc<Archive>,
    settings: DimseSettings,
    callers: Callers,
    outgoing: Budget,
    shutdown: CancellationToken,
) {
    let max = settings.max_associations;
    let share = share_of(max, settings.max_associations_per_address);
    let open = Connections::new(2 * max, 2 * share);
    let places = Budget::of_places(max, share);
    let (settings, callers) = (Arc::new(settings), Arc::new(callers));
    let reports = ReportSender::new(
        archive.clone(),
        settings.clone(),
        callers.clone(),
        outgoing.clone(),
        shutdown.clone(),
    );
    let reports = Arc::new(reports);
    let mut connections = JoinSet::new();
    connections.spawn(reports.clone().run());
    let acceptor = Arc::new(Acceptor { archive, settings, callers, reports, places, outgoing, shutdown });
    loop {
        let accepted = tokio::select! {
            () = acceptor.shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = listeners.accept() => accepted,
        };
        let (stream, peer, tls) = match accepted {
            Ok((stream, address, tls)) => (stream, address.ip(), tls),
            Err(error) => {
                warn!("cannot accept a DIMSE connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(connection) = open.admit(peer).filter(|connection| !connection.is_reserved) else {
            continue;
        };
        // Peers wait for the small responses. Without the option, responses are only slower.
        let _ = stream.set_nodelay(true);
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            let _open = telemetry::OpenAssociation::count();
            serve(stream, peer, tls.as_deref(), &connection, &acceptor).await;
        });
    }
    drop(listeners);
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!("an association panicked: {error}");
    }
}
