//! Instances as a zip file, streamed without compression, as they are stored (docs/decisions/0060), with
//! another file header where the stored one is missing or wrong (docs/decisions/0095).
//!
//! Names and lengths are in the index, so that the length of the file is known before the first object is
//! opened. Instances that are known to be missing by then are left out and named in a text file. In the place
//! of one that turns out later to be missing or damaged, there is a text of the same length
//! (docs/decisions/0102).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, TryStreamExt};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracing::error;

use crate::archive::access::{Caller, Tenant};
use crate::archive::read::whole::{LOOKS_AT_ONCE, WholeObject};
use crate::archive::read::zip_stream::{EntrySource, StoredFile, ZipDownloadEntry, written};
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs::Key;
use crate::dicom::attributes::{Attribute, Attributes};
use crate::dicom::dicomdir;
use crate::dicom::dicomdir::DirectoryFile;
use crate::dicom::file_header::FileHeader;
use crate::dicom::json;
use crate::dicom::tags;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::digest::ObjectDigest;
use crate::index::records::{InstanceRecord, file_bytes};
use crate::zip;
use crate::zip::writer::EntryHeader;

pub(in crate::archive) use crate::archive::read::zip_stream::EntryMaker;
pub use crate::archive::read::zip_stream::ZipStream;

/// The name of a directory of a file-set (PS3.10 §8.6) and what its File-set ID is.
const DICOMDIR: &str = "DICOMDIR";
const FILE_SET_ID: &str = "CUSPID";
/// The folder of all instances of a file-set.
const FILE_SET_FOLDER: &str = "DICOM";
/// The name of the text file that names missing instances.
const MISSING: &str = "MISSING.TXT";

/// The contents of a zip file that is to be made.
#[derive(Debug, Clone)]
pub struct ZipContents {
    /// The study, series or instance.
    pub scope: Scope,
    /// Only these instances of the series, by their positions (from 1) in the order of Instance Number and
    /// UID.
    pub positions: Option<RangeInclusive<usize>>,
    /// Whether to make it a file-set with a DICOMDIR.
    pub with_directory: bool,
}

/// A zip file that is about to be read. Holds some hundred bytes for each instance, of which there is a
/// limit.
#[derive(Debug)]
pub struct ZipDownload {
    entries: Vec<ZipDownloadEntry>,
    transfer_syntaxes: BTreeSet<String>,
    missing: Vec<InstanceUid>,
}

impl Archive {
    /// Plans a zip file of a study, a series, a part of one, or an instance, by series and instance number.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such thing, or no such position; [`Error::TooMany`] if there are
    /// more than `limit` instances; the error of the first object if no object can be read.
    pub async fn zip(
        &self,
        caller: &Caller,
        contents: &ZipContents,
        limit: usize,
    ) -> Result<ZipDownload, Error> {
        let mut instances = if contents.with_directory {
            self.described(caller, &contents.scope, limit).await?
        } else {
            self.listed(caller, &contents.scope, limit).await?
        };
        instances.sort_by(|one, other| one.order().cmp(&other.order()));
        if let Some(positions) = &contents.positions {
            instances = at_positions(instances, positions)?;
        }
        let missing = self.take_missing(&caller.tenant, &mut instances).await?;
        let transfer_syntaxes = instances.iter().map(|instance| instance.transfer_syntax.clone()).collect();
        let changed_at = instances.iter().map(|instance| instance.stored_at).max();
        let tenant = caller.tenant.clone();
        let mut entries = if contents.with_directory {
            run_blocking(None, move || file_set(&tenant, instances)).await?
        } else {
            instances.into_iter().map(|instance| plain(&tenant, instance)).collect()
        };
        if !missing.is_empty() {
            entries.push(list_of(&missing, changed_at.unwrap_or_default()));
        }
        Ok(ZipDownload { entries, transfer_syntaxes, missing })
    }

