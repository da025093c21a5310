//! Storage commitment, push model, as SCP (PS3.4 §J.3): takes requests to confirm that instances are stored
//! durably. A request is durable before it is answered, and its report follows (`report_sender.rs`).

use std::time::Duration;

use tokio::time::timeout;
use tracing::info;

use crate::archive::commitments::{CommitmentReference, ReportOutcome, VersionedCommitment};
use crate::backoff::Backoff;
use crate::dicom::attributes::{Attribute, Attributes, Tag, Value};
use crate::dicom::tags;
use crate::dicom::uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE;
use crate::dimse::command::{DimseRequest, Status};
use crate::dimse::connection::Interruption;
use crate::dimse::identifier::read_data_set;
use crate::dimse::operation::Outbox;
use crate::dimse::report::Report;
use crate::dimse::report_sender::commitment_limits;
use crate::dimse::service::ServiceRequest;
use crate::dimse::status::{self, WrongAction, WrongIdentifier};
use crate::telemetry;

/// Action type 1, "Request Storage Commitment".
const REQUEST_COMMITMENT: u16 = 1;
/// The most elements of the information of a request: those of as many references as it can hold.
const MAX_ELEMENTS: usize = 60_000;

/// The attempts to look the instances of a request up before its report waits for another association, and
/// the pauses between them.
const LOOK_UP_ATTEMPTS: u32 = 5;
const LOOK_UP_RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));

/// Carries out an N-ACTION: makes the request durable, responds, then has the result reported in an
/// N-EVENT-REPORT. A peer that has an address in `dimse.peers` gets the report on an association of its own,
/// others on the same association.
///
/// # Errors
/// If the association ends before the last message.
pub async fn commit(
    service: ServiceRequest,
    information: Vec<u8>,
    mut outbox: Outbox,
) -> Result<(), Interruption> {
    let (request, transfer_syntax) = (service.request.clone(), service.context.transfer_syntax.clone());
    let read = service.read_apart(move || Action::read(&request, &information, &transfer_syntax)).await;
    let action = match read.unwrap_or_else(|error| Err(status::of_failed_action(&error))) {
        Ok(action) => action,
        Err(status) => return outbox.send(service.response(&status, None)).await,
    };
    let (calling, called) = (service.calling.trim(), service.called.trim());
    let limits = commitment_limits(&service.acceptor.settings);
    let archive = &service.acceptor.archive;
    let Action { transaction, references } = action;
    let destination = service.acceptor.callers.destination(calling, called, &service.caller.tenant);
    let limits = (limits, destination.is_none());
    let accepted = archive
        .accept_commitment(&service.caller, (calling, called), &transaction, &references, limits)
        .await;
    let status = match &accepted {
        Ok(Some(_)) => Status::SUCCESS,
        Ok(None) => status::of_action(WrongAction::TooMany),
        Err(error) => status::of_failed_action(error),
    };
    let answered = outbox.send(service.response(&status, None)).await;
    let Ok(Some(accepted)) = accepted else { return answered };
    if destination.is_some() {
        // The report is sent though the association of the request ends.
        service.acceptor.reports.wake(&service.caller.tenant, calling);
        return answered;
    }
    answered?;
    match report_here(&service, &accepted, references, &mut outbox).await {
        Ok(true) => report_others(&service, &accepted, &mut outbox).await,
        // The peer has released the association: the message came before the answer to that.
        Ok(false) | Err(Interruption::Closed) => Ok(()),
        Err(interruption) => Err(interruption),
    }
}

