//! Metadata of many instances. Where the index is a service that answers in pages of 1 MB, the metadata of a
//! large series are cached as one object, the metadata bundle (docs/decisions/0086). A bundle is written when
//! the metadata are requested for the first time, and is valid as long as the series does not change.
//!
//! A bundle is a list of [`MetadataRecord`]s in MessagePack, each after its length: 32 bits, little endian.

use std::future::ready;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tracing::warn;

use crate::archive::access::Caller;
use crate::archive::derived::cache;
use crate::archive::read::series_version;
use crate::archive::scope::{Scope, VisibleScope};
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::{ByteStream, Key, Staged};
use crate::index::records::{MetadataRecord, SeriesRecord};
use crate::telemetry;

/// Metadata of instances, some hundred records at a time.
pub type MetadataStream = BoxStream<'static, Result<Vec<MetadataRecord>, Error>>;

/// The smallest number of instances of a series with a bundle: the metadata of fewer are one page of the
/// index.
const MIN_INSTANCES: u64 = 50;
/// The number of records, and roughly their bytes, in one item of the stream.
const PAGE_RECORDS: usize = 200;
const PAGE_BYTES: usize = 4 << 20;
/// The longest record that a bundle holds.
const MAX_RECORD_BYTES: usize = 64 << 20;
const LENGTH_BYTES: usize = 4;

/// Returns the metadata of all instances in a scope, as [`Archive::instances`] and with its errors, at less
/// cost.
pub async fn metadata(
    archive: &Arc<Archive>,
    caller: &Caller,
    scope: &Scope,
) -> Result<MetadataStream, Error> {
    let scope = match caller.visible(scope)? {
        VisibleScope::All(scope) => scope,
        VisibleScope::Some(scope) => return archive.records(caller, &scope).await,
    };
    let (Some(series), None, true) = (&scope.series, &scope.instance, archive.caches_bundles) else {
        return archive.records(caller, &scope).await;
    };
    let record = archive.series(caller, &scope.study, series).await?;
    if record.number_of_instances >= MIN_INSTANCES {
        let key = keys::bundle(&caller.tenant, &scope.study, series, &series_version(&record));
        if let Some(bytes) = read_bundle(archive, &key).await? {
            let rest = all_metadata(archive, caller, &scope);
            return Ok(or_from_index(archive.clone(), key.clone(), records(bytes, key), rest));
        }
        begin_bundle(archive, caller, record, key);
    }
    Ok(all_metadata(archive, caller, &scope))
}

/// Streams the metadata of all instances of a study or series from the index.
pub(super) fn all_metadata(archive: &Archive, caller: &Caller, scope: &Scope) -> MetadataStream {
    let pages = archive.index.instances(caller.tenant.as_str(), &scope.study, scope.series.as_ref());
    pages.map_err(Error::from).boxed()
}

