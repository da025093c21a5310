//! What becomes of the parts of a request to store, in the order in which they come (PS3.18 §10.5.2).

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
use crate::archive::ingest::zip_upload::Entry;
use crate::archive::ingest::{Outcome, Refusal, Upload};
use crate::dicom::failure::Failure;
use crate::dicom::uid::StudyUid;
use crate::http::error::{Error, failure_reason};
use crate::http::request::multipart::{self, Event, Head, Scanner};
use crate::http::store::body::Chunks;
use crate::http::store::kind::{Kind, Payload};
use crate::http::store::response::{CANNOT_UNDERSTAND, Item, Results, Skipped};

/// Instances of one request that may be on their way to the disk while the next ones come in.
const MAX_FINISHING: usize = 64;

/// Where the bytes of the part under way go.
enum Part {
    /// Into the archive.
    Instance(Upload),
    /// To the others that make instances together.
    Assembled,
    /// Aside, until the archive is there whole.
    Zip(Spool),
    /// Nowhere.
    Dropped,
}

/// An instance whose end is waited for.
struct Finished {
    place: usize,
    outcome: Outcome,
    /// The name of the entry of a zip archive that it is, and whether that is a zip archive itself.
    entry: Option<(String, bool)>,
}

/// The instances of one request.
pub(super) struct Intake {
    archive: Arc<Archive>,
    caller: Caller,
    study: Option<StudyUid>,
    /// The URL of the request.
    url: String,
    max_parts: usize,
    parts: usize,
    /// Entries of zip archives and objects of arrays of metadata.
    within_parts: usize,
    assembly: Option<Assembly>,
    has_metadata: bool,
    /// How many results were given a place, in the order in which their bytes came.
    places: usize,
    finishing: FuturesUnordered<BoxFuture<'static, Finished>>,
    items: Vec<(usize, Item)>,
    skipped: Skipped,
}

