//! The Native DICOM Model in XML, from and to DICOM JSON (PS3.19 §A.1, PS3.18 §F.2).

use serde_json::Value as Json;

/// Why a text is not a Native DICOM Model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no XML.
    #[error("not valid XML: {0}")]
    Syntax(String),
    /// It is XML, but not a Native DICOM Model.
    #[error("not a Native DICOM Model: {0}")]
    Model(String),
}

/// Appends one data set, a DICOM JSON object, as a `NativeDicomModel` document in UTF-8, with its XML declaration.
pub fn write(data_set: &Json, out: &mut Vec<u8>) {
    let _ = (data_set, out);
    unimplemented!()
}

/// Reads one `NativeDicomModel` as a DICOM JSON object; `BulkData` elements become `BulkDataURI`.
///
/// # Errors
/// [`Error`] if it is none, or too deeply nested.
pub fn read(text: &[u8]) -> Result<Json, Error> {
    let _ = text;
    unimplemented!()
}
