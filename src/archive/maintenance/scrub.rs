//! The scrub: reads every original once in a set time and compares its digest and its length with the record
//! of the instance, one object at a time. Faults are reported, and nothing is changed (docs/decisions/0103).
//!
//! The position is in the index, so that a pass continues after a restart. A lease makes sure that one
//! process of a fleet scrubs at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use serde::Deserialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use uuid::Uuid;

use crate::archive::access::Tenant;
use crate::archive::maintenance::report::Finding;
use crate::archive::maintenance::verify::{Hashing, StoredObject, verify};
use crate::archive::{Archive, Error};
use crate::blobs;
use crate::clock::{has_come, now_millis};
use crate::dicom::uid::StudyUid;
use crate::index::scrub::{ScrubPosition, ScrubState};
use crate::telemetry;

/// The lease of a process, and the time after which it is renewed and the position is saved.
const LEASE: Duration = Duration::from_secs(600);
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// The longest time between two looks at the state.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// The work of reading an object besides its bytes: about as much as reading so many bytes.
const OBJECT_WORK: u64 = 64 * 1024;
/// The wait before an object that could not be read is read again.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Objects in a row that the store cannot read, after which the scrub pauses.
const MAX_FAILURES_IN_A_ROW: u32 = 3;

/// The scrub of an archive in this process.
pub struct Scrub {
    archive: Arc<Archive>,
    interval: Duration,
    /// The random name of this process in the lease.
    holder: String,
}

/// As much of a study's record as the scrub needs.
#[derive(Deserialize)]
struct StudySize {
    study: StudyUid,
    number_of_instances: u64,
    size_bytes: u64,
}

impl Scrub {
    /// A scrub that reads every original once in `interval`.
    pub fn new(archive: Arc<Archive>, interval: Duration) -> Self {
        Self { archive, interval, holder: Uuid::new_v4().simple().to_string() }
    }

    /// Continues the pass, or begins one if the last one began `interval` ago, and returns when the pass is
    /// whole, when another process has the lease, or at `stop`. Returns the time to wait until the next call.
    ///
    /// # Errors
    /// If the index fails, or the store several times in a row. The next call continues behind the last
    /// object.
    pub async fn run(&self, stop: &CancellationToken) -> Result<Duration, Error> {
        let now = now_millis();
        let found = self.archive.index.scrub_state().await?;
        let (mut state, version) = found.unwrap_or_default();
        report_age(&state);
        // A data directory has one process.
        if self.archive.is_shared && state.holder != self.holder && !has_come(state.leased_until, now, LEASE)
        {
            return Ok(LOOK_INTERVAL);
        }
        if !state.is_running {
            let next_at = state.started_at.saturating_add(millis(self.interval));
            if version > 0 && !has_come(next_at, now, self.interval) {
                return Ok(LOOK_INTERVAL.min(Duration::from_millis((next_at - now).max(1) as u64)));
            }
            let total_work = self.total_work().await?;
            let completed_at = state.completed_at;
            state = ScrubState {
                started_at: now,
                completed_at,
                total_work,
                is_running: true,
                ..Default::default()
            };
        }
        state.holder.clone_from(&self.holder);
        let mut pass = Pass { scrub: self, state, version, saved: Instant::now(), failures_in_a_row: 0 };
        if !pass.save(LEASE).await? {
            return Ok(LOOK_INTERVAL);
        }
        let outcome = stop.run_until_cancelled(pass.walk()).await;
        if matches!(outcome, Some(Ok(true))) {
            pass.complete();
        }
        if !matches!(outcome, Some(Ok(false))) {
            pass.save(Duration::ZERO).await?;
        }
        outcome.transpose().map(|_| LOOK_INTERVAL.min(self.interval))
    }

    /// The work of a pass over all studies.
    async fn total_work(&self) -> Result<u64, Error> {
        let index = &self.archive.index;
        let mut total = 0_u64;
        for tenant in index.tenants().await? {
            let mut pages = index.studies_from::<StudySize>(&tenant, None);
            while let Some(page) = pages.try_next().await? {
                for study in page.into_iter().filter_map(|(_, study)| study.ok()) {
                    let overhead = study.number_of_instances.saturating_mul(OBJECT_WORK);
                    total = total.saturating_add(study.size_bytes).saturating_add(overhead);
                }
            }
        }
        Ok(total)
    }
}

/// A pass over all originals, from its position on.
struct Pass<'a> {
    scrub: &'a Scrub,
    state: ScrubState,
    /// The version of the state in the index.
    version: u64,
    saved: Instant,
    failures_in_a_row: u32,
}

