//! The conditions of a query, grouped by the record that they are matched against.

use std::sync::Arc;

use crate::dicom::attributes::Tag;
use crate::dicom::tags;
use crate::query::indexed_attributes;
use crate::query::{Condition, Level, Query};

/// The conditions of a query by the level of the record that has the attribute.
#[derive(Default)]
pub(crate) struct Conditions {
    pub(crate) study: Vec<Condition>,
    pub(crate) series: Vec<Condition>,
    pub(crate) instance: Vec<Condition>,
    /// The conditions on attributes that are not indexed; they are matched against the metadata of instances.
    pub(crate) metadata: Arc<Vec<Condition>>,
    /// Conditions that are not matched, as text for the client.
    pub(crate) warnings: Vec<String>,
}

impl Conditions {
    /// Groups the conditions of a query.
    pub(crate) fn new(query: &Query) -> Self {
        let mut sorted = Self::default();
        let mut metadata = Vec::new();
        for condition in query.conditions.iter().filter(|condition| !condition.matcher.is_universal()) {
            let mut condition = condition.clone();
            let tag = condition.tag;
            // In a search for studies, viewers send Modality and mean Modalities in Study; the same for SOP
            // classes.
            if query.level == Level::Study {
                if tag == tags::MODALITY {
                    condition.tag = tags::MODALITIES_IN_STUDY;
                } else if tag == tags::SOP_CLASS_UID {
                    condition.tag = tags::SOP_CLASSES_IN_STUDY;
                }
            }
            match indexed_attributes::entry(condition.tag).map(|entry| entry.level) {
                Some(_) if query.level == Level::Series && condition.tag == tags::SOP_CLASS_UID => {
                    sorted.instance.push(condition);
                }
                Some(level) if level > query.level => sorted.ignore(tag),
                Some(Level::Study) => sorted.study.push(condition),
                Some(Level::Series) => sorted.series.push(condition),
                Some(Level::Instance) => sorted.instance.push(condition),
                None => metadata.push(condition),
            }
        }
        sorted.metadata = Arc::new(metadata);
        sorted
    }

    /// Adds a warning for a condition on an attribute below the level of the query.
    fn ignore(&mut self, tag: Tag) {
        self.warnings.push(format!("{tag} is not matched at this level; it was ignored"));
    }
}
