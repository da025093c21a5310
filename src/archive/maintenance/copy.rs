//! Copying all stored instances, of all tenants, to another archive on whatever backends
//! (docs/decisions/0084).
//!
//! Each original is verified while it is read, and put and committed like an upload. The destination is
//! therefore consistent at every moment, and instances that are there already are skipped. After a copy that
//! was interrupted, or whose source was in use, another run copies the rest.

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use crate::archive::access::Tenant;
use crate::archive::hexadecimal::hexadecimal;
use crate::archive::ingest::duplicate::{Existing, Inspection, existing};
use crate::archive::ingest::persist::persist;
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::{Key, Staged};
use crate::config::Duplicates;
use crate::index;
use crate::index::CommitOutcome;
use crate::index::records::InstanceRecord;
use crate::telemetry;

/// The number of failed instances after which the copy ends: the failures then have a common cause.
pub const MAX_FAILURES: usize = 1000;

const ELSEWHERE: &str = "its SOP Instance UID is stored in another study or series of the destination";
const DIFFERENT: &str =
    "other bytes are stored under its SOP Instance UID at the destination (ingest.duplicates)";
const NEWER: &str = "newer bytes are stored under its SOP Instance UID at the destination";

/// The outcome for one instance.
#[derive(Debug)]
pub enum Step {
    /// The instance was copied to the destination.
    Copied,
    /// The instance was at the destination before.
    Known,
    /// The instance was deleted at the source after it was listed.
    Gone,
    /// The instance could not be copied, with the reason, which has no patient data.
    Failed(String),
}

/// The result of a copy.
#[derive(Debug, Default)]
pub struct Copied {
    /// Instances that were copied.
    pub instances: u64,
    /// Bytes of their objects.
    pub bytes: u64,
    /// Instances that the destination had before.
    pub known: u64,
    /// Instances that were deleted at the source meanwhile.
    pub gone: u64,
    /// Instances that could not be copied: the key of the object at the source, and the reason.
    pub failures: Vec<(Key, String)>,
    /// Whether the copy ended early after [`MAX_FAILURES`].
    pub is_cut_off: bool,
}

/// Returns the number of stored instances, of all tenants, and the bytes of their objects.
///
/// # Errors
/// If the index fails.
pub async fn volume(archive: &Archive) -> Result<(u64, u64), Error> {
    let (mut instances, mut bytes) = (0, 0);
    for tenant in archive.index.tenants().await? {
        let mut studies = archive.index.studies(&tenant);
        while let Some(page) = studies.try_next().await? {
            instances += page.iter().map(|study| study.number_of_instances).sum::<u64>();
            bytes += page.iter().map(|study| study.size_bytes).sum::<u64>();
        }
    }
    Ok((instances, bytes))
}

/// Copies every instance that another archive does not have to this other archive, `concurrency` instances at
/// the same time. An instance that is stored at the source meanwhile may be copied or not; nothing is removed
/// at the destination. `progress` is called after each instance with its size in bytes.
///
/// Records are copied unchanged, with the time at which the instance was stored. Objects get new names, and
/// derived objects are created again at the destination.
///
/// # Errors
/// If the index of the source fails, or the destination has no space left. Single instances that cannot be
/// copied are failures in the result.
pub async fn copy(
    archive: &Archive,
    destination: &Archive,
    concurrency: usize,
    progress: impl Fn(&Step, u64),
) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    let mut steps = instances_of_all(archive)
        .await?
        .map_ok(|(tenant, record)| async move {
            let (key, size_bytes) = (keys::original_of(&tenant, &record), record.size_bytes);
            let step = copy_instance(archive, destination, &tenant, record).await?;
            Ok((key, size_bytes, step))
        })
        .try_buffer_unordered(concurrency);
    while let Some((key, size_bytes, step)) = steps.try_next().await? {
        progress(&step, size_bytes);
        match step {
            Step::Copied => {
                copied.instances += 1;
                copied.bytes += size_bytes;
            }
            Step::Known => copied.known += 1,
            Step::Gone => copied.gone += 1,
            Step::Failed(reason) => copied.failures.push((key, reason)),
        }
        if copied.failures.len() >= MAX_FAILURES {
            copied.is_cut_off = true;
            break;
        }
    }
    Ok(copied)
}

/// Every instance of every tenant, a page of records at a time.
async fn instances_of_all(
    archive: &Archive,
) -> Result<BoxStream<'_, Result<(Tenant, InstanceRecord), Error>>, Error> {
    let tenants = archive.index.tenants().await?;
    let tenants = tenants.into_iter().filter_map(|tenant| tenant.parse::<Tenant>().ok());
    let all = stream::iter(tenants).map(move |tenant| {
        let studies = flat(archive.index.studies(tenant.as_str()));
        let instances = studies.map_ok(move |study| {
            let tenant = tenant.clone();
            let records = flat(archive.index.instances(tenant.as_str(), &study.study, None));
            records.map_ok(move |record| (tenant.clone(), record))
        });
        instances.try_flatten()
    });
    Ok(all.flatten().boxed())
}

