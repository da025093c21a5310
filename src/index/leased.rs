//! States of work for an AE title, each in a row with the lease of the process that does the work.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::index::versioned::replacement;
use crate::index::{Error, Index};
use crate::table::ItemKey;

/// The state of work for an AE title of a tenant, with a lease.
pub trait LeasedState: Serialize + DeserializeOwned + Default + Send + Sync {
    /// The key of the row.
    fn key(tenant: &str, title: &str) -> ItemKey;

    /// The end of the lease, in milliseconds since 1970 UTC.
    fn leased_until(&self) -> i64;

    /// Sets the process that has the lease.
    fn set_holder(&mut self, holder: String);

    /// Sets the end of the lease.
    fn set_end(&mut self, until: i64);
}

impl Index {
    /// The state of work for a title, with its version; `None` if there is none.
    pub async fn leased<S: LeasedState>(&self, tenant: &str, title: &str) -> Result<Option<(S, u64)>, Error> {
        self.versioned(S::key(tenant, title)).await
    }

    /// Sets the state of work for a title, if its version is still `version` (0 if there was none). Returns
    /// whether it was.
    pub async fn set_leased<S: LeasedState>(
        &self,
        tenant: &str,
        title: &str,
        state: &S,
        version: u64,
    ) -> Result<bool, Error> {
        let row = replacement(S::key(tenant, title), state, version)?;
        self.transact_if_current(vec![row]).await
    }
}
