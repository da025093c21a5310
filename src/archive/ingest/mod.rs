//! Ingest: STOW-RS, C-STORE and import store instances through this module, one at a time, as streams.
//!
//! Bytes are gathered as they arrive, and scanned, hashed and staged batch by batch. After the last byte, the
//! identity of the instance is read, the bytes are put under a key with their digest, and the record is
//! committed to the index: from then on the instance exists. A crash before the commit leaves at most an
//! orphan, which recovery commits or deletes at the next start.
//!
//! An instance that fits in one batch, as most do, is handed over to a blocking thread once, which does all
//! of this work (docs/decisions/0107).

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::{error, info, warn};

use crate::archive;
use crate::archive::access::Caller;
use crate::archive::blocking::catch_panics;
use crate::archive::ingest::partial::{PartialInstance, UnreadInstance};
use crate::archive::permits::Permit;
use crate::archive::{Archive, run_blocking};
use crate::budget::Grant;
use crate::clock::now_millis;
use crate::dicom::attributes::Attribute;
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::instance;
use crate::dicom::instance::ParsedInstance;
use crate::dicom::scan::Outline;
use crate::dicom::tags;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::digest::ObjectDigest;
use crate::index::records::InstanceRecord;
use crate::query::indexed_attributes::indexed_tags;
use crate::telemetry;
use crate::threads;

pub mod assembly;
pub(in crate::archive) mod duplicate;
pub mod pace;
mod partial;
pub(in crate::archive) mod persist;
pub(in crate::archive) mod recent;
mod refusal;
pub mod spool;
pub mod zip_upload;

/// Bytes that are gathered before a blocking thread works on them, if there is memory.
const BATCH_BYTES: usize = 1024 * 1024;
/// Bytes that are gathered without a grant of memory.
const SMALL_BATCH_BYTES: usize = 128 * 1024;
/// The most pieces of a batch, which take memory of their own.
const MAX_BATCH_PIECES: usize = 1024;

/// An instance that is being received. Dropping an upload leaves nothing behind.
pub struct Upload {
    archive: Arc<Archive>,
    caller: Caller,
    study: Option<StudyUid>,
    instance: Option<InstanceUid>,
    sop_class: Option<String>,
    warnings: Vec<Warning>,
    batch: Vec<Bytes>,
    batch_bytes: usize,
    /// Memory for a batch that is not small.
    batch_memory: Option<Grant>,
    work: Work,
    /// Memory for what is held of the instance.
    memory: Vec<Grant>,
    /// The bytes of that memory.
    memory_bytes: usize,
}

/// The state of the work on an upload.
enum Work {
    /// No batch is being worked on.
    Idle(Box<PartialInstance>),
    /// A blocking thread works on a batch.
    Busy(BoxFuture<'static, Result<Box<PartialInstance>, archive::Error>>),
    /// Lost: the blocking thread panicked.
    Lost,
}

/// The outcome of an upload.
#[derive(Debug)]
pub struct Outcome {
    /// The identity of the instance, if that much could be read.
    pub identity: Option<Identity>,
    /// The SOP Class UID and SOP Instance UID of an instance without an identity, if these could be read.
    pub reference: Option<SopReference>,
    /// The stored instance, or the reason why it is refused.
    pub result: Result<StoredInstance, Refusal>,
}

/// The SOP Class UID and SOP Instance UID of an instance.
pub type SopReference = (String, InstanceUid);

/// The identity of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Study Instance UID.
    pub study: StudyUid,
    /// Series Instance UID.
    pub series: SeriesUid,
    /// SOP Instance UID.
    pub instance: InstanceUid,
    /// SOP Class UID.
    pub sop_class: String,
}

/// An instance is durably stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInstance {
    /// Whether the same bytes were stored before, or the same data set under another file header.
    pub is_duplicate: bool,
    /// Whether the instance replaced other bytes under the same UID.
    pub has_replaced: bool,
    /// Faults of the instance that did not prevent storing it.
    pub warnings: Vec<Warning>,
}

