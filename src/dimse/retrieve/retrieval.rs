//! A C-GET or C-MOVE in progress: its instances, opened ahead, and its responses.

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
use crate::archive::usage::Traffic;
use crate::archive::{Archive, Error, run_apart};
use crate::config::StorePriority;
use crate::dicom::attributes::{Attribute, Attributes, Value, Vr};
use crate::dicom::repertoire::Repertoire;
use crate::dicom::tags;
use crate::dimse::command::{MoveOriginator, Status, SubOperations, write_store_request};
use crate::dimse::connection::Interruption;
use crate::dimse::negotiation::PresentationContext;
use crate::dimse::operation::{Outbox, RequestLink};
use crate::dimse::pdu::{command_pdus, push_data_set};
use crate::dimse::retrieve::audited::AuditedTransfer;
use crate::dimse::retrieve::form::{self, DataSetBytes};
use crate::dimse::retrieve::selection::Selection;
use crate::dimse::service::ServiceRequest;
use crate::dimse::status;
use crate::telemetry;

/// The least time between two pending responses.
const PENDING_INTERVAL: Duration = Duration::from_millis(250);
/// The most UIDs of a Failed SOP Instance UID List: the length of its value has 16 bits.
const MAX_FAILED_UIDS: usize = 1000;

/// An instance that is opened, or cannot be.
pub(in crate::dimse) struct OpenedInstance {
    pub(in crate::dimse) record: InstanceRecord,
    /// `None` if the association was lost before.
    pub(in crate::dimse) opened: Option<Result<(u8, DataSetBytes), Error>>,
}

pub(in crate::dimse) type OpenedInstances = BoxStream<'static, Result<OpenedInstance, Error>>;

/// Opens the instances of scopes, some of them ahead; none any more when their association is lost.
pub(in crate::dimse) fn opened(
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
pub(super) fn log_unsent(record: &InstanceRecord, error: &Error) -> Option<u16> {
    if !is_logged(error) {
        let error = telemetry::chain(error);
        warn!(instance.uid = %record.instance, error, "an instance cannot be sent");
    }
    None
}

/// The way of one instance to its peer.
#[derive(Default)]
pub(in crate::dimse) struct Link {
    pub(in crate::dimse) max_pdu_bytes: u32,
    pub(in crate::dimse) context: u8,
    pub(in crate::dimse) originator: Option<MoveOriginator>,
    pub(in crate::dimse) priority: StorePriority,
}

impl Link {
    /// Sends an instance by C-STORE, and returns the status of the response.
    pub(in crate::dimse) async fn send(
        &self,
        record: &InstanceRecord,
        mut data_set: DataSetBytes,
        link: &mut impl RequestLink,
    ) -> Result<u16, Interruption> {
        let id = link.next_id();
        let instance = record.instance.as_str();
        let of_move = self.originator.as_ref();
        let request = write_store_request(id, (&record.sop_class, instance), self.priority, of_move);
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
pub(super) struct Retrieval<'a> {
    service: &'a ServiceRequest,
    left: usize,
    counts: SubOperations,
    failed: Vec<String>,
    is_cancelled: bool,
    last_pending: Instant,
    pub(super) transfer: AuditedTransfer,
}

impl<'a> Retrieval<'a> {
    pub(super) fn new(service: &'a ServiceRequest, selection: &Selection, transfer: AuditedTransfer) -> Self {
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
    pub(super) async fn next(
        &mut self,
        instances: &mut OpenedInstances,
        outbox: &mut Outbox,
    ) -> Result<Option<OpenedInstance>, Interruption> {
        if outbox.is_stopped() {
            return Err(Interruption::Stopped);
        }
        self.is_cancelled = outbox.is_cancelled();
        if self.is_cancelled {
            return Ok(None);
        }
        if self.last_pending.elapsed() >= PENDING_INTERVAL {
            self.last_pending = Instant::now();
            let counts = SubOperations { remaining: Some(self.left()), ..self.counts };
            outbox.send(self.service.response(&status::of_pending(), Some(counts))).await?;
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
    pub(super) fn add(&mut self, record: &InstanceRecord, code: Option<u16>) {
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
        if is_sent {
            let sent = Traffic { calls: 0, sent_bytes: record.size_bytes };
            self.service.acceptor.archive.count_traffic(&self.service.caller, sent);
        }
        self.transfer.add(&record.study, is_sent);
    }

    /// Marks the retrieval as cancelled by the peer.
    pub(super) fn cancel(&mut self) {
        self.is_cancelled = true;
    }

    /// Counts all instances as failed, and sends the final response for the case that there is no association
    /// with the destination, with as many of their UIDs as a response can have.
    pub(super) async fn fail(
        mut self,
        mut instances: OpenedInstances,
        reason: &str,
        outbox: &mut Outbox,
    ) -> Result<(), Interruption> {
        let count = self.left();
        while self.failed.len() < MAX_FAILED_UIDS
            && let Some(instance) = self.next(&mut instances, outbox).await?
        {
            self.add(&instance.record, None);
        }
        let counts = SubOperations { failed: count, ..SubOperations::default() };
        self.respond(&status::of_no_association(reason), counts, outbox).await
    }

    fn left(&self) -> u16 {
        u16::try_from(self.left).unwrap_or(u16::MAX)
    }

    /// Sends the final response.
    pub(super) async fn finish(self, outbox: &mut Outbox) -> Result<(), Interruption> {
        let (mut status, mut counts) = (status::of_sub_operations(self.counts), self.counts);
        if self.is_cancelled {
            (status, counts.remaining) = (status::of_cancelled(), Some(self.left()));
        }
        let SubOperations { completed, failed, warning, .. } = counts;
        info!(dimse.calling = self.service.calling, completed, failed, warning, "retrieval ended");
        self.respond(&status, counts, outbox).await
    }

    /// Sends a response with the UIDs of the instances that failed (PS3.4 §C.4.2.1.4.2).
    async fn respond(
        self,
        status: &Status,
        counts: SubOperations,
        outbox: &mut Outbox,
    ) -> Result<(), Interruption> {
        if self.failed.is_empty() {
            return outbox.send(self.service.response(status, Some(counts))).await;
        }
        let values = self.failed.into_iter().map(Value::Text).collect();
        let list = Attribute { vr: Vr(*b"UI"), values };
        let data_set = Attributes::from([(tags::FAILED_SOP_INSTANCE_UID_LIST, list)]);
        let repertoire = Repertoire::UNICODE;
        outbox.send(self.service.response_with(status, Some(counts), &data_set, repertoire)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::testing;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::Config;
    use crate::dicom::transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN;
    use crate::dicom::uids;
    use crate::dimse::models::QueryOptions;
    use crate::index::Index;

    const NUMBER: usize = 40;

    async fn archive() -> Arc<Archive> {
        let config = Config::load(None, &[]).unwrap();
        let archive = Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &config);
        for number in 0..NUMBER {
            testing::store(&archive, testing::numbered(number)).await.unwrap();
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
