//! Reads a request to store, part by part, and stores the instances (PS3.18 §10.5.2).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::ingest::assembly;
use crate::archive::ingest::assembly::Assembly;
use crate::archive::ingest::spool::Spool;
use crate::archive::ingest::zip_upload::ZipEntry;
use crate::archive::ingest::{Outcome, Refusal, Upload};
use crate::dicom::failure::Failure;
use crate::dicom::uid::StudyUid;
use crate::http::error::{Error, failure_reason};
use crate::http::request::multipart::{self, Event, MultipartScanner, PartHeaders};
use crate::http::store::body::BodyReader;
use crate::http::store::payload::{PartKind, Payload};
use crate::http::store::response::{CANNOT_UNDERSTAND, PartResult, SkippedEntries, StoreResults};

/// The maximal number of instances of one request that are being stored while the next ones arrive.
const MAX_FINISHING: usize = 64;

/// A part with fewer bytes than this can hold neither an instance, nor its metadata, nor a zip archive of
/// one.
const SMALLEST_PART_BYTES: usize = 64;
/// The maximal number of such parts in a request. Each costs as much as a small instance, and they are free
/// to send.
const MAX_TINY_PARTS: usize = 1000;

/// The destination of the bytes of a part.
enum PartSink {
    /// An upload of an instance.
    Instance(Box<Upload>),
    /// Metadata in the assembly of instances.
    Metadata,
    /// Bulk data in the assembly of instances.
    Bulk,
    /// A spool, until the whole zip archive has arrived.
    Zip(Spool),
    /// None: the bytes are discarded.
    Dropped,
}

/// A finished upload with its result.
struct FinishedUpload {
    number: usize,
    outcome: Outcome,
    /// For an entry of a zip archive: its name, and whether the entry is a zip archive itself.
    entry: Option<(String, bool)>,
}

/// Reads one request to store.
pub(super) struct StoreRequestReader {
    archive: Arc<Archive>,
    caller: Caller,
    study: Option<StudyUid>,
    /// The URL of the request.
    url: String,
    max_parts: usize,
    parts: usize,
    tiny_parts: usize,
    /// Entries of zip archives and objects of arrays of metadata.
    within_parts: usize,
    assembly: Option<Assembly>,
    has_metadata: bool,
    /// The number of results so far; each result is numbered in the order of the request.
    results_begun: usize,
    finishing: FuturesUnordered<BoxFuture<'static, FinishedUpload>>,
    items: Vec<(usize, PartResult)>,
    skipped: SkippedEntries,
}

impl StoreRequestReader {
    /// A reader of a request to this URL. With `study`, all instances must belong to that study.
    pub(super) fn new(
        archive: Arc<Archive>,
        caller: Caller,
        study: Option<StudyUid>,
        url: String,
        max_parts: usize,
    ) -> Self {
        Self {
            archive,
            caller,
            study,
            url,
            max_parts,
            parts: 0,
            tiny_parts: 0,
            within_parts: 0,
            assembly: None,
            has_metadata: false,
            results_begun: 0,
            finishing: FuturesUnordered::new(),
            items: Vec::new(),
            skipped: SkippedEntries::default(),
        }
    }

    /// Reads a body, and stores the instances in it.
    ///
    /// # Errors
    /// The reason why the body could not be read to its end. Complete parts count; a part that the end cuts
    /// off does not.
    pub(super) async fn read(&mut self, chunks: &mut BodyReader, payload: &Payload) -> Result<(), Error> {
        match payload {
            Payload::One(kind) => {
                let (mut part, mut is_empty) = (self.begin(kind.clone()).await?, true);
                while let Some(bytes) = chunks.next().await? {
                    is_empty &= bytes.is_empty();
                    self.write(&mut part, bytes).await;
                }
                if is_empty {
                    return Err(Error::Body("the body is empty".into()));
                }
                self.end(part).await;
                Ok(())
            }
            Payload::Related { boundary, .. } | Payload::Form { boundary } => {
                self.read_parts(chunks, boundary, payload).await
            }
        }
    }

