//! One association from its establishment to its end: the acceptor's side of the state machine of PS3.8 §9.2,
//! and the messages that it carries (PS3.7 §6.3).

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dicom_ul::pdu::Pdu;
use tokio::time::sleep;

use crate::archive::ingest::Upload;
use crate::archive::ingest::pace::Pace;
use crate::archive::usage::Traffic;
use crate::dicom::uids;
use crate::dimse::acceptor::Acceptor;
use crate::dimse::c_echo;
use crate::dimse::c_find;
use crate::dimse::c_store;
use crate::dimse::command::{
    self, DimseMessage, DimseOperation, DimseRequest, DimseResponse, MAX_COMMAND_BYTES, Status,
};
use crate::dimse::commitment;
use crate::dimse::connection::{Connection, Interruption};
use crate::dimse::identifier::MAX_IDENTIFIER_BYTES;
use crate::dimse::models::{self, QueryService};
use crate::dimse::negotiation::{Agreement, PresentationContext};
use crate::dimse::operation::{Operation, Outbox};
use crate::dimse::pdu::{PduPiece, PdvChunk, Violation, association_pdu, command_pdus};
use crate::dimse::retrieve;
use crate::dimse::service::ServiceRequest;
use crate::dimse::status::{self, WrongIdentifier};

/// The operations that may be outstanding beyond those that were agreed on, while a long one runs: their
/// requests are read, so that a cancellation behind them is.
const SPARE_OPERATIONS: usize = 16;
/// The bytes of data sets of operations that have not begun, from which no further message is read.
const MAX_WAITING_BYTES: usize = 2 * MAX_IDENTIFIER_BYTES;

/// An association that is established.
pub(crate) struct Association<'a> {
    connection: &'a mut Connection,
    acceptor: &'a Arc<Acceptor>,
    agreement: Agreement,
    contexts: Arc<[PresentationContext]>,
    command: Vec<u8>,
    /// The presentation context of a command that is being received.
    command_context: Option<u8>,
    /// A data set that is being received.
    data_set: Option<IncomingDataSet>,
    /// The pace of the current message.
    pace: Pace,
    /// Operations in the order of their requests, which is that of their messages: a peer with several
    /// outstanding operations may rely on the order.
    operations: VecDeque<Operation>,
}

struct IncomingDataSet {
    context: u8,
    destination: DataSetDestination,
}

/// The use of a data set that is being received.
enum DataSetDestination {
    /// The data set is stored.
    Upload(DimseRequest, Box<Upload>),
    /// The data set is discarded, and the response has this status.
    Refused(DimseRequest, Status),
    /// The data set is an identifier, or the information of an action.
    Identifier(DimseRequest, Vec<u8>),
    /// The data set is of a response, and is discarded.
    Ignored,
}

enum AssociationEvent {
    Message(Bytes),
    Ended,
    Piece(PduPiece),
}

impl AssociationEvent {
    /// The bytes of a message that arrived.
    fn bytes(&self) -> usize {
        match self {
            Self::Piece(PduPiece::Pdv(chunk)) => chunk.bytes.len(),
            Self::Message(_) | Self::Ended | Self::Piece(_) => 0,
        }
    }
}

impl<'a> Association<'a> {
    /// An association over a connection, as agreed on.
    pub(crate) fn new(
        connection: &'a mut Connection,
        acceptor: &'a Arc<Acceptor>,
        agreement: Agreement,
    ) -> Self {
        Self {
            connection,
            acceptor,
            contexts: agreement.contexts.clone().into(),
            agreement,
            command: Vec::new(),
            command_context: None,
            data_set: None,
            pace: Self::pace(acceptor),
            operations: VecDeque::new(),
        }
    }

    /// The pace of a message that begins.
    fn pace(acceptor: &Acceptor) -> Pace {
        let min_bytes_per_second = acceptor.archive.request_limits().min_bytes_per_second;
        Pace::new(Duration::from_secs(acceptor.settings.idle_timeout_seconds), min_bytes_per_second)
    }

    /// Reads messages and sends messages until the peer releases.
    pub(crate) async fn serve(mut self) -> Result<(), Interruption> {
        loop {
            match self.next_event().await? {
                AssociationEvent::Message(message) => self.connection.send(&message).await?,
                AssociationEvent::Ended => drop(self.operations.pop_front()),
                AssociationEvent::Piece(PduPiece::Pdv(chunk)) => self.receive(chunk).await?,
                AssociationEvent::Piece(PduPiece::Release) => return self.release().await,
                AssociationEvent::Piece(PduPiece::Abort) => return Err(Interruption::Aborted),
                AssociationEvent::Piece(PduPiece::Associate(_) | PduPiece::Answer(_)) => {
                    return Err(Violation::UnexpectedPdu.into());
                }
            }
        }
    }

