//! One association from its request to its end: the acceptor's side of the state machine of PS3.8 §9.2, and
//! the messages that it carries (PS3.7 §6.3).

use std::collections::VecDeque;
use std::future::{pending, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dicom_ul::pdu::Pdu;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::archive::Archive;
use crate::archive::ingest::Upload;
use crate::archive::ingest::pace::Pace;
use crate::budget::{Budget, Grant, client_of};
use crate::config::DimseSettings;
use crate::connections::OpenConnection;
use crate::dimse::c_echo;
use crate::dimse::c_store;
use crate::dimse::callers::Callers;
use crate::dimse::command::{self, DimseOperation, DimseRequest, MAX_COMMAND_BYTES, Status};
use crate::dimse::connection::{Connection, Interruption};
use crate::dimse::negotiation::{Agreement, PresentationContext, congestion, negotiate};
use crate::dimse::pdu::{
    PduPiece, PdvChunk, Violation, abort_pdu, association_pdu, command_pdus, read_associate,
};
use crate::dimse::status;

/// The state that all associations share.
pub struct Acceptor {
    /// The archive that stores instances.
    pub archive: Arc<Archive>,
    /// Section `[dimse]`.
    pub settings: DimseSettings,
    /// The callers by their AE titles.
    pub callers: Callers,
    /// The places of associations, shared by addresses.
    pub places: Budget,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
}

/// Serves a connection of a peer to its end. Before the request for an association, it may have to make room
/// for another connection.
pub(crate) async fn serve(stream: TcpStream, peer: IpAddr, open: &OpenConnection, acceptor: &Acceptor) {
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
    acceptor: &Acceptor,
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
    acceptor: &Acceptor,
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
        PduPiece::Release | PduPiece::Misplaced | PduPiece::Pdv(_) => {
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

/// An association that is established.
struct Association<'a> {
    connection: &'a mut Connection,
    acceptor: &'a Acceptor,
    agreement: Agreement,
    command: Vec<u8>,
    /// The presentation context of a command that is being received.
    command_context: Option<u8>,
    /// A data set that is being received.
    data_set: Option<IncomingDataSet>,
    /// The pace of the current message.
    pace: Pace,
    /// Responses, as the bytes of P-DATA-TF, in the order of their requests: a peer with several outstanding
    /// operations may rely on the order.
    responses: VecDeque<BoxFuture<'static, Vec<u8>>>,
}

struct IncomingDataSet {
    context: u8,
    request: DimseRequest,
    /// The upload of the data set, or the status of the response after the data set was discarded.
    destination: Result<Upload, Status>,
}

enum AssociationEvent {
    Response(Vec<u8>),
    Piece(PduPiece),
}

impl AssociationEvent {
    /// The bytes of a message that arrived.
    fn bytes(&self) -> usize {
        match self {
            Self::Piece(PduPiece::Pdv(chunk)) => chunk.bytes.len(),
            Self::Response(_) | Self::Piece(_) => 0,
        }
    }
}

impl<'a> Association<'a> {
    fn new(connection: &'a mut Connection, acceptor: &'a Acceptor, agreement: Agreement) -> Self {
        Self {
            connection,
            acceptor,
            agreement,
            command: Vec::new(),
            command_context: None,
            data_set: None,
            pace: Self::pace(acceptor),
            responses: VecDeque::new(),
        }
    }

    /// The pace of a message that begins.
    fn pace(acceptor: &Acceptor) -> Pace {
        let min_bytes_per_second = acceptor.archive.request_limits().min_bytes_per_second;
        Pace::new(Duration::from_secs(acceptor.settings.idle_timeout_seconds), min_bytes_per_second)
    }

    /// Reads messages and sends responses until the peer releases.
    async fn serve(mut self) -> Result<(), Interruption> {
        loop {
            match self.next_event().await? {
                AssociationEvent::Response(response) => {
                    self.responses.pop_front();
                    self.connection.send(&response).await?;
                }
                AssociationEvent::Piece(PduPiece::Pdv(chunk)) => self.receive(chunk).await?,
                AssociationEvent::Piece(PduPiece::Release) => return self.release().await,
                AssociationEvent::Piece(PduPiece::Abort) => return Err(Interruption::Aborted),
                AssociationEvent::Piece(PduPiece::Associate(_) | PduPiece::Misplaced) => {
                    return Err(Violation::UnexpectedPdu.into());
                }
            }
        }
    }

    async fn next_event(&mut self) -> Result<AssociationEvent, Interruption> {
        let settings = &self.acceptor.settings;
        let is_between_messages = self.command_context.is_none() && self.data_set.is_none();
        if is_between_messages {
            self.pace = Self::pace(self.acceptor);
        }
        let (started, patience) = (Instant::now(), self.pace.allowance());
        let has_no_responses = self.responses.is_empty();
        // The limit delays further messages; a message that has begun is read to its end.
        let may_read =
            !is_between_messages || self.responses.len() < usize::from(settings.max_operations.max(1));
        let response = async {
            match self.responses.front_mut() {
                Some(response) => response.await,
                None => pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            response = response => Ok(AssociationEvent::Response(response)),
            () = self.acceptor.shutdown.cancelled(), if is_between_messages && has_no_responses => {
                Err(Interruption::Stopped)
            }
            piece = self.connection.next(), if may_read => Ok(AssociationEvent::Piece(piece?)),
            // A peer that waits for a response is not idle.
            () = sleep(patience), if !is_between_messages || has_no_responses => {
                Err(match self.pace.is_kept() {
                    true => Interruption::Silent(patience),
                    false => Interruption::TooSlow(self.pace.min_bytes_per_second()),
                })
            }
        };
        // Only the time that is spent waiting for the peer counts, not that in which its bytes are stored.
        self.pace.receive(event.as_ref().map_or(0, AssociationEvent::bytes), started.elapsed());
        event
    }

    /// Sends all outstanding responses, then answers an A-RELEASE-RQ. A data set that is not complete is
    /// dropped.
    async fn release(mut self) -> Result<(), Interruption> {
        self.data_set = None;
        for response in std::mem::take(&mut self.responses) {
            let response = response.await;
            self.connection.send(&response).await?;
        }
        self.connection.send(&association_pdu(&Pdu::ReleaseRP)).await
    }

    async fn receive(&mut self, chunk: PdvChunk) -> Result<(), Interruption> {
        self.context(chunk.context)?;
        if chunk.is_command { self.receive_command(chunk).await } else { self.receive_data_set(chunk).await }
    }

    async fn receive_command(&mut self, chunk: PdvChunk) -> Result<(), Interruption> {
        let is_other = self.command_context.is_some_and(|context| context != chunk.context);
        if is_other || self.data_set.is_some() {
            return Err(Violation::Interleaved.into());
        }
        self.command_context = Some(chunk.context);
        if self.command.len() + chunk.bytes.len() > MAX_COMMAND_BYTES {
            return Err(Violation::CommandTooLong(MAX_COMMAND_BYTES).into());
        }
        self.command.extend_from_slice(&chunk.bytes);
        if !chunk.is_last {
            return Ok(());
        }
        let request = command::read(&self.command)?;
        self.command.clear();
        self.command_context = None;
        let context = self.context(chunk.context)?.clone();
        self.begin(context, request).await;
        Ok(())
    }

    fn context(&self, id: u8) -> Result<&PresentationContext, Violation> {
        let context = self.agreement.contexts.iter().find(|context| context.id == id);
        context.ok_or(Violation::UnknownContext(id))
    }

    /// Begins an operation; responds at once if no data set follows.
    async fn begin(&mut self, context: PresentationContext, request: DimseRequest) {
        let destination = match request.operation {
            // The operations that can be cancelled (C-FIND, C-GET, C-MOVE) are not supported.
            DimseOperation::Cancel => return,
            DimseOperation::Echo => Err(c_echo::echo()),
            DimseOperation::Store => {
                c_store::begin(&request, &context, &self.acceptor.archive, &self.agreement.caller).await
            }
            DimseOperation::Other(_) => Err(status::of_unrecognized(request.operation)),
        };
        if request.has_data_set {
            self.data_set = Some(IncomingDataSet { context: context.id, request, destination });
        } else if let Err(status) = destination {
            self.respond(context.id, &request, &status);
        }
    }

    async fn receive_data_set(&mut self, chunk: PdvChunk) -> Result<(), Interruption> {
        let Some(data_set) = &mut self.data_set else { return Err(Violation::Interleaved.into()) };
        if data_set.context != chunk.context {
            return Err(Violation::Interleaved.into());
        }
        if let Ok(upload) = &mut data_set.destination
            && !chunk.bytes.is_empty()
        {
            upload.write(chunk.bytes).await;
        }
        if chunk.is_last
            && let Some(IncomingDataSet { context, request, destination }) = self.data_set.take()
        {
            match destination {
                Ok(upload) => self.respond_when_stored(context, request, upload).await,
                Err(status) => self.respond(context, &request, &status),
            }
        }
        Ok(())
    }

    fn respond(&mut self, context: u8, request: &DimseRequest, status: &Status) {
        let response = command::write_response(request, status);
        let response = command_pdus(context, &response, self.agreement.peer_max_pdu_bytes);
        self.responses.push_back(ready(response).boxed());
    }

    /// Responds when the instance is durable, while further messages are read.
    async fn respond_when_stored(&mut self, context: u8, request: DimseRequest, upload: Upload) {
        let stored = upload.finish().await;
        let max_pdu_bytes = self.agreement.peer_max_pdu_bytes;
        let (archive, caller) = (self.acceptor.archive.clone(), self.agreement.caller.clone());
        let response = async move {
            let outcome = stored.await;
            if outcome.result.is_ok() {
                archive.note_device(&caller);
            }
            let status = status::of_outcome(&outcome);
            command_pdus(context, &command::write_response(&request, &status), max_pdu_bytes)
        };
        self.responses.push_back(response.boxed());
    }
}
