//! Turns outcomes into DIMSE statuses: PS3.4 §B.2.3 for C-STORE, PS3.7 §C for the rest. No other file does.

use crate::archive::ingest::{Outcome, Refusal};
use crate::dicom::failure::Failure;
use crate::dicom::tags;
use crate::dimse::command::{DimseOperation, Status};

const INVALID_SOP_INSTANCE: u16 = 0x0117;
const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
const UNRECOGNIZED_OPERATION: u16 = 0x0211;
const OUT_OF_RESOURCES: u16 = 0xA700;
const DOES_NOT_MATCH: u16 = 0xA900;
const DOES_NOT_MATCH_WARNING: u16 = 0xB007;
const CANNOT_UNDERSTAND: u16 = 0xC000;

/// The reason for which a C-STORE-RQ is refused before its data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unacceptable {
    /// The request names no SOP class, or another than its presentation context.
    SopClass,
    /// The request names no SOP instance, or the name is no UID.
    SopInstance,
    /// No data set follows.
    NoDataSet,
}

/// The status of a C-STORE that was carried out.
pub fn of_outcome(outcome: &Outcome) -> Status {
    match &outcome.result {
        Ok(stored) => match stored.warnings.first() {
            None => Status::SUCCESS,
            Some(warning) => Status {
                offending: Some(warning.tag),
                ..Status::new(DOES_NOT_MATCH_WARNING, format!("stored with a warning: {}", warning.reason))
            },
        },
        Err(refusal) => of_refusal(refusal),
    }
}

fn of_refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Unreadable(failure) => of_failure(failure),
        Refusal::NonPatientObject => Status {
            offending: Some(tags::SOP_CLASS_UID),
            ..Status::new(SOP_CLASS_NOT_SUPPORTED, "a non-patient object")
        },
        // Metadata and their errors come with STOW-RS only.
        Refusal::Metadata(_) | Refusal::Attributes(_) | Refusal::NoTransferSyntax(_) => {
            Status::new(CANNOT_UNDERSTAND, "cannot be understood")
        }
        Refusal::TooLarge { .. } => Status::new(OUT_OF_RESOURCES, "larger than ingest.max_instance_bytes"),
        Refusal::OtherStudy { .. } => Status::new(DOES_NOT_MATCH, "of another study"),
        Refusal::OtherInstance { .. } => Status {
            offending: Some(tags::SOP_INSTANCE_UID),
            ..Status::new(DOES_NOT_MATCH, "not the instance that the command names")
        },
        Refusal::Different => Status {
            offending: Some(tags::SOP_INSTANCE_UID),
            ..Status::new(DOES_NOT_MATCH, "other bytes are stored under this UID")
        },
        Refusal::Elsewhere => Status {
            offending: Some(tags::SOP_INSTANCE_UID),
            ..Status::new(DOES_NOT_MATCH, "this UID is stored in another study or series")
        },
        Refusal::Busy => Status::new(OUT_OF_RESOURCES, "too many uploads, try again"),
        Refusal::NoSpace => Status::new(OUT_OF_RESOURCES, "no space left"),
        // Modalities try again after "out of resources".
        Refusal::Failed(_) => Status::new(OUT_OF_RESOURCES, "the server failed, try again"),
    }
}

fn of_failure(failure: &Failure) -> Status {
    // The messages hold positions, tags and limits, no values, so they may be sent to the peer.
    let offending = match failure {
        Failure::Malformed { tag, .. } | Failure::NoIdentity { tag, .. } => Some(*tag),
        Failure::NotDicom
        | Failure::NonPatientObject
        | Failure::MediaDirectory
        | Failure::Truncated { .. }
        | Failure::TooDeep { .. }
        | Failure::TooManyElements { .. }
        | Failure::TooManyMetadataElements { .. }
        | Failure::TooManyValues { .. }
        | Failure::HeaderTooLarge { .. }
        | Failure::InflatesTooMuch { .. }
        | Failure::NotDeflate => None,
    };
    Status { offending, ..Status::new(CANNOT_UNDERSTAND, failure.to_string()) }
}

/// The status of a C-STORE-RQ that is refused before its data set.
pub fn of_unacceptable(reason: Unacceptable) -> Status {
    match reason {
        Unacceptable::SopClass => Status {
            offending: Some(tags::AFFECTED_SOP_CLASS_UID),
            ..Status::new(SOP_CLASS_NOT_SUPPORTED, "not the SOP class of the presentation context")
        },
        Unacceptable::SopInstance => Status {
            offending: Some(tags::AFFECTED_SOP_INSTANCE_UID),
            ..Status::new(INVALID_SOP_INSTANCE, "the Affected SOP Instance UID is not a UID")
        },
        Unacceptable::NoDataSet => Status::new(CANNOT_UNDERSTAND, "there is no data set"),
    }
}

/// The status of an operation that is not supported.
pub fn of_unrecognized(operation: DimseOperation) -> Status {
    let comment = match operation {
        DimseOperation::Other(field) => format!("operation {field:04X}H is not supported"),
        _ => "not supported in this presentation context".to_owned(),
    };
    Status::new(UNRECOGNIZED_OPERATION, comment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ingest::StoredInstance;
    use crate::dicom::attributes::Tag;
    use crate::dicom::failure::Warning;

    fn refused(refusal: Refusal) -> Outcome {
        Outcome { identity: None, result: Err(refusal) }
    }

    #[test]
    fn every_outcome_has_its_code() {
        let stored = |warnings| Outcome {
            identity: None,
            result: Ok(StoredInstance { is_duplicate: false, has_replaced: false, warnings }),
        };
        let warning = Warning { tag: Tag(0x0008_0020), reason: "it is no date".into() };
        for (outcome, code) in [
            (stored(vec![]), 0x0000),
            (stored(vec![warning]), 0xB007),
            (refused(Failure::NotDicom.into()), 0xC000),
            (refused(Failure::NonPatientObject.into()), 0x0122),
            (
                refused(Failure::NoIdentity { tag: tags::SOP_INSTANCE_UID, name: "SOPInstanceUID" }.into()),
                0xC000,
            ),
            (refused(Refusal::TooLarge { limit: 1 }), 0xA700),
            (refused(Refusal::OtherInstance { found: "1.2".parse().unwrap() }), 0xA900),
            (refused(Refusal::OtherStudy { found: "1.2".parse().unwrap() }), 0xA900),
            (refused(Refusal::Different), 0xA900),
            (refused(Refusal::Elsewhere), 0xA900),
            (refused(Refusal::Busy), 0xA700),
            (refused(Refusal::NoSpace), 0xA700),
            (refused(Refusal::Failed(anyhow::anyhow!("secret"))), 0xA700),
        ] {
            let status = of_outcome(&outcome);
            assert_eq!(status.code, code, "{outcome:?}");
            assert!(!status.comment.contains("secret"));
        }
    }
}
