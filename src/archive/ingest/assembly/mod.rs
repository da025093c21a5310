//! Instances that come as metadata and bulk data, in parts of their own: what came is spooled, and when all is there each
//! instance is made a file and goes the way of every other (PS3.18 §10.5.1.4).

mod pixels;
mod plan;
mod uri;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::archive::access::Caller;
use crate::archive::ingest::assembly::plan::{Piece, Plan};
use crate::archive::ingest::spool::{Spool, Spooled};
use crate::archive::ingest::{Refusal, Upload};
use crate::archive::{Archive, run_blocking};
use crate::dicom::failure::Failure;
use crate::dicom::split::Splitter;
use crate::dicom::uid::StudyUid;
use crate::pixel::png_gif;
use crate::pixel::png_gif::ImageFileFormat;

/// The parts of one request, as they come in.
pub struct Assembly {
    archive: Arc<Archive>,
    base: String,
    spool: Spool,
    open: Option<(Part, u64)>,
    metadata: Vec<(Form, Range<u64>)>,
    bulk: Bulk,
    /// Bytes of the descriptions of bulk data, which are held in memory.
    described_bytes: usize,
}

/// What a part of a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The metadata of one instance, or in JSON of several.
    Metadata(Form),
    /// A value that metadata refers to.
    Bulk {
        /// Its Content-Location as it was sent.
        location: String,
        /// Its media type in lower case, without parameters.
        media_type: String,
        /// The `transfer-syntax` parameter of its media type.
        transfer_syntax: Option<String>,
    },
}

/// How metadata is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// DICOM JSON (PS3.18 §F).
    Json,
    /// The Native DICOM Model (PS3.19 §A.1).
    Xml,
}

/// Bulk data by its location in full.
type Bulk = HashMap<String, Vec<BulkPart>>;

/// One part of bulk data.
#[derive(Debug, Clone)]
struct BulkPart {
    range: Range<u64>,
    media_type: String,
    transfer_syntax: Option<String>,
}

/// The instances of one request, when all its parts are there.
pub struct Instances {
    archive: Arc<Archive>,
    parts: Arc<Parts>,
    metadata: std::vec::IntoIter<(Form, Range<u64>)>,
    /// The array at hand: what is left of it.
    array: Option<(Splitter, Range<u64>)>,
    used: HashSet<String>,
}

/// What instances are made of.
struct Parts {
    base: String,
    spooled: Spooled,
    bulk: Bulk,
}

/// An instance that cannot be made.
#[derive(Debug)]
pub struct Unmade {
    /// What it says that it is, as it was sent, if that much could be read: SOP class and SOP instance.
    pub reference: Option<(String, String)>,
    /// Why.
    pub refusal: Refusal,
}

impl From<Refusal> for Unmade {
    fn from(refusal: Refusal) -> Self {
        Self { reference: None, refusal }
    }
}

impl Assembly {
    /// An assembly without parts. `url` is the URL of the request, against which locations are resolved.
    pub async fn new(archive: &Arc<Archive>, url: &str) -> Self {
        let (archive, spool) = (Arc::clone(archive), archive.spool().await);
        let (metadata, bulk, base) = (Vec::new(), Bulk::new(), url.to_owned());
        Self { archive, base, spool, open: None, metadata, bulk, described_bytes: 0 }
    }

    /// Begins a part. One that was not ended is forgotten.
    ///
    /// # Errors
    /// [`Failure::HeaderTooLarge`] if what is said of the parts takes more memory than the attributes of an instance may.
    pub fn begin(&mut self, part: Part) -> Result<(), Failure> {
        if let Part::Bulk { location, media_type, transfer_syntax } = &part {
            let syntax_bytes = transfer_syntax.as_ref().map_or(0, String::len);
            self.described_bytes += location.len() + self.base.len() + media_type.len() + syntax_bytes;
        }
        let (limit, _) = self.archive.metadata_limits();
        if self.described_bytes > limit {
            return Err(Failure::HeaderTooLarge { limit });
        }
        self.open = Some((part, self.spool.length()));
        Ok(())
    }

    /// Takes the next bytes of the part.
    pub async fn write(&mut self, bytes: Bytes) {
        self.spool.write(bytes).await;
    }

    /// Ends the part.
    pub fn end(&mut self) {
        let Some((part, start)) = self.open.take() else { return };
        let range = start..self.spool.length();
        match part {
            Part::Metadata(form) => self.metadata.push((form, range)),
            Part::Bulk { location, media_type, transfer_syntax } => {
                let parts = self.bulk.entry(uri::resolve(&self.base, &location)).or_default();
                parts.push(BulkPart { range, media_type, transfer_syntax });
            }
        }
    }

    /// Ends the request: what its parts make.
    pub async fn finish(self) -> Instances {
        let parts = Parts { base: self.base, spooled: self.spool.finish().await, bulk: self.bulk };
        Instances {
            archive: self.archive,
            parts: Arc::new(parts),
            metadata: self.metadata.into_iter(),
            array: None,
            used: HashSet::new(),
        }
    }
}

