//! Making previews: every frame of a series as lossy JPEG 2000, in one object (docs/fast-stream.md).
//!
//! Frames are encoded when they are stored ([`ahead`]), and kept in memory (`pool.rs`). When the series is
//! quiet, they are put in order and written as one object; what is not in memory is encoded then
//! (`collect.rs`).
//!
//! The state of a preview is in the index. A crash at any moment leaves it pending, and at most an object
//! that nothing refers to, which the next preview of the series removes.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use tracing::{info, warn};

use crate::archive::access::{Caller, Tenant};
use crate::archive::blocking::catch_panics;
use crate::archive::derived::metadata_text;
use crate::archive::derived::preview::arrange::{Source, arrange};
use crate::archive::derived::preview::collect::collect;
use crate::archive::derived::preview::encoded::SeriesKey;
use crate::archive::derived::preview::geometry::GeometryAttributes;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::{Bucket, Key};
use crate::clock::now_millis;
use crate::config::{Config, PreviewFormat, PreviewSettings};
use crate::dicom::frames::FrameTable;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::previews::{LeaseOutcome, LeaseTimes};
use crate::index::records::{InstanceRecord, PreviewState, SeriesRecord};
use crate::pixel::preview::{PreviewCodec, PreviewRate};
use crate::queue::Job;

pub mod ahead;
pub(in crate::archive) mod arrange;
mod collect;
mod collection;
mod encoded;
pub(in crate::archive) mod geometry;
mod index;
pub(in crate::archive) mod pool;
mod stages;
mod stored;
pub mod stream;
#[cfg(test)]
mod tests;

/// Overdue previews that are announced at a time.
const MAX_ANNOUNCED: usize = 100;
/// The most bytes of records that are held for one series: those of some thousand instances. Further rows are
/// read again when their instance is next.
const MAX_HELD_BYTES: usize = 32 << 20;
/// The bytes of a record without its metadata and its tables.
const BASE_BYTES: usize = 4096;
/// The longest wait between two attempts is the first times two to this.
const MAX_DOUBLINGS: u32 = 10;

/// A preview that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    tenant: Tenant,
    record: SeriesRecord,
}

/// The outcome of an attempt to lease a preview.
#[derive(Debug, Clone, PartialEq)]
pub enum PreviewLease {
    /// The caller's.
    Acquired(Due),
    /// Another process holds the lease, or the preview is not due; the time until another attempt.
    RetryAfter(Duration),
    /// No preview of the series is to be made.
    NotPending,
}

/// The outcome of an attempt to make a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The preview is stored.
    Made,
    /// The series has changed meanwhile; its preview stays due.
    Stale,
    /// Another attempt follows.
    Retried,
    /// No attempt follows; the index has the reason.
    Failed,
}

impl Due {
    /// The job of the preview.
    pub fn job(&self) -> Job {
        let SeriesRecord { study, series, .. } = &self.record;
        Job { tenant: self.tenant.as_str().to_owned(), study: study.clone(), series: series.clone() }
    }

    /// The tenant and the series, as a key.
    pub(super) fn key(&self) -> SeriesKey {
        let SeriesRecord { study, series, .. } = &self.record;
        SeriesKey { tenant: self.tenant.clone(), study: study.clone(), series: series.clone() }
    }

    /// The tenant and the series.
    pub fn scope(&self) -> (&Tenant, Scope) {
        let SeriesRecord { study, series, .. } = &self.record;
        (&self.tenant, Scope { study: study.clone(), series: Some(series.clone()), instance: None })
    }
}

impl Outcome {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Stale => "stale",
            Self::Retried => "retried",
            Self::Failed => "failed",
        }
    }
}