    /// Takes those instances away whose objects are known to be missing, as far as the objects are looked for
    /// ahead. The objects of instances that were deleted meanwhile are missing, too.
    async fn take_missing(
        &self,
        tenant: &Tenant,
        instances: &mut Vec<ZipInstance>,
    ) -> Result<Vec<InstanceUid>, Error> {
        let mut missing = Vec::new();
        let mut first_error = None;
        let looks = instances.iter().take(self.look_ahead()).map(|instance| {
            let (key, size_bytes, digest) = (instance.key(tenant), instance.size_bytes, instance.digest);
            let look = async move {
                let object = WholeObject { key: &key, size_bytes, digest };
                self.lost_object(object).await.map(|error| (instance, error))
            };
            look.boxed()
        });
        let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffered(LOOKS_AT_ONCE);
        while let Some(lost) = looks.next().await {
            let Some((ZipInstance { instance, .. }, error)) = lost else { continue };
            error!(%error, "a zip file leaves out instance {instance}");
            missing.push(instance.clone());
            first_error.get_or_insert(error);
        }
        drop(looks);
        match first_error {
            Some(error) if missing.len() == instances.len() => Err(error.into()),
            _ => {
                instances.retain(|instance| !missing.contains(&instance.instance));
                Ok(missing)
            }
        }
    }

    /// The instances, with as much of their records as names and orders them.
    async fn listed(&self, caller: &Caller, scope: &Scope, limit: usize) -> Result<Vec<ZipInstance>, Error> {
        let mut pages = self.records::<ZipInstance>(caller, scope).await?;
        let mut instances = Vec::new();
        while let Some(mut page) = pages.try_next().await? {
            page.iter_mut().for_each(ZipInstance::forget_all_but_numbers);
            instances.extend(page);
            at_most(limit, &instances)?;
        }
        Ok(instances)
    }

    /// The instances, with the attributes of their records in a DICOMDIR.
    async fn described(
        &self,
        caller: &Caller,
        scope: &Scope,
        limit: usize,
    ) -> Result<Vec<ZipInstance>, Error> {
        let mut pages = self.instances(caller, scope).await?;
        let mut instances = Vec::new();
        while let Some(page) = pages.try_next().await? {
            // Inflating the metadata of those that need it takes a while.
            let described = || page.into_iter().map(ZipInstance::described).collect::<Vec<_>>();
            instances.extend(run_blocking(None, described).await?);
            at_most(limit, &instances)?;
        }
        Ok(instances)
    }
}

/// The instances at some positions (from 1).
pub(in crate::archive) fn at_positions<T>(
    mut instances: Vec<T>,
    positions: &RangeInclusive<usize>,
) -> Result<Vec<T>, Error> {
    let count = instances.len();
    let end = (*positions.end()).min(count);
    let start = positions.start().saturating_sub(1);
    if start >= end {
        return Err(Error::NotFound(format!("instance {} of {count} in the series", positions.start())));
    }
    Ok(instances.drain(start..end).collect())
}

/// Refuses more instances than a zip file can have.
pub(in crate::archive) fn at_most<T>(limit: usize, instances: &[T]) -> Result<(), Error> {
    if instances.len() > limit {
        let reason = format!("a zip file can have {limit} instances (http.max_zip_instances)");
        return Err(Error::TooMany(reason));
    }
    Ok(())
}

impl ZipDownload {
    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        zip::writer::length(self.entries.iter().map(|entry| &entry.header))
    }

    /// The transfer syntaxes of the instances.
    pub fn transfer_syntaxes(&self) -> impl Iterator<Item = &str> {
        self.transfer_syntaxes.iter().map(String::as_str)
    }

    /// The file, made while it is read, and the instances that are known to be missing in it. The first
    /// instance that can be read is opened before this returns.
    ///
    /// # Errors
    /// The error of the first instance if no instance can be read.
    pub async fn read(
        self,
        archive: &Arc<Archive>,
        caller: &Caller,
    ) -> Result<(ZipStream, Vec<InstanceUid>), Error> {
        let mut missing = self.missing;
        Ok((written(archive, caller, self.entries, &mut missing).await?, missing))
    }
}

