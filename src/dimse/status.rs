//! Turns outcomes into DIMSE statuses: PS3.4 §B.2.3 for C-STORE, §C.4.1.1.4, §C.4.2.1.5 and §C.4.3.1.4 for
//! C-FIND, C-MOVE and C-GET, PS3.7 §C for the rest. No other file does.

use crate::archive::Error;
use crate::archive::ingest::{Outcome, Refusal};
use crate::dicom::attributes::Tag;
use crate::dicom::failure::Failure;
use crate::dicom::tags;
use crate::dimse::command::{DimseOperation, Status, SubOperations};
use crate::query::indexed_attributes;
use crate::query::parameters;
use crate::telemetry;

const INVALID_SOP_INSTANCE: u16 = 0x0117;
const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
const UNRECOGNIZED_OPERATION: u16 = 0x0211;
const OUT_OF_RESOURCES: u16 = 0xA700;
const DOES_NOT_MATCH: u16 = 0xA900;
const DOES_NOT_MATCH_WARNING: u16 = 0xB007;
const CANNOT_UNDERSTAND: u16 = 0xC000;
/// Failure Reason and status: the instance, or the stored object, is in no state to be committed.
pub const PROCESSING_FAILURE: u16 = 0x0110;
/// Failure Reason and status: there is no such instance.
pub const NO_SUCH_INSTANCE: u16 = 0x0112;
/// Failure Reason: the instance is of another SOP class.
pub const CLASS_INSTANCE_CONFLICT: u16 = 0x0119;
const INVALID_ARGUMENT: u16 = 0x0115;
const MISSING_ATTRIBUTE: u16 = 0x0120;
const NO_SUCH_ACTION: u16 = 0x0123;
const RESOURCE_LIMITATION: u16 = 0x0213;
const NOT_AUTHORIZED: u16 = 0x0124;
const CANNOT_COUNT: u16 = 0xA701;
const CANNOT_SUB_OPERATIONS: u16 = 0xA702;
const UNKNOWN_DESTINATION: u16 = 0xA801;
const SUB_OPERATIONS_WARNING: u16 = 0xB000;
const UNABLE_TO_PROCESS: u16 = 0xC001;
const CANCELLED: u16 = 0xFE00;
const PENDING: u16 = 0xFF00;
const PENDING_WITH_UNSUPPORTED_KEYS: u16 = 0xFF01;

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
        Refusal::Quota(reason) => Status::new(OUT_OF_RESOURCES, reason.clone()),
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

/// The fault of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongIdentifier {
    /// The data set cannot be read.
    Unreadable,
    /// There is none, or it is too long.
    Absent,
    /// Query/Retrieve Level is missing, or is none of the information model.
    Level,
    /// The unique key of a level above is missing.
    Missing(Tag),
    /// A key that needs one value has several, wild cards, or no UID.
    NotSingle(Tag),
    /// There are more keys or values than the server takes.
    TooMany,
    /// The keys select nothing that can be retrieved.
    NoSelection(Tag),
}

/// The status of a C-FIND, C-MOVE or C-GET whose identifier is wrong.
pub fn of_identifier(wrong: WrongIdentifier) -> Status {
    let of_key = |tag, comment| Status { offending: Some(tag), ..Status::new(DOES_NOT_MATCH, comment) };
    match wrong {
        WrongIdentifier::Unreadable => Status::new(CANNOT_UNDERSTAND, "the identifier cannot be read"),
        WrongIdentifier::Absent => Status::new(CANNOT_UNDERSTAND, "no identifier, or one that is too long"),
        WrongIdentifier::TooMany => Status::new(CANNOT_UNDERSTAND, "too many keys or values"),
        WrongIdentifier::Level => of_key(tags::QUERY_RETRIEVE_LEVEL, "not a level of this information model"),
        WrongIdentifier::Missing(tag) => of_key(tag, "the unique key of a level above is missing"),
        WrongIdentifier::NotSingle(tag) => of_key(tag, "the key needs one value without wild cards"),
        WrongIdentifier::NoSelection(tag) => of_key(tag, "the unique key of the level is missing"),
    }
}

/// The status of a C-FIND with a key whose value is not valid.
pub fn of_key(error: &parameters::Error) -> Status {
    let first = error.name.split('.').next().and_then(indexed_attributes::tag);
    Status { offending: first, ..Status::new(DOES_NOT_MATCH, format!("a key {}", error.problem)) }
}

/// The status of a pending response of a C-FIND.
pub fn of_match(has_unsupported_keys: bool) -> Status {
    Status::new(if has_unsupported_keys { PENDING_WITH_UNSUPPORTED_KEYS } else { PENDING }, "")
}

/// The status of a pending response of a C-MOVE or C-GET.
pub fn of_pending() -> Status {
    Status::new(PENDING, "")
}

/// The status of an operation that was cancelled.
pub fn of_cancelled() -> Status {
    Status::new(CANCELLED, "")
}

/// The status of a query for patients of which there are too many.
pub fn of_too_many_patients(limit: usize) -> Status {
    Status::new(OUT_OF_RESOURCES, format!("more than {limit} patients match"))
}

