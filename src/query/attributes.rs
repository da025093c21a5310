//! The table of indexed attributes: their levels, and when results contain them (PS3.18 §10.6.3.3, PS3.4
//! §C.6.1.1).
//!
//! The matching rule of an attribute follows from its value representation (see [`super::matching`]).

use std::sync::LazyLock;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::dictionary;
use crate::query::Level;

/// SOP Class UID.
pub const SOP_CLASS_UID: Tag = Tag(0x0008_0016);
/// SOP Instance UID.
pub const SOP_INSTANCE_UID: Tag = Tag(0x0008_0018);
/// Study Date.
pub const STUDY_DATE: Tag = Tag(0x0008_0020);
/// Study Time.
pub const STUDY_TIME: Tag = Tag(0x0008_0030);
/// Accession Number.
pub const ACCESSION_NUMBER: Tag = Tag(0x0008_0050);
/// Instance Availability.
pub const INSTANCE_AVAILABILITY: Tag = Tag(0x0008_0056);
/// Modality.
pub const MODALITY: Tag = Tag(0x0008_0060);
/// Modalities in Study.
pub const MODALITIES_IN_STUDY: Tag = Tag(0x0008_0061);
/// SOP Classes in Study.
pub const SOP_CLASSES_IN_STUDY: Tag = Tag(0x0008_0062);
/// Timezone Offset From UTC.
pub const TIMEZONE_OFFSET: Tag = Tag(0x0008_0201);
/// Available Transfer Syntax UID.
pub const AVAILABLE_TRANSFER_SYNTAX: Tag = Tag(0x0008_3002);
/// Patient's Name.
pub const PATIENT_NAME: Tag = Tag(0x0010_0010);
/// Patient ID.
pub const PATIENT_ID: Tag = Tag(0x0010_0020);
/// Study Instance UID.
pub const STUDY_INSTANCE_UID: Tag = Tag(0x0020_000D);
/// Series Instance UID.
pub const SERIES_INSTANCE_UID: Tag = Tag(0x0020_000E);
/// Number of Study Related Series.
pub const NUMBER_OF_STUDY_SERIES: Tag = Tag(0x0020_1206);
/// Number of Study Related Instances.
pub const NUMBER_OF_STUDY_INSTANCES: Tag = Tag(0x0020_1208);
/// Number of Series Related Instances.
pub const NUMBER_OF_SERIES_INSTANCES: Tag = Tag(0x0020_1209);