async fn read_bundle(archive: &Archive, key: &Key) -> Result<Option<ByteStream>, Error> {
    let size_bytes = match archive.cache.size_of(key) {
        Some(size_bytes) => Some(size_bytes),
        None => cache::find(archive, key).await?,
    };
    let Some(size_bytes) = size_bytes else { return Ok(None) };
    match archive.blobs.read(key, 0..size_bytes).await {
        Ok(bytes) => Ok(Some(bytes)),
        // Another process evicted the bundle, or it expired in the store.
        Err(blobs::Error::NotFound(_) | blobs::Error::OutOfRange { .. }) => {
            archive.cache.remove(key);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Starts to write a bundle in the background; the current request is answered without the bundle. Does
/// nothing where other bundles are being written already: a later request may get the permit.
fn begin_bundle(archive: &Arc<Archive>, caller: &Caller, record: SeriesRecord, key: Key) {
    let Some(permit) = archive.permits.try_bundle(caller) else { return };
    let (archive, caller) = (archive.clone(), caller.clone());
    tokio::spawn(async move {
        let _permit = permit;
        match make_bundle(&archive, &caller, &record, &key).await {
            // The series has changed meanwhile, or was deleted.
            Ok(()) | Err(Error::NotFound(_)) => {}
            Err(error) => {
                let error = telemetry::chain(&error);
                warn!(error, "cannot keep the metadata of a series as one object");
            }
        }
    });
}

async fn make_bundle(
    archive: &Archive,
    caller: &Caller,
    record: &SeriesRecord,
    key: &Key,
) -> Result<(), Error> {
    let _lock = archive.derived_locks.lock(key.clone()).await;
    if archive.cache.size_of(key).is_some() {
        return Ok(());
    }
    let SeriesRecord { study, series, .. } = record;
    let scope = Scope { study: study.clone(), series: Some(series.clone()), instance: None };
    let mut staged = archive.blobs.stage().await?;
    let mut pages = all_metadata(archive, caller, &scope);
    while let Some(page) = pages.try_next().await? {
        let written = run_blocking(None, move || write(staged, &page)).await?;
        staged = written.map_err(|error| cannot_write(key, error))?;
    }
    cache::put(archive, caller, (&scope, &series_version(record)), staged, (key, None)).await.map(drop)
}

fn write(mut staged: Staged, page: &[MetadataRecord]) -> anyhow::Result<Staged> {
    for record in page {
        let bytes = rmp_serde::to_vec(record)?;
        let length = u32::try_from(bytes.len())?;
        staged.write(&length.to_le_bytes())?;
        staged.write(&bytes)?;
    }
    Ok(staged)
}

/// Streams the records of a bundle.
fn records(bytes: ByteStream, key: Key) -> MetadataStream {
    let start = (bytes, BytesMut::new(), key);
    stream::try_unfold(Some(start), |state| async move {
        let Some((mut bytes, mut buffer, key)) = state else { return Ok(None) };
        let (mut page, mut page_bytes) = (Vec::new(), 0);
        while page.len() < PAGE_RECORDS && page_bytes < PAGE_BYTES {
            if let Some(record) = next(&mut buffer).map_err(|source| damaged(&key, source))? {
                page_bytes += record.len();
                page.push(rmp_serde::from_slice(&record).map_err(|source| damaged(&key, source))?);
                continue;
            }
            match bytes.try_next().await? {
                Some(chunk) => buffer.extend_from_slice(&chunk),
                None if buffer.is_empty() => {
                    return Ok((!page.is_empty()).then_some((page, None)));
                }
                None => return Err(damaged(&key, "it ends in the middle of a record")),
            }
        }
        Ok(Some((page, Some((bytes, buffer, key)))))
    })
    .boxed()
}

/// The records of a bundle. If the bundle cannot be read to its end, it is deleted, and the records that were
/// not read yet come from `index`, which has the same records in the same order.
fn or_from_index(
    archive: Arc<Archive>,
    key: Key,
    bundle: MetadataStream,
    index: MetadataStream,
) -> MetadataStream {
    let start = (bundle, Some((archive, key, index)), 0);
    stream::try_unfold(start, |(mut pages, mut fallback, mut count)| async move {
        loop {
            match (pages.try_next().await, fallback.take()) {
                (Ok(None), _) => return Ok(None),
                (Ok(Some(page)), next) => {
                    count += page.len();
                    return Ok(Some((page, (pages, next, count))));
                }
                (Err(error), None) => return Err(error),
                (Err(error), Some((archive, key, index))) => {
                    warn!(error = telemetry::chain(&error), "a metadata bundle is damaged");
                    archive.cache.remove(&key);
                    archive.blobs.delete(&key).await?;
                    (pages, fallback) = (without_first(index, count), None);
                }
            }
        }
    })
    .boxed()
}

/// The pages without the first `count` records.
fn without_first(pages: MetadataStream, count: usize) -> MetadataStream {
    let pages = pages.scan(count, |left, page| {
        let page = page.map(|mut page| {
            let read = (*left).min(page.len());
            *left -= read;
            page.split_off(read)
        });
        ready(Some(page))
    });
    pages.try_filter(|page| ready(!page.is_empty())).boxed()
}

/// The next record whose bytes are complete.
fn next(buffer: &mut BytesMut) -> Result<Option<BytesMut>, &'static str> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_RECORD_BYTES {
        return Err("a record is too long");
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length)))
}

fn cannot_write(key: &Key, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    blobs::Error::Backend { operation: format!("write {key}"), source: source.into() }.into()
}

