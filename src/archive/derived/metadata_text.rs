//! Text bundles: the DICOM JSON metadata of a series or a study as one response body, compressed as one by
//! gzip and by Zstandard (docs/decisions/0111).
//!
//! A text bundle is made at the first request after the series or study has been quiet. Its key has the
//! version and the service's URL, so that a text bundle is valid as long as nothing changes. Each of its two
//! objects is a gzip member or a Zstandard frame, followed by the length of the text (64 bits, little endian)
//! and the BLAKE3 digest of all bytes before the digest.

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use lru::LruCache;
use tokio::time::timeout;
use tracing::warn;

use crate::archive::access::Caller;
use crate::archive::derived::cache;
use crate::archive::derived::metadata_bundle;
use crate::archive::derived::metadata_encoder::{MetadataEncoder, TextBundleBytes};
use crate::archive::read::{collect, series_version};
use crate::archive::scope::{Scope, VisibleScope};
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::Key;
use crate::clock::now_millis;
use crate::telemetry;

pub use crate::archive::derived::metadata_encoder::TextCoding;

/// The smallest number of instances with a text bundle: the metadata of fewer are small in any form.
const MIN_INSTANCES: u64 = 4;
/// The largest text bundle, compressed, that is made or read: a reader holds all of it in memory.
const MAX_OBJECT_BYTES: u64 = 16 << 20;
/// The longest wait of the first request for a text bundle. Most are made in less, and save more on the line.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// Up to so many instances, the first request waits.
const MAX_AWAITED_INSTANCES: u64 = 2000;
/// The number of text bundles which are known to be impossible, so that not every request tries them again.
const MAX_IMPOSSIBLE: usize = 1024;

/// A study, series or instance whose metadata are requested, as its record describes it.
#[derive(Debug, Clone)]
pub struct MetadataSource {
    scope: Scope,
    version: String,
    number_of_instances: u64,
    /// The time of the last change, in milliseconds since 1970 UTC.
    changed_at: i64,
}

/// A text bundle in one coding.
#[derive(Debug)]
pub struct TextBundle {
    /// A gzip member or a Zstandard frame. The bytes hold the response memory that was granted for them.
    pub compressed: Bytes,
    /// The length of the text in bytes.
    pub text_bytes: u64,
}

/// The state of this process about text bundles.
pub(in crate::archive) struct TextBundles {
    /// Those that cannot be made: they are too large, or the metadata of an instance are damaged.
    impossible: Mutex<LruCache<Key, ()>>,
    /// The URL of the service that clients used last; empty before.
    base_url: Mutex<String>,
}

impl Default for TextBundles {
    fn default() -> Self {
        let capacity = NonZero::new(MAX_IMPOSSIBLE).expect("the constant is not 0");
        Self { impossible: Mutex::new(LruCache::new(capacity)), base_url: Mutex::default() }
    }
}

impl TextBundles {
    fn add_impossible(&self, key: Key) {
        self.impossible.lock().unwrap_or_else(PoisonError::into_inner).put(key, ());
    }

    fn base_url(&self) -> MutexGuard<'_, String> {
        self.base_url.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_impossible(&self, key: &Key) -> bool {
        self.impossible.lock().unwrap_or_else(PoisonError::into_inner).get(key).is_some()
    }
}

impl Archive {
    /// Remembers the URL of the service that a client has used to retrieve or search: text bundles that are
    /// made ahead of the first request have this URL.
    pub fn note_base_url(&self, base_url: &str) {
        let mut noted = self.text_bundles.base_url();
        if *noted != base_url {
            base_url.clone_into(&mut noted);
        }
    }

    /// Remembers the URL of the service that a client has used to store, until another client retrieves or
    /// searches: devices often use another name of the server than viewers.
    pub fn note_store_url(&self, base_url: &str) {
        let mut noted = self.text_bundles.base_url();
        if noted.is_empty() {
            base_url.clone_into(&mut noted);
        }
    }
}

