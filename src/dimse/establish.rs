//! The establishment of an association that a peer requests: from its connection to the acceptor's answer,
//! and the end of the connection (PS3.8 §7.1, §9.2).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dicom_ul::pdu::{AssociationRJResult, Pdu};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tracing::{debug, info, warn};

use crate::audit::event::{AuditProtocol, AuditUser};
use crate::budget::{Grant, client_of};
use crate::connections::OpenConnection;
use crate::digest::{DigestAlgorithm, ObjectDigest};
use crate::dimse::acceptor::Acceptor;
use crate::dimse::association::Association;
use crate::dimse::connection::{Connection, Interruption};
use crate::dimse::negotiation::{Agreement, authenticate, congestion, negotiate};
use crate::dimse::pdu::{PduPiece, Violation, abort_pdu, association_pdu, read_associate};
use crate::tls::ServerTls;

/// The peer of a connection.
pub(crate) struct ConnectedPeer {
    /// The address.
    pub(crate) address: IpAddr,
    /// The digest of the certificate that the peer has shown.
    pub(crate) fingerprint: Option<ObjectDigest>,
}

/// Serves a connection of a peer to its end, over TLS after a handshake. Before the request for an
/// association, it may have to make room for another connection.
pub(crate) async fn serve(
    stream: TcpStream,
    address: IpAddr,
    tls: Option<&ServerTls>,
    open: &OpenConnection,
    acceptor: &Arc<Acceptor>,
) {
    let mut peer = ConnectedPeer { address, fingerprint: None };
    let stream = match tls {
        None => Either::Left(stream),
        Some(tls) => match handshake(stream, tls, open, acceptor).await {
            Ok(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let own = certificates.and_then(|certificates| certificates.first());
                peer.fingerprint = own.map(|certificate| DigestAlgorithm::Sha256.digest(certificate));
                Either::Right(Box::new(stream.into()))
            }
            Err(error) => return warn!(client = %address, "a TLS handshake failed: {error}"),
        },
    };
    let idle_timeout = Duration::from_secs(acceptor.settings.idle_timeout_seconds);
    let mut connection = Connection::new(stream, acceptor.settings.max_pdu_bytes, idle_timeout);
    if let Err(interruption) = converse(&mut connection, &peer, open, acceptor).await {
        match &interruption {
            Interruption::Closed | Interruption::Stopped => debug!("association ended: {interruption}"),
            _ => warn!(client = %peer.address, "association ended: {interruption}"),
        }
        if let Some(source) = interruption.abort_source() {
            // If the peer does not read the A-ABORT, the connection is closed all the same.
            let _ = connection.send(&abort_pdu(source)).await;
        }
    }
    connection.close().await;
}

/// Shakes hands, within the time for the request for an association.
async fn handshake(
    stream: TcpStream,
    tls: &ServerTls,
    open: &OpenConnection,
    acceptor: &Acceptor,
) -> io::Result<TlsStream<TcpStream>> {
    let request_timeout = Duration::from_secs(acceptor.settings.request_timeout_seconds);
    tokio::select! {
        () = acceptor.shutdown.cancelled() => Err(io::Error::other(Interruption::Stopped)),
        () = open.end.cancelled() => Err(io::Error::other(Interruption::Displaced)),
        accepted = timeout(request_timeout, tls.accept(stream)) => {
            accepted.map_err(|_| io::Error::other(Interruption::Silent(request_timeout)))?
        }
    }
}

async fn converse(
    connection: &mut Connection,
    peer: &ConnectedPeer,
    open: &OpenConnection,
    acceptor: &Arc<Acceptor>,
) -> Result<(), Interruption> {
    match establish(connection, peer, open, acceptor).await? {
        Some((agreement, _place)) => Association::new(connection, acceptor, agreement).serve().await,
        None => Ok(()),
    }
}

/// Waits for the request and answers it; `None` if it was rejected. A peer takes a place with its request, so
/// that connections without a request take none.
async fn establish(
    connection: &mut Connection,
    peer: &ConnectedPeer,
    open: &OpenConnection,
    acceptor: &Arc<Acceptor>,
) -> Result<Option<(Agreement, Grant)>, Interruption> {
    let request_timeout = Duration::from_secs(acceptor.settings.request_timeout_seconds);
    let piece = tokio::select! {
        () = acceptor.shutdown.cancelled() => return Err(Interruption::Stopped),
        () = open.end.cancelled() => return Err(Interruption::Displaced),
        piece = timeout(request_timeout, connection.next()) => {
            piece.map_err(|_| Interruption::Silent(request_timeout))??
        }
    };
    open.under_way.store(1, Ordering::Relaxed);
    let request = match piece {
        PduPiece::Associate(pdu) => read_associate(&pdu)?,
        PduPiece::Abort => return Err(Interruption::Aborted),
        PduPiece::Release | PduPiece::Answer(_) | PduPiece::Pdv(_) => {
            return Err(Violation::UnexpectedPdu.into());
        }
    };
    let client = client_of(peer.address);
    let place = acceptor.places.try_take(&client.to_string(), 1).ok_or_else(congestion);
    let negotiate = |place| {
        authenticate(&request, peer.fingerprint.as_ref(), &acceptor.settings)?;
        Ok((negotiate(&request, &acceptor.settings, &acceptor.callers)?, place))
    };
    match place.and_then(negotiate) {
        Ok((mut agreement, place)) => {
            agreement.caller.address = peer.address.to_string().into();
            if !acceptor.callers.are_authenticated() {
                agreement.caller.client = client.to_string().into();
            }
            let contexts = agreement.contexts.len();
            info!(dimse.calling = request.calling_ae_title, contexts, "association accepted");
            connection.send(&association_pdu(&Pdu::AssociationAC(agreement.answer.clone()))).await?;
            Ok(Some((agreement, place)))
        }
        Err(rejection) => {
            let reason = &rejection.source;
            let (client, calling) = (peer.address, &request.calling_ae_title);
            warn!(%client, dimse.calling = calling, "association rejected: {reason}");
            if rejection.result == AssociationRJResult::Permanent {
                let protocol = AuditProtocol::Dimse;
                let user = AuditUser {
                    user: request.calling_ae_title.trim().to_owned(),
                    ..AuditUser::unknown(&peer.address.to_string(), protocol)
                };
                // The peer is rejected whether the log can be written or not, which it has warned of.
                let reason =
                    format!("association with {} rejected: {reason}", request.called_ae_title.trim());
                let _ = acceptor.archive.audit_unknown_caller(user, &reason).await;
            }
            connection.send(&association_pdu(&Pdu::AssociationRJ(rejection))).await?;
            Ok(None)
        }
    }
}
