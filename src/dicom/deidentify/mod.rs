//! De-identification: the Basic Application Level Confidentiality Profile with its options (PS3.15 §E).
//!
//! [`Deidentifier::apply`] turns the outline of a scanned object into that of the copy. Values of pixels are
//! not touched here: the copy refers to the same bytes of the object, so that the memory that is taken does
//! not depend on them. Documents say which choices were made: docs/deidentification.md,
//! docs/decisions/0149 and 0150.

use std::collections::BTreeSet;

use crate::config::{BurnedInRule, DeidentificationSettings, ProfileOption, SafePrivateRule};
use crate::dicom::attributes::{Attributes, Tag, Vr};
use crate::dicom::deidentify::walk::Walk;
use crate::dicom::element_reader;
use crate::dicom::explicit::{EncodedElement, item, top_level};
use crate::dicom::scan::Outline;
use crate::dicom::tags;
use crate::dicom::uids;

mod blanking;
mod kinds;
mod pseudonyms;
mod suitability;
mod table;
#[cfg(test)]
mod tests;
mod values;
mod walk;

pub use crate::dicom::deidentify::blanking::Blanking;
pub use crate::dicom::deidentify::pseudonyms::PseudonymSecret;
pub use crate::dicom::deidentify::suitability::{Suitability, suitability};

/// De-identification Method (0012,0063).
const METHOD: &str = "Cuspid: PS3.15 Basic Application Level Confidentiality Profile";

/// The profile with the options of a copy, and the secret that replacements depend on.
#[derive(Debug, Clone)]
pub struct Deidentifier {
    secret: PseudonymSecret,
    options: BTreeSet<ProfileOption>,
    safe_words: BTreeSet<String>,
    safe_private: Vec<SafePrivateRule>,
    burned_in_rules: Vec<BurnedInRule>,
}

/// The de-identified copy of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct DeidentifiedOutline {
    /// The elements that are left. Values that were replaced are in `head`; bulk values are at their places
    /// in the object.
    pub outline: Outline,
    /// The elements that say what was done, and the pseudonyms of the patient, in the order of their tags.
    pub changes: Vec<EncodedElement>,
    /// The regions to black out; empty if there are none.
    pub regions: Vec<crate::config::PixelRegion>,
}

impl Deidentifier {
    /// The profile with some options. Full dates go before modified ones.
    pub fn new(
        secret: PseudonymSecret,
        options: impl IntoIterator<Item = ProfileOption>,
        settings: &DeidentificationSettings,
    ) -> Self {
        let mut options: BTreeSet<_> = options.into_iter().collect();
        if options.contains(&ProfileOption::RetainFullDates) {
            options.remove(&ProfileOption::RetainModifiedDates);
        }
        Self {
            secret,
            options,
            safe_words: settings.safe_words.iter().map(|word| word.to_lowercase()).collect(),
            safe_private: settings.safe_private.clone(),
            burned_in_rules: settings.burned_in_regions.clone(),
        }
    }

    /// Whether an option is applied.
    pub fn has(&self, option: ProfileOption) -> bool {
        self.options.contains(&option)
    }

    /// Whether the instance with these attributes can be de-identified.
    pub fn suitability(&self, attributes: &Attributes) -> Suitability {
        suitability(attributes, &self.burned_in_rules)
    }

    /// The UID in the place of another: the same, if UIDs are retained.
    pub fn uid(&self, uid: &str) -> String {
        if self.has(ProfileOption::RetainUids) { uid.to_owned() } else { self.replaced_uid(uid) }
    }

