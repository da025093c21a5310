//! The key of every object in the blob store, in one place.

use uuid::Uuid;

use crate::archive::access::Tenant;
use crate::archive::scope::Scope;
use crate::blobs::{Bucket, Key};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::records::InstanceRecord;

/// A parsed key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// See [`original`].
    Original { tenant: Tenant, study: StudyUid, series: SeriesUid, instance: InstanceUid, object: String },
    /// See [`preview`].
    Preview { tenant: Tenant, study: StudyUid, series: SeriesUid, generation: u64 },
}

/// A new name for an object, which no object had before: `{digest}-{16 random digits}`.
///
/// The digest is the SHA-256 of the bytes: without the index it still proves that an object is whole. The
/// random digits make the name unique to one upload, so that a process which deletes an object by its name,
/// however late, never deletes the object of another upload.
pub(crate) fn new_object(digest: &str) -> String {
    let random = Uuid::new_v4().as_u64_pair().0;
    format!("{digest}-{random:016x}")
}

/// The SHA-256, in hexadecimal, in the name of an object; `None` if the name is not of the form of
/// [`new_object`].
pub(crate) fn digest_of(object: &str) -> Option<&str> {
    object.split_once('-').map(|(digest, _)| digest)
}

/// The key of an original: `{tenant}/{study}/{series}/{instance}-{object}.dcm`.
pub(crate) fn original(
    tenant: &Tenant,
    study: &StudyUid,
    series: &SeriesUid,
    instance: &InstanceUid,
    object: &str,
) -> Key {
    let tenant = tenant.as_str();
    Key { bucket: Bucket::Originals, path: format!("{tenant}/{study}/{series}/{instance}-{object}.dcm") }
}

/// The key of the original of an instance.
pub(crate) fn original_of(tenant: &Tenant, record: &InstanceRecord) -> Key {
    original(tenant, &record.study, &record.series, &record.instance, &record.object)
}

/// The prefix of the keys of all originals of a study, a series or an instance.
pub(crate) fn originals(
    tenant: &Tenant,
    study: &StudyUid,
    series: Option<&SeriesUid>,
    instance: Option<&InstanceUid>,
) -> String {
    let study = derived(tenant, study);
    match (series, instance) {
        (Some(series), Some(instance)) => format!("{study}{series}/{instance}-"),
        (Some(series), None) => format!("{study}{series}/"),
        (None, _) => study,
    }
}

/// The prefix of the keys of all derived objects of a study.
pub(crate) fn derived(tenant: &Tenant, study: &StudyUid) -> String {
    format!("{}/{study}/", tenant.as_str())
}

/// The key of the preview of a series at a generation: `{tenant}/{study}/{series}/{generation}/preview`.
pub(crate) fn preview(tenant: &Tenant, study: &StudyUid, series: &SeriesUid, generation: u64) -> Key {
    let tenant = tenant.as_str();
    Key { bucket: Bucket::Previews, path: format!("{tenant}/{study}/{series}/{generation}/preview") }
}

/// The prefix of the keys of all previews of a series.
pub(crate) fn previews(tenant: &Tenant, study: &StudyUid, series: &SeriesUid) -> String {
    format!("{}/{study}/{series}/", tenant.as_str())
}

/// The key of a thumbnail: `{tenant}/{study}/study/{version}/{file}`,
/// `{tenant}/{study}/{series}/series/{version}/{file}`, or
/// `{tenant}/{study}/{series}/{instance}/{version}/{file}`. The version is that of the study, series or
/// instance.
pub(crate) fn thumbnail(tenant: &Tenant, scope: &Scope, version: &str, file: &str) -> Key {
    let path = format!("{}{version}/{file}", thumbnails(tenant, scope));
    Key { bucket: Bucket::Thumbnails, path }
}

/// The prefix of the keys of all thumbnails of a study, of a series or of an instance itself, without those
/// of its parts.
pub(crate) fn thumbnails(tenant: &Tenant, scope: &Scope) -> String {
    let (tenant, study) = (tenant.as_str(), &scope.study);
    match (&scope.series, &scope.instance) {
        (Some(series), Some(instance)) => format!("{tenant}/{study}/{series}/{instance}/"),
        (Some(series), None) => format!("{tenant}/{study}/{series}/series/"),
        (None, _) => format!("{tenant}/{study}/study/"),
    }
}