/// An entry that is made when it is opened.
pub(in crate::archive) struct MadeEntry {
    /// The name of the file.
    pub(in crate::archive) name: String,
    /// The UID by which the instance is named if it cannot be made.
    pub(in crate::archive) instance: InstanceUid,
    /// The maker of its bytes.
    pub(in crate::archive) maker: EntryMaker,
}

/// A zip file of entries that are made while it is read, with a text file after them, and the instances that
/// are known to be missing in it. Its length is not known ahead, and its entries have no time.
///
/// # Errors
/// The error of the first instance if no instance can be made.
pub(in crate::archive) async fn made(
    archive: &Arc<Archive>,
    caller: &Caller,
    entries: Vec<MadeEntry>,
    note: Option<(&str, String)>,
) -> Result<(ZipStream, Vec<InstanceUid>), Error> {
    let mut entries: Vec<_> = entries
        .into_iter()
        .map(|MadeEntry { name, instance, maker }| {
            let header = EntryHeader { name, size_bytes: 0, modified_at: 0 };
            ZipDownloadEntry { header, source: EntrySource::Made(instance, maker) }
        })
        .collect();
    entries.extend(note.map(|(name, text)| {
        let header = EntryHeader { name: name.into(), size_bytes: text.len() as u64, modified_at: 0 };
        ZipDownloadEntry { header, source: EntrySource::Text(text.into()) }
    }));
    let mut missing = Vec::new();
    Ok((written(archive, caller, entries, &mut missing).await?, missing))
}

/// The part of an instance's record that a zip file needs.
#[derive(Debug, Deserialize)]
struct ZipInstance {
    study: StudyUid,
    series: SeriesUid,
    instance: InstanceUid,
    sop_class: String,
    transfer_syntax: String,
    digest: ObjectDigest,
    object: String,
    size_bytes: u64,
    #[serde(default)]
    file_header: Option<FileHeader>,
    stored_at: i64,
    attributes: Attributes,
    /// Set for a file-set only.
    #[serde(skip)]
    has_pixels: bool,
}

impl ZipInstance {
    fn described(record: InstanceRecord) -> Self {
        let mut instance = Self {
            study: record.study,
            series: record.series,
            instance: record.instance,
            sop_class: record.sop_class,
            transfer_syntax: record.transfer_syntax,
            object: record.object,
            digest: record.digest,
            size_bytes: record.size_bytes,
            file_header: record.file_header,
            stored_at: record.stored_at,
            attributes: record.attributes,
            has_pixels: record.layout.pixels.is_some(),
        };
        if instance.file(["", "", ""]).needs_more_than_its_number() {
            let mut text = Vec::new();
            let read = record.metadata.write_text("", &mut text).ok().and_then(|()| json::read(&text).ok());
            instance.attributes.extend(read.unwrap_or_default());
        }
        dicomdir::keep_needed(&instance.sop_class, instance.has_pixels, &mut instance.attributes);
        instance
    }

    /// Drops the attributes that are not needed: they take most of the memory.
    fn forget_all_but_numbers(&mut self) {
        self.attributes.retain(|tag, _| [tags::SERIES_NUMBER, tags::INSTANCE_NUMBER].contains(tag));
    }

    /// By series, then by instance: by number, what has none last, then by UID.
    fn order(&self) -> (NumberOrder, &str, NumberOrder, &str) {
        let [series, instance] = numbers(&self.attributes);
        (series, self.series.as_str(), instance, self.instance.as_str())
    }

