//! The usage of tenants, for administrators and bills. See docs/usage.md.

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
pub use crate::index::amounts::{Amount, Turnover};
pub use crate::index::usage::{DayUsage, TenantUsage, Traffic};

impl Archive {
    /// Counts what an older version has stored, so that limits apply to it. Over a remote table, where other
    /// processes may store meanwhile, only `cuspid check --repair` does.
    pub async fn begin_usage(&self) -> Result<(), Error> {
        match self.index.is_remote() {
            true => Ok(()),
            false => Ok(self.index.begin_usage().await?),
        }
    }

    /// The usage of the caller's tenant, with the days from `from` to `to`, both as `2026-11-30` and
    /// included.
    pub async fn usage(&self, caller: &Caller, from: &str, to: &str) -> Result<TenantUsage, Error> {
        Ok(self.index.usage(caller.tenant.as_str(), from, to).await?)
    }
}