/// The reason why an instance was not stored.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not an instance that can be read.
    #[error(transparent)]
    Unreadable(Failure),
    /// The instance is of a SOP class whose objects belong to no study (PS3.4 §GG.3).
    #[error("a non-patient object, which belongs to no study")]
    NonPatientObject,
    /// Metadata that cannot be made an instance.
    #[error("{0}")]
    Metadata(String),
    /// Attributes that cannot be written, or that are needed and missing.
    #[error("attributes of the metadata cannot be stored")]
    Attributes(Vec<Warning>),
    /// Pixels in a form for which there is no transfer syntax.
    #[error("{0}")]
    NoTransferSyntax(String),
    /// The instance is larger than `ingest.max_instance_bytes`.
    #[error("the instance is larger than {limit} bytes (ingest.max_instance_bytes)")]
    TooLarge {
        /// The limit in force.
        limit: u64,
    },
    /// The instance is of another study than the request names.
    #[error("the instance is of study {found}, not of the study in the URL")]
    OtherStudy {
        /// The study of the instance.
        found: StudyUid,
    },
    /// The instance is another one than the request names.
    #[error("the instance is {found}, not the one that the request names")]
    OtherInstance {
        /// The SOP Instance UID of the instance.
        found: InstanceUid,
    },
    /// Other bytes are stored under the UID, and the policy is to reject duplicates.
    #[error("other bytes are stored under this SOP Instance UID (ingest.duplicates)")]
    Different,
    /// The UID is stored in another study or series.
    #[error("this SOP Instance UID is stored in another study or series")]
    Elsewhere,
    /// Other instances use all places or all memory; a retry may succeed.
    #[error(
        "the server receives too many instances at the moment (ingest.max_uploads, ingest.max_upload_memory_bytes)"
    )]
    Busy,
    /// There is no space left on the storage.
    #[error("no space left to store the instance")]
    NoSpace,
    /// A limit of the tenant's plan is reached (`quotas.plans`).
    #[error("{0}")]
    Quota(String),
    /// The archive failed; a retry may succeed.
    #[error("the instance could not be stored")]
    Failed(#[source] anyhow::Error),
}

impl Archive {
    /// Begins to receive an instance. An upload takes one of the `ingest.max_uploads` places only while there
    /// are bytes to work on, and for the last step; so a client that sends slowly occupies no place.
    ///
    /// `study` is the study that the instance must be of, if the request names one.
    pub async fn receive(self: &Arc<Self>, caller: &Caller, study: Option<StudyUid>) -> Upload {
        let staged = self.blobs.stage().await.map_err(Refusal::from);
        let partial = Box::new(PartialInstance::new(staged, &self.ingest));
        Upload {
            archive: self.clone(),
            caller: caller.clone(),
            study,
            instance: None,
            sop_class: None,
            warnings: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            batch_memory: None,
            work: Work::Idle(partial),
            memory: Vec::new(),
            memory_bytes: 0,
        }
    }
}

impl Upload {
    /// Sets the SOP Instance UID that the instance must have; another instance is refused.
    pub fn expect_instance(&mut self, instance: InstanceUid) {
        self.instance = Some(instance);
    }

    /// Sets the SOP class that the instance should have; an instance of another class is stored with a
    /// warning.
    pub fn expect_sop_class(&mut self, sop_class: &str) {
        self.sop_class = Some(sop_class.to_owned());
    }

    /// Adds faults of the instance that are known before it is read.
    pub fn warn(&mut self, warnings: Vec<Warning>) {
        self.warnings.extend(warnings);
    }

    /// Takes the next bytes of the object (a PS3.10 file or a bare data set), and waits while the bytes
    /// before are still being worked on. After a refusal, the rest is discarded; [`Upload::finish`] returns
    /// the refusal.
    pub async fn write(&mut self, bytes: Bytes) {
        self.batch_bytes += bytes.len();
        self.batch.push(bytes);
        if !self.may_gather() {
            self.hand_over().await;
        }
    }

    /// Whether more bytes may be gathered before a blocking thread works on the batch.
    fn may_gather(&mut self) -> bool {
        if self.batch_bytes < SMALL_BATCH_BYTES || self.batch_memory.is_some() {
            return self.batch_bytes < BATCH_BYTES && self.batch.len() < MAX_BATCH_PIECES;
        }
        self.batch_memory = self.archive.permits.try_gather(&self.caller.sharing_client(), BATCH_BYTES);
        self.batch_memory.is_some()
    }

    /// Ends the object, as soon as there is a place to work on its last bytes, and returns a future of the
    /// outcome. When the outcome is [`StoredInstance`], the instance is durable and can be found.
    ///
    /// The work goes on whether the future is polled or dropped: several uploads that end together share
    /// their flushes.
    pub async fn finish(self) -> impl Future<Output = Outcome> + Send + use<> {
        let started = Instant::now();
        let archive = self.archive.clone();
        let client = self.caller.sharing_client();
        let place = archive.permits.upload(&client).await;
        let permit = archive.permits.batch(&client).await;
        // All the work on one thread, unless it would wait for a remote service, or too many do so.
        let thread = if archive.stores_locally { archive.permits.try_conclusion(&client) } else { None };
        let work = async move {
            let outcome = match place {
                Some(_place) => self.conclude(permit).await,
                None => Outcome::refused(None, Refusal::Busy),
            };
            archive.storing.record(&outcome.result);
            telemetry::instance_received(outcome.label(), started.elapsed());
            outcome
        };
        let task = match thread {
            Some(thread) => run_blocking(Some(thread), || threads::block_on(work)).boxed(),
            None => {
                let task = tokio::spawn(catch_panics(work));
                async { task.await.unwrap_or_else(|error| Err(archive::Error::Internal(error.to_string()))) }
                    .boxed()
            }
        };
        async move { task.await.unwrap_or_else(|error| Outcome::refused(None, error.into())) }
    }