/// The status of a query that the archive cannot carry out.
pub fn of_failed_query(error: &Error) -> Status {
    if let Error::Busy = error {
        return Status::new(OUT_OF_RESOURCES, "the server is busy, try again");
    }
    tracing::error!(error = telemetry::chain(error), "a query by DIMSE failed");
    Status::new(UNABLE_TO_PROCESS, "the server failed, try again")
}

/// The status of a C-MOVE or C-GET whose instances the archive cannot find (PS3.4 §C.4.2.1.5).
pub fn of_failed_selection(error: &Error) -> Status {
    match error {
        Error::Busy => Status::new(CANNOT_COUNT, "the server is busy, try again"),
        error => of_failed_query(error),
    }
}

/// The fault of a request for storage commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongAction {
    /// The action type is another than "Request Storage Commitment".
    Type,
    /// The SOP instance is another than the well-known one.
    Instance,
    /// The information cannot be read.
    Unreadable,
    /// An attribute is missing or empty.
    Missing(Tag),
    /// Too many reports wait to be sent.
    TooMany,
}

/// The status of an N-ACTION that is not carried out.
pub fn of_action(wrong: WrongAction) -> Status {
    match wrong {
        WrongAction::Type => Status::new(NO_SUCH_ACTION, "not a request for storage commitment"),
        WrongAction::Instance => Status::new(NO_SUCH_INSTANCE, "not the well-known SOP instance"),
        WrongAction::Unreadable => Status::new(INVALID_ARGUMENT, "the information cannot be read"),
        WrongAction::Missing(tag) => Status {
            offending: Some(tag),
            ..Status::new(MISSING_ATTRIBUTE, "an attribute is missing or empty")
        },
        WrongAction::TooMany => Status::new(RESOURCE_LIMITATION, "too many reports wait to be sent"),
    }
}

/// The status of an N-ACTION that the archive cannot carry out.
pub fn of_failed_action(error: &Error) -> Status {
    tracing::error!(error = telemetry::chain(error), "a storage commitment failed");
    Status::new(PROCESSING_FAILURE, "the server failed, try again")
}

/// The status of an operation that the peer may not request.
pub fn of_unauthorized() -> Status {
    Status::new(NOT_AUTHORIZED, "not allowed (dimse.peers, dimse.accept_sop_classes)")
}

/// The status of a C-MOVE to a title that is no destination of the peer.
pub fn of_unknown_destination() -> Status {
    Status {
        offending: Some(tags::MOVE_DESTINATION),
        ..Status::new(UNKNOWN_DESTINATION, "not an AE title with an address in dimse.peers")
    }
}

/// The status of a C-MOVE or C-GET to whose peer there is no association.
pub fn of_no_association(reason: &str) -> Status {
    Status::new(CANNOT_SUB_OPERATIONS, format!("no association: {reason}"))
}

/// The status of a C-MOVE or C-GET whose sub-operations have ended.
pub fn of_sub_operations(counts: SubOperations) -> Status {
    match counts {
        SubOperations { failed: 0, warning: 0, .. } => Status::SUCCESS,
        SubOperations { completed: 0, warning: 0, .. } => {
            Status::new(CANNOT_SUB_OPERATIONS, "no instance could be sent")
        }
        _ => Status::new(SUB_OPERATIONS_WARNING, ""),
    }
}

/// Whether a status is of a success, and whether of a warning (PS3.7 §C).
pub fn is_success(code: u16) -> (bool, bool) {
    (code == 0, code & 0xF000 == 0xB000 || matches!(code, 0x0001 | 0x0107 | 0x0116))
}

/// Whether a C-STORE that was answered with this status may succeed later (PS3.4 Table B.2-1, PS3.7 §C.5).
pub fn is_transient(code: u16) -> bool {
    code & 0xFF00 == OUT_OF_RESOURCES || matches!(code, PROCESSING_FAILURE | RESOURCE_LIMITATION)
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
        Outcome { identity: None, reference: None, result: Err(refusal) }
    }

    #[test]
    fn a_busy_archive_is_out_of_resources_for_each_service() {
        assert_eq!(of_failed_query(&Error::Busy).code, 0xA700);
        assert_eq!(of_failed_selection(&Error::Busy).code, 0xA701);
        let failed = Error::Internal("secret".into());
        for status in [of_failed_query(&failed), of_failed_selection(&failed), of_failed_action(&failed)] {
            assert!(
                matches!(status.code, 0xC001 | 0x0110) && !status.comment.contains("secret"),
                "{status:?}"
            );
        }
    }

    #[test]
    fn every_outcome_has_its_code() {
        let stored = |warnings| Outcome {
            identity: None,
            reference: None,
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
            (refused(Refusal::Quota("the plan's limit".into())), 0xA700),
            (refused(Refusal::Failed(anyhow::anyhow!("secret"))), 0xA700),
        ] {
            let status = of_outcome(&outcome);
            assert_eq!(status.code, code, "{outcome:?}");
            assert!(!status.comment.contains("secret"));
        }
    }
}
