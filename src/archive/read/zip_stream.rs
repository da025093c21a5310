//! Writing a zip file of instances while it is read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use tracing::error;

use crate::archive::access::Caller;
use crate::archive::read::ahead::{AheadSize, holding};
use crate::archive::read::file::as_file;
use crate::archive::read::whole::{MAX_READ_TWICE_BYTES, OmissionPolicy, WholeObject, count_loss, is_logged};
use crate::archive::read::{FILL_BYTES, filled};
use crate::archive::{Archive, Error, run_apart};
use crate::blobs::Key;
use crate::dicom::file_header::FileHeader;
use crate::dicom::uid::InstanceUid;
use crate::digest::ObjectDigest;
use crate::telemetry;
use crate::zip::writer::{DirectoryWriter, EntryHeader};

/// An entry that is about to be read.
#[derive(Debug)]
pub(super) struct ZipDownloadEntry {
    pub(super) header: EntryHeader,
    pub(super) source: EntrySource,
}

/// The source of the bytes of an entry.
#[derive(Debug)]
pub(super) enum EntrySource {
    Object(StoredFile),
    Text(Bytes),
    /// An instance that is made when the entry is opened, so that its size is known only then.
    Made(InstanceUid, EntryMaker),
}

/// Makes the bytes of an entry, and tells their number.
type MakeEntry = dyn Fn() -> BoxFuture<'static, Result<(u64, ZipStream), Error>> + Send + Sync;

/// A maker of the bytes of an entry.
pub(in crate::archive) struct EntryMaker(Box<MakeEntry>);

impl EntryMaker {
    /// A maker that calls a function.
    pub(in crate::archive) fn new(
        make: impl Fn() -> BoxFuture<'static, Result<(u64, ZipStream), Error>> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(make))
    }
}

impl std::fmt::Debug for EntryMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EntryMaker")
    }
}

/// The length of the text in the place of an instance that cannot be made.
const UNMADE_BYTES: u64 = 128;

/// The bytes of a zip file. An object that turns out to be damaged after its first bytes is an error in the
/// stream.
pub type ZipStream = BoxStream<'static, Result<Bytes, Error>>;

/// An instance that is an entry, as a file.
#[derive(Debug)]
pub(super) struct StoredFile {
    pub(super) key: Key,
    /// Bytes of the stored object.
    pub(super) size_bytes: u64,
    pub(super) digest: ObjectDigest,
    /// The file header in the place of the stored one.
    pub(super) header: Option<FileHeader>,
    pub(super) instance: InstanceUid,
}

/// Writes a zip file of these entries while it is read. The first instance that can be read is opened before
/// this returns; those before it that cannot be read are added to `missing`.
///
/// # Errors
/// The error of the first instance if no instance can be read.
pub(super) async fn written(
    archive: &Arc<Archive>,
    caller: &Caller,
    entries: Vec<ZipDownloadEntry>,
    missing: &mut Vec<InstanceUid>,
) -> Result<ZipStream, Error> {
    let size = |entry: &ZipDownloadEntry| match &entry.source {
        EntrySource::Object(file) => AheadSize::Stored(file.size_bytes),
        EntrySource::Text(text) => AheadSize::Stored(text.len() as u64),
        EntrySource::Made(..) => AheadSize::Made,
    };
    let opener = archive.clone();
    let open = move |entry, memory| {
        let archive = opener.clone();
        run_apart(async move {
            let OpenEntry { header, content, bytes } = open(&archive, entry).await;
            Ok(OpenEntry { header, content, bytes: holding(bytes, memory) })
        })
    };
    let opened = archive.opened_ahead(caller.clone(), stream::iter(entries).boxed(), size, open);
    let mut entries = OpenEntries { opened, policy: OmissionPolicy::default() };
    let mut begun = VecDeque::new();
    let mut first_error = None;
    loop {
        let Some(mut entry) = entries.next().await? else {
            match first_error {
                Some(error) => return Err(error),
                None => break,
            }
        };
        let content = std::mem::replace(&mut entry.content, ZipEntryContent::Text);
        begun.push_back(entry);
        match content {
            ZipEntryContent::Text => {}
            ZipEntryContent::Instance => break,
            ZipEntryContent::Unreadable(instance, error) => {
                missing.push(instance);
                first_error.get_or_insert(error);
            }
        }
    }
    let writer = ZipWriter { begun, entries, current: None, directory: DirectoryWriter::default() };
    let bytes = stream::try_unfold(Some(writer), |writer| async move {
        let Some(writer) = writer else { return Ok(None) };
        writer.step().await.map(Some)
    });
    Ok(bytes.boxed())
}

/// An entry that is open.
struct OpenEntry {
    header: EntryHeader,
    content: ZipEntryContent,
    bytes: ZipStream,
}

enum ZipEntryContent {
    Text,
    Instance,
    /// A text in the place of an instance, and the reason.
    Unreadable(InstanceUid, Error),
}