impl Instances {
    /// The next instance, all of its bytes written; `None` after the last.
    pub async fn next(
        &mut self,
        caller: &Caller,
        study: Option<&StudyUid>,
    ) -> Option<Result<Upload, Unmade>> {
        // The place comes first, so that no more instances are held in memory than there are places.
        let upload = self.archive.receive(caller, study.cloned()).await;
        Some(match self.next_metadata().await? {
            Ok((form, text)) => self.make(upload, form, text).await,
            Err(refusal) => Err(refusal.into()),
        })
    }

    /// Locations of bulk data that no metadata refers to, when all instances were taken.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.parts.bulk.keys().filter(|location| !self.used.contains(*location)).map(String::as_str)
    }

    /// The text of the next instance's metadata.
    async fn next_metadata(&mut self) -> Option<Result<(Form, Vec<u8>), Refusal>> {
        loop {
            if let Some((splitter, range)) = &mut self.array {
                if let Some(object) = splitter.take_object() {
                    return Some(object.map(|text| (Form::Json, text)).map_err(Refusal::from));
                }
                match self.parts.spooled.next(range).await {
                    Ok(Some(bytes)) => splitter.push(&bytes),
                    Ok(None) => {
                        let (splitter, _) = self.array.take()?;
                        if !splitter.finish() {
                            let reason = "the metadata is not an array of JSON objects, or ends too early";
                            return Some(Err(Refusal::Metadata(reason.into())));
                        }
                    }
                    Err(error) => {
                        self.array = None;
                        return Some(Err(error));
                    }
                }
                continue;
            }
            let (form, range) = self.metadata.next()?;
            if let Some(refusal) = self.parts.spooled.refusal() {
                return Some(Err(refusal));
            }
            let (max_bytes, max_objects) = self.archive.metadata_limits();
            match form {
                Form::Json => self.array = Some((Splitter::new(max_bytes, max_objects), range)),
                Form::Xml if range.end - range.start > max_bytes as u64 => {
                    return Some(Err(Failure::HeaderTooLarge { limit: max_bytes }.into()));
                }
                Form::Xml => return Some(self.read(range).await.map(|text| (Form::Xml, text))),
            }
        }
    }

    async fn read(&self, mut range: Range<u64>) -> Result<Vec<u8>, Refusal> {
        let mut text = Vec::new();
        while let Some(bytes) = self.parts.spooled.next(&mut range).await? {
            text.extend_from_slice(&bytes);
        }
        Ok(text)
    }

    async fn make(&mut self, mut upload: Upload, form: Form, text: Vec<u8>) -> Result<Upload, Unmade> {
        let Plan { pieces, warnings, reference, used } = self.plan(form, text).await?;
        self.used.extend(used);
        upload.warn(warnings);
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => upload.write(bytes.into()).await,
                Piece::Picture(kind, range) => {
                    if let Err(refusal) = self.write_frames(kind, range, &mut upload).await {
                        return Err(Unmade { reference: Some(reference), refusal });
                    }
                }
                Piece::Spooled(mut range) => loop {
                    match self.parts.spooled.next(&mut range).await {
                        Ok(Some(bytes)) => upload.write(bytes).await,
                        Ok(None) => break,
                        Err(refusal) => return Err(Unmade { reference: Some(reference), refusal }),
                    }
                },
            }
        }
        Ok(upload)
    }

    /// Writes the frames of a PNG or GIF file, decoded one after the other.
    async fn write_frames(
        &self,
        kind: ImageFileFormat,
        range: Range<u64>,
        upload: &mut Upload,
    ) -> Result<(), Refusal> {
        let permit = self.archive.permits.codec().await;
        let parts = Arc::clone(&self.parts);
        let (sender, mut frames) = mpsc::channel(1);
        let decoding = run_blocking(Some(permit), move || {
            let file = pixels::whole(&range, &parts.spooled)?;
            let decoded = png_gif::decode(kind, &file, &mut |frame| sender.blocking_send(frame).is_ok());
            decoded.map_err(|error| pixels::unreadable(kind, &error))
        });
        while let Some(frame) = frames.recv().await {
            upload.write(frame.into()).await;
        }
        decoding.await?
    }

    /// Plans an instance, one at a time in the whole server: what a parser makes of metadata may take a hundred times the
    /// memory of its text.
    async fn plan(&self, form: Form, text: Vec<u8>) -> Result<Plan, Unmade> {
        let permit = self.archive.permits.assembly().await;
        let parts = Arc::clone(&self.parts);
        run_blocking(Some(permit), move || plan::plan(form, &text, &parts)).await.map_err(Refusal::from)?
    }
}

impl Archive {
    /// Bytes of the text of one instance's metadata, and objects in it, at most.
    fn metadata_limits(&self) -> (usize, usize) {
        (self.ingest.max_header_bytes, self.ingest.max_elements)
    }
}
