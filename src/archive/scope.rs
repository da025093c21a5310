//! The part of an archive that an operation is about.

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// A study, a series or an instance.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The study.
    pub study: StudyUid,
    /// Only this series.
    pub series: Option<SeriesUid>,
    /// Only this instance.
    pub instance: Option<InstanceUid>,
}
