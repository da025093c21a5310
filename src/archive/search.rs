//! Finding: QIDO-RS and C-FIND.

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::index::{ResultSink, SearchLimits};
use crate::query::{Query, SearchSummary};

impl Archive {
    /// Answers a query with what the caller may see, at a bounded cost. Each result is handed to
    /// `sink` as it is found, as long as that can take another.
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