impl Intake {
    /// An intake for a request to this URL, whose instances must be of `study` if there is one.
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
            within_parts: 0,
            assembly: None,
            has_metadata: false,
            places: 0,
            finishing: FuturesUnordered::new(),
            items: Vec::new(),
            skipped: Skipped::default(),
        }
    }

    /// Takes a body.
    ///
    /// # Errors
    /// Why it could not be read to its end. What was complete before counts; a part that the end cuts off does not.
    pub(super) async fn take(&mut self, chunks: &mut Chunks, payload: &Payload) -> Result<(), Error> {
        match payload {
            Payload::One(kind) => {
                let mut part = self.begin(kind.clone()).await?;
                while let Some(bytes) = chunks.next().await? {
                    self.write(&mut part, bytes).await;
                }
                self.end(part).await;
                Ok(())
            }
            Payload::Related { boundary, .. } | Payload::Form { boundary } => {
                self.take_parts(chunks, boundary, payload).await
            }
        }
    }

    async fn take_parts(
        &mut self,
        chunks: &mut Chunks,
        boundary: &str,
        payload: &Payload,
    ) -> Result<(), Error> {
        let mut scanner = Scanner::new(boundary);
        let mut part = None;
        while let Some(chunk) = chunks.next().await? {
            scanner.push(chunk);
            while let Some(event) = scanner.event().map_err(malformed)? {
                match event {
                    Event::Part(head) => part = Some(self.begin_part(payload, &head).await?),
                    Event::Bytes(bytes) => {
                        if let Some(part) = &mut part {
                            self.write(part, bytes).await;
                        }
                    }
                    Event::End => {
                        if let Some(part) = part.take() {
                            self.end(part).await;
                        }
                    }
                }
            }
        }
        scanner.finish().map_err(malformed)
    }

    async fn begin_part(&mut self, payload: &Payload, head: &Head) -> Result<Part, Error> {
        let kind = payload.part(head, self.has_metadata);
        self.begin(kind).await
    }

    async fn begin(&mut self, kind: Kind) -> Result<Part, Error> {
        self.parts += 1;
        if self.parts > self.max_parts {
            return Err(Error::Body(format!("more than {} parts (ingest.max_parts)", self.max_parts)));
        }
        Ok(match kind {
            Kind::Instance => Part::Instance(self.archive.receive(&self.caller, self.study.clone()).await),
            Kind::Zip => Part::Zip(self.archive.spool().await),
            Kind::Assembled(part) => {
                self.has_metadata |= matches!(part, assembly::Part::Metadata(_));
                let mut assembly = match self.assembly.take() {
                    Some(assembly) => assembly,
                    None => Assembly::new(&self.archive, &self.url).await,
                };
                let begun = assembly.begin(part);
                self.assembly = Some(assembly);
                begun.map_err(|failure| Error::Body(failure.to_string()))?;
                Part::Assembled
            }
            Kind::Field => Part::Dropped,
            Kind::Other(reason) => {
                self.add(Item::Other { reason: CANNOT_UNDERSTAND, comment: reason.into(), name: None });
                Part::Dropped
            }
        })
    }

    /// Counts an instance within a part, of which there are as many as of parts: for each there is a result in memory.
    /// Whether there may be one more; if not, that is told.
    fn may_take_in(&mut self) -> bool {
        self.within_parts += 1;
        let may = self.within_parts <= self.max_parts;
        if !may {
            let max = self.max_parts;
            self.add_other(format!("more than {max} instances within parts (ingest.max_parts)"));
        }
        may
    }

    async fn write(&mut self, part: &mut Part, bytes: Bytes) {
        match part {
            Part::Instance(upload) => upload.write(bytes).await,
            Part::Zip(spool) => spool.write(bytes).await,
            Part::Assembled => {
                if let Some(assembly) = &mut self.assembly {
                    assembly.write(bytes).await;
                }
            }
            Part::Dropped => {}
        }
    }

    async fn end(&mut self, part: Part) {
        match part {
            Part::Instance(upload) => self.finish_upload(upload, None).await,
            Part::Zip(spool) => self.unpack(spool).await,
            Part::Assembled => {
                if let Some(assembly) = &mut self.assembly {
                    assembly.end();
                }
            }
            Part::Dropped => {}
        }
    }

    async fn finish_upload(&mut self, upload: Upload, entry: Option<(String, bool)>) {
        self.places += 1;
        let place = self.places;
        let finishing = upload.finish().await;
        self.finishing.push(Box::pin(async move { Finished { place, outcome: finishing.await, entry } }));
        while self.finishing.len() > MAX_FINISHING {
            self.next_outcome().await;
        }
    }

    async fn next_outcome(&mut self) {
        let Some(Finished { place, outcome, entry }) = self.finishing.next().await else { return };
        let is_no_instance =
            matches!(outcome.result, Err(Refusal::Unreadable(Failure::NotDicom | Failure::MediaDirectory)));
        let item = match entry {
            // A folder of a medium has a DICOMDIR, a viewer and what not: that is no failure.
            Some((name, false)) if is_no_instance => return self.skipped.add(name),
            Some((name, true)) if is_no_instance => {
                let comment = "a zip archive within a zip archive is not opened".into();
                Item::Other { reason: CANNOT_UNDERSTAND, comment, name: Some(name) }
            }
            entry => Item::Outcome { outcome, name: entry.map(|(name, _)| name) },
        };
        self.items.push((place, item));
    }

    async fn unpack(&mut self, spool: Spool) {
        let zip = spool.finish().await;
        if let Some(refusal) = zip.refusal() {
            return self.add(refused(&refusal));
        }
        let mut entries = self.archive.receive_zip(&self.caller, self.study.clone(), zip);
        while let Some(entry) = entries.next().await {
            if !self.may_take_in() {
                return;
            }
            match entry {
                Ok(Entry { name, is_zip, upload: Ok(upload) }) => {
                    self.finish_upload(upload, Some((name, is_zip))).await
                }
                Ok(Entry { name, upload: Err(error), .. }) => {
                    self.add(Item::Other {
                        reason: CANNOT_UNDERSTAND,
                        comment: error.to_string(),
                        name: Some(name),
                    });
                }
                Err(error) => self.add_other(error.to_string()),
            }
        }
    }

    /// Puts together the instances whose parts came apart.
    async fn assemble(&mut self) {
        let Some(assembly) = self.assembly.take() else { return };
        let mut instances = assembly.finish().await;
        let (caller, study) = (self.caller.clone(), self.study.clone());
        while let Some(made) = instances.next(&caller, study.as_ref()).await {
            if !self.may_take_in() {
                return;
            }
            match made {
                Ok(upload) => self.finish_upload(upload, None).await,
                Err(unmade) => self.add(Item::Unmade(unmade)),
            }
        }
        for location in instances.unused() {
            let (comment, name) = ("bulk data that no metadata refers to".into(), Some(location.to_owned()));
            self.add(Item::Other { reason: CANNOT_UNDERSTAND, comment, name });
        }
    }

    fn add_other(&mut self, comment: String) {
        self.add(Item::Other { reason: CANNOT_UNDERSTAND, comment, name: None });
    }

    fn add(&mut self, item: Item) {
        self.places += 1;
        self.items.push((self.places, item));
    }

    /// What became of the parts, in the order of the request.
    pub(super) async fn finish(mut self) -> Results {
        self.assemble().await;
        while !self.finishing.is_empty() {
            self.next_outcome().await;
        }
        self.items.sort_by_key(|(place, _)| *place);
        let items = self.items.into_iter().map(|(_, item)| item).collect();
        Results { items, skipped: self.skipped }
    }
}

fn refused(refusal: &Refusal) -> Item {
    Item::Other { reason: failure_reason(refusal), comment: refusal.to_string(), name: None }
}

fn malformed(error: multipart::Error) -> Error {
    Error::Body(error.to_string())
}
