//! The establishment of an association that a peer requests: from its connection to the acceptor's answer,
//! and the end of the connection (PS3.8 §7.1, §9.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dicom_ul::pdu::Pdu;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::budget::{Grant, client_of};
use crate::connections::OpenConnection;
use crate::dimse::acceptor::Acceptor;
use crate::dimse::association::Association;
use crate::dimse::connection::{Connection, Interruption};
use crate::dimse::negotiation::{Agreement, congestion, negotiate};
use crate::dimse::pdu::{PduPiece, Violation, abort_pdu, association_pdu, read_associate};

/// Serves a connection of a peer to its end. Before the request for an association, it may have to make room
/// for another connection.
pub(crate) async fn serve(stream: TcpStream, peer: IpAddr, open: &OpenConnection, acceptor: &Arc<Acceptor>) {
    let idle_timeout = Duration::from_secs(acceptor.settings.idle_timeout_seconds);
    let mut connection = Connection::new(stream, acceptor.settings.max_pdu_bytes, idle_timeout);
    if let Err(interruption) = converse(&mut connection, peer, open, acceptor).await {
        match &interruption {
            Interruption::Closed | Interruption::Stopped => debug!("association ended: {interruption}"),
            _ => warn!("association ended: {interruption}"),
        }
        if let Some(source) = interruption.abort_source() {
            // If the peer does not read the A-ABORT, the connection is closed all the same.
            let _ = connection.send(&abort_pdu(source)).await;
        }
    }
    connection.close().await;
}

async fn converse(
    connection: &mut Connection,
    peer: IpAddr,
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
    peer: IpAddr,
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
    let client = client_of(peer);
    let place = acceptor.places.try_take(&client.to_string(), 1).ok_or_else(congestion);
    let negotiate = |place| Ok((negotiate(&request, &acceptor.settings, &acceptor.callers)?, place));
    match place.and_then(negotiate) {
        Ok((mut agreement, place)) => {
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
            warn!(dimse.calling = request.calling_ae_title, "association rejected: {reason}");
            connection.send(&association_pdu(&Pdu::AssociationRJ(rejection))).await?;
            Ok(None)
        }
    }
}
