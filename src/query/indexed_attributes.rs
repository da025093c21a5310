//! The table of indexed attributes: their levels, and when results contain them (PS3.18 §10.6.3.3, PS3.4
//! §C.6.1.1).
//!
//! The matching rule of an attribute follows from its value representation (see [`super::matching`]).

use std::sync::LazyLock;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::dictionary;
use crate::dicom::tags;
use crate::query::Level;

/// Pairs of a date attribute and the attribute of its time (PS3.4 §C.2.2.2.5).
pub const DATE_AND_TIME: &[(Tag, Tag)] = &[
    (tags::INSTANCE_CREATION_DATE, tags::INSTANCE_CREATION_TIME),
    (tags::STUDY_DATE, tags::STUDY_TIME),
    (tags::SERIES_DATE, tags::SERIES_TIME),
    (tags::ACQUISITION_DATE, tags::ACQUISITION_TIME),
    (tags::CONTENT_DATE, tags::CONTENT_TIME),
    (tags::PATIENT_BIRTH_DATE, tags::PATIENT_BIRTH_TIME),
    (tags::PERFORMED_PROCEDURE_STEP_START_DATE, tags::PERFORMED_PROCEDURE_STEP_START_TIME),
];

/// The condition under which the results of its level contain an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// Always; empty if it has no value (a required key, type R).
    Always,
    /// If the record has the attribute.
    IfPresent,
    /// If the record has the attribute and the query requests it.
    OnRequest,
}

/// The origin of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The value was sent in the instances.
    Sent,
    /// The index computes the value: counts, lists of modalities and SOP classes, availability.
    Computed,
}

/// An indexed attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedAttribute {
    /// The tag of the attribute.
    pub tag: Tag,
    /// The level of the attribute; patient attributes are at the study level.
    pub level: Level,
    /// The condition under which results contain the attribute.
    pub returned: Returned,
    /// The origin of the value.
    pub origin: Origin,
}

const fn sent(tag: Tag, level: Level, returned: Returned) -> IndexedAttribute {
    IndexedAttribute { tag, level, returned, origin: Origin::Sent }
}

const fn computed(tag: Tag, level: Level, returned: Returned) -> IndexedAttribute {
    IndexedAttribute { tag, level, returned, origin: Origin::Computed }
}

use Level::{Instance, Series, Study};
use Returned::{Always, IfPresent, OnRequest};

