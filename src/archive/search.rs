//! Search, for QIDO-RS and C-FIND.

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::index::{ResultSink, SearchLimits};
use crate::query::{Query, SearchSummary};

impl Archive {
    /// Searches the objects of the caller's tenant, at a bounded cost. Each result is given to `sink` when it
    /// is found, as long as `sink` takes more.
    pub async fn search(
        &self,
        caller: &Caller,
        query: &Query,
        sink: &mut ResultSink<'_>,
    ) -> Result<SearchSummary, Error> {
        let limits =
            SearchLimits { max_rows_read: self.search.max_rows_read, max_ordered: self.search.max_ordered };
        Ok(self.index.search(caller.tenant.as_str(), query, limits, sink).await?)
    }
}
