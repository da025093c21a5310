//! Which attributes a result has (PS3.18 §10.6.3.3).

use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::query::attributes::{
    self, INSTANCE_AVAILABILITY, MODALITIES_IN_STUDY, Returned, SERIES_INSTANCE_UID, SOP_CLASSES_IN_STUDY,
    STUDY_INSTANCE_UID, TIMEZONE_OFFSET,
};
use crate::query::creators;
use crate::query::{Creators, Include, Level, Query};

/// Which attributes a query wants of each result.
#[derive(Debug, Clone)]
pub struct Wanted {
    level: Level,
    /// Levels whose attributes are returned as if results were of that level too.
    related: Vec<Level>,
    /// In ascending order: there may be many.
    asked: Vec<Tag>,
    has_not_indexed: bool,
    creators: Creators,
    is_all: bool,
}

impl Wanted {
    /// What a query wants: of all series, also their studies' attributes, and so on.
    pub fn of(query: &Query) -> Self {
        let mut related = vec![query.level];
        if query.level > Level::Study && query.study.is_none() {
            related.push(Level::Study);
        }
        if query.level > Level::Series && query.series.is_none() {
            related.push(Level::Series);
        }
        let mut asked: Vec<Tag> =
            query.conditions.iter().filter_map(|condition| condition.path.first().copied()).collect();
        if let Include::Some(tags) = &query.include {
            asked.extend(tags);
        }
        asked.sort_unstable();
        asked.dedup();
        let has_not_indexed = asked.iter().any(|tag| attributes::entry(*tag).is_none());
        let (creators, is_all) = (query.creators.clone(), query.include == Include::All);
        Self { level: query.level, related, asked, has_not_indexed, creators, is_all }
    }

    /// Whether attributes are asked for that the index does not keep.
    pub fn needs_metadata(&self) -> bool {
        self.has_not_indexed || (self.is_all && self.level == Level::Instance)
    }

    /// All attributes that a result may hold, those of `includefield=all` as far as the index keeps them.
    pub fn all(&self) -> Vec<Tag> {
        let kept = attributes::all().iter().map(|entry| entry.tag).filter(|tag| self.wants(*tag));
        let others = self.asked.iter().copied().filter(|tag| attributes::entry(*tag).is_none());
        kept.chain(others).collect()
    }

    /// The result of which `all` is known.
    pub fn pick(&self, mut all: Attributes) -> Attributes {
        // Private attributes may have another block here than in the query.
        let private = self.asked.iter().filter(|_| !self.creators.is_empty()).filter(|tag| tag.is_private());
        let placed = private.filter_map(|tag| creators::placed(*tag, &self.creators, &all));
        let placed: Vec<Tag> = placed.collect();
        let private: Attributes = placed.iter().filter_map(|tag| all.remove_entry(tag)).collect();
        let is_of_another = |tag: Tag| !self.is_all && creators::is_named(tag, &self.creators);
        all.retain(|tag, attribute| {
            self.wants(*tag)
                && !is_of_another(*tag)
                && (self.is_all || !attribute.values.is_empty() || self.is_asked(*tag))
        });
        for entry in attributes::all() {
            let is_required = entry.returned == Returned::Always && self.related.contains(&entry.level);
            if is_required
                || (self.is_asked(entry.tag) && entry.level == self.level && self.wants_empty(entry.tag))
            {
                all.entry(entry.tag)
                    .or_insert_with(|| Attribute { vr: attributes::vr(entry.tag), values: Vec::new() });
            }
        }
        all.extend(private);
        all
    }

    /// Whether an attribute that was asked for is returned without value where there is none.
    fn wants_empty(&self, tag: Tag) -> bool {
        self.level != Level::Instance && tag != MODALITIES_IN_STUDY && tag != SOP_CLASSES_IN_STUDY
    }

    fn is_asked(&self, tag: Tag) -> bool {
        self.asked.binary_search(&tag).is_ok()
    }

    /// Whether an attribute is part of the results, if it is there.
    pub fn wants(&self, tag: Tag) -> bool {
        // The address of a result is made of these.
        if tag == STUDY_INSTANCE_UID || (tag == SERIES_INSTANCE_UID && self.level > Level::Study) {
            return true;
        }
        // Studies and instances have it (Tables 10.6.3-3, 10.6.3-5), series do not.
        if tag == INSTANCE_AVAILABILITY {
            return self.level == Level::Instance || self.related.contains(&Level::Study);
        }
        // What was sent once with a study is true of all that is in it (Tables 10.6.3-4, 10.6.3-5).
        if tag == TIMEZONE_OFFSET {
            return true;
        }
        let Some(entry) = attributes::entry(tag) else {
            return self.is_asked(tag) || (self.is_all && self.level == Level::Instance);
        };
        let is_default = entry.returned != Returned::OnRequest || (self.is_all && entry.level == self.level);
        (is_default && self.related.contains(&entry.level))
            || (entry.level <= self.level && self.is_asked(tag))
    }
}