/// The table of indexed attributes. Specific Character Set is left out: the protocol layers set that of a
/// response.
const TABLE: &[IndexedAttribute] = &[
    sent(tags::IMAGE_TYPE, Instance, OnRequest),
    sent(tags::INSTANCE_CREATION_DATE, Instance, OnRequest),
    sent(tags::INSTANCE_CREATION_TIME, Instance, OnRequest),
    sent(tags::SOP_CLASS_UID, Instance, IfPresent),
    sent(tags::SOP_INSTANCE_UID, Instance, IfPresent),
    sent(tags::STUDY_DATE, Study, Always),
    sent(tags::SERIES_DATE, Series, OnRequest),
    sent(tags::ACQUISITION_DATE, Instance, OnRequest),
    sent(tags::CONTENT_DATE, Instance, OnRequest),
    sent(tags::ACQUISITION_DATE_TIME, Instance, OnRequest),
    sent(tags::STUDY_TIME, Study, Always),
    sent(tags::SERIES_TIME, Series, OnRequest),
    sent(tags::ACQUISITION_TIME, Instance, OnRequest),
    sent(tags::CONTENT_TIME, Instance, OnRequest),
    sent(tags::ACCESSION_NUMBER, Study, Always),
    sent(tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE, Study, OnRequest),
    computed(tags::INSTANCE_AVAILABILITY, Study, IfPresent),
    sent(tags::MODALITY, Series, Always),
    computed(tags::MODALITIES_IN_STUDY, Study, IfPresent),
    computed(tags::SOP_CLASSES_IN_STUDY, Study, OnRequest),
    sent(tags::CONVERSION_TYPE, Series, OnRequest),
    sent(tags::PRESENTATION_INTENT_TYPE, Series, OnRequest),
    sent(tags::MANUFACTURER, Series, OnRequest),
    sent(tags::INSTITUTION_NAME, Series, OnRequest),
    sent(tags::REFERRING_PHYSICIAN_NAME, Study, Always),
    sent(tags::TIMEZONE_OFFSET_FROM_UTC, Study, IfPresent),
    sent(tags::STATION_NAME, Series, OnRequest),
    sent(tags::STUDY_DESCRIPTION, Study, IfPresent),
    sent(tags::PROCEDURE_CODE_SEQUENCE, Study, OnRequest),
    sent(tags::SERIES_DESCRIPTION, Series, IfPresent),
    sent(tags::INSTITUTIONAL_DEPARTMENT_NAME, Series, OnRequest),
    sent(tags::PHYSICIANS_OF_RECORD, Study, OnRequest),
    sent(tags::PERFORMING_PHYSICIAN_NAME, Series, OnRequest),
    sent(tags::NAME_OF_PHYSICIANS_READING_STUDY, Study, OnRequest),
    sent(tags::OPERATORS_NAME, Series, OnRequest),
    sent(tags::ADMITTING_DIAGNOSES_DESCRIPTION, Study, OnRequest),
    sent(tags::MANUFACTURER_MODEL_NAME, Series, OnRequest),
    computed(tags::AVAILABLE_TRANSFER_SYNTAX_UID, Instance, IfPresent),
    sent(tags::PATIENT_NAME, Study, Always),
    sent(tags::PATIENT_ID, Study, Always),
    sent(tags::ISSUER_OF_PATIENT_ID, Study, OnRequest),
    sent(tags::PATIENT_BIRTH_DATE, Study, Always),
    sent(tags::PATIENT_BIRTH_TIME, Study, OnRequest),
    sent(tags::PATIENT_SEX, Study, Always),
    sent(tags::OTHER_PATIENT_IDS, Study, OnRequest),
    sent(tags::OTHER_PATIENT_NAMES, Study, OnRequest),
    sent(tags::OTHER_PATIENT_IDS_SEQUENCE, Study, OnRequest),
    sent(tags::PATIENT_AGE, Study, OnRequest),
    sent(tags::PATIENT_SIZE, Study, OnRequest),
    sent(tags::PATIENT_WEIGHT, Study, OnRequest),
    sent(tags::ETHNIC_GROUP, Study, OnRequest),
    sent(tags::OCCUPATION, Study, OnRequest),
    sent(tags::ADDITIONAL_PATIENT_HISTORY, Study, OnRequest),
    sent(tags::PATIENT_COMMENTS, Study, OnRequest),
    sent(tags::CONTRAST_BOLUS_AGENT, Series, OnRequest),
    sent(tags::BODY_PART_EXAMINED, Series, OnRequest),
    sent(tags::SLICE_THICKNESS, Instance, OnRequest),
    sent(tags::KVP, Instance, OnRequest),
    sent(tags::SPACING_BETWEEN_SLICES, Instance, OnRequest),
    sent(tags::DEVICE_SERIAL_NUMBER, Series, OnRequest),
    sent(tags::SOFTWARE_VERSIONS, Series, OnRequest),
    sent(tags::PROTOCOL_NAME, Series, OnRequest),
    sent(tags::IMAGER_PIXEL_SPACING, Instance, OnRequest),
    sent(tags::PATIENT_POSITION, Series, OnRequest),
    sent(tags::VIEW_POSITION, Instance, OnRequest),
    sent(tags::STUDY_INSTANCE_UID, Study, Always),
    sent(tags::SERIES_INSTANCE_UID, Series, Always),
    sent(tags::STUDY_ID, Study, Always),
    sent(tags::SERIES_NUMBER, Series, Always),
    sent(tags::ACQUISITION_NUMBER, Instance, OnRequest),
    sent(tags::INSTANCE_NUMBER, Instance, IfPresent),
    sent(tags::PATIENT_ORIENTATION, Instance, OnRequest),
    sent(tags::IMAGE_POSITION_PATIENT, Instance, OnRequest),
    sent(tags::IMAGE_ORIENTATION_PATIENT, Instance, OnRequest),
    sent(tags::FRAME_OF_REFERENCE_UID, Series, OnRequest),
    sent(tags::LATERALITY, Series, OnRequest),
    sent(tags::IMAGE_LATERALITY, Instance, OnRequest),
    sent(tags::TEMPORAL_POSITION_IDENTIFIER, Instance, OnRequest),
    sent(tags::SLICE_LOCATION, Instance, OnRequest),
    computed(tags::NUMBER_OF_STUDY_RELATED_SERIES, Study, Always),
    computed(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, Study, Always),
    computed(tags::NUMBER_OF_SERIES_RELATED_INSTANCES, Series, Always),
    sent(tags::IMAGE_COMMENTS, Instance, OnRequest),
    sent(tags::SAMPLES_PER_PIXEL, Instance, OnRequest),
    sent(tags::PHOTOMETRIC_INTERPRETATION, Instance, OnRequest),
    sent(tags::NUMBER_OF_FRAMES, Instance, IfPresent),
    sent(tags::ROWS, Instance, IfPresent),
    sent(tags::COLUMNS, Instance, IfPresent),
    sent(tags::PIXEL_SPACING, Instance, OnRequest),
    sent(tags::BITS_ALLOCATED, Instance, IfPresent),
    sent(tags::BITS_STORED, Instance, OnRequest),
    sent(tags::PIXEL_REPRESENTATION, Instance, OnRequest),
    sent(tags::BURNED_IN_ANNOTATION, Instance, OnRequest),
    sent(tags::WINDOW_CENTER, Instance, OnRequest),
    sent(tags::WINDOW_WIDTH, Instance, OnRequest),
    sent(tags::RESCALE_INTERCEPT, Instance, OnRequest),
    sent(tags::RESCALE_SLOPE, Instance, OnRequest),
    sent(tags::RESCALE_TYPE, Instance, OnRequest),
    sent(tags::VOILUT_FUNCTION, Instance, OnRequest),
    sent(tags::REQUESTED_PROCEDURE_DESCRIPTION, Study, OnRequest),
    sent(tags::PERFORMED_PROCEDURE_STEP_START_DATE, Series, IfPresent),
    sent(tags::PERFORMED_PROCEDURE_STEP_START_TIME, Series, IfPresent),
    sent(tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION, Series, OnRequest),
    sent(tags::REQUEST_ATTRIBUTES_SEQUENCE, Series, IfPresent),
    sent(tags::CONCEPT_NAME_CODE_SEQUENCE, Instance, OnRequest),
    sent(tags::COMPLETION_FLAG, Instance, OnRequest),
    sent(tags::VERIFICATION_FLAG, Instance, OnRequest),
    sent(tags::DOCUMENT_TITLE, Instance, OnRequest),
    sent(tags::PRESENTATION_LUT_SHAPE, Instance, OnRequest),
    sent(tags::CONTENT_LABEL, Instance, OnRequest),
    sent(tags::CONTENT_DESCRIPTION, Instance, OnRequest),
];