impl Pass<'_> {
    /// Reads all objects from the position on. Returns whether the pass is whole: not if the lease was lost.
    async fn walk(&mut self) -> Result<bool, Error> {
        let index = self.scrub.archive.index.clone();
        let start = self.state.position.clone();
        let mut tenants = index.tenants().await?;
        tenants.sort();
        for name in tenants {
            let start = match &start {
                Some(start) if name < start.tenant => continue,
                start => start.as_ref().filter(|start| start.tenant == name),
            };
            let Ok(tenant) = name.parse::<Tenant>() else { continue };
            let mut pages = index.studies_from::<StudySize>(&name, start.map(|start| start.order.as_str()));
            while let Some(page) = pages.try_next().await? {
                for (order, study) in page {
                    // `cuspid check` names rows that cannot be read.
                    let Ok(StudySize { study, .. }) = study else { continue };
                    let start = start.filter(|start| start.study == study);
                    if !self.walk_study(&tenant, &order, &study, start).await? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    async fn walk_study(
        &mut self,
        tenant: &Tenant,
        order: &str,
        study: &StudyUid,
        start: Option<&ScrubPosition>,
    ) -> Result<bool, Error> {
        let index = self.scrub.archive.index.clone();
        let series = index.readable_series(tenant.as_str(), study).await?;
        for series in series.into_iter().filter_map(Result::ok) {
            let start = match start {
                Some(start) if series.series.as_str() < start.series.as_str() => continue,
                start => start.filter(|start| start.series == series.series),
            };
            let mut pages = index.readable_instances::<StoredObject>(tenant.as_str(), study, &series.series);
            while let Some(page) = pages.try_next().await? {
                for object in page.into_iter().filter_map(Result::ok) {
                    if start.is_some_and(|start| object.instance.as_str() <= start.instance.as_str()) {
                        continue;
                    }
                    if !self.object(tenant, order, object).await? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Reads an object when it is due. Returns false if the lease was lost.
    async fn object(&mut self, tenant: &Tenant, order: &str, object: StoredObject) -> Result<bool, Error> {
        if !self.wait_until_due().await? {
            return Ok(false);
        }
        let start = Instant::now();
        let outcome = self.verify(tenant, &object).await?;
        telemetry::scrubbed(outcome, object.size_bytes);
        let state = &mut self.state;
        state.objects += 1;
        match outcome {
            "damaged" => state.damaged += 1,
            "missing" => state.missing += 1,
            "unreadable" => state.unreadable += 1,
            _ => {}
        }
        state.done_work += object.size_bytes + OBJECT_WORK;
        let StoredObject { study, series, instance, .. } = object;
        let (tenant, order) = (tenant.as_str().to_owned(), order.to_owned());
        state.position = Some(ScrubPosition { tenant, order, study, series, instance });
        // Even a pass that is late leaves the store at least half of the time to others.
        sleep(start.elapsed()).await;
        if self.saved.elapsed() >= SAVE_INTERVAL { self.save(LEASE).await } else { Ok(true) }
    }

    /// Waits until as much of the interval is over as of the work is done, and renews the lease meanwhile.
    async fn wait_until_due(&mut self) -> Result<bool, Error> {
        let ScrubState { started_at, done_work, total_work, .. } = self.state;
        let share = done_work as f64 / total_work.max(1) as f64;
        let due_at = started_at + (millis(self.scrub.interval) as f64 * share.min(1.0)) as i64;
        loop {
            let left = due_at - now_millis();
            if left <= 0 {
                return Ok(true);
            }
            sleep(SAVE_INTERVAL.min(Duration::from_millis(left as u64))).await;
            report_age(&self.state);
            // No other process takes a lease of an archive that is not shared.
            let is_due = self.scrub.archive.is_shared && self.saved.elapsed() >= SAVE_INTERVAL;
            if is_due && !self.save(LEASE).await? {
                return Ok(false);
            }
        }
    }

    /// Verifies an object; the outcome for metrics. A fault is logged in the words of `cuspid check`.
    async fn verify(&mut self, tenant: &Tenant, object: &StoredObject) -> Result<&'static str, Error> {
        let archive = &self.scrub.archive;
        let mut verdict = verify(archive, tenant, object, Hashing::InBackground).await;
        if matches!(verdict, Err(Error::Blobs(blobs::Error::Backend { .. }))) {
            sleep(RETRY_WAIT).await;
            verdict = verify(archive, tenant, object, Hashing::InBackground).await;
        }
        match verdict {
            Ok(None) => {
                self.failures_in_a_row = 0;
                Ok("intact")
            }
            Ok(Some(finding)) => {
                error!("scrub: {finding}");
                Ok(if matches!(finding, Finding::Missing(_)) { "missing" } else { "damaged" })
            }
            Err(failure @ Error::Blobs(blobs::Error::Backend { .. })) => {
                self.failures_in_a_row += 1;
                if self.failures_in_a_row > MAX_FAILURES_IN_A_ROW {
                    return Err(failure);
                }
                let error = telemetry::chain(&failure);
                error!(error, "scrub: unreadable: {}", object.key(tenant));
                Ok("unreadable")
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the pass.
    fn complete(&mut self) {
        let ScrubState { objects, damaged, missing, unreadable, .. } = self.state;
        info!(
            "scrub: read {objects} objects, of which {damaged} are damaged, {missing} are missing and {unreadable} \
             cannot be read"
        );
        self.state.is_running = false;
        self.state.position = None;
        self.state.completed_at = Some(now_millis());
    }

    /// Saves the state, with a lease of so long. Returns false if another process has changed the state.
    async fn save(&mut self, lease: Duration) -> Result<bool, Error> {
        self.state.leased_until = now_millis() + millis(lease);
        let is_saved = self.scrub.archive.index.set_scrub_state(&self.state, self.version).await?;
        self.version += u64::from(is_saved);
        self.saved = Instant::now();
        report_age(&self.state);
        Ok(is_saved)
    }
}

/// The state of the scrub, from the index; `None` before the first pass.
///
/// # Errors
/// If the index fails.
pub async fn scrub_state(archive: &Archive) -> Result<Option<ScrubState>, Error> {
    Ok(archive.index.scrub_state().await?.map(|(state, _)| state))
}

/// Sets the metric of the time since the last whole pass.
fn report_age(state: &ScrubState) {
    if let Some(completed_at) = state.completed_at {
        let age = now_millis().saturating_sub(completed_at).max(0);
        telemetry::scrub_pass_age(Duration::from_millis(age as u64));
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
