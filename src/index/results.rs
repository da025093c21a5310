//! The attributes of a result (PS3.18 §10.6.3.3).

use std::collections::BTreeMap;

use crate::dicom::attributes::{Attribute, Attributes, Tag, Value, Vr};
use crate::index::records::{SeriesRecord, StudyRecord};
use crate::query::attributes::{
    self, AVAILABLE_TRANSFER_SYNTAX, INSTANCE_AVAILABILITY, MODALITIES_IN_STUDY, NUMBER_OF_SERIES_INSTANCES,
    NUMBER_OF_STUDY_INSTANCES, NUMBER_OF_STUDY_SERIES, Returned, SERIES_INSTANCE_UID, SOP_CLASSES_IN_STUDY,
    STUDY_INSTANCE_UID,
};
use crate::query::{Include, Level, Query};

/// A study's attributes, sent and computed.
pub(crate) fn of_study(record: &StudyRecord) -> Attributes {
    let mut all = record.attributes.clone();
    all.insert(STUDY_INSTANCE_UID, Attribute::text(b"UI", record.study.as_str()));
    all.insert(INSTANCE_AVAILABILITY, Attribute::text(b"CS", "ONLINE"));
    all.insert(NUMBER_OF_STUDY_SERIES, Attribute::number(b"IS", record.number_of_series));
    all.insert(NUMBER_OF_STUDY_INSTANCES, Attribute::number(b"IS", record.number_of_instances));
    // A viewer falls over these where they are present without value.
    if !record.modalities.is_empty() {
        all.insert(MODALITIES_IN_STUDY, keys_of(b"CS", &record.modalities));
    }
    if !record.sop_classes.is_empty() {
        all.insert(SOP_CLASSES_IN_STUDY, keys_of(b"UI", &record.sop_classes));
    }
    all
}

/// A series' attributes, sent and computed.
pub(crate) fn of_series(record: &SeriesRecord) -> Attributes {
    let mut all = record.attributes.clone();
    all.insert(STUDY_INSTANCE_UID, Attribute::text(b"UI", record.study.as_str()));
    all.insert(SERIES_INSTANCE_UID, Attribute::text(b"UI", record.series.as_str()));
    all.insert(NUMBER_OF_SERIES_INSTANCES, Attribute::number(b"IS", record.number_of_instances));
    all
}

/// Adds what the index knows of an instance to its attributes.
pub(crate) fn add_computed(all: &mut Attributes, transfer_syntax: &str) {
    all.insert(INSTANCE_AVAILABILITY, Attribute::text(b"CS", "ONLINE"));
    all.insert(AVAILABLE_TRANSFER_SYNTAX, Attribute::text(b"UI", transfer_syntax));
}

fn keys_of(vr: &[u8; 2], counts: &BTreeMap<String, u64>) -> Attribute {
    Attribute { vr: Vr(*vr), values: counts.keys().cloned().map(Value::Text).collect() }
}

/// Which attributes a query wants of each result.
pub(crate) struct Wanted {
    level: Level,
    /// Levels whose attributes are returned as if results were of that level too.
    related: Vec<Level>,
    asked: Vec<Tag>,
    is_all: bool,
}

impl Wanted {
    /// What a query wants: of all series, also their studies' attributes, and so on.
    pub(crate) fn of(query: &Query) -> Self {
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
        Self { level: query.level, related, asked, is_all: query.include == Include::All }
    }

    /// Attributes asked for that the index does not keep.
    pub(crate) fn not_indexed(&self) -> impl Iterator<Item = Tag> {
        self.asked.iter().copied().filter(|tag| attributes::entry(*tag).is_none())
    }

    /// Whether all that is known is asked for.
    pub(crate) fn is_all(&self) -> bool {
        self.is_all
    }

    /// The result of which `all` is known.
    pub(crate) fn pick(&self, mut all: Attributes) -> Attributes {
        all.retain(|tag, attribute| {
            self.wants(*tag) && (self.is_all || !attribute.values.is_empty() || self.is_asked(*tag))
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
        all
    }

    /// Whether an attribute that was asked for is returned without value where there is none.
    fn wants_empty(&self, tag: Tag) -> bool {
        self.level != Level::Instance && tag != MODALITIES_IN_STUDY && tag != SOP_CLASSES_IN_STUDY
    }

    fn is_asked(&self, tag: Tag) -> bool {
        self.asked.contains(&tag)
    }

    /// Whether an attribute is part of the results, if it is there.
    pub(crate) fn wants(&self, tag: Tag) -> bool {
        // The address of a result is made of these.
        if tag == STUDY_INSTANCE_UID || (tag == SERIES_INSTANCE_UID && self.level > Level::Study) {
            return true;
        }
        if tag == INSTANCE_AVAILABILITY {
            return self.level != Level::Series;
        }
        let Some(entry) = attributes::entry(tag) else {
            return self.level == Level::Instance && (self.is_all || self.is_asked(tag));
        };
        let is_default = entry.returned != Returned::OnRequest || (self.is_all && entry.level == self.level);
        (is_default && self.related.contains(&entry.level))
            || (entry.level <= self.level && self.is_asked(tag))
    }
}