    async fn next_event(&mut self) -> Result<AssociationEvent, Interruption> {
        let is_between_messages = self.command_context.is_none() && self.data_set.is_none();
        if is_between_messages {
            self.pace = Self::pace(self.acceptor);
        }
        let (started, patience) = (Instant::now(), self.pace.allowance());
        let has_no_operations = self.operations.is_empty();
        // The limit delays further messages; a message that has begun is read to its end, and so are
        // cancellations of a long operation and the responses to its requests.
        let may_read = !is_between_messages
            || (self.operations.len() < self.agreement.max_operations
                || self.operations.iter().any(Operation::is_long))
                && self.operations.iter().map(Operation::waiting_bytes).sum::<usize>() < MAX_WAITING_BYTES;
        let message = async {
            match self.operations.front_mut() {
                Some(operation) => operation.next().await,
                None => pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            message = message => match message {
                Some(message) => Ok(AssociationEvent::Message(message?)),
                None => Ok(AssociationEvent::Ended),
            },
            () = self.acceptor.shutdown.cancelled(), if is_between_messages && has_no_operations => {
                Err(Interruption::Stopped)
            }
            piece = self.connection.next(), if may_read => Ok(AssociationEvent::Piece(piece?)),
            // A peer that waits for a response is not idle.
            () = sleep(patience), if !is_between_messages || has_no_operations => {
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

    /// Sends all outstanding messages, then answers an A-RELEASE-RQ. A data set that is not complete is
    /// dropped, and long operations are cancelled.
    async fn release(mut self) -> Result<(), Interruption> {
        self.data_set = None;
        for mut operation in std::mem::take(&mut self.operations) {
            operation.abandon();
            while let Some(message) = operation.next().await {
                match message {
                    Ok(message) => self.connection.send(&message).await?,
                    // The operation waited for a response that does not come any more.
                    Err(Interruption::Closed) => break,
                    Err(interruption) => return Err(interruption),
                }
            }
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
        let message = command::read(&self.command)?;
        self.command.clear();
        self.command_context = None;
        match message {
            DimseMessage::Request(request) => {
                let context = self.context(chunk.context)?.clone();
                self.begin(context, request).await
            }
            DimseMessage::Response(response) => self.receive_response(chunk.context, response),
        }
    }

    /// Gives a response to the operation that sends messages now.
    fn receive_response(&mut self, context: u8, response: DimseResponse) -> Result<(), Interruption> {
        if !self.operations.front().is_some_and(|operation| operation.respond(response)) {
            return Err(Violation::Command.into());
        }
        if response.has_data_set {
            self.data_set = Some(IncomingDataSet { context, destination: DataSetDestination::Ignored });
        }
        Ok(())
    }

    fn context(&self, id: u8) -> Result<&PresentationContext, Violation> {
        let context = self.agreement.contexts.iter().find(|context| context.id == id);
        context.ok_or(Violation::UnknownContext(id))
    }

    /// Begins an operation; responds at once if no data set follows.
    async fn begin(
        &mut self,
        context: PresentationContext,
        request: DimseRequest,
    ) -> Result<(), Interruption> {
        if request.operation == DimseOperation::Cancel {
            self.operations.iter().for_each(|operation| operation.cancel_if(context.id, request.message_id));
            return Ok(());
        }
        if self.operations.len() >= self.agreement.max_operations + SPARE_OPERATIONS {
            return Err(Violation::TooManyOperations.into());
        }
        self.acceptor.archive.count_traffic(&self.agreement.caller, Traffic { calls: 1, sent_bytes: 0 });
        let begun = match request.operation {
            DimseOperation::Echo => Err(c_echo::echo()),
            DimseOperation::Store if context.takes_instances && !context.may_store => {
                let caller = &self.agreement.caller;
                match self.acceptor.archive.audit_missing_right(caller, "C-STORE: no right to store").await {
                    Ok(()) => Err(status::of_unauthorized()),
                    Err(error) => Err(status::of_failed_query(&error)),
                }
            }
            DimseOperation::Store => {
                c_store::begin(&request, &context, &self.acceptor.archive, &self.agreement.caller)
                    .await
                    .map(Some)
            }
            _ if !takes_identifier(&request, &context) => Err(status::of_unrecognized(request.operation)),
            _ if !request.has_data_set => Err(status::of_identifier(WrongIdentifier::Absent)),
            _ => Ok(None),
        };
        let has_data_set = request.has_data_set;
        let destination = match begun {
            Ok(Some(upload)) => DataSetDestination::Upload(request, Box::new(upload)),
            Ok(None) => DataSetDestination::Identifier(request, Vec::new()),
            Err(status) if has_data_set => DataSetDestination::Refused(request, status),
            Err(status) => {
                self.respond(context.id, &request, &status);
                return Ok(());
            }
        };
        self.data_set = Some(IncomingDataSet { context: context.id, destination });
        Ok(())
    }

    async fn receive_data_set(&mut self, chunk: PdvChunk) -> Result<(), Interruption> {
        let Some(data_set) = &mut self.data_set else { return Err(Violation::Interleaved.into()) };
        if data_set.context != chunk.context {
            return Err(Violation::Interleaved.into());
        }
        match &mut data_set.destination {
            DataSetDestination::Upload(_, upload) if !chunk.bytes.is_empty() => {
                upload.write(chunk.bytes).await;
            }
            // Of a longer identifier, the rest is discarded, so that it cannot be read.
            DataSetDestination::Identifier(_, bytes) if bytes.len() <= MAX_IDENTIFIER_BYTES => {
                bytes.extend_from_slice(&chunk.bytes);
            }
            _ => {}
        }
        if chunk.is_last
            && let Some(IncomingDataSet { context, destination }) = self.data_set.take()
        {
            match destination {
                DataSetDestination::Upload(request, upload) => {
                    self.respond_when_stored(context, request, *upload).await;
                }
                DataSetDestination::Refused(request, status) => self.respond(context, &request, &status),
                DataSetDestination::Identifier(request, bytes) if bytes.len() > MAX_IDENTIFIER_BYTES => {
                    self.respond(context, &request, &status::of_identifier(WrongIdentifier::Absent));
                }
                DataSetDestination::Identifier(request, bytes) => self.start(context, request, bytes)?,
                DataSetDestination::Ignored => {}
            }
        }
        Ok(())
    }

    /// Adds a long operation, which begins when those before it have ended.
    fn start(&mut self, context: u8, request: DimseRequest, identifier: Vec<u8>) -> Result<(), Interruption> {
        let (operation, id, bytes) = (request.operation, (context, request.message_id), identifier.len());
        let service = ServiceRequest {
            context: self.context(context)?.clone(),
            request,
            contexts: self.contexts.clone(),
            peer_max_pdu_bytes: self.agreement.peer_max_pdu_bytes,
            caller: self.agreement.caller.clone(),
            calling: self.agreement.answer.calling_ae_title.clone(),
            called: self.agreement.answer.called_ae_title.clone(),
            acceptor: self.acceptor.clone(),
        };
        let root = models::of_sop_class(&service.context.abstract_syntax).map(|(root, _)| root);
        match (operation, root) {
            (DimseOperation::Find, Some(root)) => {
                self.add(id, bytes, |outbox| c_find::find(service, root, identifier, outbox));
            }
            (DimseOperation::Get, Some(root)) => {
                self.add(id, bytes, |outbox| retrieve::get(service, root, identifier, outbox));
            }
            (DimseOperation::Move, Some(root)) => {
                self.add(id, bytes, |outbox| {
                    retrieve::move_to_destination(service, root, identifier, outbox)
                });
            }
            _ => self.add(id, bytes, |outbox| commitment::commit(service, identifier, outbox)),
        }
        Ok(())
    }

    fn add<F>(&mut self, id: (u8, u16), waiting_bytes: usize, work: impl FnOnce(Outbox) -> F)
    where
        F: Future<Output = Result<(), Interruption>> + Send + 'static,
    {
        let patience = Duration::from_secs(self.acceptor.settings.idle_timeout_seconds);
        let stop = self.acceptor.shutdown.clone();
        self.operations.push_back(Operation::long(id, waiting_bytes, patience, stop, work));
    }

    fn respond(&mut self, context: u8, request: &DimseRequest, status: &Status) {
        let response = command::write_response(request, status);
        let response = command_pdus(context, &response, self.agreement.peer_max_pdu_bytes);
        self.operations.push_back(Operation::ending_with(context, request.message_id, ready(response)));
    }

    /// Responds when the instance is durable, while further messages are read.
    async fn respond_when_stored(&mut self, context: u8, request: DimseRequest, upload: Upload) {
        let stored = upload.finish().await;
        let (message_id, max_pdu_bytes) = (request.message_id, self.agreement.peer_max_pdu_bytes);
        let (archive, caller) = (self.acceptor.archive.clone(), self.agreement.caller.clone());
        let response = async move {
            let outcome = stored.await;
            if outcome.result.is_ok() {
                archive.note_device(&caller);
            }
            let status = status::of_outcome(&outcome);
            command_pdus(context, &command::write_response(&request, &status), max_pdu_bytes)
        };
        self.operations.push_back(Operation::ending_with(context, message_id, response));
    }
}

/// Whether an operation is one of its presentation context's SOP class, with an identifier as its data set.
fn takes_identifier(request: &DimseRequest, context: &PresentationContext) -> bool {
    let service = models::of_sop_class(&context.abstract_syntax).map(|(_, service)| service);
    matches!(
        (request.operation, service),
        (DimseOperation::Find, Some(QueryService::Find))
            | (DimseOperation::Move, Some(QueryService::Move))
            | (DimseOperation::Get, Some(QueryService::Get))
    ) || (request.operation == DimseOperation::Action
        && context.abstract_syntax == uids::STORAGE_COMMITMENT_PUSH_MODEL)
}
