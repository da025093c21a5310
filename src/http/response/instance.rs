//! The URL, ETags and multipart boundary of an instance.

use crate::archive::records::InstanceRecord;

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
