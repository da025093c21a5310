//! What is stored, and finding it: records, keys, commit, search. Written once, over a [`Table`].

use std::sync::Arc;

use crate::table::Table;

mod commit;
mod keys;
pub mod previews;
pub mod records;
mod search;

pub use commit::{Commit, Duplicates};

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
}

/// The index of everything that is stored.
pub struct Index {
    table: Arc<dyn Table>,
}
