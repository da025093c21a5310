//! The reasons to refuse bytes as a SOP instance, and warnings about an instance that was accepted.

use crate::dicom::attributes::Tag;

/// A reason to refuse an instance. Offsets are in bytes from the start of the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Neither a file by PS3.10 §7.1 nor a bare data set.
    #[error("not DICOM: no data set can be recognised")]
    NotDicom,
    /// The directory of a medium (PS3.10 §8), which is no composite instance: a DICOMDIR.
    #[error("the directory of a medium (DICOMDIR), not an instance")]
    MediaDirectory,
    /// The bytes end inside an element, an item or a sequence.
    #[error("the data set ends too early, in the element at byte {offset}")]
    Truncated {
        /// The offset of the unfinished element.
        offset: u64,
    },
    /// An item or delimiter where none can be, or a structure that contradicts itself.
    #[error("the data set is malformed at byte {offset}: unexpected {tag:?}")]
    Malformed {
        /// The offset of the element.
        offset: u64,
        /// The tag at that offset.
        tag: Tag,
    },
    /// The limit `max_sequence_depth`.
    #[error("sequences are nested deeper than {limit} (ingest.max_sequence_depth)")]
    TooDeep {
        /// The limit in force.
        limit: usize,
    },
    /// The limit `max_elements`.
    #[error("more than {limit} elements (ingest.max_elements)")]
    TooManyElements {
        /// The limit in force.
        limit: usize,
    },
    /// The limit `max_metadata_elements`.
    #[error("more than {limit} elements in metadata (ingest.max_metadata_elements)")]
    TooManyMetadataElements {
        /// The limit in force.
        limit: usize,
    },
    /// Metadata with more values than four for each element that the limit `max_metadata_elements` allows.
    #[error("more than {limit} values in metadata, four times ingest.max_metadata_elements")]
    TooManyValues {
        /// The limit in force.
        limit: usize,
    },
    /// The limit `max_header_bytes`: everything but bulk data must fit into it.
    #[error("the attributes without bulk data take more than {limit} bytes (ingest.max_header_bytes)")]
    HeaderTooLarge {
        /// The limit in force.
        limit: usize,
    },
    /// A deflated data set grows beyond `max_inflated_bytes` or by more than `max_deflate_ratio`.
    #[error("the deflated data set inflates beyond the limit of {limit} ({setting})")]
    InflatesTooMuch {
        /// The limit in force.
        limit: u64,
        /// The setting that holds it.
        setting: &'static str,
    },
    /// A deflated data set that is not valid RFC 1951.
    #[error("the deflated data set cannot be inflated")]
    NotDeflate,
    /// Its SOP class is of objects that belong to no study (PS3.4 §GG.3).
    #[error("a non-patient object, which belongs to no study")]
    NonPatientObject,
    /// An attribute that identifies the instance is missing, empty or no UID.
    #[error("{name} {tag:?} is missing, empty or not a UID")]
    NoIdentity {
        /// The attribute.
        tag: Tag,
        /// Its keyword.
        name: &'static str,
    },
}

/// A fault of an instance that was accepted in spite of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The attribute at fault, the outermost one if it is nested.
    pub tag: Tag,
    /// The fault: lower case, no period, no value of the attribute (it may be patient data).
    pub reason: String,
}
