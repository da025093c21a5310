//! C-MOVE and C-GET as SCP (PS3.4 §C.4.2, §C.4.3): sends instances, to a third AE on an association of its
//! own, or back on the same association.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tracing::{info, warn};

use crate::archive::access::Caller;
use crate::archive::read::ahead::{AheadSize, holding};
use crate::archive::read::whole::is_logged;
use crate::archive::records::InstanceRecord;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, run_apart};
use crate::dicom::attributes::{Attribute, Attributes, Value, Vr};
use crate::dicom::repertoire::Repertoire;
use crate::dicom::tags;
use crate::dicom::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use crate::dimse::command::{MoveOriginator, Status, SubOperations, write_store_request};
use crate::dimse::connection::Interruption;
use crate::dimse::identifier::Identifier;
use crate::dimse::models::ModelRoot;
use crate::dimse::negotiation::PresentationContext;
use crate::dimse::operation::{Outbox, RequestLink};
use crate::dimse::pdu::{command_pdus, push_data_set};
use crate::dimse::requestor::{MAX_CONTEXTS, ProposedContext, Requestor, Target};
use crate::dimse::retrieve::audited::AuditedTransfer;
use crate::dimse::retrieve::form::DataSetBytes;
use crate::dimse::retrieve::selection::{Selection, select};
use crate::dimse::service::ServiceRequest;
use crate::dimse::status;
use crate::telemetry;

mod audited;
mod form;
mod selection;

/// The least time between two pending responses.
const PENDING_INTERVAL: Duration = Duration::from_millis(250);
/// The most UIDs of a Failed SOP Instance UID List: the length of its value has 16 bits.
const MAX_FAILED_UIDS: usize = 1000;

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
    let selection = match read_and_select(&service, root, &identifier, &outbox).await {
        Ok(selection) => selection,
        Err(status) => return outbox.send(service.response(&status, None)).await,
    };
    let transfer = match AuditedTransfer::begin(&service, &selection.scopes, None).await {
        Ok(transfer) => transfer,
        Err(error) => return outbox.send(service.response(&status::of_failed_query(&error), None)).await,
    };
    let mut retrieval = Retrieval::new(&service, &selection, transfer);
    let contexts = service.contexts.clone();
    let mut instances = opened(&service, contexts, selection.scopes);
    let ended = send_back(&service, &mut retrieval, &mut instances, &mut outbox).await;
    // What was sent is recorded though the association has ended.
    retrieval.transfer.end(&service).await;
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
            Ok((context, bytes)) => {
                let link = Link { max_pdu_bytes: service.peer_max_pdu_bytes, context, originator: None };
                Some(link.send(&instance.record, bytes, outbox).await?)
            }
            Err(error) => log_unsent(&instance.record, &error),
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
    let address = service.callers.destination(&title, &service.called, &service.caller.tenant);
    let Some(address) = address.cloned() else {
        return outbox.send(service.response(&status::of_unknown_destination(), None)).await;
    };
    let selection = match read_and_select(&service, root, &identifier, &outbox).await {
        Ok(selection) => selection,
        Err(status) => return outbox.send(service.response(&status, None)).await,
    };
    if selection.count == 0 {
        let transfer = AuditedTransfer::default();
        return Retrieval::new(&service, &selection, transfer).finish(&mut outbox).await;
    }
    let target = Target { address: &address, called: &title, calling: &service.settings.ae_title };
    let proposed = proposed_contexts(&selection);
    let mut requestor = match Requestor::connect(target, &proposed, false, &service.settings).await {
        Ok(requestor) => requestor,
        Err(error) => {
            warn!(dimse.destination = title, "cannot move instances: {error}");
            let failed = u16::try_from(selection.count).unwrap_or(u16::MAX);
            let counts = SubOperations { failed, ..SubOperations::default() };
            let status = status::of_no_association(&error.to_string());
            return outbox.send(service.response(&status, Some(counts))).await;
        }
    };
    let transfer = match AuditedTransfer::begin(&service, &selection.scopes, Some(&title)).await {
        Ok(transfer) => transfer,
        Err(error) => {
            requestor.release().await;
            return outbox.send(service.response(&status::of_failed_query(&error), None)).await;
        }
    };
    let mut retrieval = Retrieval::new(&service, &selection, transfer);
    let mut instances = opened(&service, requestor.contexts.clone().into(), selection.scopes);
    let ended = send_on(&service, &mut retrieval, &mut instances, &mut requestor, &mut outbox).await;
    retrieval.transfer.end(&service).await;
    if ended? {
        requestor.release().await;
    }
    retrieval.finish(&mut outbox).await
}

