//! The state of the scrub, which reads all originals in turn: its position and its lease.

use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use std::ops::Bound;

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::read::{pages, whole_partition};
use crate::index::versioned::replacement;
use crate::index::{Error, Index, keys, listing, rows};
use crate::table::{Item, Secondary};

/// Studies that are read at a time.
const PAGE_STUDIES: usize = 200;

/// The state of the scrub. All times are in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    /// The start of the last pass.
    pub started_at: i64,
    /// The end of the last pass that was whole.
    pub completed_at: Option<i64>,
    /// The last instance of the pass whose object was read; `None` before the first.
    pub position: Option<ScrubPosition>,
    /// Whether the pass is not whole yet.
    pub is_running: bool,
    /// The work of the pass, by its start: bytes, and a fixed number of bytes for each object.
    pub total_work: u64,
    /// The work that is done.
    pub done_work: u64,
    /// The objects of the pass that were read, those of the next fields among them.
    pub objects: u64,
    /// Damaged objects.
    pub damaged: u64,
    /// Missing objects.
    pub missing: u64,
    /// Objects that the store could not read.
    pub unreadable: u64,
    /// The process that has the lease.
    pub holder: String,
    /// The end of the lease.
    pub leased_until: i64,
}

/// A position among all instances: by tenant, place in the list of studies, series and instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPosition {
    /// The tenant.
    pub tenant: String,
    /// The place of the study in the list of studies.
    pub order: String,
    /// The study.
    pub study: StudyUid,
    /// The series.
    pub series: SeriesUid,
    /// The instance.
    pub instance: InstanceUid,
}

/// A page of studies: the place of each in the list of studies, and its record or a part of it.
pub type StudyPage<R> = Vec<(String, Result<R, Error>)>;

impl Index {
    /// The state of the scrub and its version; `None` before the first pass.
    pub async fn scrub_state(&self) -> Result<Option<(ScrubState, u64)>, Error> {
        self.versioned(keys::scrub()).await
    }

    /// Sets the state of the scrub, if its version is still `version` (0 if there was none). Returns whether
    /// it was.
    pub async fn set_scrub_state(&self, state: &ScrubState, version: u64) -> Result<bool, Error> {
        self.transact_if_current(vec![replacement(keys::scrub(), state, version)?]).await
    }

    /// The studies of a tenant in pages, in the order of their places in the list of studies, from one on,
    /// with an error in the place of each row that cannot be read.
    pub fn studies_from<R: DeserializeOwned + Send + 'static>(
        &self,
        tenant: &str,
        order: Option<&str>,
    ) -> BoxStream<'static, Result<StudyPage<R>, Error>> {
        let mut range = whole_partition(Some(Secondary::First), keys::studies(tenant), PAGE_STUDIES);
        if let Some(order) = order {
            range.from = Bound::Included(order.to_owned());
        }
        let decoded = |page: Vec<(String, Item)>| {
            let decode = |(sort, item): (String, Item)| {
                (listing::order(&sort).to_owned(), rows::decode(&item.key, &item.body))
            };
            page.into_iter().map(decode).collect()
        };
        pages(self.table.clone(), range).map_ok(decoded).boxed()
    }
}
