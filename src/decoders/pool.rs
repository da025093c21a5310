//! A pool of decoder processes: started when first needed, kept for the next frames, replaced when worn or
//! failed.

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::budget::{Budget, Grant};
use crate::config::DecodersSettings;
use crate::decoders::process::{Launch, Process};
use crate::decoders::protocol::{PackedFrame, ReplyHead, Request};
use crate::decoders::{Error, Priority};
use crate::telemetry;

/// The time in which a process may finish a frame that nobody waits for any longer. Most frames take less,
/// and the process stays warm; a process that takes longer is killed.
const GRACE: Duration = Duration::from_millis(500);
/// A process that has decoded a frame of more samples is replaced: its allocator holds the memory.
const LARGE_SAMPLES: u64 = 1 << 24;

/// Decoder processes of one priority.
pub struct Pool {
    launch: Launch,
    /// Places for the work of processes. All clients together have twice as many as one client, so that a
    /// client with long work keeps no other from beginning.
    places: Budget,
    /// Processes without work, the last used at the end.
    idle: Mutex<Vec<Process>>,
    max_frames: u32,
    max_seconds: u64,
    max_memory_bytes: u64,
}

/// The right to decode a frame in a process.
pub struct Place {
    pool: Arc<Pool>,
    _grant: Grant,
}

impl Pool {
    pub(super) fn new(settings: &DecodersSettings, priority: Priority) -> Arc<Self> {
        let processes = match settings.processes {
            0 => available_parallelism().map_or(1, NonZero::get),
            processes => processes,
        };
        Arc::new(Self {
            launch: Launch::new(settings, priority),
            places: Budget::of_places(2 * processes, processes),
            idle: Mutex::default(),
            max_frames: settings.max_frames,
            max_seconds: settings.max_seconds,
            max_memory_bytes: settings.max_memory_bytes,
        })
    }

    /// Waits for a place.
    pub(super) async fn place(self: &Arc<Self>, client: &str) -> Place {
        Place { _grant: self.places.take(client, 1).await, pool: self.clone() }
    }

    /// Decodes a frame in a process.
    async fn decode(&self, request: &Request) -> Result<PackedFrame, Error> {
        let mut process = match self.take_idle() {
            Some(process) => process,
            None => self.launch.start().await.map_err(Error::Unavailable)?,
        };
        let start = Instant::now();
        let outcome = match timeout(Duration::from_secs(self.max_seconds), process.decode(request)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => return Err(process.end(self.max_memory_bytes).await),
            Err(_) => return Err(Error::Timeout { seconds: self.max_seconds }),
        };
        process.frames += 1;
        process.busy += start.elapsed();
        let samples = u64::from(request.layout.rows) * u64::from(request.layout.columns);
        let is_worn = process.frames >= self.max_frames
            || process.busy >= Duration::from_secs(self.max_seconds)
            || samples > LARGE_SAMPLES
            || matches!(outcome, Err(ReplyHead::Memory));
        if !is_worn {
            self.idle().push(process);
        }
        outcome.map_err(|refusal| match refusal {
            ReplyHead::Unsupported(reason) => Error::Unsupported(reason),
            ReplyHead::Damaged(reason) => Error::Damaged(reason),
            ReplyHead::Memory => Error::Memory { bytes: self.max_memory_bytes },
            ReplyHead::Decoded(_) => Error::Crash { signal: None },
        })
    }

    /// A process without work that has not ended meanwhile.
    fn take_idle(&self) -> Option<Process> {
        loop {
            let mut process = self.idle().pop()?;
            if process.is_running() {
                return Some(process);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Decodes a frame. The place comes back with the frame: holding it until a core is free for the work
    /// that follows limits how many decoded frames wait in memory.
    ///
    /// If the future is dropped, the process has half a second to finish the frame and is then killed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn decode(self, request: Request) -> Result<(PackedFrame, Self), Error> {
        let (mut sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let abandoned = async {
                sender.closed().await;
                sleep(GRACE).await;
            };
            let decoded = tokio::select! {
                decoded = self.pool.decode(&request) => decoded,
                () = abandoned => return,
            };
            if let Err(error) = &decoded
                && let Some(cause) = error.cause()
            {
                telemetry::decoder_failed(cause);
                let reason = std::error::Error::source(error).map(ToString::to_string);
                warn!(
                    cause,
                    signal = error.signal(),
                    reason,
                    transfer_syntax = request.transfer_syntax,
                    "a decoder process failed"
                );
            }
            // The error of a closed channel is that nobody waits any longer.
            let _ = sender.send(decoded.map(|frame| (frame, self)));
        });
        // The channel closes without a frame if the task panics.
        receiver.await.unwrap_or(Err(Error::Crash { signal: None }))
    }
}
