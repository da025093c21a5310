//! What is stored, and finding it: records, keys, commit, search. Written once, over a [`Table`].

use std::sync::Arc;

use crate::table::Table;

mod candidates;
mod commit;
mod conditions;
mod delete;
mod draft;
#[cfg(test)]
mod engine_tests;
mod keys;
mod ordered;
pub mod previews;
mod read;
mod rebuild;
pub mod records;
mod results;
mod rows;
mod search;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tests;

pub(crate) use commit::now;
pub use commit::{Commit, Duplicates};
pub use delete::{Garbage, GarbageObject};
pub use rows::Place;
pub use search::{Limits, Sink};

/// Why an operation on the index failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table failed.
    #[error(transparent)]
    Table(#[from] crate::table::Error),
    /// A record that this version cannot read.
    #[error("the record of {what} cannot be read")]
    Record {
        /// What it is the record of, without patient data.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record that is too large to be written.
    #[error("a record of {size_bytes} bytes is too large for the index")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
    },
    /// The work was cut off; whether it took effect is not known.
    #[error("the commit was interrupted")]
    Interrupted,
}

impl Error {
    /// The same error for another of those that waited for one transaction; what lies below is kept as text.
    fn repeated(&self) -> Self {
        use crate::table::Error as Table;
        match self {
            Self::Table(Table::Conflict(index)) => Self::Table(Table::Conflict(*index)),
            Self::Table(Table::NoSpace) => Self::Table(Table::NoSpace),
            Self::Table(Table::WriterEnded) => Self::Table(Table::WriterEnded),
            Self::Table(Table::Backend { operation, source }) => {
                Self::Table(Table::Backend { operation, source: source.to_string().into() })
            }
            Self::Record { what, source } => {
                Self::Record { what: what.clone(), source: source.to_string().into() }
            }
            Self::TooLarge { size_bytes } => Self::TooLarge { size_bytes: *size_bytes },
            Self::Interrupted => Self::Interrupted,
        }
    }
}

impl Error {
    /// Whether there is no room left.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Table(crate::table::Error::NoSpace))
    }
}

/// The index of everything that is stored.
pub struct Index {
    table: Arc<dyn Table>,
    waiting: Arc<commit::Waiting>,
}

impl Index {
    /// An index over a table. Two indexes over one table, in one process or several, see the same.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table, waiting: Arc::default() }
    }

    /// Checks that instances can be committed, without a request to the table.
    ///
    /// # Errors
    /// [`Error::Table`] if the table takes no more transactions until the process is restarted.
    pub fn health(&self) -> Result<(), Error> {
        Ok(self.table.health()?)
    }

    /// An index in memory, for tests of what stands upon it.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::new(Arc::new(crate::table::redb::Redb::in_memory().expect("memory can be opened")))
    }
}