impl MetadataSource {
    /// Reads the record of the part of a scope that the caller may see.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is stored there.
    pub async fn read(archive: &Archive, caller: &Caller, scope: &Scope) -> Result<Self, Error> {
        let scope = match caller.visible(scope)? {
            VisibleScope::All(scope) => scope,
            // Each share has instances of its own: their metadata are made anew each time.
            VisibleScope::Some(scope) => {
                let version = archive.version(caller, &scope).await?;
                return Ok(Self { scope, version, number_of_instances: 0, changed_at: 0 });
            }
        };
        let (version, number_of_instances, changed_at) = match (&scope.series, &scope.instance) {
            (Some(_), Some(_)) => (archive.version(caller, &scope).await?, 1, 0),
            (Some(series), None) => {
                let record = archive.series(caller, &scope.study, series).await?;
                (series_version(&record), record.number_of_instances, record.changed_at)
            }
            (None, _) => {
                let record = archive.study(caller, &scope.study).await?;
                let version = format!("{}-{}", record.generation, record.changed_at);
                (version, record.number_of_instances, record.changed_at)
            }
        };
        Ok(Self { scope, version, number_of_instances, changed_at })
    }

    /// The same as [`Archive::version`] at the time of reading.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether a text bundle is worth its object. A series that instances are still added to would need
    /// another one after each.
    fn is_bundled(&self, archive: &Archive) -> bool {
        let quiet_millis = 1000 * i64::try_from(archive.preview.quiet_seconds).unwrap_or(i64::MAX / 1000);
        self.scope.instance.is_none()
            && self.number_of_instances >= MIN_INSTANCES
            && now_millis().saturating_sub(self.changed_at) >= quiet_millis
    }
}

/// Returns the text bundle of a study or series with the BulkDataURIs of `base_url`, in a coding; `None` if
/// there is none yet. Where there is none, a text bundle is made in the background, for which this waits a
/// moment if it may.
///
/// # Errors
/// [`Error::Busy`] if there is no response memory in time.
pub async fn text_bundle(
    archive: &Arc<Archive>,
    caller: &Caller,
    source: &MetadataSource,
    base_url: &str,
    (coding, may_wait): (TextCoding, bool),
) -> Result<Option<TextBundle>, Error> {
    if !source.is_bundled(archive) {
        return Ok(None);
    }
    let work = BundleWork::new(caller, source, base_url);
    let key = work.keys[coding as usize].clone();
    if let Some(bundle) = stored(archive, caller, &key).await? {
        return Ok(Some(bundle));
    }
    if archive.text_bundles.is_impossible(&work.keys[0]) {
        return Ok(None);
    }
    let Some(permit) = archive.permits.try_bundle(caller) else { return Ok(None) };
    let maker = archive.clone();
    let made = tokio::spawn(async move {
        let _permit = permit;
        work.run(&maker, false).await;
    });
    let is_awaited = may_wait && source.number_of_instances <= MAX_AWAITED_INSTANCES;
    if is_awaited && timeout(MAX_WAIT, made).await.is_ok() {
        return stored(archive, caller, &key).await;
    }
    Ok(None)
}

/// Makes the text bundle of a series ahead of the first request, with the URL that clients used last. Takes a
/// core for as long as that takes, between awaits: call it on a thread that may block.
pub(super) async fn make_ahead(archive: &Archive, caller: &Caller, scope: &Scope) {
    let base_url = archive.text_bundles.base_url().clone();
    if base_url.is_empty() {
        return;
    }
    let Ok(source) = MetadataSource::read(archive, caller, scope).await else { return };
    if source.is_bundled(archive) {
        BundleWork::new(caller, &source, &base_url).run(archive, true).await;
    }
}

/// The text bundle under a key, if it is there and undamaged.
async fn stored(archive: &Archive, caller: &Caller, key: &Key) -> Result<Option<TextBundle>, Error> {
    let Some(size_bytes) = size_of(archive, key).await else { return Ok(None) };
    let memory = archive.response_memory_in_time(caller, size_bytes).await?;
    let found = read(archive, key, size_bytes).await;
    Ok(found.map(|(compressed, text_bytes)| TextBundle { compressed: memory.hold(compressed), text_bytes }))
}

