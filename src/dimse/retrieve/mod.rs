//! C-MOVE and C-GET as SCP (PS3.4 §C.4.2, §C.4.3): sends instances, to a third AE on an association of its
//! own, or back on the same association.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::budget::Grant;
use crate::config::PeerAddress;
use crate::dicom::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use crate::dimse::command::{MoveOriginator, Status};
use crate::dimse::connection::Interruption;
use crate::dimse::identifier::Identifier;
use crate::dimse::models::ModelRoot;
use crate::dimse::operation::Outbox;
use crate::dimse::requestor::{ConnectError, MAX_CONTEXTS, ProposedContext, Requestor, Target};
use crate::dimse::retrieve::audited::AuditedTransfer;
use crate::dimse::retrieve::retrieval::{Link, OpenedInstances, Retrieval, log_unsent, opened};
use crate::dimse::retrieve::selection::{Selection, select};
use crate::dimse::service::ServiceRequest;
use crate::dimse::status;

pub(in crate::dimse) mod audited;
mod form;
pub(in crate::dimse) mod retrieval;
mod selection;

/// The time in which a destination may take the instance that is being sent when a peer cancels a C-MOVE.
const CANCELLATION_PATIENCE: Duration = Duration::from_secs(1);

/// Carries out a C-GET.
///
/// # Errors
/// If the association ends before the last response.
pub async fn get(
    service: ServiceRequest,
    root: ModelRoot,
    identifier: Vec<u8>,
    mut outbox: Outbox,
) -> Result<(), Interruption> {
    let selection = match read_and_select(&service, root, identifier, &outbox).await {
        Ok(selection) => selection,
        Err(status) => return outbox.send(service.response(&status, None)).await,
    };
    let studies = selection.studies();
    let transfer = AuditedTransfer::begin(&service.acceptor.archive, &service.caller, studies, None).await;
    let transfer = match transfer {
        Ok(transfer) => transfer,
        Err(error) => return outbox.send(service.response(&status::of_failed_query(&error), None)).await,
    };
    let mut retrieval = Retrieval::new(&service, &selection, transfer);
    let contexts = service.contexts.clone();
    let lost = CancellationToken::new();
    let (archive, caller) = (service.acceptor.archive.clone(), service.caller.clone());
    let mut instances = opened(archive, caller, contexts, selection.scopes, lost);
    let ended = send_back(&service, &mut retrieval, &mut instances, &mut outbox).await;
    // What was sent is recorded though the association has ended.
    retrieval.transfer.end(&service.acceptor.archive, &service.caller).await;
    ended?;
    retrieval.finish(&mut outbox).await
}

/// Sends instances on the association of the request.
async fn send_back(
    service: &ServiceRequest,
    retrieval: &mut Retrieval<'_>,
    instances: &mut OpenedInstances,
    outbox: &mut Outbox,
) -> Result<(), Interruption> {
    while let Some(instance) = retrieval.next(instances, outbox).await? {
        let sent = match instance.opened {
            Some(Ok((context, bytes))) => {
                let max_pdu_bytes = service.peer_max_pdu_bytes;
                let link = Link { max_pdu_bytes, context, ..Link::default() };
                Some(link.send(&instance.record, bytes, outbox).await?)
            }
            Some(Err(error)) => log_unsent(&instance.record, &error),
            None => None,
        };
        retrieval.add(&instance.record, sent);
    }
    Ok(())
}

/// Carries out a C-MOVE.
///
/// # Errors
/// If the association ends before the last response.
pub async fn move_to_destination(
    service: ServiceRequest,
    root: ModelRoot,
    identifier: Vec<u8>,
    mut outbox: Outbox,
) -> Result<(), Interruption> {
    let title = service.request.move_destination.clone().unwrap_or_default();
    let address = service.acceptor.callers.destination(&title, &service.called, &service.caller.tenant);
    let Some(address) = address.cloned() else {
        let calling = &service.calling;
        warn!(
            dimse.calling = calling,
            dimse.destination = title,
            "a move to a title without an address in dimse.peers"
        );
        return outbox.send(service.response(&status::of_unknown_destination(), None)).await;
    };
    let selection = match read_and_select(&service, root, identifier, &outbox).await {
        Ok(selection) => selection,
        Err(status) => return outbox.send(service.response(&status, None)).await,
    };
    if selection.count == 0 {
        let transfer = AuditedTransfer::default();
        return Retrieval::new(&service, &selection, transfer).finish(&mut outbox).await;
    }
    let connected = tokio::select! {
        biased;
        () = outbox.cancelled() => {
            let mut retrieval = Retrieval::new(&service, &selection, AuditedTransfer::default());
            retrieval.cancel();
            return retrieval.finish(&mut outbox).await;
        }
        connected = connect(&service, &title, &address, &selection) => connected,
    };
    let (mut requestor, _place) = match connected {
        Ok(connected) => connected,
        Err(error) => return fail(&service, selection, &error, &mut outbox).await,
    };
    let (studies, destination) = (selection.studies(), Some(title.as_str()));
    let transfer =
        AuditedTransfer::begin(&service.acceptor.archive, &service.caller, studies, destination).await;
    let transfer = match transfer {
        Ok(transfer) => transfer,
        Err(error) => {
            requestor.release().await;
            return outbox.send(service.response(&status::of_failed_query(&error), None)).await;
        }
    };
    let mut retrieval = Retrieval::new(&service, &selection, transfer);
    let lost = CancellationToken::new();
    let contexts = requestor.contexts.clone().into();
    let (archive, caller) = (service.acceptor.archive.clone(), service.caller.clone());
    let mut instances = opened(archive, caller, contexts, selection.scopes, lost.clone());
    let link = (&mut requestor, &lost);
    let ended = send_on(&service, &mut retrieval, &mut instances, link, &mut outbox).await;
    retrieval.transfer.end(&service.acceptor.archive, &service.caller).await;
    ended?;
    if !lost.is_cancelled() {
        tokio::select! {
            () = requestor.release() => {}
            () = cancelled_for_long(&outbox) => {}
        }
    }
    retrieval.finish(&mut outbox).await
}

