//! Encodes the frames of instances when they are stored, and names the series whose preview is then to be
//! made by this process.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::debug;

use crate::archive::Archive;
use crate::archive::derived::preview::PreviewError;
use crate::archive::derived::preview::encoded::{FrameSource, SeriesKey, encode_frame};
use crate::queue::Job;

/// Encodes the frames of all instances that are stored from now on, until the future is dropped. What is not
/// encoded then is encoded when the preview is made.
pub async fn encode_stored(archive: &Arc<Archive>) {
    struct Stop<'a>(&'a Archive);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.slices.end_encoding();
        }
    }
    archive.slices.begin_encoding();
    let _stop = Stop(archive);
    let mut running = JoinSet::new();
    loop {
        let (key, record) = archive.slices.next().await;
        let finish = Arc::new(Finish { archive: archive.clone(), key: key.clone() });
        // The panic was logged.
        let Ok(source) = FrameSource::new(key, record).await else { continue };
        let source = Arc::new(source);
        for frame in source.frames() {
            if archive.slices.is_given_up(&finish.key) {
                break;
            }
            while running.len() >= archive.slices.encoders() {
                running.join_next().await;
            }
            let (source, finish) = (source.clone(), finish.clone());
            running.spawn(async move {
                match encode_frame(&finish.archive, &source, frame).await {
                    Ok(slice) => finish.archive.slices.insert(&finish.key, slice),
                    Err(error) => {
                        debug!(%error, "a frame is not encoded ahead");
                        if matches!(error, PreviewError::Permanent(_)) {
                            finish.archive.slices.give_up(&finish.key);
                        }
                    }
                }
            });
        }
    }
}

/// Notes the end of the work on an instance, when the last of its frames is encoded.
struct Finish {
    archive: Arc<Archive>,
    key: SeriesKey,
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.archive.slices.finish(&self.key);
    }
}

/// The next series of which this process has encoded all that it stored, and that is quiet. Waits for one.
pub async fn next_quiet(archive: &Archive) -> Job {
    let SeriesKey { tenant, study, series } = archive.slices.next_quiet().await;
    Job { tenant: tenant.as_str().to_owned(), study, series }
}

/// Has [`next_quiet`] name a series again after `wait`.
pub fn postpone(archive: &Archive, job: &Job, wait: Duration) {
    if let Ok(tenant) = job.tenant.parse() {
        let key = SeriesKey { tenant, study: job.study.clone(), series: job.series.clone() };
        archive.slices.postpone(&key, wait);
    }
}