/// All indexed attributes, in ascending order of tags.
pub fn all() -> &'static [IndexedAttribute] {
    static SORTED: LazyLock<Vec<IndexedAttribute>> = LazyLock::new(|| {
        let mut entries = TABLE.to_vec();
        entries.sort_by_key(|entry| entry.tag);
        entries
    });
    &SORTED
}

/// The entry of an attribute in the table; `None` if the attribute is not indexed.
pub fn entry(tag: Tag) -> Option<&'static IndexedAttribute> {
    let entries = all();
    let index = entries.binary_search_by_key(&tag, |entry| entry.tag).ok()?;
    Some(&entries[index])
}

/// The tags that [`crate::dicom::instance`] reads for the index, in ascending order.
pub fn indexed_tags() -> &'static [Tag] {
    static TAGS: LazyLock<Vec<Tag>> = LazyLock::new(|| {
        all().iter().filter(|entry| entry.origin == Origin::Sent).map(|entry| entry.tag).collect()
    });
    &TAGS
}

/// The value representation of an attribute by the dictionary (PS3.6 §6); UN if it is private or unknown.
pub fn vr(tag: Tag) -> Vr {
    dictionary::vr(tag, false)
}

/// Parses the name of an attribute: a keyword of PS3.6, or its tag as `ggggeeee` in hexadecimal digits of
/// either case.
pub fn tag(name: &str) -> Option<Tag> {
    name.parse().ok().or_else(|| dictionary::tag_by_keyword(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attribute_is_in_the_table_twice_and_all_are_in_the_dictionary() {
        for pair in all().windows(2) {
            assert!(pair[0].tag < pair[1].tag, "{:?}", pair[0].tag);
        }
        for entry in all() {
            assert_ne!(vr(entry.tag), Vr(*b"UN"), "{:?}", entry.tag);
        }
    }

    #[test]
    fn names_are_keywords_or_tags_of_either_case() {
        for (name, expected) in [
            ("PatientName", Some(tags::PATIENT_NAME)),
            ("00100010", Some(tags::PATIENT_NAME)),
            ("0020000d", Some(tags::STUDY_INSTANCE_UID)),
            ("PatientNmae", None),
            ("0010001", None),
            ("", None),
        ] {
            assert_eq!(tag(name), expected, "{name}");
        }
    }
}