/// The size of an object, if the object is there and of a size that is read.
async fn size_of(archive: &Archive, key: &Key) -> Option<usize> {
    let size_bytes = match archive.cache.size_of(key) {
        Some(size_bytes) => Some(size_bytes),
        None => cache::find(archive, key).await.unwrap_or_else(|error| {
            warn!(error = telemetry::chain(&error), "cannot look for a text bundle");
            None
        }),
    };
    size_bytes.filter(|&size_bytes| size_bytes <= MAX_OBJECT_BYTES).and_then(|bytes| bytes.try_into().ok())
}

/// Reads an object and checks it: the compressed bytes and the length of the text. A response does not fail
/// because of a text bundle: one that cannot be read is none, and one that is damaged is deleted too.
async fn read(archive: &Archive, key: &Key, size_bytes: usize) -> Option<(Bytes, u64)> {
    let bytes = match archive.blobs.read(key, 0..size_bytes as u64).await {
        Ok(bytes) => collect(bytes).await,
        Err(error) => Err(error),
    };
    match bytes {
        Ok(bytes) => {
            let checked = run_blocking(None, move || TextBundleBytes::parse(bytes)).await.ok()?;
            if let Some(found) = checked {
                return Some(found);
            }
            warn!("a text bundle is damaged; it is deleted");
            if let Err(error) = archive.blobs.delete(key).await {
                warn!(error = telemetry::chain(&error), "cannot delete a text bundle");
            }
        }
        // Another process evicted the text bundle, or it expired in the store.
        Err(blobs::Error::NotFound(_) | blobs::Error::OutOfRange { .. }) => {}
        Err(error) => warn!(error = telemetry::chain(&error), "cannot read a text bundle"),
    }
    archive.cache.remove(key);
    None
}

/// The making of a text bundle.
struct BundleWork {
    caller: Caller,
    source: MetadataSource,
    base_url: String,
    /// The keys of the objects, in the order of [`TextCoding::ALL`].
    keys: [Key; 2],
}

impl BundleWork {
    fn new(caller: &Caller, source: &MetadataSource, base_url: &str) -> Self {
        let MetadataSource { scope, version, .. } = source;
        let key =
            |coding: TextCoding| keys::text_bundle(&caller.tenant, scope, version, base_url, coding.name());
        let keys = TextCoding::ALL.map(key);
        Self { caller: caller.clone(), source: source.clone(), base_url: base_url.to_owned(), keys }
    }

    /// Makes the text bundle, on blocking threads or, if `may_block`, on this one.
    async fn run(self, archive: &Archive, may_block: bool) {
        match self.make(archive, may_block).await {
            // The series has changed meanwhile, or was deleted.
            Ok(()) | Err(Error::NotFound(_)) => {}
            Err(error) => {
                if matches!(error, Error::Damaged(_) | Error::TooLarge(_)) {
                    archive.text_bundles.add_impossible(self.keys[0].clone());
                }
                let error = telemetry::chain(&error);
                warn!(error, "cannot make a text bundle; its metadata are joined for each response");
            }
        }
    }

    async fn make(&self, archive: &Archive, may_block: bool) -> Result<(), Error> {
        let Self { caller, source, keys, .. } = self;
        let _lock = archive.derived_locks.lock(keys[0].clone()).await;
        if keys.iter().all(|key| archive.cache.size_of(key).is_some()) {
            return Ok(());
        }
        let mut encoder = MetadataEncoder::new(self.base_url.clone())?;
        let mut pages = metadata_bundle::all_metadata(archive, caller, &source.scope);
        while let Some(page) = pages.try_next().await? {
            let encode = move || encoder.page(&page).map(|()| encoder);
            encoder = work(archive, caller, may_block, encode).await??;
            if encoder.encoded_bytes() as u64 > MAX_OBJECT_BYTES {
                return Err(Error::TooLarge("the metadata are too large for a text bundle".into()));
            }
        }
        let objects = work(archive, caller, may_block, move || encoder.finish()).await??;
        for (key, object) in keys.iter().zip(objects) {
            let mut staged = archive.blobs.stage().await?;
            let staged =
                work(archive, caller, may_block, move || staged.write(&object.bytes).map(|()| staged))
                    .await??;
            let scope = (&source.scope, source.version.as_str());
            cache::put(archive, caller, scope, staged, (key, None)).await?;
        }
        Ok(())
    }
}