    /// The UID in the place of another, whatever the options. Frames of reference and colour palettes of the
    /// standard stay: they are of no patient.
    fn replaced_uid(&self, uid: &str) -> String {
        const MAX_NUMBER_DIGITS: usize = 3;
        let number = uids::WELL_KNOWN_INSTANCES.iter().find_map(|root| uid.strip_prefix(root));
        let is_of_standard = number.is_some_and(|number| {
            (1..=MAX_NUMBER_DIGITS).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if is_of_standard { uid.to_owned() } else { self.secret.uid(uid) }
    }

    /// A validator of a copy, from which the validator of the original cannot be found. It differs for each
    /// set of options.
    pub fn validator(&self, original: &str) -> String {
        let Self { options, safe_words, safe_private, burned_in_rules, .. } = self;
        self.secret
            .opaque(&format!("{original} {options:?} {safe_words:?} {safe_private:?} {burned_in_rules:?}"))
    }

    /// De-identifies a scanned object.
    ///
    /// # Errors
    /// The reason if the object cannot be de-identified without a person who looks at it.
    pub fn apply(&self, outline: &Outline) -> Result<DeidentifiedOutline, &'static str> {
        let attributes = element_reader::collect(outline, |tag| suitability::NEEDED.contains(&tag));
        let regions = match self.suitability(&attributes) {
            Suitability::Plain => Vec::new(),
            Suitability::Cleaned(regions) => regions,
            Suitability::Unsuitable(reason) => return Err(reason),
        };
        let patient = patient(outline);
        let outline = Walk::new(self, outline, &patient).copy();
        let changes = self.changes(&patient, !regions.is_empty());
        Ok(DeidentifiedOutline { outline, changes, regions })
    }

    /// The elements that say what was done (PS3.15 §E.1.1, §E.2, §E.3), and the pseudonyms of the patient.
    fn changes(&self, patient: &[u8], is_pixel_data_cleaned: bool) -> Vec<EncodedElement> {
        let element =
            |tag, vr: &[u8; 2], value: &[u8]| EncodedElement { tag, vr: Vr(*vr), value: value.to_vec() };
        let pseudonym = self.secret.patient(patient);
        let dates: &[u8] = match () {
            () if self.has(ProfileOption::RetainFullDates) => b"UNMODIFIED",
            () if self.has(ProfileOption::RetainModifiedDates) => b"MODIFIED",
            () => b"REMOVED",
        };
        let mut codes = vec![BASIC_PROFILE];
        codes.extend(is_pixel_data_cleaned.then_some(CLEAN_PIXEL_DATA));
        codes.extend(self.options.iter().map(|option| code_of(*option)));
        codes.sort_unstable();
        let codes: Vec<u8> =
            codes.into_iter().flat_map(|(value, meaning)| code_item(value, meaning)).collect();
        let mut changes = vec![
            element(tags::PATIENT_NAME, b"PN", pseudonym.as_bytes()),
            element(tags::PATIENT_ID, b"LO", pseudonym.as_bytes()),
            element(tags::PATIENT_IDENTITY_REMOVED, b"CS", b"YES"),
            element(tags::DEIDENTIFICATION_METHOD, b"LO", METHOD.as_bytes()),
            element(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE, b"SQ", &codes),
        ];
        changes.extend(is_pixel_data_cleaned.then(|| element(tags::BURNED_IN_ANNOTATION, b"CS", b"NO")));
        changes.push(element(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, b"CS", dates));
        changes
    }
}

/// A code of CID 7050, De-identification Method.
type MethodCode = (&'static str, &'static str);

const BASIC_PROFILE: MethodCode = ("113100", "Basic Application Confidentiality Profile");
const CLEAN_PIXEL_DATA: MethodCode = ("113101", "Clean Pixel Data Option");

fn code_of(option: ProfileOption) -> MethodCode {
    match option {
        ProfileOption::CleanDescriptors => ("113105", "Clean Descriptors Option"),
        ProfileOption::RetainFullDates => {
            ("113106", "Retain Longitudinal Temporal Information Full Dates Option")
        }
        ProfileOption::RetainModifiedDates => {
            ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
        }
        ProfileOption::RetainPatientCharacteristics => ("113108", "Retain Patient Characteristics Option"),
        ProfileOption::RetainDeviceIdentity => ("113109", "Retain Device Identity Option"),
        ProfileOption::RetainUids => ("113110", "Retain UIDs Option"),
        ProfileOption::RetainSafePrivate => ("113111", "Retain Safe Private Option"),
        ProfileOption::RetainInstitutionIdentity => ("113112", "Retain Institution Identity Option"),
    }
}

/// An item with a code of DCM. Meanings are cut to the length of LO (PS3.5 §6.2).
fn code_item(value: &str, meaning: &str) -> Vec<u8> {
    const MAX_MEANING: usize = 64;
    let text = |tag, vr: &[u8; 2], text: &str| EncodedElement { tag, vr: Vr(*vr), value: text.into() };
    item(&[
        text(tags::CODE_VALUE, b"SH", value),
        text(tags::CODING_SCHEME_DESIGNATOR, b"SH", "DCM"),
        text(tags::CODE_MEANING, b"LO", &meaning[..meaning.len().min(MAX_MEANING)]),
    ])
}

/// The bytes by which a patient is told from others: ID and issuer, or the name, or the study.
fn patient(outline: &Outline) -> Vec<u8> {
    let value = |tag: Tag| top_level(outline, tag).map_or(&[][..], |(_, value)| value.trim_ascii());
    let trimmed = |tag| {
        let value = value(tag);
        let end = value.iter().rposition(|byte| !b"\0 ".contains(byte)).map_or(0, |last| last + 1);
        &value[..end]
    };
    let (id, name) = (trimmed(tags::PATIENT_ID), trimmed(tags::PATIENT_NAME));
    match (id, name) {
        ([], []) => [b"study\0", trimmed(tags::STUDY_INSTANCE_UID)].concat(),
        ([], name) => [b"name\0", name].concat(),
        (id, _) => [b"id\0", trimmed(tags::ISSUER_OF_PATIENT_ID), b"\0", id].concat(),
    }
}