    async fn hand_over(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let Some(mut partial) = self.idle().await else { return };
        match self.place(&partial).await {
            // After a refusal, no more work is done.
            None => {
                partial.refuse(Refusal::Busy);
                self.work = Work::Idle(partial);
            }
            Some(place) => {
                let permit = self.archive.permits.batch(&self.caller.sharing_client()).await;
                let work = run_blocking(Some(permit), move || {
                    partial.take(&batch);
                    drop(place);
                    partial
                });
                self.work = Work::Busy(work.boxed());
            }
        }
    }

    /// A place to work on the next batch, with memory for what the batches before have left; `None` if there
    /// is none in time, or if the instance is refused already.
    async fn place(&mut self, partial: &PartialInstance) -> Option<Grant> {
        let (permits, client) = (&self.archive.permits, self.caller.sharing_client());
        let held = partial.held_bytes()?;
        if held > self.memory_bytes {
            self.memory.push(permits.upload_memory(&client, held - self.memory_bytes).await?);
            self.memory_bytes = held;
        }
        permits.upload(&client).await
    }

    /// The partial instance, when the batch before has been worked on.
    async fn idle(&mut self) -> Option<Box<PartialInstance>> {
        match std::mem::replace(&mut self.work, Work::Lost) {
            Work::Idle(partial) => Some(partial),
            Work::Busy(work) => work.await.ok(),
            Work::Lost => None,
        }
    }

    async fn conclude(mut self, permit: Permit) -> Outcome {
        let batch = std::mem::take(&mut self.batch);
        let Some(mut partial) = self.idle().await else {
            let lost = archive::Error::Internal("an earlier batch of the instance was lost".into());
            return Outcome::refused(None, lost.into());
        };
        let received = run_blocking(Some(permit), move || {
            partial.take(&batch);
            drop(batch);
            partial.conclude()
        });
        let received = received.await;
        self.batch_memory = None;
        let received = received.map_err(|error| UnreadInstance::from(Refusal::from(error))).flatten();
        let mut received = match received {
            Ok(received) => received,
            Err(UnreadInstance { reference, refusal }) => {
                return Outcome { reference, ..Outcome::refused(None, refusal) };
            }
        };
        let identity = Some(received.identity());
        let found = &received.instance.study;
        if self.study.as_ref().is_some_and(|study| study != found) {
            return Outcome::refused(identity, Refusal::OtherStudy { found: found.clone() });
        }
        let found = &received.instance.instance;
        if self.instance.as_ref().is_some_and(|instance| instance != found) {
            return Outcome::refused(identity, Refusal::OtherInstance { found: found.clone() });
        }
        received.instance.warnings.append(&mut self.warnings);
        if self.sop_class.is_some_and(|sop_class| sop_class != received.instance.sop_class) {
            let reason = "not the SOP class that the request names".to_owned();
            received.instance.warnings.push(Warning { tag: tags::SOP_CLASS_UID, reason });
        }
        let study = received.instance.study.clone();
        let patient = received.instance.attributes.get(&tags::PATIENT_ID).and_then(Attribute::first_text);
        let patient = patient.map(str::to_owned);
        let stored = persist::ingest(&self.archive, &self.caller, received).await;
        let stored = match stored {
            // An instance whose record could not be written is stored, but not acknowledged.
            Ok(stored) => {
                let recorded = self.archive.audit_stored(&self.caller, &study, patient, &stored).await;
                recorded.map(|()| stored).map_err(Refusal::from)
            }
            Err(refusal) => Err(refusal),
        };
        match stored {
            Ok(stored) => {
                log_faults(identity.as_ref(), &stored.warnings);
                Outcome { identity, reference: None, result: Ok(stored) }
            }
            Err(refusal) => Outcome::refused(identity, refusal),
        }
    }
}

