//! UIDs of the standard other than those of transfer syntaxes, under the keywords of the standard (PS3.6 §A),
//! and the kinds of SOP classes that a UID shows.

#[cfg(test)]
pub(crate) use dicom_dictionary_std::uids::{
    BASIC_TEXT_SR_STORAGE, BLENDING_SOFTCOPY_PRESENTATION_STATE_STORAGE, CT_IMAGE_STORAGE,
    SECONDARY_CAPTURE_IMAGE_STORAGE,
};
pub use dicom_dictionary_std::uids::{
    COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE, DICOM_APPLICATION_CONTEXT, ENCAPSULATED_CDA_STORAGE,
    ENCAPSULATED_MTL_STORAGE, ENCAPSULATED_OBJ_STORAGE, ENCAPSULATED_PDF_STORAGE, ENCAPSULATED_STL_STORAGE,
    GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, MACULAR_GRID_THICKNESS_AND_VOLUME_REPORT_STORAGE,
    MEDIA_STORAGE_DIRECTORY_STORAGE, RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE, VERIFICATION,
};

/// The root of the UIDs of the standard (PS3.5 §9); all others are private.
pub const DICOM_ROOT: &str = "1.2.840.10008.";
/// The beginning of the UIDs of the storage SOP classes (PS3.4 §B.5), also of later editions.
pub const STORAGE_ROOT: &str = "1.2.840.10008.5.1.4.1.1.";

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
