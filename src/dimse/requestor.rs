//! Associations that Cuspid requests: as SCU of verification, storage and C-MOVE (PS3.8 §7.1, PS3.7 §9.3).

use std::io;
use std::time::Duration;

use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResultReason, RequestorRoles,
    UserVariableItem,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::config::{DimseSettings, PeerAddress};
use crate::dicom::attributes::Attributes;
use crate::dicom::data_set;
use crate::dicom::explicit::IMPLEMENTATION_CLASS_UID;
use crate::dicom::repertoire::Repertoire;
use crate::dicom::transfer_syntax;
use crate::dicom::uids;
use crate::dimse::command::{self, DimseMessage, DimseResponse, MAX_COMMAND_BYTES, SubOperations};
use crate::dimse::connection::{Connection, DimseStream, Interruption};
use crate::dimse::models::QueryOptions;
use crate::dimse::negotiation::{IMPLEMENTATION_VERSION_NAME, PresentationContext};
use crate::dimse::operation::RequestLink;
use crate::dimse::pdu::{PduPiece, Violation, association_pdu, command_pdus, push_data_set, read_answer};
use crate::tls;

/// The most presentation contexts of an association: their IDs are the odd numbers of a byte.
pub const MAX_CONTEXTS: usize = 128;

/// The statuses of responses before the final one (PS3.7 §C.3).
const PENDING: [u16; 2] = [0xFF00, 0xFF01];

/// The reason for which an association was not established.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There was no connection.
    #[error("no connection to {0}: {1}")]
    Unreachable(String, io::Error),
    /// The peer did not answer in time.
    #[error("no answer in {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer rejected the association.
    #[error("the association was rejected: {0}")]
    Rejected(String),
    /// Too many associations that the server requested are open.
    #[error("no place for another association in {} s (dimse.max_outgoing_associations)", .0.as_secs())]
    NoPlace(Duration),
    /// The connection failed before the answer.
    #[error(transparent)]
    Interrupted(#[from] Interruption),
}

/// A presentation context to propose.
#[derive(Debug, Clone)]
pub struct ProposedContext {
    /// The SOP class.
    pub abstract_syntax: String,
    /// The transfer syntaxes, the preferred one first.
    pub transfer_syntaxes: Vec<String>,
}

impl ProposedContext {
    /// A context for data sets that are not compressed.
    pub fn of_plain_data_sets(abstract_syntax: &str) -> Self {
        let plain = [transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN];
        let transfer_syntaxes = plain.map(str::to_owned).into();
        Self { abstract_syntax: abstract_syntax.to_owned(), transfer_syntaxes }
    }
}

/// The peer of an association to request.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The address.
    pub address: &'a PeerAddress,
    /// The called AE title.
    pub called: &'a str,
    /// The calling AE title.
    pub calling: &'a str,
}

/// An association that the server requested.
pub struct Requestor {
    connection: Connection,
    /// The presentation contexts that the peer accepted.
    pub contexts: Vec<PresentationContext>,
    /// The longest P-DATA-TF that the peer accepts; 0 for no limit.
    pub peer_max_pdu_bytes: u32,
    response_timeout: Duration,
    last_id: u16,
}

impl Requestor {
    /// Requests an association. With `is_scp`, the server proposes to be the SCP of all contexts.
    ///
    /// # Errors
    /// If the peer cannot be reached, does not answer in time, or rejects the association.
    pub async fn connect(
        target: Target<'_>,
        proposed: &[ProposedContext],
        is_scp: bool,
        settings: &DimseSettings,
    ) -> Result<Self, ConnectError> {
        let patience = Duration::from_secs(settings.connect_timeout_seconds);
        let response_timeout = Duration::from_secs(settings.idle_timeout_seconds);
        let stream = timeout(patience, open(target, settings)).await;
        let stream = stream.map_err(|_| ConnectError::Silent(patience))?;
        let stream = stream.map_err(|error| ConnectError::Unreachable(target.address.to_string(), error))?;
        let mut connection = Connection::new(stream, settings.max_pdu_bytes, response_timeout);
        let request = association_request(target, proposed, is_scp, settings);
        connection.send(&association_pdu(&Pdu::AssociationRQ(request))).await?;
        let patience = Duration::from_secs(settings.request_timeout_seconds);
        let answer =
            timeout(patience, connection.next()).await.map_err(|_| ConnectError::Silent(patience))??;
        let answer = match answer {
            PduPiece::Answer(pdu) => read_answer(&pdu).map_err(Interruption::from)?,
            PduPiece::Abort => return Err(Interruption::Aborted.into()),
            _ => return Err(Interruption::from(Violation::UnexpectedPdu).into()),
        };
        let accepted = match answer {
            Pdu::AssociationAC(accepted) => accepted,
            Pdu::AssociationRJ(rejection) => {
                return Err(ConnectError::Rejected(rejection.source.to_string()));
            }
            _ => return Err(Interruption::from(Violation::UnexpectedPdu).into()),
        };
        let contexts = proposed.iter().zip((1u8..).step_by(2)).filter_map(|(context, id)| {
            let result = accepted.presentation_contexts.iter().find(|result| result.id == id)?;
            let is_accepted = result.reason == PresentationContextResultReason::Acceptance;
            is_accepted.then(|| PresentationContext {
                id,
                abstract_syntax: context.abstract_syntax.clone(),
                transfer_syntax: result.transfer_syntax.trim_matches(['\0', ' ']).to_owned(),
                may_store: false,
                takes_instances: true,
                options: QueryOptions::default(),
            })
        });
        let contexts = contexts.collect();
        let max_length = accepted.user_variables.iter().find_map(|item| match item {
            UserVariableItem::MaxLength(length) => Some(*length),
            _ => None,
        });
        let peer_max_pdu_bytes = max_length.unwrap_or(0);
        Ok(Self { connection, contexts, peer_max_pdu_bytes, response_timeout, last_id: 0 })
    }

