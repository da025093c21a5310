//! UIDs of the standard other than those of transfer syntaxes, under the keywords of the standard (PS3.6 §A),
//! and the kinds of SOP classes that a UID shows.

#[cfg(test)]
pub(crate) use dicom_dictionary_std::uids::{
    BASIC_TEXT_SR_STORAGE, BLENDING_SOFTCOPY_PRESENTATION_STATE_STORAGE,
};
pub use dicom_dictionary_std::uids::{
    COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE, CT_IMAGE_STORAGE, DICOM_APPLICATION_CONTEXT,
    ENCAPSULATED_CDA_STORAGE, ENCAPSULATED_MTL_STORAGE, ENCAPSULATED_OBJ_STORAGE, ENCAPSULATED_PDF_STORAGE,
    ENCAPSULATED_STL_STORAGE, ENHANCED_CT_IMAGE_STORAGE, ENHANCED_MR_IMAGE_STORAGE,
    GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
    LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE, MACULAR_GRID_THICKNESS_AND_VOLUME_REPORT_STORAGE,
    MEDIA_STORAGE_DIRECTORY_STORAGE, MR_IMAGE_STORAGE, PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
    PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET, PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
    RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE, SECONDARY_CAPTURE_IMAGE_STORAGE, STORAGE_COMMITMENT_PUSH_MODEL,
    STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE, STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
    STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET, STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
    VERIFICATION,
};

/// The roots of well-known frames of reference and of colour palettes (PS3.6 §A).
pub const WELL_KNOWN_INSTANCES: [&str; 2] = ["1.2.840.10008.1.4.1.", "1.2.840.10008.1.5."];

/// Patient/Study Only Query/Retrieve Information Model - FIND, which is retired.
#[expect(deprecated, reason = "old peers still use it")]
pub const PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_FIND: &str =
    dicom_dictionary_std::uids::PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
/// Patient/Study Only Query/Retrieve Information Model - MOVE, which is retired.
#[expect(deprecated, reason = "old peers still use it")]
pub const PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE: &str =
    dicom_dictionary_std::uids::PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
/// Patient/Study Only Query/Retrieve Information Model - GET, which is retired.
#[expect(deprecated, reason = "old peers still use it")]
pub const PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_GET: &str =
    dicom_dictionary_std::uids::PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_GET;

/// The root of the UIDs of the standard (PS3.5 §9); all others are private.
pub const DICOM_ROOT: &str = "1.2.840.10008.";
/// The beginning of the UIDs of the storage SOP classes (PS3.4 §B.5), also of later editions.
pub const STORAGE_ROOT: &str = "1.2.840.10008.5.1.4.1.1.";

/// Storage SOP classes of non-patient objects, which belong to no study (PS3.4 §GG.3): hanging protocols,
/// colour palettes, implant templates, defined procedure protocols and their approvals, and inventories.
const NON_PATIENT_OBJECTS: [&str; 9] = [
    "1.2.840.10008.5.1.4.38.1",
    "1.2.840.10008.5.1.4.39.1",
    "1.2.840.10008.5.1.4.43.1",
    "1.2.840.10008.5.1.4.44.1",
    "1.2.840.10008.5.1.4.45.1",
    "1.2.840.10008.5.1.4.1.1.200.1",
    "1.2.840.10008.5.1.4.1.1.200.3",
    "1.2.840.10008.5.1.4.1.1.200.7",
    "1.2.840.10008.5.1.4.1.1.201.1",
];
/// SOP classes below [`STORAGE_ROOT`] that are queries, retrievals and services of protocols and inventories
/// (PS3.6 §A).
const SERVICES: [&str; 8] = ["200.4", "200.5", "200.6", "201.2", "201.3", "201.4", "201.5", "201.6"];
/// Storage SOP classes elsewhere: print and hardcopy, and radiotherapy.
const STORAGE_ELSEWHERE: [&str; 6] = [
    "1.2.840.10008.5.1.1.27",
    "1.2.840.10008.5.1.1.29",
    "1.2.840.10008.5.1.1.30",
    "1.2.840.10008.5.1.4.34.1",
    "1.2.840.10008.5.1.4.34.7",
    "1.2.840.10008.5.1.4.34.10",
];

/// Whether a SOP class is one of non-patient objects, which belong to no study (PS3.4 §GG.3).
pub fn is_non_patient_object(sop_class: &str) -> bool {
    NON_PATIENT_OBJECTS.contains(&sop_class)
}

/// Whether a SOP class is private or one of storage in a study (PS3.4 §B.5), of later editions too.
pub fn is_storage(sop_class: &str) -> bool {
    if !sop_class.starts_with(DICOM_ROOT) || STORAGE_ELSEWHERE.contains(&sop_class) {
        return true;
    }
    let leaf = sop_class.strip_prefix(STORAGE_ROOT);
    leaf.is_some_and(|leaf| !SERVICES.contains(&leaf)) && !is_non_patient_object(sop_class)
}

/// Whether a SOP class is one of presentation states (PS3.4 §N.1).
pub fn is_presentation_state(sop_class: &str) -> bool {
    has_storage_leaf(sop_class, "11.")
}

/// Whether a SOP class is one of encapsulated documents (PS3.4 §B.5).
pub fn is_encapsulated_document(sop_class: &str) -> bool {
    has_storage_leaf(sop_class, "104.")
}

/// Whether a SOP class is one of structured reports (PS3.4 §B.5).
pub fn is_structured_report(sop_class: &str) -> bool {
    has_storage_leaf(sop_class, "88.") || sop_class == MACULAR_GRID_THICKNESS_AND_VOLUME_REPORT_STORAGE
}

fn has_storage_leaf(sop_class: &str, leaf: &str) -> bool {
    sop_class.strip_prefix(STORAGE_ROOT).is_some_and(|rest| rest.starts_with(leaf))
}