/// Responds that no instance can be moved, as there is no association with the destination.
async fn fail(
    service: &ServiceRequest,
    selection: Selection,
    error: &ConnectError,
    outbox: &mut Outbox,
) -> Result<(), Interruption> {
    let title = service.request.move_destination.as_deref().unwrap_or_default();
    warn!(dimse.destination = title, "cannot move instances: {error}");
    let retrieval = Retrieval::new(service, &selection, AuditedTransfer::default());
    let (archive, caller) = (service.acceptor.archive.clone(), service.caller.clone());
    let lost = CancellationToken::new();
    lost.cancel();
    let instances = opened(archive, caller, Arc::from([]), selection.scopes, lost);
    retrieval.fail(instances, &error.to_string(), outbox).await
}

/// Waits until the peer has cancelled, and its destination has had time for the instance that is being sent.
fn cancelled_for_long(outbox: &Outbox) -> impl Future<Output = ()> + Send + 'static {
    let cancelled = outbox.cancelled();
    async move {
        cancelled.await;
        sleep(CANCELLATION_PATIENCE).await;
    }
}

/// Requests an association with the destination of a C-MOVE, when there is a place for one.
async fn connect(
    service: &ServiceRequest,
    title: &str,
    address: &PeerAddress,
    selection: &Selection,
) -> Result<(Requestor, Grant), ConnectError> {
    let settings = &service.acceptor.settings;
    let patience = Duration::from_secs(settings.request_timeout_seconds);
    let place = timeout(patience, service.acceptor.outgoing.take(title, 1)).await;
    let place = place.map_err(|_| ConnectError::NoPlace(patience))?;
    let target = Target { address, called: title, calling: &settings.ae_title };
    let requestor = Requestor::connect(target, &proposed_contexts(&selection.kinds), false, settings).await?;
    Ok((requestor, place))
}

/// Sends instances to the destination of a C-MOVE, until its association is `lost`.
async fn send_on(
    service: &ServiceRequest,
    retrieval: &mut Retrieval<'_>,
    instances: &mut OpenedInstances,
    (requestor, lost): (&mut Requestor, &CancellationToken),
    outbox: &mut Outbox,
) -> Result<(), Interruption> {
    let title = service.request.move_destination.as_deref().unwrap_or_default();
    while let Some(instance) = retrieval.next(instances, outbox).await? {
        let sent = match instance.opened {
            Some(Ok((context, bytes))) if !lost.is_cancelled() => {
                let originator = MoveOriginator {
                    ae_title: service.calling.clone(),
                    message_id: service.request.message_id,
                };
                let max_pdu_bytes = requestor.peer_max_pdu_bytes;
                let originator = Some(originator);
                let link = Link { max_pdu_bytes, context, originator, ..Link::default() };
                let sent = tokio::select! {
                    () = outbox.stopped() => return Err(Interruption::Stopped),
                    sent = link.send(&instance.record, bytes, requestor) => sent,
                    () = cancelled_for_long(outbox) => Err(Interruption::Silent(CANCELLATION_PATIENCE)),
                };
                let report = |error: &_| {
                    warn!(dimse.destination = title, "a move failed: {error}");
                    lost.cancel();
                };
                sent.inspect_err(report).ok()
            }
            Some(Err(error)) => log_unsent(&instance.record, &error),
            // Those that are left are listed as failed.
            Some(Ok(_)) | None => None,
        };
        retrieval.add(&instance.record, sent);
    }
    Ok(())
}

/// Reads an identifier and finds the instances that it selects, unless the peer cancels.
async fn read_and_select(
    service: &ServiceRequest,
    root: ModelRoot,
    identifier: Vec<u8>,
    outbox: &Outbox,
) -> Result<Selection, Status> {
    let transfer_syntax = service.context.transfer_syntax.clone();
    let read = service.read_apart(move || Identifier::read(&identifier, &transfer_syntax, root));
    let selection = async {
        let identifier = read.await.map_err(|error| status::of_failed_selection(&error))??;
        select(service, root, &identifier).await
    };
    tokio::select! {
        biased;
        () = outbox.cancelled() => Err(status::of_cancelled()),
        selection = selection => selection,
    }
}

/// The presentation contexts for instances of SOP classes and transfer syntaxes: for each SOP class one for
/// data sets that are not compressed, and one for each other transfer syntax.
pub(in crate::dimse) fn proposed_contexts(kinds: &BTreeSet<(String, String)>) -> Vec<ProposedContext> {
    let plain = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN];
    let mut proposed = Vec::new();
    let mut last_class = None;
    for (sop_class, transfer_syntax) in kinds {
        let context = |transfer_syntaxes: &[&str]| ProposedContext {
            abstract_syntax: sop_class.clone(),
            transfer_syntaxes: transfer_syntaxes.iter().map(|uid| (*uid).to_owned()).collect(),
        };
        if last_class.replace(sop_class) != Some(sop_class) {
            proposed.push(context(&plain));
        }
        if !plain.contains(&transfer_syntax.as_str()) {
            proposed.push(context(&[transfer_syntax]));
        }
    }
    // Instances beyond the limit fail, which the response says.
    proposed.truncate(MAX_CONTEXTS);
    proposed
}
