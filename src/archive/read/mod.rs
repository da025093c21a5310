//! Reading what is stored: a record of the index and one ranged read of the object. Nothing is parsed here.

use std::future::ready;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::archive::access::Caller;
use crate::archive::read::byte_order::swapped;
use crate::archive::read::deflated::inflated;
use crate::archive::read::pass::InflatePass;
use crate::archive::scope::{Scope, VisibleScope};
use crate::archive::verified::verified;
use crate::archive::{Archive, Error, keys};
use crate::blobs;
use crate::blobs::ByteStream;
use crate::dicom::attributes::Tag;
use crate::dicom::explicit;
use crate::dicom::frames::FrameSpan;
use crate::dicom::layout::BulkValue;
use crate::dicom::transfer_syntax;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::records::{InstanceRecord, SeriesRecord, StudyRecord};

pub mod ahead;
pub(in crate::archive) mod byte_order;
pub(in crate::archive) mod deflated;
pub mod document;
mod file;
pub(in crate::archive) mod frame;
pub mod pass;
pub mod whole;
pub mod zip_download;
pub mod zip_of_files;
mod zip_stream;

/// The length of a block of equal bytes.
pub(in crate::archive) const FILL_BYTES: usize = 64 * 1024;

/// The instances of a share's list whose records are read at the same time.
const LISTED_AT_ONCE: usize = 8;

/// The part of an instance's record that says what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstanceKind {
    /// SOP Class UID.
    pub sop_class: String,
    /// Transfer Syntax UID of the stored object.
    pub transfer_syntax: String,
}

/// Records of instances, some hundred at a time.
pub type RecordStream = BoxStream<'static, Result<Vec<InstanceRecord>, Error>>;

impl Archive {
    /// The record of a study of which the caller may see all.
    pub async fn study(&self, caller: &Caller, study: &StudyUid) -> Result<StudyRecord, Error> {
        caller.check_all(&Scope { study: study.clone(), series: None, instance: None })?;
        self.any_study(caller, study).await
    }

    /// The record of a study, whatever the caller may see of it.
    async fn any_study(&self, caller: &Caller, study: &StudyUid) -> Result<StudyRecord, Error> {
        let record = self.index.study(caller.tenant.as_str(), study).await?;
        record.ok_or_else(|| Error::NotFound(format!("study {study}")))
    }

