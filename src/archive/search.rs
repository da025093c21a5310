//! Finding: QIDO-RS and C-FIND.

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::query::{Found, Query};

impl Archive {
    /// Answers a query with what the caller may see.
    pub async fn search(&self, caller: &Caller, query: &Query) -> Result<Found, Error> {
        let _ = (caller, query);
        unimplemented!()
    }
}
