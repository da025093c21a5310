//! The attributes of a result (PS3.18 §10.6.3.3).

use std::collections::BTreeMap;

use crate::dicom::attributes::{Attribute, Attributes, Value, Vr};
use crate::dicom::tags;
use crate::dicom::transfer_syntax::of_web_services;
use crate::index::records::{SeriesRecord, StudyRecord};

/// The attributes of a study, sent and computed.
pub(crate) fn of_study(record: &StudyRecord) -> Attributes {
    let mut all = record.attributes.clone();
    all.insert(tags::STUDY_INSTANCE_UID, Attribute::text(b"UI", record.study.as_str()));
    all.insert(tags::INSTANCE_AVAILABILITY, Attribute::text(b"CS", "ONLINE"));
    all.insert(tags::NUMBER_OF_STUDY_RELATED_SERIES, Attribute::number(b"IS", record.number_of_series));
    all.insert(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, Attribute::number(b"IS", record.number_of_instances));
    // Left out if empty: a viewer fails on these attributes without value.
    if !record.modalities.is_empty() {
        all.insert(tags::MODALITIES_IN_STUDY, keys_of(b"CS", &record.modalities));
    }
    if !record.sop_classes.is_empty() {
        all.insert(tags::SOP_CLASSES_IN_STUDY, keys_of(b"UI", &record.sop_classes));
    }
    all
}

/// The attributes of a series, sent and computed.
pub(crate) fn of_series(record: &SeriesRecord) -> Attributes {
    let mut all = record.attributes.clone();
    all.insert(tags::STUDY_INSTANCE_UID, Attribute::text(b"UI", record.study.as_str()));
    all.insert(tags::SERIES_INSTANCE_UID, Attribute::text(b"UI", record.series.as_str()));
    all.insert(
        tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
        Attribute::number(b"IS", record.number_of_instances),
    );
    all
}

/// Adds the computed attributes of an instance to those that were sent.
pub(crate) fn add_computed(all: &mut Attributes, transfer_syntax: &str) {
    all.insert(tags::INSTANCE_AVAILABILITY, Attribute::text(b"CS", "ONLINE"));
    all.insert(tags::AVAILABLE_TRANSFER_SYNTAX_UID, Attribute::text(b"UI", of_web_services(transfer_syntax)));
}

fn keys_of(vr: &[u8; 2], counts: &BTreeMap<String, u64>) -> Attribute {
    Attribute { vr: Vr(*vr), values: counts.keys().cloned().map(Value::Text).collect() }
}