    async fn read_parts(
        &mut self,
        chunks: &mut BodyReader,
        boundary: &str,
        payload: &Payload,
    ) -> Result<(), Error> {
        let mut scanner = MultipartScanner::new(boundary);
        let (mut part, mut part_bytes) = (None, 0);
        while let Some(chunk) = chunks.next().await? {
            scanner.push(chunk);
            while let Some(event) = scanner.event().map_err(malformed)? {
                match event {
                    Event::Part(head) => {
                        part = Some(self.begin_part(payload, &head).await?);
                        part_bytes = 0;
                    }
                    Event::Bytes(bytes) => {
                        part_bytes += bytes.len();
                        if let Some(part) = &mut part {
                            self.write(part, bytes).await;
                        }
                    }
                    Event::End => {
                        if let Some(part) = part.take() {
                            self.check_size(&part, part_bytes)?;
                            self.end(part).await;
                        }
                    }
                }
            }
        }
        scanner.finish().map_err(malformed)
    }

    /// Refuses a request with very many parts that are too small for what they should hold. A bulk value may
    /// have any size.
    fn check_size(&mut self, part: &PartSink, bytes: usize) -> Result<(), Error> {
        let is_tiny = bytes < SMALLEST_PART_BYTES && !matches!(part, PartSink::Bulk);
        self.tiny_parts += usize::from(is_tiny);
        if self.tiny_parts <= MAX_TINY_PARTS {
            return Ok(());
        }
        Err(Error::Body(format!("more than {MAX_TINY_PARTS} parts are too small to hold an instance")))
    }

    async fn begin_part(&mut self, payload: &Payload, head: &PartHeaders) -> Result<PartSink, Error> {
        let kind = payload.part(head, self.has_metadata);
        self.begin(kind).await
    }

    async fn begin(&mut self, kind: PartKind) -> Result<PartSink, Error> {
        self.parts += 1;
        if self.parts > self.max_parts {
            return Err(Error::Body(format!("more than {} parts (ingest.max_parts)", self.max_parts)));
        }
        Ok(match kind {
            PartKind::Instance => {
                PartSink::Instance(Box::new(self.archive.receive(&self.caller, self.study.clone()).await))
            }
            PartKind::Zip => PartSink::Zip(self.archive.spool().await),
            PartKind::Assembled(part) => {
                let is_metadata = matches!(part, assembly::AssemblyPart::Metadata(_));
                self.has_metadata |= is_metadata;
                let mut assembly = match self.assembly.take() {
                    Some(assembly) => assembly,
                    None => Assembly::new(&self.archive, &self.url).await,
                };
                let begun = assembly.begin(part);
                self.assembly = Some(assembly);
                begun.map_err(|failure| Error::Body(failure.to_string()))?;
                if is_metadata { PartSink::Metadata } else { PartSink::Bulk }
            }
            PartKind::Field => PartSink::Dropped,
            PartKind::Other(reason) => {
                self.add(PartResult::Other { reason: CANNOT_UNDERSTAND, comment: reason.into(), name: None });
                PartSink::Dropped
            }
        })
    }

    /// Counts an instance within a part, and returns whether it is within the limit. The limit is that of
    /// parts, because each instance takes a result in memory. Beyond the limit, adds an error to the results.
    fn may_add_instance(&mut self) -> bool {
        self.within_parts += 1;
        let may = self.within_parts <= self.max_parts;
        if !may {
            let max = self.max_parts;
            self.add_other(format!("more than {max} instances within parts (ingest.max_parts)"));
        }
        may
    }

    async fn write(&mut self, part: &mut PartSink, bytes: Bytes) {
        match part {
            PartSink::Instance(upload) => upload.write(bytes).await,
            PartSink::Zip(spool) => spool.write(bytes).await,
            PartSink::Metadata | PartSink::Bulk => {
                if let Some(assembly) = &mut self.assembly {
                    assembly.write(bytes).await;
                }
            }
            PartSink::Dropped => {}
        }
    }