    /// Sends a C-ECHO and returns the status of the response; `None` if the peer does not accept
    /// Verification.
    ///
    /// # Errors
    /// If the association ends before the response.
    pub async fn echo(&mut self) -> Result<Option<u16>, Interruption> {
        let context = self.contexts.iter().find(|context| context.abstract_syntax == uids::VERIFICATION);
        let Some(context) = context.map(|context| context.id) else { return Ok(None) };
        let id = self.next_id();
        let request = command::write_echo_request(id, uids::VERIFICATION);
        self.request(command_pdus(context, &request, self.peer_max_pdu_bytes)).await?;
        Ok(Some(self.response(id).await?.status))
    }

    /// Sends a C-MOVE and waits for its end. `progress` gets the numbers of each response.
    ///
    /// # Errors
    /// If the association ends before the final response, or the peer is silent for
    /// `dimse.idle_timeout_seconds`.
    pub async fn move_to(
        &mut self,
        destination: &str,
        context: &PresentationContext,
        identifier: &Attributes,
        mut progress: impl FnMut(SubOperations),
    ) -> Result<DimseResponse, Interruption> {
        let id = self.next_id();
        let request = command::write_move_request(id, &context.abstract_syntax, destination);
        let mut bytes = command_pdus(context.id, &request, self.peer_max_pdu_bytes);
        let identifier = data_set::write(identifier, context.encoding(), Repertoire::UNICODE);
        push_data_set(&mut bytes, context.id, &identifier, true, self.peer_max_pdu_bytes);
        self.request(bytes).await?;
        loop {
            let response = self.response(id).await?;
            progress(response.counts);
            if !PENDING.contains(&response.status) {
                return Ok(response);
            }
        }
    }

    /// Releases the association and closes the connection. Errors do not matter: all responses have come.
    pub async fn release(mut self) {
        let release = async {
            self.connection.send(&association_pdu(&Pdu::ReleaseRQ)).await?;
            self.connection.next().await
        };
        let _ = timeout(self.response_timeout, release).await;
        self.connection.close().await;
    }

    async fn next_response(&mut self) -> Result<DimseResponse, Interruption> {
        let mut command = Vec::new();
        loop {
            let chunk = match self.connection.next().await? {
                PduPiece::Pdv(chunk) => chunk,
                PduPiece::Abort => return Err(Interruption::Aborted),
                PduPiece::Release => return Err(Interruption::Closed),
                PduPiece::Associate(_) | PduPiece::Answer(_) => return Err(Violation::UnexpectedPdu.into()),
            };
            if !chunk.is_command {
                // The data set of an earlier response.
                continue;
            }
            if command.len() + chunk.bytes.len() > MAX_COMMAND_BYTES {
                return Err(Violation::CommandTooLong(MAX_COMMAND_BYTES).into());
            }
            command.extend_from_slice(&chunk.bytes);
            if chunk.is_last {
                return match command::read(&command)? {
                    DimseMessage::Response(response) => Ok(response),
                    DimseMessage::Request(_) => Err(Violation::Command.into()),
                };
            }
        }
    }
}

impl RequestLink for Requestor {
    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    async fn request(&mut self, bytes: Vec<u8>) -> Result<(), Interruption> {
        self.connection.send(&bytes).await
    }

    async fn response(&mut self, id: u16) -> Result<DimseResponse, Interruption> {
        let patience = self.response_timeout;
        let response = timeout(patience, self.next_response()).await;
        let response = response.map_err(|_| Interruption::Silent(patience))??;
        if response.message_id == id { Ok(response) } else { Err(Interruption::UnexpectedResponse) }
    }
}

/// Opens a connection.
async fn open(target: Target<'_>, settings: &DimseSettings) -> io::Result<DimseStream> {
    let stream = TcpStream::connect(&target.address.host_and_port).await?;
    // Without the option, requests are only slower.
    let _ = stream.set_nodelay(true);
    if !target.address.is_tls {
        return Ok(Either::Left(stream));
    }
    let stream = tls::connect(stream, target.address.host(), &settings.tls_files()).await?;
    Ok(Either::Right(Box::new(stream.into())))
}

fn association_request(
    target: Target<'_>,
    proposed: &[ProposedContext],
    is_scp: bool,
    settings: &DimseSettings,
) -> AssociationRQ {
    let contexts = proposed.iter().zip((1u8..).step_by(2));
    let presentation_contexts = contexts
        .map(|(context, id)| PresentationContextProposed {
            id,
            abstract_syntax: context.abstract_syntax.clone(),
            transfer_syntaxes: context.transfer_syntaxes.clone(),
        })
        .collect();
    let mut user_variables = vec![
        UserVariableItem::MaxLength(settings.max_pdu_bytes),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
    ];
    if is_scp {
        let roles = RequestorRoles { scu: false, scp: true };
        user_variables.extend(proposed.iter().map(|context| {
            UserVariableItem::ScuScpRoleSelectionSubItem(context.abstract_syntax.clone(), roles)
        }));
    }
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: target.calling.to_owned(),
        called_ae_title: target.called.to_owned(),
        application_context_name: uids::DICOM_APPLICATION_CONTEXT.to_owned(),
        presentation_contexts,
        user_variables,
    }
}