/// The key of an instance in another transfer syntax:
/// `{tenant}/{study}/{series}/{instance}-{digest}-{transfer syntax}-{revision}.dcm`, by the digest of the
/// original.
pub(crate) fn transcoded(
    tenant: &Tenant,
    record: &InstanceRecord,
    transfer_syntax: &str,
    revision: u32,
) -> Key {
    let InstanceRecord { study, series, instance, digest, .. } = record;
    let file = format!("{instance}-{digest}-{transfer_syntax}-{revision}.dcm");
    Key { bucket: Bucket::Temporary, path: format!("{}/{study}/{series}/{file}", tenant.as_str()) }
}

/// The revision of the format of metadata bundles: raised whenever the format changes.
const BUNDLE_REVISION: u32 = 1;

/// The key of the metadata bundle of a series at a version:
/// `{tenant}/{study}/{series}/metadata-{revision}-{version}`.
pub(crate) fn bundle(tenant: &Tenant, study: &StudyUid, series: &SeriesUid, version: &str) -> Key {
    let tenant = tenant.as_str();
    Key {
        bucket: Bucket::Temporary,
        path: format!("{tenant}/{study}/{series}/metadata-{BUNDLE_REVISION}-{version}"),
    }
}

/// The revision of the format of text bundles: raised whenever the format changes.
const TEXT_REVISION: u32 = 1;

/// The key of a text bundle of a study or series at a version, with the BulkDataURIs of a URL, in a content
/// coding: `{tenant}/{study}/text-{revision}-{version}-{digest of the URL}.{coding}`, or
/// `{tenant}/{study}/{series}/text-…`.
pub(crate) fn text_bundle(
    tenant: &Tenant,
    scope: &Scope,
    version: &str,
    base_url: &str,
    coding: &str,
) -> Key {
    let digest = &blake3::hash(base_url.as_bytes()).to_hex()[..32];
    let series = scope.series.as_ref().map(|series| format!("{series}/")).unwrap_or_default();
    let file = format!("text-{TEXT_REVISION}-{version}-{digest}.{coding}");
    Key { bucket: Bucket::Temporary, path: format!("{}{series}{file}", derived(tenant, &scope.study)) }
}

/// Parses a key; `None` if the key is of no form that is parsed.
pub(crate) fn parse(key: &Key) -> Option<Parsed> {
    let segments: Vec<&str> = key.path.split('/').collect();
    match (key.bucket, segments.as_slice()) {
        (Bucket::Originals, [tenant, study, series, file]) => {
            let (instance, object) = file.strip_suffix(".dcm")?.split_once('-')?;
            Some(Parsed::Original {
                tenant: tenant.parse().ok()?,
                study: study.parse().ok()?,
                series: series.parse().ok()?,
                instance: instance.parse().ok()?,
                object: object.to_owned(),
            })
        }
        (Bucket::Previews, [tenant, study, series, generation, "preview"]) => Some(Parsed::Preview {
            tenant: tenant.parse().ok()?,
            study: study.parse().ok()?,
            series: series.parse().ok()?,
            generation: generation.parse().ok()?,
        }),
        _ => None,
    }
}

/// The tenant and the study that a key starts with, as all keys do.
pub(crate) fn study_of(key: &Key) -> Option<(Tenant, StudyUid)> {
    let mut segments = key.path.split('/');
    Some((segments.next()?.parse().ok()?, segments.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_what_it_is_of() {
        let tenant = Tenant::default_tenant();
        let (study, series, instance) =
            ("1.2".parse().unwrap(), "1.3".parse().unwrap(), "1.4".parse().unwrap());
        let digest = "ab".repeat(32);
        let object = new_object(&digest);
        assert_eq!((digest_of(&object), digest_of(&digest)), (Some(digest.as_str()), None));
        assert_ne!(object, new_object(&digest));
        let key = original(&tenant, &study, &series, &instance, &object);
        let expected = Parsed::Original {
            tenant: tenant.clone(),
            study: study.clone(),
            series: series.clone(),
            instance,
            object,
        };
        assert_eq!(parse(&key), Some(expected));
        let key = preview(&tenant, &study, &series, 7);
        assert_eq!(parse(&key), Some(Parsed::Preview { tenant, study, series, generation: 7 }));
        let scope = Scope { study: "1.2".parse().unwrap(), series: None, instance: None };
        let key = thumbnail(&Tenant::default_tenant(), &scope, "7", "64x64.jpg");
        assert_eq!(key.path, "default/1.2/study/7/64x64.jpg");
        assert_eq!(parse(&Key { bucket: Bucket::Originals, path: "default/1.2/x.dcm".into() }), None);
    }
}