impl Outcome {
    fn label(&self) -> &'static str {
        match &self.result {
            Ok(stored) if stored.is_duplicate => "duplicate",
            Ok(stored) if stored.has_replaced => "replaced",
            Ok(_) => "stored",
            Err(Refusal::Failed(_) | Refusal::NoSpace | Refusal::Busy) => "failed",
            Err(_) => "refused",
        }
    }

    fn refused(identity: Option<Identity>, refusal: Refusal) -> Self {
        match &refusal {
            // A panic was logged where it happened.
            Refusal::Failed(cause) if is_panic(cause) => {}
            Refusal::Failed(cause) => error!(error = format!("{cause:#}"), "cannot store an instance"),
            Refusal::NoSpace => error!("cannot store an instance: no space left"),
            Refusal::TooLarge { .. } | Refusal::Busy => warn!("cannot store an instance: {refusal}"),
            _ => {}
        }
        Self { identity, reference: None, result: Err(refusal) }
    }
}

/// Logs the faults of a stored instance. The reasons hold no values of attributes.
fn log_faults(identity: Option<&Identity>, warnings: &[Warning]) {
    if let (Some(Identity { instance, .. }), [_, ..]) = (identity, warnings) {
        let faults = warnings.iter().map(|fault| format!("{:?} {}", fault.tag, fault.reason));
        let faults = faults.collect::<Vec<_>>().join("; ");
        info!(instance.uid = %instance, faults, "stored an instance that is not as it should be");
    }
}

/// Whether the cause of a failure is a panic, which is a fault of the program and not of a store.
pub(in crate::archive) fn is_panic(cause: &anyhow::Error) -> bool {
    matches!(cause.downcast_ref(), Some(archive::Error::Internal(_)))
}

/// Reads what the index holds of an instance.
pub(in crate::archive) fn read_instance(outline: &Outline) -> Result<ParsedInstance, Failure> {
    instance::read(outline, indexed_tags())
}

/// The index record of an instance, and its warnings.
///
/// `replaced` are lost objects of the same bytes, which the record replaces.
pub(crate) fn record(
    instance: ParsedInstance,
    digest: ObjectDigest,
    object: String,
    replaced: &[String],
    size_bytes: u64,
) -> (InstanceRecord, Vec<Warning>) {
    let record = InstanceRecord {
        study: instance.study,
        series: instance.series,
        instance: instance.instance,
        sop_class: instance.sop_class,
        transfer_syntax: instance.transfer_syntax,
        digest,
        object,
        replaced: replaced.to_vec(),
        size_bytes,
        is_irregular: instance.is_irregular,
        file_header: instance.file_header,
        stored_at: now_millis(),
        source: None,
        attributes: instance.attributes,
        metadata: instance.metadata,
        layout: instance.layout,
    };
    (record, instance.warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::Config;
    use crate::dicom::transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN;
    use crate::dicom::write::file_head;
    use crate::index::Index;

    fn archive(max_uploads: usize) -> Arc<Archive> {
        let mut config = Config::defaults();
        config.ingest.max_uploads = max_uploads;
        config.ingest.upload_wait_seconds = 1;
        Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &config)
    }

    fn caller(client: &str) -> Caller {
        Caller { client: client.into(), ..Caller::anonymous() }
    }

    /// The beginning of a file with a long value of Pixel Data, more than one batch.
    fn beginning() -> Bytes {
        let mut file = file_head("1.2.840.10008.5.1.4.1.1.7", "1.2.3", EXPLICIT_VR_LITTLE_ENDIAN);
        file.extend_from_slice(b"\xE0\x7F\x10\x00OW\0\0\0\0\0\x10");
        file.resize(file.len() + BATCH_BYTES, 0);
        file.into()
    }

    async fn end(archive: &Arc<Archive>, client: &str) -> Result<StoredInstance, Refusal> {
        let mut upload = archive.receive(&caller(client), None).await;
        upload.write(beginning()).await;
        upload.finish().await.await.result
    }

    #[tokio::test]
    async fn uploads_that_wait_for_their_clients_keep_no_other_upload_waiting() {
        let archive = archive(1);
        let mut open = Vec::new();
        for _ in 0..20 {
            let mut upload = archive.receive(&caller("slow"), None).await;
            upload.write(beginning()).await;
            open.push(upload);
        }
        for client in ["slow", "other"] {
            assert!(matches!(end(&archive, client).await, Err(Refusal::Unreadable(_))), "{client}");
        }
        drop(open);
    }

    #[tokio::test]
    async fn an_upload_that_finds_no_place_in_time_is_refused_and_may_be_sent_again() {
        let archive = archive(2);
        let place = archive.permits.upload(&caller("busy").sharing_client()).await;
        assert!(matches!(end(&archive, "busy").await, Err(Refusal::Busy)));
        assert!(matches!(end(&archive, "other").await, Err(Refusal::Unreadable(_))));
        drop(place);
        assert!(matches!(end(&archive, "busy").await, Err(Refusal::Unreadable(_))));
    }
}