/// The reason why a preview cannot be made.
#[derive(Debug, thiserror::Error)]
enum PreviewError {
    /// The error stays.
    #[error("{0}")]
    Permanent(String),
    /// The error may go away with another attempt.
    #[error(transparent)]
    Transient(#[from] Error),
}

impl From<blobs::Error> for PreviewError {
    fn from(error: blobs::Error) -> Self {
        Self::Transient(error.into())
    }
}

/// The previews that are due by now, the most overdue first, at most `limit`.
pub async fn due_previews(archive: &Archive, limit: usize) -> Result<Vec<Due>, Error> {
    let due = archive.index.due_previews(now_millis(), limit).await?;
    let known = due.into_iter().filter_map(|due| Some((due.tenant.parse().ok()?, due.record)));
    Ok(known.map(|(tenant, record)| Due { tenant, record }).collect())
}

/// Takes the right to make a preview for so long. One that was attempted too often is given up.
pub async fn take_preview(archive: &Archive, job: &Job, lease: Duration) -> Result<PreviewLease, Error> {
    let Job { tenant: name, study, series } = job;
    let Ok(tenant) = name.parse::<Tenant>() else { return Ok(PreviewLease::NotPending) };
    let now = now_millis();
    let key = SeriesKey { tenant: tenant.clone(), study: study.clone(), series: series.clone() };
    let quiet_since = now - millis(archive.slices.quiet_time(&key));
    let times = LeaseTimes { now, until: now + millis(lease), quiet_since };
    let record = match archive.index.lease_preview(name, study, series, times).await? {
        LeaseOutcome::Acquired(record) => record,
        LeaseOutcome::NotBefore(at) => {
            return Ok(PreviewLease::RetryAfter(Duration::from_millis((at - now).max(0) as u64)));
        }
        LeaseOutcome::NotPending => return Ok(PreviewLease::NotPending),
    };
    if let PreviewState::Pending { attempts, .. } = record.preview
        && attempts >= archive.preview.max_attempts
    {
        let reason = format!("gave up after {attempts} attempts");
        let failed = PreviewState::Failed { reason, attempts };
        archive.index.set_preview(name, study, series, record.generation, &failed).await?;
        return Ok(PreviewLease::NotPending);
    }
    Ok(PreviewLease::Acquired(Due { tenant, record }))
}

/// Keeps a preview that was taken from others for so long from now on; whether the series is still as it was.
pub async fn hold_preview(archive: &Archive, due: &Due, lease: Duration) -> Result<bool, Error> {
    Ok(archive.index.extend_lease(due.tenant.as_str(), &due.record, now_millis() + millis(lease)).await?)
}

/// Announces previews that are overdue by `grace`: whoever should have done so may have died.
pub async fn announce_overdue_previews(archive: &Archive, grace: Duration) -> Result<usize, Error> {
    let now = now_millis();
    let mut due = archive.index.due_previews(now, MAX_ANNOUNCED).await?;
    // A due time after `now` was written by a wrong clock.
    let is_overdue = |at| at <= now - millis(grace) || at > now;
    due.retain(
        |due| matches!(due.record.preview, PreviewState::Pending { due_at, .. } if is_overdue(due_at)),
    );
    for due in &due {
        let (study, series) = (due.record.study.clone(), due.record.series.clone());
        archive.announce_preview(&due.tenant, study, series, Duration::ZERO).await;
    }
    Ok(due.len())
}

/// Makes a preview and records how that ended. Dropping the future leaves the preview due.
///
/// # Errors
/// If the index cannot record it; the preview then stays due.
pub async fn make_preview(archive: &Archive, due: &Due) -> Result<Outcome, Error> {
    let start = Instant::now();
    let Due { tenant, record } = due;
    let SeriesRecord { study, series, generation, .. } = record;
    let key = keys::preview(tenant, study, series, *generation);
    let (caller, (_, scope)) = (Caller::server(tenant.clone()), due.scope());
    // A viewer needs the metadata, too. A failure there is logged, and changes nothing for the preview.
    // A fault of the program in one series must not keep all others from their previews.
    let (_, written) = tokio::join!(
        catch_panics(metadata_text::make_ahead(archive, &caller, &scope)),
        catch_panics(write_preview(archive, due, &key))
    );
    let written = written
        .unwrap_or_else(|_| Err(PreviewError::Permanent("the server failed while it was made".into())));
    let (preview, outcome) = match written {
        Ok(size_bytes) => (PreviewState::Ready { generation: *generation, size_bytes }, Outcome::Made),
        Err(halt) => after(archive, halt, record),
    };
    let is_current = archive.index.set_preview(tenant.as_str(), study, series, *generation, &preview).await?;
    if !is_current {
        archive.blobs.delete(&key).await?;
        return Ok(Outcome::Stale);
    }
    if outcome != Outcome::Retried {
        if outcome == Outcome::Failed {
            archive.blobs.delete(&key).await?;
        }
        sweep_previews(archive, tenant, study, series, *generation).await?;
    }
    archive.slices.settle(&due.key(), outcome == Outcome::Made);
    let (name, elapsed_ms) = (outcome.name(), start.elapsed().as_millis() as u64);
    info!(series.uid = %series, elapsed_ms, "preview of series {series}: {name}");
    Ok(outcome)
}

/// The state and the outcome of a preview whose attempt failed.
fn after(archive: &Archive, halt: PreviewError, record: &SeriesRecord) -> (PreviewState, Outcome) {
    let before = match record.preview {
        PreviewState::Pending { attempts, .. } => attempts,
        PreviewState::None | PreviewState::Ready { .. } | PreviewState::Failed { .. } => 0,
    };
    let attempts = before + 1;
    warn!(series.uid = %record.series, attempts, error = %halt, "preview of a series failed");
    if let PreviewError::Transient(_) = halt
        && attempts < archive.preview.max_attempts
    {
        let wait = (1000 * archive.preview.retry_seconds) << before.min(MAX_DOUBLINGS);
        return (PreviewState::Pending { due_at: now_millis() + wait as i64, attempts }, Outcome::Retried);
    }
    let reason = match halt {
        PreviewError::Permanent(reason) => reason,
        PreviewError::Transient(_) => format!("gave up after {attempts} attempts"),
    };
    (PreviewState::Failed { reason, attempts }, Outcome::Failed)
}

/// Writes the preview under `key`; returns its bytes.
async fn write_preview(archive: &Archive, due: &Due, key: &Key) -> Result<u64, PreviewError> {
    let mut collection = collect(archive, due).await?;
    let is_shown = collection.slices.iter().any(|slice| slice.image.is_ok());
    if !is_shown {
        let reason = collection.slices.into_iter().find_map(|slice| slice.image.err());
        return Err(PreviewError::Permanent(reason.unwrap_or_else(|| "there are no frames".into())));
    }
    let rate = archive.preview.rate();
    let mut staged = archive.blobs.stage().await?;
    let written = run_blocking(None, move || {
        let order = arrange(&mut collection.slices);
        stored::write(&mut staged, &collection, order, rate).map(|()| staged)
    });
    let staged = written.await??;
    let size_bytes = staged.length();
    archive.blobs.put(staged, key).await?;
    Ok(size_bytes)
}

/// Has the preview of a series made again, if the series is unchanged.
async fn remake(archive: &Archive, tenant: &Tenant, record: &SeriesRecord) -> Result<(), Error> {
    let SeriesRecord { study, series, generation, .. } = record;
    let due = PreviewState::Pending { due_at: now_millis(), attempts: 0 };
    archive.index.set_preview(tenant.as_str(), study, series, *generation, &due).await?;
    archive.announce_preview(tenant.as_str(), study.clone(), series.clone(), Duration::ZERO).await;
    Ok(())
}

/// The instances of a series that have frames, in no particular order. Reads each row once.
pub(in crate::archive) async fn sources(
    archive: &Archive,
    caller: &Caller,
    record: &SeriesRecord,
) -> Result<Vec<Source>, Error> {
    let SeriesRecord { study, series, .. } = record;
    let mut pages = archive.index.instances(caller.tenant.as_str(), study, Some(series));
    let mut sources = Vec::new();
    let mut held_bytes = 0;
    while let Some(page) = pages.try_next().await? {
        // Reading the metadata of some hundred instances takes a while.
        let described = || page.into_iter().filter_map(source).collect::<Vec<_>>();
        for mut source in run_blocking(None, described).await? {
            held_bytes += source.record.as_deref().map_or(0, bytes_of);
            if held_bytes > MAX_HELD_BYTES {
                source.record = None;
            }
            sources.push(source);
        }
    }
    Ok(sources)
}

/// The record of an instance, which is read again only if it is not held.
pub(in crate::archive) async fn source_record(
    archive: &Archive,
    caller: &Caller,
    SeriesRecord { study, series, .. }: &SeriesRecord,
    source: Source,
) -> Result<InstanceRecord, Error> {
    match source.record {
        Some(record) => Ok(*record),
        None => archive.instance(caller, study, series, &source.instance).await,
    }
}

/// The bytes that a record takes in memory, roughly.
pub(in crate::archive) fn bytes_of(record: &InstanceRecord) -> usize {
    let metadata: usize = record.metadata.pieces.iter().map(|piece| piece.deflated.len()).sum();
    let frames = match &record.layout.frames {
        FrameTable::Encapsulated { fragments, .. } => fragments.len(),
        FrameTable::None | FrameTable::Native { .. } => 0,
    };
    BASE_BYTES + metadata + 20 * frames + 100 * record.layout.bulk.len()
}

/// Deletes the previews of a series as it was before `generation`. A later one may be made by now.
async fn sweep_previews(
    archive: &Archive,
    tenant: &Tenant,
    study: &StudyUid,
    series: &SeriesUid,
    generation: u64,
) -> Result<(), Error> {
    let prefix = keys::previews(tenant, study, series);
    let mut entries = archive.blobs.list(Bucket::Previews, &prefix);
    while let Some(entry) = entries.try_next().await? {
        let is_past = match keys::parse(&entry.key) {
            Some(keys::Parsed::Preview { generation: of, .. }) => of < generation,
            _ => true,
        };
        if is_past {
            archive.blobs.delete(&entry.key).await?;
        }
    }
    Ok(())
}

/// The source of the slices of an instance; `None` if it has no pixels.
fn source(record: InstanceRecord) -> Option<Source> {
    let pixels = record.layout.pixels.as_ref()?;
    let described = GeometryAttributes::read(&record.metadata);
    Some(Source {
        instance_number: described.instance_number(),
        number_of_frames: pixels.number_of_frames,
        geometry: described.frame(0),
        instance: record.instance.clone(),
        object: record.object.clone(),
        record: Some(Box::new(record)),
    })
}

/// The longest time for which the settings put off a preview or let a worker have it.
pub fn longest_wait(config: &Config) -> Duration {
    let PreviewSettings { quiet_seconds, retry_seconds, .. } = config.preview;
    let retry = retry_seconds.saturating_mul(1 << MAX_DOUBLINGS);
    let quiet = quiet_seconds.saturating_mul(1 << pool::MAX_DOUBLINGS);
    Duration::from_secs(quiet.max(retry).max(config.jobs.lease_seconds))
}

impl PreviewSettings {
    /// The settings of the encoding.
    fn rate(&self) -> PreviewRate {
        PreviewRate {
            compression_ratio: self.compression_ratio,
            noisy_compression_ratio: self.noisy_compression_ratio.max(self.compression_ratio),
            binning: self.binning,
            codec: match self.codec {
                PreviewFormat::J2k => PreviewCodec::J2k,
                PreviewFormat::Htj2k => PreviewCodec::HighThroughput,
            },
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