/// Copies one instance. Before the instance counts as failed, its record is read again: other processes may
/// change the source at the same time.
async fn copy_instance(
    archive: &Archive,
    destination: &Archive,
    tenant: &Tenant,
    mut record: InstanceRecord,
) -> Result<Step, Error> {
    loop {
        let reason = match transfer(archive, destination, tenant, &record).await {
            Ok(Step::Failed(reason)) => reason,
            Ok(step) => return Ok(step),
            Err(error) if is_no_space(&error) => return Err(error),
            Err(error) => telemetry::chain(&error),
        };
        let InstanceRecord { study, series, instance, .. } = &record;
        let current: Option<InstanceRecord> =
            archive.index.instance(tenant.as_str(), study, series, instance).await?;
        match current {
            None => return Ok(Step::Gone),
            Some(current) if current.object == record.object => {
                return Ok(Step::Failed(reason));
            }
            Some(current) => record = current,
        }
    }
}

async fn transfer(
    archive: &Archive,
    destination: &Archive,
    tenant: &Tenant,
    record: &InstanceRecord,
) -> Result<Step, Error> {
    let InstanceRecord { study, series, instance, digest, size_bytes, .. } = record;
    let lost =
        match existing(destination, tenant, (study, series, instance), digest, *size_bytes, Inspection::Size)
            .await?
        {
            Existing::Nothing => None,
            Existing::Lost { object } => Some(object),
            Existing::Same => return Ok(Step::Known),
            Existing::Elsewhere => return Ok(Step::Failed(ELSEWHERE.into())),
            Existing::Different { .. } if destination.ingest.duplicates == Duplicates::Reject => {
                return Ok(Step::Failed(DIFFERENT.into()));
            }
            Existing::Different { .. } if is_newer(destination, tenant, record).await? => {
                return Ok(Step::Failed(NEWER.into()));
            }
            Existing::Different { .. } => None,
        };
    let staged = destination.blobs.stage().await?;
    let Some(staged) = read_intact(archive, tenant, record, staged).await? else {
        return Ok(Step::Failed("its object is damaged at the source".into()));
    };
    let mut record = record.clone();
    record.object = keys::new_object(&record.digest);
    record.replaced = lost.into_iter().collect();
    Ok(match persist(destination, tenant, record, staged, false).await? {
        CommitOutcome::Stored | CommitOutcome::Replaced { .. } => Step::Copied,
        CommitOutcome::AlreadyStored { .. } => Step::Known,
        CommitOutcome::DifferentBytes => Step::Failed(DIFFERENT.into()),
        CommitOutcome::OtherSeries => Step::Failed(ELSEWHERE.into()),
    })
}

/// Whether the instance in an archive under the UID of a record was stored at the same time as the record, or
/// later.
async fn is_newer(archive: &Archive, tenant: &Tenant, record: &InstanceRecord) -> Result<bool, Error> {
    let InstanceRecord { study, series, instance, .. } = record;
    let own: Option<InstanceRecord> =
        archive.index.instance(tenant.as_str(), study, series, instance).await?;
    Ok(own.is_some_and(|own| own.stored_at >= record.stored_at))
}

/// Reads the object of an instance into a staged object; `None` if the bytes are not those that were stored.
async fn read_intact(
    archive: &Archive,
    tenant: &Tenant,
    record: &InstanceRecord,
    mut staged: Staged,
) -> Result<Option<Staged>, Error> {
    let key = keys::original_of(tenant, record);
    let mut bytes = match archive.blobs.read(&key, 0..record.size_bytes).await {
        Err(blobs::Error::OutOfRange { .. }) => return Ok(None),
        opened => opened?,
    };
    let mut hasher = Sha256::new();
    while let Some(chunk) = bytes.try_next().await? {
        let written = run_blocking(None, move || {
            hasher.update(&chunk);
            staged.write(&chunk).map(|()| (hasher, staged))
        });
        (hasher, staged) = written.await??;
    }
    let is_intact = hexadecimal(&hasher.finalize()) == record.digest;
    Ok(is_intact.then_some(staged))
}

/// Streams the records of pages, one after the other.
fn flat<'a, R: Send + 'a>(
    pages: impl Stream<Item = Result<Vec<R>, index::Error>> + Send + 'a,
) -> BoxStream<'a, Result<R, Error>> {
    let pages = pages.map_err(Error::from);
    pages.map_ok(|page| stream::iter(page).map(Ok::<R, Error>)).try_flatten().boxed()
}

fn is_no_space(error: &Error) -> bool {
    match error {
        Error::Blobs(blobs::Error::NoSpace { .. }) => true,
        Error::Index(error) => error.is_no_space(),
        _ => false,
    }
}
