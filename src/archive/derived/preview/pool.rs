//! The slices that this process has encoded ahead of their previews: in memory, up to a limit. What is not
//! here is encoded when the preview is made.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::archive::access::Tenant;
use crate::archive::derived::preview::encoded::{EncodedSlice, SeriesKey, SliceKey};
use crate::archive::permits::cores;
use crate::config::PreviewSettings;
use crate::dicom::uid::{InstanceUid, StudyUid};
use crate::index::records::InstanceRecord;

/// The most bytes of records that wait for their frames to be encoded.
const MAX_QUEUED_BYTES: usize = 32 << 20;
/// The bytes of an entry without the tile-parts.
const ENTRY_BYTES: usize = 512;
/// The error of one slice in so many of a series is measured, and that of the first.
const MEASURED_OF: u64 = 16;
/// Ingest is busy for so long after an instance was stored.
const BUSY: Duration = Duration::from_millis(100);
/// While ingest is busy, a frame waits for so long before it is encoded.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// The pause before another look at whether ingest is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// The slices of a series are dropped after so long without a change, if the preview is there.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The most doublings of the quiet time of a series that changes again and again.
pub(super) const MAX_DOUBLINGS: u32 = 5;

/// The pool of encoded slices, and the queue of instances whose frames are to be encoded.
pub(in crate::archive) struct SlicePool {
    contents: Mutex<Contents>,
    max_bytes: usize,
    max_frames: u32,
    quiet: Duration,
    /// Whether a job of this process takes instances from the queue.
    is_encoding: AtomicBool,
    /// An instance is in the queue, or a series has changed.
    changed: Notify,
    encoders: Arc<Semaphore>,
    /// The permits that are left while ingest is busy.
    reserved: usize,
}

#[derive(Default)]
struct Contents {
    queue: VecDeque<(SeriesKey, InstanceRecord)>,
    queued_bytes: usize,
    series: HashMap<SeriesKey, PoolSeries>,
    held_bytes: usize,
    last_stored: Option<Instant>,
}

struct PoolSeries {
    slices: HashMap<SliceKey, EncodedSlice>,
    bytes: usize,
    /// The frames of each instance that was seen.
    known: HashMap<InstanceUid, u32>,
    known_frames: u64,
    /// Instances in the queue or at work.
    unfinished: usize,
    /// The slices that were asked whether they are to be measured.
    asked: u64,
    /// When an instance was stored last.
    changed: Instant,
    /// When the preview may be tried again.
    not_before: Instant,
    /// Whether a preview of all that is known was made or tried.
    is_settled: bool,
    /// Whether no more frames are encoded ahead: one took a decoder process with it, as others may, or there
    /// is no room for them.
    is_given_up: bool,
    /// Previews that were made while the series changed again and again.
    previews: u32,
}

/// The progress of a series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::archive) struct Progress {
    pub(in crate::archive) encoded: u64,
    /// Frames that this process knows of.
    pub(in crate::archive) known: u64,
}

impl SlicePool {
    pub(in crate::archive) fn new(settings: &PreviewSettings) -> Self {
        let encoders = if settings.threads == 0 { cores() } else { settings.threads };
        Self {
            contents: Mutex::default(),
            max_bytes: settings.max_memory_bytes,
            max_frames: settings.max_frames,
            quiet: Duration::from_secs(settings.quiet_seconds),
            is_encoding: AtomicBool::new(false),
            changed: Notify::new(),
            encoders: Arc::new(Semaphore::new(encoders)),
            reserved: encoders - 1,
        }
    }

    /// The frames that are encoded at a time.
    pub(super) fn encoders(&self) -> usize {
        self.reserved + 1
    }

    /// Whether frames of stored instances are encoded in this process.
    pub(in crate::archive) fn is_encoding(&self) -> bool {
        self.is_encoding.load(Ordering::Relaxed)
    }

    /// Frames of stored instances are encoded in this process from now on.
    pub(super) fn begin_encoding(&self) {
        self.is_encoding.store(true, Ordering::Relaxed);
    }

    /// No more frames are encoded in this process: empties the queue.
    pub(super) fn end_encoding(&self) {
        self.is_encoding.store(false, Ordering::Relaxed);
        let mut contents = self.contents();
        contents.queued_bytes = 0;
        for (key, _) in std::mem::take(&mut contents.queue) {
            contents.finish(&key);
        }
        self.changed.notify_waiters();
    }