/// Sends instances to the destination of a C-MOVE. Returns whether its association is still open.
async fn send_on(
    service: &ServiceRequest,
    retrieval: &mut Retrieval<'_>,
    instances: &mut OpenedInstances,
    requestor: &mut Requestor,
    outbox: &mut Outbox,
) -> Result<bool, Interruption> {
    let title = service.request.move_destination.as_deref().unwrap_or_default();
    let mut is_open = true;
    while let Some(instance) = retrieval.next(instances, outbox).await? {
        let sent = match instance.opened {
            Ok((context, bytes)) if is_open => {
                let originator = MoveOriginator {
                    ae_title: service.calling.clone(),
                    message_id: service.request.message_id,
                };
                let max_pdu_bytes = requestor.peer_max_pdu_bytes;
                let link = Link { max_pdu_bytes, context, originator: Some(originator) };
                let sent = tokio::select! {
                    () = outbox.stopped() => return Err(Interruption::Stopped),
                    sent = link.send(&instance.record, bytes, requestor) => sent,
                };
                is_open = sent.is_ok();
                sent.inspect_err(|error| warn!(dimse.destination = title, "a move failed: {error}")).ok()
            }
            Ok(_) => None,
            Err(error) => log_unsent(&instance.record, &error),
        };
        retrieval.add(&instance.record, sent);
    }
    Ok(is_open)
}

/// Reads an identifier and finds the instances that it selects, unless the peer cancels.
async fn read_and_select(
    service: &ServiceRequest,
    root: ModelRoot,
    identifier: &[u8],
    outbox: &Outbox,
) -> Result<Selection, Status> {
    let identifier = Identifier::read(identifier, &service.context.transfer_syntax, root)?;
    tokio::select! {
        () = outbox.cancelled() => Err(status::of_cancelled()),
        selection = select(service, root, &identifier) => selection,
    }
}

/// The presentation contexts for the instances of a selection: for each SOP class one for data sets that are
/// not compressed, and one for each other transfer syntax in which some are stored.
fn proposed_contexts(selection: &Selection) -> Vec<ProposedContext> {
    let plain = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN];
    let mut proposed = Vec::new();
    let mut last_class = None;
    for (sop_class, transfer_syntax) in &selection.kinds {
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

/// An instance that is opened, or cannot be.
struct OpenedInstance {
    record: InstanceRecord,
    opened: Result<(u8, DataSetBytes), Error>,
}

type OpenedInstances = BoxStream<'static, Result<OpenedInstance, Error>>;

/// Opens the instances of scopes, some of them ahead.
fn opened(
    service: &ServiceRequest,
    contexts: Arc<[PresentationContext]>,
    scopes: Vec<Scope>,
) -> OpenedInstances {
    let (archive, caller) = (service.archive.clone(), service.caller.clone());
    let records = stream::iter(scopes).then({
        let (archive, caller) = (archive.clone(), caller.clone());
        move |scope| {
            let (archive, caller) = (archive.clone(), caller.clone());
            async move { pages(&archive, &caller, &scope).await }
        }
    });
    let records = records.try_flatten().map_ok(|page| stream::iter(page).map(Ok)).try_flatten();
    let size = |record: &Result<InstanceRecord, Error>| match record {
        Ok(record) => AheadSize::Stored(record.size_bytes),
        Err(_) => AheadSize::Made,
    };
    let opener = (archive.clone(), caller.clone());
    let open = move |record: Result<InstanceRecord, Error>, memory| {
        let ((archive, caller), contexts) = (opener.clone(), contexts.clone());
        run_apart(async move {
            let record = record?;
            let opened = form::open(&archive, &caller, &record, &contexts).await;
            let opened = opened.map(|(context, bytes)| (context, holding(bytes, memory)));
            Ok(OpenedInstance { record, opened })
        })
    };
    archive.opened_ahead(caller, records.boxed(), size, open)
}

/// The records of a scope; none if it was deleted.
async fn pages(
    archive: &Arc<Archive>,
    caller: &Caller,
    scope: &Scope,
) -> Result<BoxStream<'static, Result<Vec<InstanceRecord>, Error>>, Error> {
    match archive.instances(caller, scope).await {
        Err(Error::NotFound(_)) => Ok(stream::empty().boxed()),
        pages => pages,
    }
}

/// Logs that an instance cannot be opened. Returns that it has no status of a peer.
fn log_unsent(record: &InstanceRecord, error: &Error) -> Option<u16> {
    if !is_logged(error) {
        let error = telemetry::chain(error);
        warn!(instance.uid = %record.instance, error, "an instance cannot be sent");
    }
    None
}

/// The way of one instance to its peer.
struct Link {
    max_pdu_bytes: u32,
    context: u8,
    originator: Option<MoveOriginator>,
}

