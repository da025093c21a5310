//! Finding: QIDO-RS and C-FIND.

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::query::{Found, Query};

impl Archive {
    /// Answers a query with what the caller may see, at a bounded number of index rows read.
    pub async fn search(&self, caller: &Caller, query: &Query) -> Result<Found, Error> {
        Ok(self.index.search(caller.tenant.as_str(), query, self.search.max_rows_read).await?)
    }
}
