//! The URL, ETags, multipart boundary and offers of an instance.

use crate::archive::records::InstanceRecord;
use crate::http::request::accept::Offer;

/// The media type of an instance.
pub(in crate::http) const DICOM: &str = "application/dicom";

/// The offers of an instance in a transfer syntax: as a part, and alone if it is the only one.
pub(in crate::http) fn offers(transfer_syntax: &str, is_default: bool, is_single: bool) -> Vec<Offer> {
    let packings = [true, false].into_iter().filter(|is_multipart| *is_multipart || is_single);
    let transfer_syntax = Some(transfer_syntax.to_owned());
    let offer = |is_multipart| Offer {
        is_multipart,
        essence: DICOM,
        transfer_syntax: transfer_syntax.clone(),
        is_default,
    };
    packings.map(offer).collect()
}

/// The URL of an instance.
pub(in crate::http) fn url(record: &InstanceRecord, base_url: &str) -> String {
    let InstanceRecord { study, series, instance, .. } = record;
    format!("{base_url}/studies/{study}/series/{series}/instances/{instance}")
}

/// The ETag of one representation of an instance or of a part of the instance; it depends on the stored bytes
/// and on the representation.
pub(in crate::http) fn etag(record: &InstanceRecord, representation: &str) -> String {
    format!("\"{}-{representation}\"", record.digest.prefix())
}

/// A multipart boundary that cannot occur in the object: the object would have to contain its own digest.
pub(in crate::http) fn boundary(record: &InstanceRecord) -> String {
    format!("cuspid-{}", record.digest.prefix())
}
