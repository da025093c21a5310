//! The Native DICOM Model in XML, from and to DICOM JSON (PS3.19 §A.1, PS3.18 §F.3.1).

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::read;
pub use write::write;

/// The namespace of the model's elements; input may have another one or none.
const NAMESPACE: &str = "http://dicom.nema.org/PS3.19/models/NativeDICOM";

/// The parts of a person name's component group, in the order in which `^` separates them (PS3.5 §6.2.1.1).
const NAME_PARTS: [&str; 5] = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"];

/// The component groups of a person name.
const NAME_GROUPS: [&str; 3] = ["Alphabetic", "Ideographic", "Phonetic"];

/// The reason why a text is not a Native DICOM Model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not XML.
    #[error("not valid XML: {0}")]
    Syntax(String),
    /// The text is XML, but not a Native DICOM Model.
    #[error("not a Native DICOM Model: {0}")]
    Model(String),
    /// More sequences are within each other than this limit.
    #[error("sequences are nested deeper than {0}")]
    TooDeep(usize),
}
