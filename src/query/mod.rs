//! Queries and their matching rules, for QIDO-RS, C-FIND and the index (PS3.4 §C.2.2.2, PS3.18 §8.3.4).

use serde::{Deserialize, Serialize};

use crate::dicom::attributes::Tag;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

mod hangul;
pub mod indexed_attributes;
mod lengths;
pub mod matching;
mod names;
pub mod order;
pub mod parameters;
pub mod private_creators;
pub mod return_attributes;
pub mod temporal;
pub mod text;

/// The level of a query: what its results are (PS3.4 §C.6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Studies.
    Study,
    /// Series.
    Series,
    /// Instances.
    Instance,
}

/// A validated and normalised query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The level of the results.
    pub level: Level,
    /// Returns only results within this study.
    pub study: Option<StudyUid>,
    /// Returns only results within this series.
    pub series: Option<SeriesUid>,
    /// The matching keys; a result matches all of them.
    pub conditions: Vec<Condition>,
    /// Attributes to return besides those of the level.
    pub include: Include,
    /// The creators of the private blocks of tags in conditions and in [`Include`].
    pub creators: Creators,
    /// The attributes to order results by; results with equal values keep the default order.
    pub order: Vec<order::OrderAttribute>,
    /// The maximum number of results.
    pub limit: usize,
    /// The number of results to skip.
    pub offset: usize,
    /// The times, in microseconds since 1970 UTC, at which the last instance of the study of a result
    /// arrived.
    pub arrived: Option<temporal::Span<i64>>,
    /// The place after which the results begin, in the default order.
    pub after: Option<ResultPlace>,
    /// The shortened names of unknown parameters; only the first few if there are many.
    pub ignored: Vec<String>,
}

impl Query {
    /// The number of matches up to the end of the requested page: the offset plus the limit.
    pub fn end_of_page(&self) -> usize {
        self.offset.saturating_add(self.limit)
    }
}

/// A place in the default order of all results, from which a search can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultPlace {
    /// The place of a study in the order of studies.
    pub order: String,
    /// The last series of that study before the place; `None` if the place is after the study.
    pub series: Option<SeriesUid>,
    /// The last instance of that series before the place; `None` if the place is after the series.
    pub instance: Option<InstanceUid>,
    /// The number of results before the place, as counted when it was reached.
    pub number: usize,
}

/// A matching key (PS3.4 §C.2.2.2).
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The tag of the attribute, in the data set or in the item that the condition is about.
    pub tag: Tag,
    /// The rule that the value of the attribute must meet.
    pub matcher: matching::Matcher,
    /// The creators of the private blocks of the query.
    pub creators: Creators,
    /// The offset from UTC, in minutes, of dates and times in the matcher; `None` to compare without time
    /// zones.
    pub timezone: Option<i32>,
}

/// Private creators, each with the tag under which a query reserves a block for the creator.
pub type Creators = Vec<(Tag, String)>;

/// The attributes to return besides those that the level returns by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Include {
    /// The named attributes.
    Some(Vec<Tag>),
    /// All attributes (`includefield=all`).
    All,
}

/// The outcome of a search, without the results, which the search returns one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchSummary {
    /// The number of results.
    pub count: usize,
    /// Whether there are more results after the last returned one.
    pub has_more: bool,
    /// The number of results that were skipped for the offset.
    pub skipped: usize,
    /// The place from which the search can go on, if it did not come to its end.
    pub next: Option<ResultPlace>,
    /// Deviations from the query, as text for the client.
    pub warnings: Vec<String>,
}