    /// The record of a series of which the caller may see all.
    pub async fn series(
        &self,
        caller: &Caller,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<SeriesRecord, Error> {
        caller.check_all(&Scope { study: study.clone(), series: Some(series.clone()), instance: None })?;
        self.any_series(caller, study, series).await
    }

    /// The record of a series, whatever the caller may see of it.
    async fn any_series(
        &self,
        caller: &Caller,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<SeriesRecord, Error> {
        let record = self.index.series(caller.tenant.as_str(), study, series).await?;
        record.ok_or_else(|| Error::NotFound(format!("series {series} in study {study}")))
    }

    /// The record of an instance.
    pub async fn instance(
        &self,
        caller: &Caller,
        study: &StudyUid,
        series: &SeriesUid,
        instance: &InstanceUid,
    ) -> Result<InstanceRecord, Error> {
        if !caller.sees(study, series, instance) {
            return Err(no_instance(study, series, instance));
        }
        let record = self.index.instance(caller.tenant.as_str(), study, series, instance).await?;
        record.ok_or_else(|| no_instance(study, series, instance))
    }

    /// The records of all instances in a scope, by series and instance UID; at least one.
    ///
    /// # Errors
    /// [`Error::NotFound`] at once, not in the stream.
    pub async fn instances(&self, caller: &Caller, scope: &Scope) -> Result<RecordStream, Error> {
        self.records(caller, scope).await
    }

    /// What is stored of each instance in a scope, in the order of [`Archive::instances`].
    ///
    /// # Errors
    /// [`Error::NotFound`] at once, not in the stream.
    pub async fn instance_kinds(
        &self,
        caller: &Caller,
        scope: &Scope,
    ) -> Result<BoxStream<'static, Result<Vec<InstanceKind>, Error>>, Error> {
        self.records(caller, scope).await
    }

    /// The place of an instance by its UID alone; `None` if it is not stored, or if the caller may not see
    /// it.
    pub async fn locate(&self, caller: &Caller, instance: &InstanceUid) -> Result<Option<Scope>, Error> {
        let location = self.index.locate(caller.tenant.as_str(), instance).await?;
        let visible = location.filter(|location| caller.sees(&location.study, &location.series, instance));
        Ok(visible.map(|location| Scope {
            study: location.study,
            series: Some(location.series),
            instance: Some(instance.clone()),
        }))
    }

    /// The records of all instances in a scope that the caller may see, or a part of each, as
    /// [`Archive::instances`] gives them.
    pub(in crate::archive) async fn records<R: DeserializeOwned + Send + 'static>(
        &self,
        caller: &Caller,
        scope: &Scope,
    ) -> Result<BoxStream<'static, Result<Vec<R>, Error>>, Error> {
        let tenant = caller.tenant.as_str();
        let scope = match caller.visible(scope)? {
            VisibleScope::All(scope) => scope,
            VisibleScope::Some(scope) => return self.listed_records(caller, &scope).await,
        };
        match (&scope.series, &scope.instance) {
            (Some(series), Some(instance)) => {
                let record = self.index.instance(tenant, &scope.study, series, instance).await?;
                let record = record.ok_or_else(|| no_instance(&scope.study, series, instance))?;
                return Ok(stream::iter([Ok(vec![record])]).boxed());
            }
            (Some(series), None) => drop(self.any_series(caller, &scope.study, series).await?),
            (None, _) => drop(self.any_study(caller, &scope.study).await?),
        }
        let pages = self.index.instances(tenant, &scope.study, scope.series.as_ref());
        Ok(pages.map_err(Error::from).boxed())
    }

    /// The records of the instances in a scope that a share lists, one by one.
    async fn listed_records<R: DeserializeOwned + Send + 'static>(
        &self,
        caller: &Caller,
        scope: &Scope,
    ) -> Result<BoxStream<'static, Result<Vec<R>, Error>>, Error> {
        let (index, tenant, study) = (self.index.clone(), caller.tenant.clone(), scope.study.clone());
        let listed = caller.listed_instances(scope);
        let read = move |(series, instance): (SeriesUid, InstanceUid)| {
            let (index, tenant, study) = (index.clone(), tenant.clone(), study.clone());
            async move { index.instance(tenant.as_str(), &study, &series, &instance).await }
        };
        let found = stream::iter(listed).map(read).buffered(LISTED_AT_ONCE).map_err(Error::from);
        // Listed instances may have been deleted.
        let mut found = found.try_filter_map(|record| ready(Ok(record.map(|record| vec![record])))).boxed();
        let first = found.try_next().await?.ok_or_else(|| scope.not_found())?;
        Ok(stream::iter([Ok(first)]).chain(found).boxed())
    }

    /// A validator of the part of a scope that the caller may see, which changes whenever anything in the
    /// part does (RFC 9110 §8.8.3). Opaque, without quotation marks.
    pub async fn version(&self, caller: &Caller, scope: &Scope) -> Result<String, Error> {
        let (scope, part) = match caller.visible(scope)? {
            VisibleScope::All(scope) => (scope, String::new()),
            VisibleScope::Some(scope) => (scope, caller.share_suffix()),
        };
        Ok(match (&scope.series, &scope.instance) {
            (Some(series), Some(instance)) => {
                self.instance(caller, &scope.study, series, instance).await?.digest.to_string()
            }
            (Some(series), None) => {
                series_version(&self.any_series(caller, &scope.study, series).await?) + &part
            }
            (None, _) => {
                let record = self.any_study(caller, &scope.study).await?;
                format!("{}-{}{part}", record.generation, record.changed_at)
            }
        })
    }

    /// Reads bytes `range` of a stored object as it was sent. The digest of a whole object is verified.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the instance was deleted after its record was read. The stream of a damaged
    /// object ends with [`blobs::Error::Damaged`].
    pub async fn read_object(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        range: Range<u64>,
    ) -> Result<ByteStream, Error> {
        let key = keys::original_of(&caller.tenant, record);
        let is_whole = range == (0..record.size_bytes);
        match self.blobs.read(&key, range).await {
            Ok(bytes) if is_whole => Ok(verified(self, bytes, key, record.digest)),
            Ok(bytes) => Ok(bytes),
            // The record may be of a moment ago, and the instance be deleted by now.
            Err(error) => Err(self.unless_deleted(caller, record, error).await),
        }
    }

    /// Reads the bytes of a frame or a bulk value, at their range in the record's layout.
    ///
    /// A deflated object is inflated up to the end of the range; of any other object the bytes are read as
    /// they are.
    pub async fn read(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        range: Range<u64>,
    ) -> Result<ByteStream, Error> {
        if transfer_syntax::is_deflated(&record.transfer_syntax) {
            let object = self.read_object(caller, record, 0..record.size_bytes).await?;
            let data_set_offset = record.file_header.as_ref().map(|header| header.replaces);
            return Ok(inflated(object, data_set_offset, range, self.permits.inflates(caller)));
        }
        self.read_object(caller, record, range).await
    }

    /// Reads the same bytes in little endian: if the object is in big endian, the bytes of each number of a
    /// bulk value are reversed (PS3.18 §8.7.3.3.1).
    pub async fn read_value(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        range: Range<u64>,
    ) -> Result<ByteStream, Error> {
        self.read_value_on(caller, record, range, &InflatePass::default()).await
    }

    /// Reads bytes as [`Archive::read_value`] does, as part of a pass over the object.
    pub async fn read_value_on(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        range: Range<u64>,
        pass: &InflatePass,
    ) -> Result<ByteStream, Error> {
        let is_within =
            |value: &&BulkValue| value.offset <= range.start && range.end <= value.offset + value.length;
        let is_big_endian = transfer_syntax::is_big_endian(&record.transfer_syntax);
        let value = record.layout.bulk.iter().filter(|_| is_big_endian).find(is_within);
        let word = value.map_or(1, |value| word_bytes(record, value));
        let Some(value) = value.filter(|_| word > 1) else {
            return self.read_on(caller, record, range, pass).await;
        };
        let start = range.start - (range.start - value.offset) % word;
        let end = value.offset + (range.end - value.offset).next_multiple_of(word).min(value.length);
        let words = swapped(self.read(caller, record, start..end).await?, word as usize);
        Ok(cut(words, range.start - start..range.end - start))
    }

    /// The place of stored frame `number` (from 1) in the object.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such frame.
    pub fn frame(&self, record: &InstanceRecord, number: u32) -> Result<FrameSpan, Error> {
        let frames = record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames);
        let is_there = (1..=frames).contains(&number);
        let span = if is_there { record.layout.frames.span(number - 1) } else { None };
        let instance = &record.instance;
        span.ok_or_else(|| {
            Error::NotFound(format!("frame {number} in instance {instance}, which has {frames}"))
        })
    }

    /// A bulk value by its path (see [`BulkValue::path`]).
    pub fn bulk_value(&self, record: &InstanceRecord, path: &str) -> Result<BulkValue, Error> {
        let found = record.layout.bulk.iter().find(|value| value.path.eq_ignore_ascii_case(path));
        found
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("bulk data {path} in instance {}", record.instance)))
    }
}

