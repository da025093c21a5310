//! C-MOVE and C-GET as SCP (PS3.4 §C.4.2, §C.4.3): sends instances, to a third AE on an association of its
//! own, or back on the same association.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;
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
    let selection = match read_and_select(&service, root, identifier, &outbox).await {
        Ok(selection) => selection,
        Err(status) => return outbox.send(service.response(&status, None)).await,
    };
    let transfer = match AuditedTransfer::begin(&service, &selection.scopes, None).await {
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
            Some(Ok((context, bytes))) => {
                let link = Link { max_pdu_bytes: service.peer_max_pdu_bytes, context, originator: None };
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
    let target = Target { address: &address, called: &title, calling: &service.acceptor.settings.ae_title };
    let proposed = proposed_contexts(&selection);
    let mut requestor = match Requestor::connect(target, &proposed, false, &service.acceptor.settings).await {
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
    let lost = CancellationToken::new();
    let contexts = requestor.contexts.clone().into();
    let (archive, caller) = (service.acceptor.archive.clone(), service.caller.clone());
    let mut instances = opened(archive, caller, contexts, selection.scopes, lost.clone());
    let link = (&mut requestor, &lost);
    let ended = send_on(&service, &mut retrieval, &mut instances, link, &mut outbox).await;
    retrieval.transfer.end(&service).await;
    ended?;
    if !lost.is_cancelled() {
        requestor.release().await;
    }
    retrieval.finish(&mut outbox).await
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
                let link = Link { max_pdu_bytes, context, originator: Some(originator) };
                let sent = tokio::select! {
                    () = outbox.stopped() => return Err(Interruption::Stopped),
                    sent = link.send(&instance.record, bytes, requestor) => sent,
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
    /// `None` if the association was lost before.
    opened: Option<Result<(u8, DataSetBytes), Error>>,
}

type OpenedInstances = BoxStream<'static, Result<OpenedInstance, Error>>;

/// Opens the instances of scopes, some of them ahead; none any more when their association is lost.
fn opened(
    archive: Arc<Archive>,
    caller: Caller,
    contexts: Arc<[PresentationContext]>,
    scopes: Vec<Scope>,
    lost: CancellationToken,
) -> OpenedInstances {
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
        let ((archive, caller), contexts, lost) = (opener.clone(), contexts.clone(), lost.clone());
        run_apart(async move {
            let record = record?;
            if lost.is_cancelled() {
                return Ok(OpenedInstance { record, opened: None });
            }
            let opened = form::open(&archive, &caller, &record, &contexts).await;
            let opened = opened.map(|(context, bytes)| (context, holding(bytes, memory)));
            Ok(OpenedInstance { record, opened: Some(opened) })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::Config;
    use crate::dicom::build::DataSet;
    use crate::dicom::uids;
    use crate::dimse::models::QueryOptions;
    use crate::index::Index;

    const NUMBER: usize = 40;

    async fn archive() -> Arc<Archive> {
        let config = Config::load(None, &[]).unwrap();
        let archive = Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &config);
        for number in 0..NUMBER {
            let file = DataSet::explicit()
                .text(0x0008_0016, "UI", uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
                .text(0x0008_0018, "UI", &format!("1.2.3.{number}"))
                .text(0x0020_000D, "UI", "1.2")
                .text(0x0020_000E, "UI", "1.2.3");
            let mut upload = archive.receive(&Caller::anonymous(), None).await;
            upload.write(Bytes::from(file.file(EXPLICIT_VR_LITTLE_ENDIAN))).await;
            upload.finish().await.await.result.unwrap();
        }
        archive
    }

    #[tokio::test]
    async fn no_instance_is_opened_for_an_association_that_is_lost_and_all_are_named() {
        let context = PresentationContext {
            id: 1,
            abstract_syntax: uids::SECONDARY_CAPTURE_IMAGE_STORAGE.to_owned(),
            transfer_syntax: EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
            may_store: false,
            takes_instances: true,
            options: QueryOptions::default(),
        };
        let scope = Scope { study: "1.2".parse().unwrap(), series: None, instance: None };
        let lost = CancellationToken::new();
        let contexts = Arc::from([context]);
        let mut instances = opened(archive().await, Caller::anonymous(), contexts, vec![scope], lost.clone());
        let first = instances.try_next().await.unwrap().unwrap();
        assert!(matches!(first.opened, Some(Ok(_))));
        lost.cancel();
        let rest: Vec<_> = instances.try_collect().await.unwrap();
        assert_eq!(rest.len(), NUMBER - 1);
        // Some were opened ahead.
        assert!(rest.last().unwrap().opened.is_none());
        assert!(rest.iter().filter(|instance| instance.opened.is_none()).count() > NUMBER / 4);
    }
}