    /// Adds a stored instance, whose frames are then encoded in the background. One that does not fit in the
    /// queue is encoded when the preview is made.
    pub(in crate::archive) fn add(&self, tenant: &Tenant, record: InstanceRecord) {
        let Some(pixels) = &record.layout.pixels else { return };
        let (study, series) = (record.study.clone(), record.series.clone());
        let key = SeriesKey { tenant: tenant.clone(), study, series };
        let bytes = super::bytes_of(&record);
        let mut contents = self.contents();
        contents.last_stored = Some(Instant::now());
        let contents = &mut *contents;
        let of_series = contents.series.entry(key.clone()).or_insert_with(PoolSeries::new);
        of_series.touch();
        let is_left_out = of_series.known_frames + u64::from(pixels.number_of_frames)
            > u64::from(self.max_frames)
            || of_series.bytes >= self.max_bytes
            || of_series.is_given_up;
        if is_left_out || contents.queued_bytes + bytes > MAX_QUEUED_BYTES {
            return;
        }
        of_series.note(&record.instance, pixels.number_of_frames);
        of_series.unfinished += 1;
        contents.queued_bytes += bytes;
        contents.queue.push_back((key, record));
        self.changed.notify_waiters();
    }

    /// The next instance in the queue; waits for one.
    pub(super) async fn next(&self) -> (SeriesKey, InstanceRecord) {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut contents = self.contents();
                let next = contents.queue.pop_front();
                contents.queued_bytes -= next.as_ref().map_or(0, |(_, record)| super::bytes_of(record));
                next
            };
            if let Some(next) = next {
                return next;
            }
            changed.await;
        }
    }

    /// The work on an instance of the queue has ended.
    pub(super) fn finish(&self, key: &SeriesKey) {
        self.contents().finish(key);
        self.changed.notify_waiters();
    }

    /// No more frames of a series are encoded ahead.
    pub(super) fn give_up(&self, key: &SeriesKey) {
        if let Some(series) = self.contents().series.get_mut(key) {
            series.is_given_up = true;
        }
    }

    /// Whether no more frames of a series are encoded ahead.
    pub(super) fn is_given_up(&self, key: &SeriesKey) -> bool {
        self.contents().series.get(key).is_none_or(|series| series.is_given_up)
    }

    /// Waits until no frame of a series is in the queue or being encoded.
    pub(super) async fn finished(&self, key: &SeriesKey) {
        loop {
            let changed = self.changed.notified();
            if self.contents().series.get(key).is_none_or(|series| series.unfinished == 0) {
                return;
            }
            changed.await;
        }
    }

    /// A permit to read, decode and encode a frame. While ingest is busy, there is one only, and not at once.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        let begun = Instant::now();
        loop {
            let permit = self.encoders.clone().acquire_owned().await.expect("the semaphore is never closed");
            let is_alone = self.encoders.available_permits() >= self.reserved;
            if (is_alone && begun.elapsed() >= LONGEST_WAIT) || !self.is_ingest_busy() {
                return permit;
            }
            drop(permit);
            sleep(BUSY_PAUSE).await;
        }
    }

    fn is_ingest_busy(&self) -> bool {
        self.contents().last_stored.is_some_and(|at| at.elapsed() < BUSY)
    }

    /// Has the pool take the slices of a series that this process may not have stored.
    pub(super) fn begin(&self, key: &SeriesKey) {
        self.contents().series.entry(key.clone()).or_insert_with(PoolSeries::new);
    }

    /// Whether the error of the next slice of a series is to be measured.
    pub(super) fn is_to_measure(&self, key: &SeriesKey) -> bool {
        let mut contents = self.contents();
        // Without an entry, the study was deleted meanwhile.
        let Some(series) = contents.series.get_mut(key) else { return false };
        series.asked += 1;
        (series.asked - 1).is_multiple_of(MEASURED_OF)
    }

    /// Puts an encoded slice into the pool, if there is room or if other series can be dropped. Otherwise no
    /// more frames of the series are encoded ahead: they would be encoded twice.
    pub(super) fn insert(&self, key: &SeriesKey, slice: EncodedSlice) {
        let bytes = slice.length() + ENTRY_BYTES;
        let mut contents = self.contents();
        while contents.held_bytes + bytes > self.max_bytes {
            if !contents.drop_oldest(key) {
                if let Some(series) = contents.series.get_mut(key) {
                    series.is_given_up = true;
                }
                return;
            }
        }
        let contents = &mut *contents;
        // Without an entry, the study was deleted meanwhile.
        let Some(series) = contents.series.get_mut(key) else { return };
        series.note(&slice.key.instance, slice.key.frame);
        if series.slices.insert(slice.key.clone(), slice).is_none() {
            series.bytes += bytes;
            contents.held_bytes += bytes;
        }
    }

    /// The slice of a frame.
    pub(super) fn get(&self, key: &SeriesKey, slice: &SliceKey) -> Option<EncodedSlice> {
        self.contents().series.get(key)?.slices.get(slice).cloned()
    }

    /// The progress of a series.
    pub(in crate::archive) fn progress(&self, key: &SeriesKey) -> Progress {
        self.contents().series.get(key).map_or_else(Progress::default, |series| Progress {
            encoded: series.slices.len() as u64,
            known: series.known_frames,
        })
    }

    /// The slices of a series that are encoded, in no particular order.
    pub(super) fn slices(&self, key: &SeriesKey) -> Vec<EncodedSlice> {
        self.contents()
            .series
            .get(key)
            .map(|series| series.slices.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Drops all that is held of a study, of which something was deleted.
    pub(in crate::archive) fn forget(&self, tenant: &Tenant, study: &StudyUid) {
        let mut contents = self.contents();
        let contents = &mut *contents;
        contents.queue.retain(|(key, _)| (&key.tenant, &key.study) != (tenant, study));
        contents.queued_bytes = contents.queue.iter().map(|(_, record)| super::bytes_of(record)).sum();
        contents.series.retain(|key, _| (&key.tenant, &key.study) != (tenant, study));
        contents.held_bytes = contents.series.values().map(|series| series.bytes).sum();
        self.changed.notify_waiters();
    }

    /// The preview of a series was made or tried; it is not tried again before another change.
    pub(super) fn settle(&self, key: &SeriesKey, is_made: bool) {
        if let Some(series) = self.contents().series.get_mut(key) {
            series.is_settled = true;
            series.previews += u32::from(is_made);
            // There is room again for what arrives later.
            series.is_given_up &= !is_made;
        }
    }

    /// The preview of a series is tried again after `wait`.
    pub(super) fn postpone(&self, key: &SeriesKey, wait: Duration) {
        if let Some(series) = self.contents().series.get_mut(key) {
            (series.is_settled, series.not_before) = (false, Instant::now() + wait);
        }
    }

    /// The time for which a series must be unchanged before its preview is made: longer for one that changes
    /// again after each preview, as one that arrives slowly.
    pub(super) fn quiet_time(&self, key: &SeriesKey) -> Duration {
        let previews = self.contents().series.get(key).map_or(0, |series| series.previews);
        self.quiet * (1 << previews.min(MAX_DOUBLINGS))
    }

    /// The next series whose frames are all encoded and that has been quiet; waits for one.
    pub(super) async fn next_quiet(&self) -> SeriesKey {
        loop {
            let changed = self.changed.notified();
            let (ready, wait) = self.contents().next_quiet(self.quiet);
            if let Some(key) = ready {
                return key;
            }
            tokio::select! {
                () = changed => {
                    // Changes come one after the other while instances arrive.
                    sleep(BUSY_PAUSE).await;
                }
                () = sleep(wait) => {}
            }
        }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolSeries {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            slices: HashMap::new(),
            bytes: 0,
            known: HashMap::new(),
            known_frames: 0,
            unfinished: 0,
            asked: 0,
            changed: now,
            not_before: now,
            is_settled: false,
            is_given_up: false,
            previews: 0,
        }
    }

    /// Notes that an instance has so many frames or more.
    fn note(&mut self, instance: &InstanceUid, frames: u32) {
        let known = self.known.entry(instance.clone()).or_default();
        self.known_frames += u64::from(frames.saturating_sub(*known));
        *known = frames.max(*known);
    }

    /// Notes a change of the series.
    fn touch(&mut self) {
        (self.changed, self.is_settled) = (Instant::now(), false);
    }
}

impl Contents {
    fn finish(&mut self, key: &SeriesKey) {
        if let Some(series) = self.series.get_mut(key) {
            series.unfinished = series.unfinished.saturating_sub(1);
        }
    }

    /// Drops the slices of the series that has been unchanged for the longest time, but for `not`. Returns
    /// whether there was one.
    fn drop_oldest(&mut self, not: &SeriesKey) -> bool {
        let candidates = self.series.iter().filter(|(key, series)| *key != not && series.bytes > 0);
        // Those that have a preview first.
        let oldest = candidates.min_by_key(|(_, series)| (!series.is_settled, series.changed));
        let Some(key) = oldest.map(|(key, _)| key.clone()) else { return false };
        if let Some(series) = self.series.get_mut(&key) {
            self.held_bytes -= series.bytes;
            series.bytes = 0;
            series.slices = HashMap::new();
        }
        true
    }

    /// A series that is ready for its preview, which is marked as settled; otherwise the time until the next
    /// look.
    fn next_quiet(&mut self, quiet: Duration) -> (Option<SeriesKey>, Duration) {
        let mut wait = MAX_AGE;
        let held_bytes = &mut self.held_bytes;
        self.series.retain(|_, series| {
            let is_idle = series.is_settled || series.known.is_empty();
            let is_old = is_idle && series.unfinished == 0 && series.changed.elapsed() > MAX_AGE;
            *held_bytes -= if is_old { series.bytes } else { 0 };
            !is_old
        });
        for (key, series) in &mut self.series {
            if series.is_settled || series.unfinished > 0 || series.known.is_empty() {
                continue;
            }
            let quiet = quiet * (1 << series.previews.min(MAX_DOUBLINGS));
            let left = quiet.saturating_sub(series.changed.elapsed());
            let left = left.max(series.not_before.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                series.is_settled = true;
                return (Some(key.clone()), Duration::ZERO);
            }
            wait = wait.min(left);
        }
        (None, wait)
    }
}