/// Opens an entry. If its object cannot be read, the entry has no bytes yet.
async fn open(archive: &Archive, entry: ZipDownloadEntry) -> OpenEntry {
    let ZipDownloadEntry { header, source } = entry;
    let file = match source {
        EntrySource::Text(text) => {
            let bytes = stream::iter([Ok(text)]).boxed();
            return OpenEntry { header, content: ZipEntryContent::Text, bytes };
        }
        EntrySource::Made(instance, maker) => return open_made(archive, header, instance, &maker).await,
        EntrySource::Object(file) => file,
    };
    let (key, digest, size_bytes) = (&file.key, file.digest, file.size_bytes);
    let opened = archive
        .retried(|| async move { Ok(archive.open_verified(WholeObject { key, size_bytes, digest }).await?) });
    let (content, bytes) = match opened.await {
        Ok(object) => {
            let bytes = as_file(object, size_bytes, file.header);
            (ZipEntryContent::Instance, bytes.map_err(Error::from).boxed())
        }
        Err(error) => (ZipEntryContent::Unreadable(file.instance, error), stream::empty().boxed()),
    };
    OpenEntry { header, content, bytes }
}

/// Opens an entry whose bytes are made.
async fn open_made(
    archive: &Archive,
    mut header: EntryHeader,
    instance: InstanceUid,
    maker: &EntryMaker,
) -> OpenEntry {
    match archive.retried(|| maker.0()).await {
        Ok((size_bytes, bytes)) => {
            header.size_bytes = size_bytes;
            OpenEntry { header, content: ZipEntryContent::Instance, bytes }
        }
        Err(error) => {
            header.size_bytes = UNMADE_BYTES;
            let content = ZipEntryContent::Unreadable(instance, error);
            OpenEntry { header, content, bytes: stream::empty().boxed() }
        }
    }
}

/// Entries, opened some ahead of the one that is sent.
struct OpenEntries {
    opened: BoxStream<'static, Result<OpenEntry, Error>>,
    policy: OmissionPolicy,
}

impl OpenEntries {
    /// The next entry. The length of the zip file was sent, so that an instance that cannot be read is
    /// replaced by a text, which has as many bytes, and a name with as many characters.
    async fn next(&mut self) -> Result<Option<OpenEntry>, Error> {
        let Some(mut entry) = self.opened.try_next().await? else { return Ok(None) };
        let ZipEntryContent::Unreadable(instance, error) = entry.content else {
            self.policy.given();
            return Ok(Some(entry));
        };
        let size_bytes = entry.header.size_bytes;
        if size_bytes > MAX_READ_TWICE_BYTES || !self.policy.goes_on_after(&error) {
            return Err(error);
        }
        if let Error::Blobs(error) = &error {
            count_loss(error);
        }
        if !is_logged(&error) {
            let error = telemetry::chain(&error);
            error!(error, "a zip file has a text in the place of instance {instance}");
        }
        entry.header.name = replacement_name(&entry.header.name);
        entry.bytes = replacement(&instance, size_bytes);
        entry.content = ZipEntryContent::Unreadable(instance, error);
        Ok(Some(entry))
    }
}

/// A text of so many bytes in the place of an instance.
fn replacement(instance: &InstanceUid, size_bytes: u64) -> ZipStream {
    let mut text = format!("Instance {instance} is stored, but its object cannot be read.\r\n").into_bytes();
    text.truncate(usize::try_from(size_bytes).unwrap_or(usize::MAX));
    let left = size_bytes - text.len() as u64;
    let spaces = filled(&[b' '; FILL_BYTES], left);
    stream::iter([Bytes::from(text)]).chain(spaces).map(Ok).boxed()
}

/// The name of the text in the place of an entry.
fn replacement_name(name: &str) -> String {
    match (name.strip_suffix(".dcm"), name.rsplit_once("/IM")) {
        (Some(stem), _) => format!("{stem}.txt"),
        (None, Some((folder, number))) => format!("{folder}/NO{number}"),
        (None, None) => name.to_owned(),
    }
}

/// A zip file that is being written.
struct ZipWriter {
    /// The entries before those of `entries`.
    begun: VecDeque<OpenEntry>,
    entries: OpenEntries,
    /// The entry that is being sent, with the checksum of the bytes that were sent.
    current: Option<(EntryHeader, ZipStream, crc32fast::Hasher)>,
    directory: DirectoryWriter,
}

impl ZipWriter {
    /// The next bytes, and the writer of the bytes after them.
    async fn step(mut self) -> Result<(Bytes, Option<Self>), Error> {
        if let Some((header, mut bytes, mut checksum)) = self.current.take() {
            if let Some(chunk) = bytes.try_next().await? {
                checksum.update(&chunk);
                self.current = Some((header, bytes, checksum));
                return Ok((chunk, Some(self)));
            }
            let end = self.directory.end_entry(&header, checksum.finalize());
            return Ok((end.into(), Some(self)));
        }
        let next = match self.begun.pop_front() {
            Some(entry) => Some(entry),
            None => self.entries.next().await?,
        };
        let Some(OpenEntry { header, bytes, .. }) = next else {
            return Ok((self.directory.into_bytes().into(), None));
        };
        let start = header.local();
        self.current = Some((header, bytes, crc32fast::Hasher::new()));
        Ok((start.into(), Some(self)))
    }
}
