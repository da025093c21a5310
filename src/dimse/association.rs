//! One association from its request to its end: the acceptor's side of the state machine of PS3.8 §9.2, and
//! the messages that it carries (PS3.7 §6.3).

use std::collections::VecDeque;
use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use dicom_ul::pdu::Pdu;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::archive::Archive;
use crate::archive::store::Upload;
use crate::config::Dimse;
use crate::dimse::c_echo;
use crate::dimse::c_store;
use crate::dimse::command::{self, MAX_COMMAND_BYTES, Operation, Request, Status};
use crate::dimse::connection::{Connection, Interruption};
use crate::dimse::negotiation::{Agreement, Context, congestion, negotiate};
use crate::dimse::pdu::{Piece, Value, Violation, abort_pdu, association_pdu, command_pdus, read_associate};
use crate::dimse::status;
use crate::dimse::tenants::Callers;

/// What all associations share.
pub struct Door {
    /// Where instances go.
    pub archive: Arc<Archive>,
    /// Section `[dimse]`.
    pub settings: Dimse,
    /// Who may call.
    pub callers: Callers,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
}

/// Serves a connection to its end. Without room, the request is read and rejected.
pub async fn serve(stream: TcpStream, door: &Door, has_room: bool) {
    let idle_timeout = Duration::from_secs(door.settings.idle_timeout_seconds);
    let mut connection = Connection::new(stream, door.settings.max_pdu_bytes, idle_timeout);
    if let Err(interruption) = converse(&mut connection, door, has_room).await {
        match &interruption {
            Interruption::Closed | Interruption::Stopped => debug!("association ended: {interruption}"),
            _ => warn!("association ended: {interruption}"),
        }
        if let Some(source) = interruption.abort_source() {
            // A peer that does not take it is about to lose the connection anyway.
            let _ = connection.send(&abort_pdu(source)).await;
        }
    }
    connection.close().await;
}

async fn converse(connection: &mut Connection, door: &Door, has_room: bool) -> Result<(), Interruption> {
    match establish(connection, door, has_room).await? {
        Some(agreement) => Association::new(connection, door, agreement).serve().await,
        None => Ok(()),
    }
}