/// Does work on this thread, if that may block, or else on a blocking thread under a permit.
async fn work<T: Send + 'static>(
    archive: &Archive,
    caller: &Caller,
    may_block: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if may_block {
        return Ok(work());
    }
    let permit = archive.permits.codec(caller).await;
    run_blocking(Some(permit), work).await
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::blobs::memory::MemoryBlobs;
    use crate::blobs::{Blobs, Bucket};
    use crate::config::Config;
    use crate::dicom::build::DataSet;
    use crate::dicom::transfer_syntax;
    use crate::dicom::uids;
    use crate::index::Index;

    const URL: &str = "http://pacs/dicom-web";

    struct Fixture {
        blobs: Arc<MemoryBlobs>,
        archive: Arc<Archive>,
        caller: Caller,
        scope: Scope,
    }

    impl Fixture {
        fn new(quiet_seconds: u64) -> Self {
            let mut config = Config::defaults();
            config.preview.enabled = false;
            config.preview.quiet_seconds = quiet_seconds;
            let blobs = Arc::new(MemoryBlobs::new());
            let archive = Archive::new(blobs.clone(), Arc::new(Index::in_memory()), &config);
            let scope = Scope { study: "1.2".parse().unwrap(), series: "1.2.1".parse().ok(), instance: None };
            Self { blobs, archive, caller: Caller::anonymous(), scope }
        }

        async fn store(&self, numbers: std::ops::Range<u64>) {
            for number in numbers {
                let data_set = DataSet::explicit()
                    .text(0x0008_0016, "UI", uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
                    .text(0x0008_0018, "UI", &format!("1.2.1.{}", 1000 + number))
                    .text(0x0020_000D, "UI", "1.2")
                    .text(0x0020_000E, "UI", "1.2.1")
                    .element(0x7FE0_0010, "OW", &[7; 600]);
                let file = data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
                let mut upload = self.archive.receive(&self.caller, None).await;
                upload.write(Bytes::from(file)).await;
                upload.finish().await.await.result.unwrap();
            }
        }

        async fn bundle(&self, scope: &Scope, url: &str, coding: TextCoding) -> Option<String> {
            let source = MetadataSource::read(&self.archive, &self.caller, scope).await.unwrap();
            let bundle =
                text_bundle(&self.archive, &self.caller, &source, url, (coding, true)).await.unwrap()?;
            let mut text = String::new();
            match coding {
                TextCoding::Gzip => GzDecoder::new(&bundle.compressed[..]).read_to_string(&mut text).unwrap(),
                TextCoding::Zstd => {
                    text = String::from_utf8(zstd::decode_all(&bundle.compressed[..]).unwrap()).unwrap();
                    text.len()
                }
            };
            assert_eq!(text.len() as u64, bundle.text_bytes);
            Some(text)
        }

        /// The text as joined from the records.
        async fn expected(&self, scope: &Scope, url: &str) -> String {
            let pages = metadata_bundle::all_metadata(&self.archive, &self.caller, scope);
            let mut texts = Vec::new();
            for record in pages.try_collect::<Vec<_>>().await.unwrap().concat() {
                let mut text = Vec::new();
                record.metadata.write_text(url, &mut text).unwrap();
                texts.push(String::from_utf8(text).unwrap());
            }
            format!("[{}]", texts.join(","))
        }

        async fn objects(&self) -> Vec<Key> {
            let listed = self.blobs.list(Bucket::Temporary, "").try_collect::<Vec<_>>().await.unwrap();
            listed.into_iter().map(|entry| entry.key).collect()
        }
    }

    #[tokio::test]
    async fn a_text_bundle_is_the_metadata_of_now_for_each_url_and_coding() {
        let fixture = Fixture::new(0);
        fixture.store(0..MIN_INSTANCES).await;
        let study = Scope { series: None, ..fixture.scope.clone() };
        for changes in 0..2 {
            for scope in [&fixture.scope, &study] {
                for url in [URL, "https://other.example/dicom-web"] {
                    let expected = fixture.expected(scope, url).await;
                    assert!(
                        expected.contains(&format!("{url}/studies/1.2/series/1.2.1/instances/1.2.1.1000/"))
                    );
                    for coding in TextCoding::ALL {
                        let found = fixture.bundle(scope, url, coding).await;
                        assert_eq!(found.as_ref(), Some(&expected), "{changes} {coding:?}");
                    }
                }
            }
            assert_eq!(fixture.objects().await.len(), (changes + 1) * 8);
            let next = MIN_INSTANCES + changes as u64;
            fixture.store(next..next + 1).await;
        }
    }

    #[tokio::test]
    async fn a_small_or_busy_series_has_no_text_bundle() {
        let small = Fixture::new(0);
        small.store(0..MIN_INSTANCES - 1).await;
        let busy = Fixture::new(3600);
        busy.store(0..MIN_INSTANCES).await;
        for fixture in [small, busy] {
            assert_eq!(fixture.bundle(&fixture.scope, URL, TextCoding::Gzip).await, None);
            assert_eq!(fixture.objects().await, []);
        }
    }

    #[tokio::test]
    async fn a_damaged_text_bundle_is_made_again() {
        let fixture = Fixture::new(0);
        fixture.store(0..MIN_INSTANCES).await;
        let expected = fixture.bundle(&fixture.scope, URL, TextCoding::Gzip).await.unwrap();
        for (key, coding) in fixture.objects().await.iter().zip(TextCoding::ALL) {
            let length = fixture.blobs.size(key).await.unwrap().unwrap();
            let whole = fixture.blobs.read(key, 0..length).await.unwrap();
            let whole = whole.try_collect::<Vec<_>>().await.unwrap().concat();
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 1;
            for damaged in [&whole[..whole.len() - 1], &whole[..10], &[], &flipped] {
                let mut staged = fixture.blobs.stage().await.unwrap();
                staged.write(damaged).unwrap();
                fixture.blobs.delete(key).await.unwrap();
                fixture.blobs.put(staged, key).await.unwrap();
                for is_known in [true, false] {
                    if !is_known {
                        fixture.archive.cache.remove(key);
                    }
                    let found = fixture.bundle(&fixture.scope, URL, coding).await;
                    assert_eq!(found.as_ref(), Some(&expected), "{coding:?} {}", damaged.len());
                }
            }
        }
    }

    #[tokio::test]
    async fn a_deletion_leaves_no_text_bundle() {
        let fixture = Fixture::new(0);
        fixture.store(0..MIN_INSTANCES).await;
        fixture.bundle(&fixture.scope, URL, TextCoding::Gzip).await.unwrap();
        assert_eq!(fixture.objects().await.len(), 2);
        let instance = Scope { instance: "1.2.1.1000".parse().ok(), ..fixture.scope.clone() };
        crate::archive::maintenance::delete::delete(&fixture.archive, &fixture.caller, instance)
            .await
            .unwrap();
        assert_eq!(fixture.objects().await, []);
    }

    #[tokio::test]
    async fn a_text_bundle_is_made_ahead_with_the_url_that_clients_used_last() {
        let fixture = Fixture::new(0);
        fixture.store(0..MIN_INSTANCES).await;
        make_ahead(&fixture.archive, &fixture.caller, &fixture.scope).await;
        assert_eq!(fixture.objects().await, [], "no client has used any URL");
        fixture.archive.note_store_url("http://first.example");
        fixture.archive.note_base_url(URL);
        fixture.archive.note_store_url("http://device.example");
        make_ahead(&fixture.archive, &fixture.caller, &fixture.scope).await;
        assert_eq!(fixture.objects().await.len(), 2);
        let found = fixture.bundle(&fixture.scope, URL, TextCoding::Zstd).await;
        assert_eq!(found, Some(fixture.expected(&fixture.scope, URL).await));
        assert_eq!(fixture.objects().await.len(), 2);
    }
}
