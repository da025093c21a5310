//! Decoding of compressed frames in processes of their own.
//!
//! Codecs in C and C++ read bytes that anybody may send. A frame that crashes one, or needs too much memory
//! or time, costs that frame only: it is decoded in a process with limits, without files and network, which
//! is replaced when it fails.
//!
//! [`Decoders`] is the side of the server, [`run`] is the program of such a process (`cuspid decoder`).

use std::sync::Arc;

use crate::config::DecodersSettings;
use crate::decoders::pool::Pool;

mod pool;
mod process;
mod protocol;
mod sandbox;
mod worker;

pub use crate::decoders::pool::Place;
pub use crate::decoders::protocol::{PackedFrame, Request};
pub use crate::decoders::sandbox::Limits;
pub use crate::decoders::worker::run;

/// The urgency of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A client waits for the frame.
    Request,
    /// A background job; its processes run at the lowest priority.
    Background,
}

/// Why there are no samples of a frame.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The frame is in a form that the codecs do not support.
    #[error("{0}")]
    Unsupported(String),
    /// The frame is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The process ended while it decoded the frame.
    #[error("the frame cannot be decoded: the codec crashed")]
    Crash {
        /// The signal that ended the process.
        signal: Option<i32>,
    },
    /// The time limit was reached.
    #[error("the frame cannot be decoded in {seconds} s (decoders.max_seconds)")]
    Timeout {
        /// The limit in force.
        seconds: u64,
    },
    /// The memory limit was reached.
    #[error("the frame cannot be decoded in {bytes} bytes of memory (decoders.max_memory_bytes)")]
    Memory {
        /// The limit in force.
        bytes: u64,
    },
    /// No process could be started.
    #[error("no decoder process can be started")]
    Unavailable(#[source] std::io::Error),
}

impl Error {
    /// Whether the same frame may be decoded at another attempt.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    fn signal(&self) -> Option<i32> {
        if let Self::Crash { signal } = self { *signal } else { None }
    }

    /// The cause in the metric of failures; `None` if the process did not fail.
    fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Unsupported(_) | Self::Damaged(_) => None,
            Self::Crash { .. } => Some("crash"),
            Self::Timeout { .. } => Some("timeout"),
            Self::Memory { .. } => Some("memory"),
            Self::Unavailable(_) => Some("unavailable"),
        }
    }
}

/// The decoders of an archive.
pub enum Decoders {
    /// Processes, in a pool for each priority.
    Processes {
        /// For [`Priority::Request`].
        requests: Arc<Pool>,
        /// For [`Priority::Background`].
        background: Arc<Pool>,
    },
    /// No processes: unit tests have no program to start.
    #[cfg(test)]
    InProcess,
}

impl Decoders {
    /// Decoders with these settings. A process is started when a frame needs one.
    pub fn new(settings: &DecodersSettings) -> Self {
        #[cfg(test)]
        if settings.program.as_os_str().is_empty() {
            return Self::InProcess;
        }
        Self::Processes {
            requests: Pool::new(settings, Priority::Request),
            background: Pool::new(settings, Priority::Background),
        }
    }

    /// Waits for a place to decode one frame of a client; `None` if there are no processes. Dropping the
    /// future gives the place in the queue up.
    pub async fn place(&self, client: &str, priority: Priority) -> Option<Place> {
        match (self, priority) {
            (Self::Processes { requests, .. }, Priority::Request) => Some(requests.place(client).await),
            (Self::Processes { background, .. }, Priority::Background) => {
                Some(background.place(client).await)
            }
            #[cfg(test)]
            (Self::InProcess, _) => None,
        }
    }
}
