//! The attributes that a result has (PS3.18 §10.6.3.3).

use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::dicom::tags;
use crate::query::indexed_attributes::{self, Returned};
use crate::query::private_creators;
use crate::query::{Creators, Include, Level, Query};

/// The attributes that a query returns for each result.
#[derive(Debug, Clone)]
pub struct ReturnAttributes {
    level: Level,
    /// Levels whose attributes are returned as if results were of that level too.
    related: Vec<Level>,
    /// The attributes that the query names, in ascending order for binary search.
    requested: Vec<Tag>,
    /// Whether some of the requested attributes are not indexed.
    has_unindexed: bool,
    creators: Creators,
    is_all: bool,
}

impl ReturnAttributes {
    /// Reads the return attributes of a query. A search for series or instances that names no study also
    /// returns the attributes of the study; one for instances that names no series, those of the series.
    pub fn of(query: &Query) -> Self {
        let mut related = vec![query.level];
        if query.level > Level::Study && query.study.is_none() {
            related.push(Level::Study);
        }
        if query.level > Level::Series && query.series.is_none() {
            related.push(Level::Series);
        }
        let mut requested: Vec<Tag> = query.conditions.iter().map(|condition| condition.tag).collect();
        if let Include::Some(tags) = &query.include {
            requested.extend(tags);
        }
        requested.sort_unstable();
        requested.dedup();
        let has_unindexed = requested.iter().any(|tag| indexed_attributes::entry(*tag).is_none());
        let (creators, is_all) = (query.creators.clone(), query.include == Include::All);
        Self { level: query.level, related, requested, has_unindexed, creators, is_all }
    }

    /// Whether attributes are requested that are not indexed, so that the metadata of an instance must be
    /// read.
    pub fn needs_metadata(&self) -> bool {
        self.has_unindexed || (self.is_all && self.level == Level::Instance)
    }

    /// All attributes that a result may have; of `includefield=all`, only the indexed ones.
    pub fn all(&self) -> Vec<Tag> {
        let indexed =
            indexed_attributes::all().iter().map(|entry| entry.tag).filter(|tag| self.contains(*tag));
        let others = self.requested.iter().copied().filter(|tag| indexed_attributes::entry(*tag).is_none());
        indexed.chain(others).collect()
    }

    /// Makes a result from all attributes of a match.
    pub fn select(&self, mut all: Attributes) -> Attributes {
        // The creators of private attributes may have another block in the data set than in the query.
        let private =
            self.requested.iter().filter(|_| !self.creators.is_empty()).filter(|tag| tag.is_private());
        let translated =
            private.filter_map(|tag| private_creators::tag_in_data_set(*tag, &self.creators, &all));
        let translated: Vec<Tag> = translated.collect();
        let private: Attributes = translated.iter().filter_map(|tag| all.remove_entry(tag)).collect();
        let is_of_other_creator = |tag: Tag| !self.is_all && private_creators::is_named(tag, &self.creators);
        all.retain(|tag, attribute| {
            self.contains(*tag)
                && !is_of_other_creator(*tag)
                && (self.is_all || !attribute.values.is_empty() || self.is_requested(*tag))
        });
        for entry in indexed_attributes::all() {
            let is_required = entry.returned == Returned::Always && self.related.contains(&entry.level);
            if is_required
                || (self.is_requested(entry.tag)
                    && entry.level == self.level
                    && self.is_returned_empty(entry.tag))
            {
                all.entry(entry.tag).or_insert_with(|| Attribute {
                    vr: indexed_attributes::vr(entry.tag),
                    values: Vec::new(),
                });
            }
        }
        all.extend(private);
        all
    }

    /// Whether a requested attribute without value is returned as empty.
    fn is_returned_empty(&self, tag: Tag) -> bool {
        self.level != Level::Instance && tag != tags::MODALITIES_IN_STUDY && tag != tags::SOP_CLASSES_IN_STUDY
    }

    fn is_requested(&self, tag: Tag) -> bool {
        self.requested.binary_search(&tag).is_ok()
    }

    /// Whether an attribute is part of the results, if the match has it.
    pub fn contains(&self, tag: Tag) -> bool {
        // The Retrieve URL of a result is built from these.
        if tag == tags::STUDY_INSTANCE_UID || (tag == tags::SERIES_INSTANCE_UID && self.level > Level::Study)
        {
            return true;
        }
        // Results for studies and instances have this attribute (Tables 10.6.3-3, 10.6.3-5), those for series
        // do not.
        if tag == tags::INSTANCE_AVAILABILITY {
            return self.level == Level::Instance || self.related.contains(&Level::Study);
        }
        // The time zone of a study applies to its series and instances (Tables 10.6.3-4, 10.6.3-5).
        if tag == tags::TIMEZONE_OFFSET_FROM_UTC {
            return true;
        }
        let Some(entry) = indexed_attributes::entry(tag) else {
            return self.is_requested(tag) || (self.is_all && self.level == Level::Instance);
        };
        let is_default = entry.returned != Returned::OnRequest || (self.is_all && entry.level == self.level);
        (is_default && self.related.contains(&entry.level))
            || (entry.level <= self.level && self.is_requested(tag))
    }
}