/// The validator of a series, for [`Archive::version`].
pub(in crate::archive) fn series_version(record: &SeriesRecord) -> String {
    format!("{}-{}", record.generation, record.changed_at)
}

/// Bytes of the numbers that a bulk value consists of.
fn word_bytes(record: &InstanceRecord, value: &BulkValue) -> u64 {
    let tag = value.path.rsplit('/').next().and_then(|tag| u32::from_str_radix(tag, 16).ok());
    let bits_allocated = record.layout.pixels.as_ref().map_or(16, |pixels| pixels.bits_allocated);
    explicit::word_size(Tag(tag.unwrap_or_default()), value.vr, bits_allocated).into()
}

/// Cuts bytes `range` out of a stream.
fn cut(bytes: ByteStream, range: Range<u64>) -> ByteStream {
    let parts = bytes.scan(0, move |position, chunk| {
        let part = chunk.map(|chunk| {
            let start = *position;
            *position += chunk.len() as u64;
            let from = range.start.clamp(start, *position) - start;
            let to = range.end.clamp(start, *position) - start;
            chunk.slice(from as usize..to as usize)
        });
        ready(Some(part))
    });
    parts.try_filter(|part| ready(!part.is_empty())).boxed()
}

/// The bytes of a block of [`FILL_BYTES`] equal bytes, as often as they make up a length.
pub(in crate::archive) fn filled(
    block: &'static [u8; FILL_BYTES],
    length: u64,
) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(length, |left| {
        let length = left.min(FILL_BYTES as u64);
        ready((length > 0).then(|| (Bytes::from_static(&block[..length as usize]), left - length)))
    })
}

fn no_instance(study: &StudyUid, series: &SeriesUid, instance: &InstanceUid) -> Error {
    Error::NotFound(format!("instance {instance} in series {series} of study {study}"))
}

/// Collects the bytes of a range that is known to be small.
pub(in crate::archive) async fn collect(stream: ByteStream) -> Result<Vec<u8>, blobs::Error> {
    stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
}
