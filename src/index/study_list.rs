//! The list of a tenant's studies in memory: the sort keys of the list in the table, with the forms that
//! names are matched in. A search for a part of a name or a number walks through it instead of the table.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering as MemoryOrdering};
use std::sync::{PoisonError, RwLock};

use crate::dicom::uid::StudyUid;
use crate::index::listing;
use crate::query::matching::NameForms;
use crate::table::Range;

/// The bytes of a study in memory besides its texts.
const STUDY_BYTES: usize = size_of::<ListedStudy>() + 32;

/// A study in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedStudy {
    /// The sort key; see [`listing`].
    sort: Box<str>,
    /// The forms of the patient name in the sort key.
    name: Option<NameForms>,
}

impl ListedStudy {
    /// The study of a sort key.
    pub(crate) fn new(sort: String) -> Self {
        let name = listing::name_forms(&sort);
        Self { sort: sort.into(), name }
    }

    /// The sort key.
    pub(crate) fn sort(&self) -> &str {
        &self.sort
    }

    /// The forms of the patient name; `None` without a name, or if the record must decide.
    pub(crate) fn name(&self) -> Option<&NameForms> {
        self.name.as_ref()
    }

    /// The bytes of the study in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        STUDY_BYTES + self.sort.len() + self.name.as_ref().map_or(0, NameForms::length_bytes)
    }

    fn order(&self) -> &str {
        listing::order(&self.sort)
    }

    fn uid(&self) -> &str {
        self.order().rsplit('#').next().unwrap_or_default()
    }
}

/// The studies of a tenant, as far as the list was brought up to date.
#[derive(Debug, Default)]
pub(crate) struct StudyList {
    /// In ascending order of sort keys.
    studies: RwLock<Vec<ListedStudy>>,
    bytes: AtomicUsize,
}

/// The end of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// The visitor has stopped.
    Stopped,
    /// There may be more studies in the range.
    More,
    /// All studies of the range were visited.
    End,
}

/// A study that has changed.
pub(crate) struct StudyChange {
    /// The UID.
    pub(crate) study: StudyUid,
    /// The study as it is; `None` if it does not exist any more.
    pub(crate) listed: Option<ListedStudy>,
    /// Whether the study was not in the list before.
    pub(crate) is_new: bool,
}

impl StudyList {
    /// The list of studies in ascending order of their sort keys.
    pub(crate) fn new(studies: Vec<ListedStudy>) -> Self {
        let bytes = studies.iter().map(ListedStudy::size_bytes).sum::<usize>().into();
        Self { studies: RwLock::new(studies), bytes }
    }

    /// The bytes of all studies in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.load(MemoryOrdering::Relaxed)
    }

    /// Visits studies of a range, the latest first, at most `most`, until `visit` returns false.
    pub(crate) fn visit(
        &self,
        range: &Range,
        most: usize,
        mut visit: impl FnMut(&ListedStudy) -> bool,
    ) -> Visit {
        let studies = self.studies.read().unwrap_or_else(PoisonError::into_inner);
        let from = match &range.from {
            Bound::Unbounded => 0,
            Bound::Included(from) => studies.partition_point(|study| study.sort() < from.as_str()),
            Bound::Excluded(from) => studies.partition_point(|study| study.sort() <= from.as_str()),
        };
        let to = match &range.to {
            Bound::Unbounded => studies.len(),
            Bound::Included(to) => studies.partition_point(|study| study.sort() <= to.as_str()),
            Bound::Excluded(to) => studies.partition_point(|study| study.sort() < to.as_str()),
        };
        let within = studies.get(from..to).unwrap_or_default();
        for study in within.iter().rev().take(most) {
            if !visit(study) {
                return Visit::Stopped;
            }
        }
        if within.len() > most { Visit::More } else { Visit::End }
    }

    /// Brings changed studies up to date.
    pub(crate) fn apply(&self, changes: Vec<StudyChange>) {
        let mut studies = self.studies.write().unwrap_or_else(PoisonError::into_inner);
        let (mut added, mut moved) = (Vec::new(), BTreeSet::new());
        for StudyChange { study, listed, is_new } in changes {
            let place = listed.as_ref().map(|listed| {
                studies.partition_point(|other| other.order().cmp(listed.order()) == Ordering::Less)
            });
            let known = place.and_then(|place| studies.get_mut(place));
            match (known, listed) {
                (Some(known), Some(listed)) if known.order() == listed.order() => *known = listed,
                (_, listed) => {
                    added.extend(listed);
                    if !is_new {
                        moved.insert(study);
                    }
                }
            }
        }
        if !moved.is_empty() {
            let moved: BTreeSet<&str> = moved.iter().map(StudyUid::as_str).collect();
            studies.retain(|study| !moved.contains(study.uid()));
        }
        if !added.is_empty() {
            studies.extend(added);
            studies.sort_by(|one, other| one.sort.cmp(&other.sort));
        }
        let bytes = studies.iter().map(ListedStudy::size_bytes).sum();
        self.bytes.store(bytes, MemoryOrdering::Relaxed);
    }
}