/// Waits for the request and answers it; `None` if it was rejected.
async fn establish(
    connection: &mut Connection,
    door: &Door,
    has_room: bool,
) -> Result<Option<Agreement>, Interruption> {
    let request_timeout = Duration::from_secs(door.settings.request_timeout_seconds);
    let piece = tokio::select! {
        () = door.shutdown.cancelled() => return Err(Interruption::Stopped),
        piece = timeout(request_timeout, connection.next()) => {
            piece.map_err(|_| Interruption::Silent(request_timeout))??
        }
    };
    let request = match piece {
        Piece::Associate(pdu) => read_associate(&pdu)?,
        Piece::Abort => return Err(Interruption::Aborted),
        Piece::Release | Piece::Misplaced | Piece::Value(_) => return Err(Violation::UnexpectedPdu.into()),
    };
    let answer =
        if has_room { negotiate(&request, &door.settings, &door.callers) } else { Err(congestion()) };
    match answer {
        Ok(agreement) => {
            let contexts = agreement.contexts.len();
            info!(dimse.calling = request.calling_ae_title, contexts, "association accepted");
            connection.send(&association_pdu(&Pdu::AssociationAC(agreement.answer.clone()))).await?;
            Ok(Some(agreement))
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
    door: &'a Door,
    agreement: Agreement,
    command: Vec<u8>,
    /// The presentation context of a command that is coming in.
    command_context: Option<u8>,
    /// A data set that is coming in.
    data_set: Option<DataSet>,
    /// Responses, in the order of their requests: a sender with one operation at a time gets each at once, one
    /// with several need not look after their order. Each is P-DATA-TF.
    responses: VecDeque<BoxFuture<'static, Vec<u8>>>,
}

struct DataSet {
    context: u8,
    request: Request,
    /// Where it goes; or why it is read away.
    destination: Result<Upload, Status>,
}

enum Event {
    Response(Vec<u8>),
    Piece(Piece),
}

impl<'a> Association<'a> {
    fn new(connection: &'a mut Connection, door: &'a Door, agreement: Agreement) -> Self {
        Self {
            connection,
            door,
            agreement,
            command: Vec::new(),
            command_context: None,
            data_set: None,
            responses: VecDeque::new(),
        }
    }

    /// Reads messages and sends responses until the peer releases.
    async fn serve(mut self) -> Result<(), Interruption> {
        loop {
            match self.next_event().await? {
                Event::Response(response) => {
                    self.responses.pop_front();
                    self.connection.send(&response).await?;
                }
                Event::Piece(Piece::Value(value)) => self.take(value).await?,
                Event::Piece(Piece::Release) => return self.release().await,
                Event::Piece(Piece::Abort) => return Err(Interruption::Aborted),
                Event::Piece(Piece::Associate(_) | Piece::Misplaced) => {
                    return Err(Violation::UnexpectedPdu.into());
                }
            }
        }
    }

    async fn next_event(&mut self) -> Result<Event, Interruption> {
        let settings = &self.door.settings;
        let idle_timeout = Duration::from_secs(settings.idle_timeout_seconds);
        let is_between_messages = self.command_context.is_none() && self.data_set.is_none();
        let owes_nothing = self.responses.is_empty();
        // What has begun may end; the limit holds back what would begin.
        let may_read =
            !is_between_messages || self.responses.len() < usize::from(settings.max_operations.max(1));
        let response = async {
            match self.responses.front_mut() {
                Some(response) => response.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            response = response => Ok(Event::Response(response)),
            () = self.door.shutdown.cancelled(), if is_between_messages && owes_nothing => {
                Err(Interruption::Stopped)
            }
            piece = self.connection.next(), if may_read => Ok(Event::Piece(piece?)),
            // A peer that waits for a response is not idle.
            () = sleep(idle_timeout), if !is_between_messages || owes_nothing => {
                Err(Interruption::Silent(idle_timeout))
            }
        }
    }

    /// Answers an A-RELEASE-RQ after the responses that are owed. What is half sent is dropped.
    async fn release(mut self) -> Result<(), Interruption> {
        self.data_set = None;
        for response in std::mem::take(&mut self.responses) {
            let response = response.await;
            self.connection.send(&response).await?;
        }
        self.connection.send(&association_pdu(&Pdu::ReleaseRP)).await
    }

    async fn take(&mut self, value: Value) -> Result<(), Interruption> {
        self.context(value.context)?;
        if value.is_command { self.take_command(value).await } else { self.take_data_set(value).await }
    }

    async fn take_command(&mut self, value: Value) -> Result<(), Interruption> {
        let is_other = self.command_context.is_some_and(|context| context != value.context);
        if is_other || self.data_set.is_some() {
            return Err(Violation::Interleaved.into());
        }
        self.command_context = Some(value.context);
        if self.command.len() + value.bytes.len() > MAX_COMMAND_BYTES {
            return Err(Violation::CommandTooLong(MAX_COMMAND_BYTES).into());
        }
        self.command.extend_from_slice(&value.bytes);
        if !value.is_last {
            return Ok(());
        }
        let request = command::read(&self.command)?;
        self.command.clear();
        self.command_context = None;
        let context = self.context(value.context)?.clone();
        self.begin(context, request).await;
        Ok(())
    }

    fn context(&self, id: u8) -> Result<&Context, Violation> {
        let context = self.agreement.contexts.iter().find(|context| context.id == id);
        context.ok_or(Violation::UnknownContext(id))
    }

    /// Begins an operation, or ends it if it has no data set.
    async fn begin(&mut self, context: Context, request: Request) {
        let destination = match request.operation {
            // Operations to cancel (C-FIND, C-GET, C-MOVE) are not offered, so there is none to cancel.
            Operation::Cancel => return,
            Operation::Echo => Err(c_echo::echo()),
            Operation::Store => {
                c_store::begin(&request, &context, &self.door.archive, &self.agreement.caller).await
            }
            Operation::Other(_) => Err(status::of_unrecognized(request.operation)),
        };
        if request.has_data_set {
            self.data_set = Some(DataSet { context: context.id, request, destination });
        } else if let Err(status) = destination {
            self.respond(context.id, &request, &status);
        }
    }

    async fn take_data_set(&mut self, value: Value) -> Result<(), Interruption> {
        let Some(data_set) = &mut self.data_set else { return Err(Violation::Interleaved.into()) };
        if data_set.context != value.context {
            return Err(Violation::Interleaved.into());
        }
        if let Ok(upload) = &mut data_set.destination
            && !value.bytes.is_empty()
        {
            upload.write(value.bytes).await;
        }
        if value.is_last
            && let Some(DataSet { context, request, destination }) = self.data_set.take()
        {
            match destination {
                Ok(upload) => self.respond_when_stored(context, request, upload).await,
                Err(status) => self.respond(context, &request, &status),
            }
        }
        Ok(())
    }

    fn respond(&mut self, context: u8, request: &Request, status: &Status) {
        let response = command::write_response(request, status);
        let response = command_pdus(context, &response, self.agreement.peer_max_pdu_bytes);
        self.responses.push_back(ready(response).boxed());
    }

    /// Responds when the instance is durable, while further messages are read.
    async fn respond_when_stored(&mut self, context: u8, request: Request, upload: Upload) {
        let stored = upload.finish().await;
        let max_pdu_bytes = self.agreement.peer_max_pdu_bytes;
        let response = async move {
            let status = status::of_outcome(&stored.await);
            command_pdus(context, &command::write_response(&request, &status), max_pdu_bytes)
        };
        self.responses.push_back(response.boxed());
    }
}
