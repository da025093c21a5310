//! What a query is and what matches it: for QIDO-RS, C-FIND and every index (PS3.4 §C.2.2.2, PS3.18 §8.3.4).

use crate::dicom::attributes::Tag;
use crate::dicom::uid::{SeriesUid, StudyUid};

pub mod attributes;
pub mod creators;
pub mod matching;
mod names;
pub mod order;
pub mod parameters;
pub mod temporal;
pub mod text;
pub mod wanted;

/// What the results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Studies.
    Study,
    /// Series.
    Series,
    /// Instances.
    Instance,
}

/// A query, checked and normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What the results are.
    pub level: Level,
    /// Only within this study.
    pub study: Option<StudyUid>,
    /// Only within this series.
    pub series: Option<SeriesUid>,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// Attributes to return besides those of the level.
    pub include: Include,
    /// The creators of the private blocks that the tags of conditions and of [`Include`] name.
    pub creators: Creators,
    /// By what the results are ordered, before the order that they have anyway.
    pub order: Vec<order::Key>,
    /// Results at the most.
    pub limit: usize,
    /// Results to leave out before the first.
    pub offset: usize,
    /// Parameters that are not known, by their shortened names: some of them, if there are many.
    pub ignored: Vec<String>,
}

/// One matching key.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The attribute, or the path to it through sequences; at least one tag.
    pub path: Vec<Tag>,
    /// What its value must be.
    pub matcher: matching::Matcher,
    /// The creators of the private blocks that the path names.
    pub creators: Creators,
    /// The offset from UTC, in minutes, of dates and times in the matcher; `None` if they are matched as they stand.
    pub timezone: Option<i32>,
}

/// Private Creators by the tags under which a query reserves their blocks.
pub type Creators = Vec<(Tag, String)>;

/// Which attributes to return besides those that the level returns by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Include {
    /// These.
    Some(Vec<Tag>),
    /// All that are kept (`includefield=all`).
    All,
}

/// What a search found, besides the results, which were handed over one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How many results there were.
    pub count: usize,
    /// Whether there are more results after the last.
    pub has_more: bool,
    /// What could not be done as asked, in words for the client.
    pub warnings: Vec<String>,
}