    fn file<'a>(&'a self, id: [&'a str; 3]) -> DirectoryFile<'a> {
        let Self { sop_class, instance, transfer_syntax, has_pixels, .. } = self;
        let instance = instance.as_str();
        DirectoryFile { id, sop_class, instance, transfer_syntax, has_pixels: *has_pixels }
    }

    fn key(&self, tenant: &Tenant) -> Key {
        keys::original(tenant, &self.study, &self.series, &self.instance, &self.object)
    }

    fn entry(self, tenant: &Tenant, name: String) -> ZipDownloadEntry {
        let size_bytes = file_bytes(self.size_bytes, self.file_header.as_ref());
        let header = EntryHeader { name, size_bytes, modified_at: self.stored_at };
        let source = EntrySource::Object(StoredFile {
            key: self.key(tenant),
            size_bytes: self.size_bytes,
            digest: self.digest,
            header: self.file_header,
            instance: self.instance,
        });
        ZipDownloadEntry { header, source }
    }
}

/// The order of numbers, what has none last.
pub(in crate::archive) type NumberOrder = (bool, i64);

/// Series Number and Instance Number.
pub(in crate::archive) fn numbers(attributes: &Attributes) -> [NumberOrder; 2] {
    [tags::SERIES_NUMBER, tags::INSTANCE_NUMBER].map(|tag| {
        let text = attributes.get(&tag).and_then(Attribute::first_text);
        let number = text.and_then(|text| text.trim().parse::<i64>().ok());
        (number.is_none(), number.unwrap_or(0))
    })
}

/// An entry under the UIDs of its study, series and itself.
fn plain(tenant: &Tenant, instance: ZipInstance) -> ZipDownloadEntry {
    let name = format!("{}/{}/{}.dcm", instance.study, instance.series, instance.instance);
    instance.entry(tenant, name)
}

/// The text file that names missing instances.
fn list_of(missing: &[InstanceUid], modified_at: i64) -> ZipDownloadEntry {
    let mut text = "These instances are stored, but their objects are missing or damaged.\r\n".to_owned();
    for instance in missing {
        text += instance.as_str();
        text += "\r\n";
    }
    let header = EntryHeader { name: MISSING.into(), size_bytes: text.len() as u64, modified_at };
    ZipDownloadEntry { header, source: EntrySource::Text(text.into()) }
}

/// The entries of a file-set, its DICOMDIR first (PS3.10 §8); `instances` are in order.
fn file_set(tenant: &Tenant, instances: Vec<ZipInstance>) -> Vec<ZipDownloadEntry> {
    let mut directory = dicomdir::DicomDir::default();
    let mut identity = Sha256::new();
    let mut entries = Vec::with_capacity(1 + instances.len());
    let mut modified_at = 0;
    let (mut last_series, mut series, mut number) = (None, 0, 0);
    for instance in instances {
        if entries.is_empty() {
            directory.patient(&instance.attributes);
            directory.study(&instance.attributes);
        }
        if last_series.as_ref() != Some(&instance.series) {
            (series, number) = (series + 1, 0);
            directory.series(&instance.attributes, series);
            last_series = Some(instance.series.clone());
        }
        number += 1;
        let (folder, name) = (format!("SE{series:06}"), format!("IM{number:06}"));
        directory.instance(&instance.file([FILE_SET_FOLDER, &folder, &name]), &instance.attributes, number);
        identity.update(instance.digest.to_string());
        modified_at = modified_at.max(instance.stored_at);
        entries.push(instance.entry(tenant, format!("{FILE_SET_FOLDER}/{folder}/{name}")));
    }
    let text = Bytes::from(directory.into_file(&uid(&identity.finalize()), FILE_SET_ID));
    let header = EntryHeader { name: DICOMDIR.into(), size_bytes: text.len() as u64, modified_at };
    entries.insert(0, ZipDownloadEntry { header, source: EntrySource::Text(text) });
    entries
}

/// A UID made from a digest, in the form of a UID made from a UUID (PS3.5 §B.2).
fn uid(digest: &[u8]) -> String {
    let number = digest.iter().take(16).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    format!("2.25.{number}")
}