/// Reports the result of a request on the association. Returns whether the peer has taken the report;
/// otherwise it waits for another association.
async fn report_here(
    service: &ServiceRequest,
    (request, version): &VersionedCommitment,
    references: Vec<CommitmentReference>,
    outbox: &mut Outbox,
) -> Result<bool, Interruption> {
    let archive = &service.acceptor.archive;
    let later = |error: String| {
        info!(dimse.calling = request.peer, "a commitment will be reported later: {error}");
    };
    let mut failed = 0;
    let report = loop {
        match Report::of(archive, &service.caller, request, references.clone()).await {
            Ok(report) => break report,
            Err(error) => later(telemetry::chain(&error)),
        }
        failed += 1;
        let pause = timeout(LOOK_UP_RETRY.limit(failed), outbox.cancelled());
        if failed >= LOOK_UP_ATTEMPTS || pause.await.is_ok() {
            return Ok(false);
        }
    };
    let sent = report.send(outbox, &service.context, service.peer_max_pdu_bytes).await;
    let outcome = match &sent {
        Ok(outcome) => outcome.clone(),
        Err(interruption) => ReportOutcome::Later(interruption.to_string()),
    };
    if let Err(error) = archive.settle_commitment((request, *version), &outcome).await {
        // The report is sent again.
        later(telemetry::chain(&error));
    }
    sent.map(|outcome| outcome == ReportOutcome::Taken)
}

/// Reports the results of earlier requests of a peer that has just taken a report: their associations, or the
/// server, ended before these reports were taken.
async fn report_others(
    service: &ServiceRequest,
    (own, _): &VersionedCommitment,
    outbox: &mut Outbox,
) -> Result<(), Interruption> {
    let archive = &service.acceptor.archive;
    // The report of a younger request may be under way on the association of that request.
    let hold = Duration::from_secs(service.acceptor.settings.idle_timeout_seconds.saturating_mul(2));
    let Ok(others) = archive.commitments_of(&service.caller, &own.peer).await else { return Ok(()) };
    for other in others {
        if other.0.transaction == own.transaction || !other.0.is_older_than(hold) {
            continue;
        }
        let Ok(Some(references)) = archive.commitment_references((&other.0, other.1)).await else { continue };
        match report_here(service, &other, references, outbox).await {
            Ok(true) => {}
            Ok(false) | Err(Interruption::Closed) => return Ok(()),
            Err(interruption) => return Err(interruption),
        }
    }
    Ok(())
}

/// A request for commitment.
struct Action {
    transaction: String,
    references: Vec<CommitmentReference>,
}

impl Action {
    /// Reads the action information (PS3.4 Table J.3-1).
    fn read(request: &DimseRequest, information: &[u8], transfer_syntax: &str) -> Result<Self, Status> {
        if request.action_type != Some(REQUEST_COMMITMENT) {
            return Err(status::of_action(WrongAction::Type));
        }
        if request.sop_instance.as_deref() != Some(STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE) {
            return Err(status::of_action(WrongAction::Instance));
        }
        let information = read_data_set(information, transfer_syntax, MAX_ELEMENTS);
        let information = information.map_err(|wrong| match wrong {
            WrongIdentifier::TooMany => status::of_identifier(wrong),
            _ => status::of_action(WrongAction::Unreadable),
        })?;
        let transaction = text(&information, tags::TRANSACTION_UID);
        let transaction =
            transaction.ok_or_else(|| status::of_action(WrongAction::Missing(tags::TRANSACTION_UID)))?;
        let items = information.get(&tags::REFERENCED_SOP_SEQUENCE).map_or(&[][..], |items| &items.values);
        let references: Option<Vec<CommitmentReference>> = items
            .iter()
            .map(|value| {
                let Value::Item(item) = value else { return None };
                let sop_class = text(item, tags::REFERENCED_SOP_CLASS_UID)?;
                Some((sop_class, text(item, tags::REFERENCED_SOP_INSTANCE_UID)?))
            })
            .collect();
        let references = references
            .filter(|references| !references.is_empty())
            .ok_or_else(|| status::of_action(WrongAction::Missing(tags::REFERENCED_SOP_SEQUENCE)))?;
        Ok(Self { transaction, references })
    }
}

fn text(attributes: &Attributes, tag: Tag) -> Option<String> {
    let text = attributes.get(&tag).and_then(Attribute::first_text)?;
    (!text.is_empty()).then(|| text.to_owned())
}
