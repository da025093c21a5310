//! The index: records of all studies, series and instances, and searches for them. Works over any [`Table`].

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::table::Table;

pub mod amounts;
#[cfg(test)]
mod arrival_tests;
mod candidates;
mod change_log;
mod changed_studies;
pub mod changes;
mod commit;
pub mod commitments;
mod conditions;
mod conflict;
mod counts;
mod delete;
#[cfg(test)]
mod engine_tests;
pub mod feed;
mod feed_position;
mod feed_sweep;
#[cfg(test)]
mod feed_tests;
pub mod forwarding;
mod heads;
mod key_walk;
mod keys;
pub mod leased;
mod listing;
mod order_bounds;
mod ordered;
#[cfg(test)]
mod paging_tests;
mod prepare;
#[cfg(test)]
mod prepare_tests;
pub mod previews;
mod read;
mod rebuild;
pub mod records;
mod results;
mod row_walk;
mod rows;
pub mod scrub;
mod search;
mod search_budget;
mod search_metadata;
mod search_progress;
#[cfg(test)]
mod search_tests;
mod secrets;
pub mod shares;
#[cfg(test)]
mod shares_tests;
mod study_list;
#[cfg(test)]
mod study_list_tests;
mod study_lists;
mod study_update;
#[cfg(test)]
mod tests;
pub mod usage;
#[cfg(test)]
mod usage_tests;
mod versioned;
pub mod webhooks;

pub use commit::CommitOutcome;
pub use counts::Recount;
pub use delete::{DeletionEntry, ObjectToDelete};
pub use prepare::PreparedRecord;
pub use read::Readable;
pub use rows::InstanceLocation;
pub use search::{ResultSink, SearchLimits};
pub use secrets::SECRET_BYTES;

/// An error of an operation on the index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table failed.
    #[error(transparent)]
    Table(#[from] crate::table::Error),
    /// A record cannot be encoded or decoded.
    #[error("cannot read or write the record of {what}")]
    Record {
        /// The key of the record, without patient data.
        what: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record is larger than a transaction can hold.
    #[error("a record of {size_bytes} bytes is too large for the index")]
    TooLarge {
        /// The size of the record.
        size_bytes: usize,
    },
    /// The task of an operation ended early; whether the operation took effect is unknown.
    #[error("the operation was interrupted")]
    Interrupted,
    /// The error of a transaction that several operations shared.
    #[error(transparent)]
    Shared(Arc<Self>),
}

impl Error {
    /// Whether the table has no space left.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Table(error) => matches!(error, crate::table::Error::NoSpace),
            Self::Shared(error) => error.is_no_space(),
            Self::Record { .. } | Self::TooLarge { .. } | Self::Interrupted => false,
        }
    }

    /// Makes the errors of all requests of one transaction, which share the cause.
    fn shared(self) -> impl Fn() -> Self {
        let error = Arc::new(self);
        move || Self::Shared(error.clone())
    }
}

/// The index of all stored studies, series and instances. Clones are the same index.
#[derive(Clone)]
pub struct Index {
    table: Arc<dyn Table>,
    commits: Arc<commit::CommitQueues>,
    log: Arc<change_log::ChangeLog>,
    longest_wait: Duration,
    /// Permits for the long work of searches.
    long_work: Arc<Semaphore>,
    /// The lists of studies in memory.
    lists: Arc<study_lists::StudyLists>,
}

/// The longest wait of an index whose user names none.
const DEFAULT_LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

impl Index {
    /// Makes an index over a table. Indexes over the same table, in one process or several, have the same
    /// contents.
    pub fn new(table: Arc<dyn Table>) -> Self {
        // Half of the cores: whatever is searched for, cores are left for everything else.
        let cores = available_parallelism().map_or(1, NonZero::get);
        let long_work = Arc::new(Semaphore::new(cores.div_ceil(2)));
        let log = Arc::new(change_log::ChangeLog::new(table.is_remote()));
        let (commits, lists, longest_wait) = (Arc::default(), Arc::default(), DEFAULT_LONGEST_WAIT);
        Self { table, commits, log, longest_wait, long_work, lists }
    }

    /// Sets the longest time for which a preview may be put off or leased. A later due time in the index was
    /// written by a wrong clock.
    #[must_use]
    pub fn with_longest_wait(self, longest_wait: Duration) -> Self {
        Self { longest_wait, ..self }
    }

    /// Checks that instances can be committed, without a request to the table.
    ///
    /// # Errors
    /// [`Error::Table`] if the table takes no more transactions until the process is restarted.
    pub fn health(&self) -> Result<(), Error> {
        Ok(self.table.health()?)
    }

    /// The table of the index.
    pub fn table(&self) -> Arc<dyn Table> {
        self.table.clone()
    }

    /// Whether each operation is a request to another machine; see [`Table::is_remote`].
    pub fn is_remote(&self) -> bool {
        self.table.is_remote()
    }

    /// Makes an index in memory, for tests of other modules.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::new(Arc::new(crate::table::redb::Redb::in_memory().expect("memory can be opened")))
    }
}

/// Locks a mutex. Each statement leaves the guarded value valid, so a lock that a panic poisoned may still be
/// used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