    async fn end(&mut self, part: PartSink) {
        match part {
            PartSink::Instance(upload) => self.finish_upload(*upload, None).await,
            PartSink::Zip(spool) => self.unpack(spool).await,
            PartSink::Metadata | PartSink::Bulk => {
                if let Some(assembly) = &mut self.assembly {
                    assembly.end();
                }
            }
            PartSink::Dropped => {}
        }
    }

    async fn finish_upload(&mut self, upload: Upload, entry: Option<(String, bool)>) {
        self.results_begun += 1;
        let number = self.results_begun;
        let finishing = upload.finish().await;
        self.finishing
            .push(Box::pin(async move { FinishedUpload { number, outcome: finishing.await, entry } }));
        while self.finishing.len() > MAX_FINISHING {
            self.next_outcome().await;
        }
    }

    async fn next_outcome(&mut self) {
        let Some(FinishedUpload { number, outcome, entry }) = self.finishing.next().await else { return };
        let is_no_instance =
            matches!(outcome.result, Err(Refusal::Unreadable(Failure::NotDicom | Failure::MediaDirectory)));
        let item = match entry {
            // A folder of a medium holds a DICOMDIR, a viewer and other files, which are no failures.
            Some((name, false)) if is_no_instance => return self.skipped.add(name),
            Some((name, true)) if is_no_instance => {
                let comment = "a zip archive within a zip archive is not opened".into();
                PartResult::Other { reason: CANNOT_UNDERSTAND, comment, name: Some(name) }
            }
            entry => PartResult::Outcome { outcome, name: entry.map(|(name, _)| name) },
        };
        self.items.push((number, item));
    }

    async fn unpack(&mut self, spool: Spool) {
        let zip = spool.finish().await;
        if let Some(refusal) = zip.refusal() {
            return self.add(refused(&refusal));
        }
        let mut entries = self.archive.receive_zip(&self.caller, self.study.clone(), zip);
        while let Some(entry) = entries.next().await {
            if !self.may_add_instance() {
                return;
            }
            match entry {
                Ok(ZipEntry { name, is_zip, upload: Ok(upload) }) => {
                    self.finish_upload(upload, Some((name, is_zip))).await
                }
                Ok(ZipEntry { name, upload: Err(error), .. }) => {
                    self.add(PartResult::Other {
                        reason: CANNOT_UNDERSTAND,
                        comment: error.to_string(),
                        name: Some(name),
                    });
                }
                Err(error) => self.add_other(error.to_string()),
            }
        }
    }

    /// Assembles the instances whose metadata and bulk data came as separate parts.
    async fn assemble(&mut self) {
        let Some(assembly) = self.assembly.take() else { return };
        let mut instances = assembly.finish().await;
        let (caller, study) = (self.caller.clone(), self.study.clone());
        while let Some(assembled) = instances.next(&caller, study.as_ref()).await {
            if !self.may_add_instance() {
                return;
            }
            match assembled {
                Ok(upload) => self.finish_upload(upload, None).await,
                Err(unmade) => self.add(PartResult::Unmade(unmade)),
            }
        }
        for location in instances.unused() {
            let (comment, name) = ("bulk data that no metadata refers to".into(), Some(location.to_owned()));
            self.add(PartResult::Other { reason: CANNOT_UNDERSTAND, comment, name });
        }
    }

    fn add_other(&mut self, comment: String) {
        self.add(PartResult::Other { reason: CANNOT_UNDERSTAND, comment, name: None });
    }

    fn add(&mut self, item: PartResult) {
        self.results_begun += 1;
        self.items.push((self.results_begun, item));
    }

    /// The results of the parts, in the order of the request.
    pub(super) async fn finish(mut self) -> StoreResults {
        self.assemble().await;
        while !self.finishing.is_empty() {
            self.next_outcome().await;
        }
        self.items.sort_by_key(|(number, _)| *number);
        let items = self.items.into_iter().map(|(_, item)| item).collect();
        StoreResults { items, skipped: self.skipped }
    }
}

fn refused(refusal: &Refusal) -> PartResult {
    PartResult::Other { reason: failure_reason(refusal), comment: refusal.to_string(), name: None }
}

fn malformed(error: multipart::Error) -> Error {
    Error::Body(error.to_string())
}
