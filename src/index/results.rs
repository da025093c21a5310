//! The attributes of a result (PS3.18 §10.6.3.3).

use std::collections::BTreeMap;

use crate::dicom::attributes::{Attribute, Attributes, Value, Vr};
use crate::index::records::{SeriesRecord, StudyRecord};
use crate::query::attributes::{
    AVAILABLE_TRANSFER_SYNTAX, INSTANCE_AVAILABILITY, MODALITIES_IN_STUDY, NUMBER_OF_SERIES_INSTANCES,
    NUMBER_OF_STUDY_INSTANCES, NUMBER_OF_STUDY_SERIES, SERIES_INSTANCE_UID, SOP_CLASSES_IN_STUDY,
    STUDY_INSTANCE_UID,
};

/// The attributes of a study, sent and computed.
pub(crate) fn of_study(record: &StudyRecord) -> Attributes {
    let mut all = record.attributes.clone();
    all.insert(STUDY_INSTANCE_UID, Attribute::text(b"UI", record.study.as_str()));
    all.insert(INSTANCE_AVAILABILITY, Attribute::text(b"CS", "ONLINE"));
    all.insert(NUMBER_OF_STUDY_SERIES, Attribute::number(b"IS", record.number_of_series));
    all.insert(NUMBER_OF_STUDY_INSTANCES, Attribute::number(b"IS", record.number_of_instances));
    // Left out if empty: a viewer fails on these attributes without value.
    if !record.modalities.is_empty() {
        all.insert(MODALITIES_IN_STUDY, keys_of(b"CS", &record.modalities));
    }
    if !record.sop_classes.is_empty() {
        all.insert(SOP_CLASSES_IN_STUDY, keys_of(b"UI", &record.sop_classes));
    }
    all
}

/// The attributes of a series, sent and computed.
pub(crate) fn of_series(record: &SeriesRecord) -> Attributes {
    let mut all = record.attributes.clone();
    all.insert(STUDY_INSTANCE_UID, Attribute::text(b"UI", record.study.as_str()));
    all.insert(SERIES_INSTANCE_UID, Attribute::text(b"UI", record.series.as_str()));
    all.insert(NUMBER_OF_SERIES_INSTANCES, Attribute::number(b"IS", record.number_of_instances));
    all
}

/// Adds the computed attributes of an instance to those that were sent.
pub(crate) fn add_computed(all: &mut Attributes, transfer_syntax: &str) {
    all.insert(INSTANCE_AVAILABILITY, Attribute::text(b"CS", "ONLINE"));
    all.insert(AVAILABLE_TRANSFER_SYNTAX, Attribute::text(b"UI", transfer_syntax));
}

fn keys_of(vr: &[u8; 2], counts: &BTreeMap<String, u64>) -> Attribute {
    Attribute { vr: Vr(*vr), values: counts.keys().cloned().map(Value::Text).collect() }
}
