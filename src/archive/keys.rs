//! The key of every object in the blob store, in one place.

use crate::archive::access::Tenant;
use crate::blobs::{Bucket, Key};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// The key of an original: `{tenant}/{study}/{series}/{instance}/{digest}.dcm`.
pub(crate) fn original(
    tenant: &Tenant,
    study: &StudyUid,
    series: &SeriesUid,
    instance: &InstanceUid,
    digest: &str,
) -> Key {
    let tenant = tenant.as_str();
    Key { bucket: Bucket::Originals, path: format!("{tenant}/{study}/{series}/{instance}/{digest}.dcm") }
}

/// The key of a series' preview, made of the series at `generation`.
pub(crate) fn preview(tenant: &Tenant, study: &StudyUid, series: &SeriesUid, generation: u64) -> Key {
    let tenant = tenant.as_str();
    Key { bucket: Bucket::Previews, path: format!("{tenant}/{study}/{series}/{generation}/preview.cjs") }
}