/// Pairs of a date attribute and the attribute of its time (PS3.4 §C.2.2.2.5).
pub const DATE_AND_TIME: &[(Tag, Tag)] = &[
    (Tag(0x0008_0012), Tag(0x0008_0013)),
    (Tag(0x0008_0020), Tag(0x0008_0030)),
    (Tag(0x0008_0021), Tag(0x0008_0031)),
    (Tag(0x0008_0022), Tag(0x0008_0032)),
    (Tag(0x0008_0023), Tag(0x0008_0033)),
    (Tag(0x0010_0030), Tag(0x0010_0032)),
    (Tag(0x0040_0244), Tag(0x0040_0245)),
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

const fn sent(tag: u32, level: Level, returned: Returned) -> IndexedAttribute {
    IndexedAttribute { tag: Tag(tag), level, returned, origin: Origin::Sent }
}

const fn computed(tag: Tag, level: Level, returned: Returned) -> IndexedAttribute {
    IndexedAttribute { tag, level, returned, origin: Origin::Computed }
}

use Level::{Instance, Series, Study};
use Returned::{Always, IfPresent, OnRequest};

/// The table of indexed attributes. Specific Character Set is left out: the protocol layers set that of a
/// response.
const TABLE: &[IndexedAttribute] = &[
    sent(0x0008_0008, Instance, OnRequest), // Image Type
    sent(0x0008_0012, Instance, OnRequest), // Instance Creation Date
    sent(0x0008_0013, Instance, OnRequest), // Instance Creation Time
    sent(0x0008_0016, Instance, IfPresent), // SOP Class UID
    sent(0x0008_0018, Instance, IfPresent), // SOP Instance UID
    sent(0x0008_0020, Study, Always),       // Study Date
    sent(0x0008_0021, Series, OnRequest),   // Series Date
    sent(0x0008_0022, Instance, OnRequest), // Acquisition Date
    sent(0x0008_0023, Instance, OnRequest), // Content Date
    sent(0x0008_002A, Instance, OnRequest), // Acquisition DateTime
    sent(0x0008_0030, Study, Always),       // Study Time
    sent(0x0008_0031, Series, OnRequest),   // Series Time
    sent(0x0008_0032, Instance, OnRequest), // Acquisition Time
    sent(0x0008_0033, Instance, OnRequest), // Content Time
    sent(0x0008_0050, Study, Always),       // Accession Number
    sent(0x0008_0051, Study, OnRequest),    // Issuer of Accession Number Sequence
    computed(INSTANCE_AVAILABILITY, Study, IfPresent),
    sent(0x0008_0060, Series, Always), // Modality
    computed(MODALITIES_IN_STUDY, Study, IfPresent),
    computed(SOP_CLASSES_IN_STUDY, Study, OnRequest),
    sent(0x0008_0064, Series, OnRequest), // Conversion Type
    sent(0x0008_0068, Series, OnRequest), // Presentation Intent Type
    sent(0x0008_0070, Series, OnRequest), // Manufacturer
    sent(0x0008_0080, Series, OnRequest), // Institution Name
    sent(0x0008_0090, Study, Always),     // Referring Physician's Name
    sent(0x0008_0201, Study, IfPresent),  // Timezone Offset From UTC
    sent(0x0008_1010, Series, OnRequest), // Station Name
    sent(0x0008_1030, Study, IfPresent),  // Study Description
    sent(0x0008_1032, Study, OnRequest),  // Procedure Code Sequence
    sent(0x0008_103E, Series, IfPresent), // Series Description
    sent(0x0008_1040, Series, OnRequest), // Institutional Department Name
    sent(0x0008_1048, Study, OnRequest),  // Physician(s) of Record
    sent(0x0008_1050, Series, OnRequest), // Performing Physician's Name
    sent(0x0008_1060, Study, OnRequest),  // Name of Physician(s) Reading Study
    sent(0x0008_1070, Series, OnRequest), // Operators' Name
    sent(0x0008_1080, Study, OnRequest),  // Admitting Diagnoses Description
    sent(0x0008_1090, Series, OnRequest), // Manufacturer's Model Name
    computed(AVAILABLE_TRANSFER_SYNTAX, Instance, IfPresent),
    sent(0x0010_0010, Study, Always),       // Patient's Name
    sent(0x0010_0020, Study, Always),       // Patient ID
    sent(0x0010_0021, Study, OnRequest),    // Issuer of Patient ID
    sent(0x0010_0030, Study, Always),       // Patient's Birth Date
    sent(0x0010_0032, Study, OnRequest),    // Patient's Birth Time
    sent(0x0010_0040, Study, Always),       // Patient's Sex
    sent(0x0010_1000, Study, OnRequest),    // Other Patient IDs
    sent(0x0010_1001, Study, OnRequest),    // Other Patient Names
    sent(0x0010_1002, Study, OnRequest),    // Other Patient IDs Sequence
    sent(0x0010_1010, Study, OnRequest),    // Patient's Age
    sent(0x0010_1020, Study, OnRequest),    // Patient's Size
    sent(0x0010_1030, Study, OnRequest),    // Patient's Weight
    sent(0x0010_2160, Study, OnRequest),    // Ethnic Group
    sent(0x0010_2180, Study, OnRequest),    // Occupation
    sent(0x0010_21B0, Study, OnRequest),    // Additional Patient History
    sent(0x0010_4000, Study, OnRequest),    // Patient Comments
    sent(0x0018_0010, Series, OnRequest),   // Contrast/Bolus Agent
    sent(0x0018_0015, Series, OnRequest),   // Body Part Examined
    sent(0x0018_0050, Instance, OnRequest), // Slice Thickness
    sent(0x0018_0060, Instance, OnRequest), // KVP
    sent(0x0018_0088, Instance, OnRequest), // Spacing Between Slices
    sent(0x0018_1000, Series, OnRequest),   // Device Serial Number
    sent(0x0018_1020, Series, OnRequest),   // Software Versions
    sent(0x0018_1030, Series, OnRequest),   // Protocol Name
    sent(0x0018_1164, Instance, OnRequest), // Imager Pixel Spacing
    sent(0x0018_5100, Series, OnRequest),   // Patient Position
    sent(0x0018_5101, Instance, OnRequest), // View Position
    sent(0x0020_000D, Study, Always),       // Study Instance UID
    sent(0x0020_000E, Series, Always),      // Series Instance UID
    sent(0x0020_0010, Study, Always),       // Study ID
    sent(0x0020_0011, Series, Always),      // Series Number
    sent(0x0020_0012, Instance, OnRequest), // Acquisition Number
    sent(0x0020_0013, Instance, IfPresent), // Instance Number
    sent(0x0020_0020, Instance, OnRequest), // Patient Orientation
    sent(0x0020_0032, Instance, OnRequest), // Image Position (Patient)
    sent(0x0020_0037, Instance, OnRequest), // Image Orientation (Patient)
    sent(0x0020_0052, Series, OnRequest),   // Frame of Reference UID
    sent(0x0020_0060, Series, OnRequest),   // Laterality
    sent(0x0020_0062, Instance, OnRequest), // Image Laterality
    sent(0x0020_0100, Instance, OnRequest), // Temporal Position Identifier
    sent(0x0020_1041, Instance, OnRequest), // Slice Location
    computed(NUMBER_OF_STUDY_SERIES, Study, Always),
    computed(NUMBER_OF_STUDY_INSTANCES, Study, Always),
    computed(NUMBER_OF_SERIES_INSTANCES, Series, Always),
    sent(0x0020_4000, Instance, OnRequest), // Image Comments
    sent(0x0028_0002, Instance, OnRequest), // Samples per Pixel
    sent(0x0028_0004, Instance, OnRequest), // Photometric Interpretation
    sent(0x0028_0008, Instance, IfPresent), // Number of Frames
    sent(0x0028_0010, Instance, IfPresent), // Rows
    sent(0x0028_0011, Instance, IfPresent), // Columns
    sent(0x0028_0030, Instance, OnRequest), // Pixel Spacing
    sent(0x0028_0100, Instance, IfPresent), // Bits Allocated
    sent(0x0028_0101, Instance, OnRequest), // Bits Stored
    sent(0x0028_0103, Instance, OnRequest), // Pixel Representation
    sent(0x0028_0301, Instance, OnRequest), // Burned In Annotation
    sent(0x0028_1050, Instance, OnRequest), // Window Center
    sent(0x0028_1051, Instance, OnRequest), // Window Width
    sent(0x0028_1052, Instance, OnRequest), // Rescale Intercept
    sent(0x0028_1053, Instance, OnRequest), // Rescale Slope
    sent(0x0028_1054, Instance, OnRequest), // Rescale Type
    sent(0x0028_1056, Instance, OnRequest), // VOI LUT Function
    sent(0x0032_1060, Study, OnRequest),    // Requested Procedure Description
    sent(0x0040_0244, Series, IfPresent),   // Performed Procedure Step Start Date
    sent(0x0040_0245, Series, IfPresent),   // Performed Procedure Step Start Time
    sent(0x0040_0254, Series, OnRequest),   // Performed Procedure Step Description
    sent(0x0040_0275, Series, IfPresent),   // Request Attributes Sequence
    sent(0x0040_A043, Instance, OnRequest), // Concept Name Code Sequence
    sent(0x0040_A491, Instance, OnRequest), // Completion Flag
    sent(0x0040_A493, Instance, OnRequest), // Verification Flag
    sent(0x0042_0010, Instance, OnRequest), // Document Title
    sent(0x2050_0020, Instance, OnRequest), // Presentation LUT Shape
    sent(0x0070_0080, Instance, OnRequest), // Content Label
    sent(0x0070_0081, Instance, OnRequest), // Content Description
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
            ("PatientName", Some(PATIENT_NAME)),
            ("00100010", Some(PATIENT_NAME)),
            ("0020000d", Some(STUDY_INSTANCE_UID)),
            ("PatientNmae", None),
            ("0010001", None),
            ("", None),
        ] {
            assert_eq!(tag(name), expected, "{name}");
        }
    }
}