fn damaged(key: &Key, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    blobs::Error::Backend { operation: format!("read {key}"), source: source.into() }.into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::blobs::Blobs;
    use crate::blobs::Bucket;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::{Config, TableEngine};
    use crate::dicom::build::DataSet;
    use crate::dicom::metadata::compress;
    use crate::dicom::transfer_syntax;
    use crate::dicom::uids;
    use crate::index::Index;

    fn record(number: usize) -> MetadataRecord {
        MetadataRecord { metadata: compress(&[format!("{{\"{number}\"").into_bytes(), vec![b'x'; number]]) }
    }

    fn key() -> Key {
        Key { bucket: Bucket::Temporary, path: "bundle".into() }
    }

    async fn bundle(count: usize) -> Vec<u8> {
        let all: Vec<_> = (0..count).map(record).collect();
        let blobs = MemoryBlobs::new();
        let staged = write(blobs.stage().await.unwrap(), &all).unwrap();
        let length = staged.length();
        blobs.put(staged, &key()).await.unwrap();
        blobs.read(&key(), 0..length).await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
    }

    fn chunks(bytes: &[u8], length: usize) -> ByteStream {
        let chunks: Vec<_> = bytes.chunks(length).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        stream::iter(chunks).boxed()
    }

    #[tokio::test]
    async fn records_come_out_as_they_went_in_however_they_are_cut() {
        let bytes = bundle(450).await;
        for length in [1, 7, 1000, bytes.len()] {
            let pages: Vec<_> = records(chunks(&bytes, length), key()).try_collect().await.unwrap();
            assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 50]);
            assert!(pages.concat().iter().enumerate().all(|(number, found)| *found == record(number)));
        }
    }

    #[tokio::test]
    async fn a_large_series_is_bundled_as_it_is_and_anew_when_it_has_changed() {
        let mut config = Config::defaults();
        config.storage.table = TableEngine::Dynamodb;
        config.preview.enabled = false;
        let blobs = Arc::new(MemoryBlobs::new());
        let archive = Archive::new(blobs.clone(), Arc::new(Index::in_memory()), &config);
        let caller = Caller::anonymous();
        let scope = Scope { study: "1.2".parse().unwrap(), series: "1.2.1".parse().ok(), instance: None };
        let store = async |number: u64| {
            let data_set = DataSet::explicit()
                .text(0x0008_0016, "UI", uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
                .text(0x0008_0018, "UI", &format!("1.2.1.{}", 1000 + number))
                .text(0x0020_000D, "UI", "1.2")
                .text(0x0020_000E, "UI", "1.2.1");
            let mut upload = archive.receive(&caller, None).await;
            upload.write(Bytes::from(data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN))).await;
            upload.finish().await.await.result.unwrap();
        };
        let metadata = async || {
            let pages = super::metadata(&archive, &caller, &scope).await.unwrap();
            pages.try_collect::<Vec<_>>().await.unwrap().concat()
        };
        let bundled = async || {
            let version = archive.version(&caller, &scope).await.unwrap();
            let key = keys::bundle(&caller.tenant, &scope.study, scope.series.as_ref().unwrap(), &version);
            while blobs.size(&key).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            key
        };
        for number in 1..=MIN_INSTANCES {
            store(number).await;
        }
        let from_index = metadata().await;
        assert_eq!(from_index.len() as u64, MIN_INSTANCES);
        let first = bundled().await;
        assert_eq!(metadata().await, from_index);
        store(MIN_INSTANCES + 1).await;
        assert_eq!(metadata().await[..from_index.len()], from_index);
        let second = bundled().await;
        assert_ne!(first, second);
        // The bundle is deleted, as if another process had evicted it.
        blobs.delete(&second).await.unwrap();
        assert_eq!(metadata().await.len() as u64, MIN_INSTANCES + 1);
        bundled().await;
        // Other content shows that the bundle is read.
        let staged = write(blobs.stage().await.unwrap(), &[record(1)]).unwrap();
        blobs.put(staged, &second).await.unwrap();
        archive.cache.remove(&second);
        assert_eq!(metadata().await, [record(1)]);
        // Damaged bundles, one of which begins well.
        blobs.delete(&second).await.unwrap();
        for count in [0, 1, MIN_INSTANCES as usize] {
            // A request after the deletion of a bundle begins another one.
            let from_index = metadata().await;
            let mut staged = write(blobs.stage().await.unwrap(), &from_index[..count]).unwrap();
            staged.write(&[0, 1]).unwrap();
            blobs.put(staged, &bundled().await).await.unwrap();
            archive.cache.remove(&second);
            assert!(metadata().await == from_index, "{count}");
        }
    }

    #[tokio::test]
    async fn a_bundle_that_is_not_whole_is_an_error() {
        let bytes = bundle(3).await;
        let mut too_long = bytes.clone();
        too_long[3] = 0xFF;
        for damaged in [&bytes[..bytes.len() - 1], &bytes[..2], &too_long] {
            let outcome = records(chunks(damaged, 64), key()).try_collect::<Vec<_>>().await;
            assert!(matches!(outcome, Err(Error::Blobs(_))), "{outcome:?}");
        }
    }
}