impl Link {
    /// Sends an instance by C-STORE, and returns the status of the response.
    async fn send(
        &self,
        record: &InstanceRecord,
        mut data_set: DataSetBytes,
        link: &mut impl RequestLink,
    ) -> Result<u16, Interruption> {
        let id = link.next_id();
        let instance = record.instance.as_str();
        let request = write_store_request(id, &record.sop_class, instance, self.originator.as_ref());
        let mut message = command_pdus(self.context, &request, self.max_pdu_bytes);
        // One chunk is held back: the last fragment is marked as the last.
        let mut held = Bytes::new();
        loop {
            let next = data_set.try_next().await.map_err(|error| {
                warn!(instance.uid = %record.instance, "an instance was sent in part: {}", telemetry::chain(&error));
                Interruption::Broken
            })?;
            if next.is_none() || !held.is_empty() {
                push_data_set(&mut message, self.context, &held, next.is_none(), self.max_pdu_bytes);
                link.request(std::mem::take(&mut message)).await?;
            }
            match next {
                Some(bytes) => held = bytes,
                None => break,
            }
        }
        Ok(link.response(id).await?.status)
    }
}

/// A C-GET or C-MOVE with its progress.
struct Retrieval<'a> {
    service: &'a ServiceRequest,
    left: usize,
    counts: SubOperations,
    failed: Vec<String>,
    is_cancelled: bool,
    last_pending: Instant,
    transfer: AuditedTransfer,
}

impl<'a> Retrieval<'a> {
    fn new(service: &'a ServiceRequest, selection: &Selection, transfer: AuditedTransfer) -> Self {
        Self {
            service,
            left: selection.count,
            counts: SubOperations::default(),
            failed: Vec::new(),
            is_cancelled: false,
            last_pending: Instant::now(),
            transfer,
        }
    }

    /// The next instance to send; `None` at the end, after an error of the index, or if the peer cancelled.
    /// Sends a pending response from time to time.
    async fn next(
        &mut self,
        instances: &mut OpenedInstances,
        outbox: &mut Outbox,
    ) -> Result<Option<OpenedInstance>, Interruption> {
        if self.last_pending.elapsed() >= PENDING_INTERVAL {
            self.last_pending = Instant::now();
            let counts = SubOperations { remaining: Some(self.left()), ..self.counts };
            outbox.send(self.service.response(&status::of_pending(), Some(counts))).await?;
        }
        if outbox.is_stopped() {
            return Err(Interruption::Stopped);
        }
        self.is_cancelled = outbox.is_cancelled();
        if self.is_cancelled {
            return Ok(None);
        }
        match instances.try_next().await {
            Ok(next) => Ok(next),
            Err(error) => {
                warn!(error = telemetry::chain(&error), "a retrieval by DIMSE ended early");
                let failed = self.counts.failed.saturating_add(self.left());
                self.counts.failed = failed;
                Ok(None)
            }
        }
    }

    /// Counts a sub-operation by the status of the peer; `None` if it could not be carried out.
    fn add(&mut self, record: &InstanceRecord, code: Option<u16>) {
        self.left = self.left.saturating_sub(1);
        let counted = match code.map(status::is_success) {
            Some((true, _)) => &mut self.counts.completed,
            Some((_, true)) => &mut self.counts.warning,
            _ => {
                if self.failed.len() < MAX_FAILED_UIDS {
                    self.failed.push(record.instance.as_str().to_owned());
                }
                &mut self.counts.failed
            }
        };
        *counted = counted.saturating_add(1);
        let is_sent = matches!(code.map(status::is_success), Some((true, _) | (_, true)));
        self.transfer.add(&record.study, is_sent);
    }

    fn left(&self) -> u16 {
        u16::try_from(self.left).unwrap_or(u16::MAX)
    }

    /// Sends the final response.
    async fn finish(self, outbox: &mut Outbox) -> Result<(), Interruption> {
        let (mut status, mut counts) = (status::of_sub_operations(self.counts), self.counts);
        if self.is_cancelled {
            (status, counts.remaining) = (status::of_cancelled(), Some(self.left()));
        }
        let SubOperations { completed, failed, warning, .. } = counts;
        info!(dimse.calling = self.service.calling, completed, failed, warning, "retrieval ended");
        if self.failed.is_empty() {
            return outbox.send(self.service.response(&status, Some(counts))).await;
        }
        let values = self.failed.into_iter().map(Value::Text).collect();
        let list = Attribute { vr: Vr(*b"UI"), values };
        let data_set = Attributes::from([(tags::FAILED_SOP_INSTANCE_UID_LIST, list)]);
        let repertoire = Repertoire::UNICODE;
        outbox.send(self.service.response_with(&status, Some(counts), &data_set, repertoire)).await
    }
}
