//! Assembly of instances that arrive as metadata and bulk data, in separate parts. All parts are spooled;
//! then each instance is written as a file and ingested like any other (PS3.18 §10.5.1.4).

mod pixels;
mod plan;
mod uri;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::archive::access::Caller;
use crate::archive::ingest::assembly::plan::AssemblyPlan;
use crate::archive::ingest::spool::{Spool, Spooled};
use crate::archive::ingest::{Refusal, Upload};
use crate::archive::{Archive, run_blocking, with_stack_for};
use crate::dicom::failure::Failure;
use crate::dicom::split::Splitter;
use crate::dicom::uid::StudyUid;
use crate::pixel::png_gif;
use crate::pixel::png_gif::ImageFileFormat;

/// The parts of one request while they arrive.
pub struct Assembly {
    archive: Arc<Archive>,
    base: String,
    spool: Spool,
    open: Option<(AssemblyPart, u64)>,
    metadata: Vec<(MetadataFormat, Range<u64>)>,
    bulk: Bulk,
    /// Bytes of the descriptions of bulk data, which are held in memory.
    described_bytes: usize,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssemblyPart {
    /// The metadata of one instance, or in JSON of several.
    Metadata(MetadataFormat),
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

/// The format of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataFormat {
    /// DICOM JSON (PS3.18 §F).
    Json,
    /// The Native DICOM Model (PS3.19 §A.1).
    Xml,
}

/// Bulk data by its absolute location.
type Bulk = HashMap<String, Vec<BulkPart>>;

/// One part of bulk data.
#[derive(Debug, Clone)]
struct BulkPart {
    range: Range<u64>,
    media_type: String,
    transfer_syntax: Option<String>,
}

/// The instances of one request whose parts are all there.
pub struct AssembledInstances {
    archive: Arc<Archive>,
    parts: Arc<Parts>,
    metadata: std::vec::IntoIter<(MetadataFormat, Range<u64>)>,
    /// The rest of the JSON array that is being read.
    array: Option<(Splitter, Range<u64>)>,
    used: HashSet<String>,
}

/// The parts that instances are made from.
struct Parts {
    base: String,
    spooled: Spooled,
    bulk: Bulk,
}

/// The next bytes of an instance that is assembled.
enum AssemblyPiece {
    /// Bytes that are not in the spool.
    Bytes(Vec<u8>),
    /// A range of the spool.
    Spooled(Range<u64>),
    /// The frames of the file in a range of the spool, decoded.
    Picture(ImageFileFormat, Range<u64>),
}

/// An instance that cannot be made.
#[derive(Debug)]
pub struct UnassembledInstance {
    /// SOP class and SOP instance as they were sent, if they could be read.
    pub reference: Option<(String, String)>,
    /// The reason.
    pub refusal: Refusal,
}

impl From<Refusal> for UnassembledInstance {
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

    /// Begins a part. A part that was not ended is dropped.
    ///
    /// # Errors
    /// [`Failure::HeaderTooLarge`] if the descriptions of the parts take more memory than the attributes of
    /// an instance may.
    pub fn begin(&mut self, part: AssemblyPart) -> Result<(), Failure> {
        if let AssemblyPart::Bulk { location, media_type, transfer_syntax } = &part {
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
            AssemblyPart::Metadata(form) => self.metadata.push((form, range)),
            AssemblyPart::Bulk { location, media_type, transfer_syntax } => {
                let parts = self.bulk.entry(uri::resolve(&self.base, &location)).or_default();
                parts.push(BulkPart { range, media_type, transfer_syntax });
            }
        }
    }

    /// Ends the request, and returns its instances.
    pub async fn finish(self) -> AssembledInstances {
        let parts = Parts { base: self.base, spooled: self.spool.finish().await, bulk: self.bulk };
        AssembledInstances {
            archive: self.archive,
            parts: Arc::new(parts),
            metadata: self.metadata.into_iter(),
            array: None,
            used: HashSet::new(),
        }
    }
}

impl AssembledInstances {
    /// The next instance, all of its bytes written; `None` after the last.
    pub async fn next(
        &mut self,
        caller: &Caller,
        study: Option<&StudyUid>,
    ) -> Option<Result<Upload, UnassembledInstance>> {
        // The permit comes first, so that no more instances are held in memory than there are permits.
        let upload = self.archive.receive(caller, study.cloned()).await;
        Some(match self.next_metadata().await? {
            Ok((form, text)) => self.make(caller, upload, form, text).await,
            Err(refusal) => Err(refusal.into()),
        })
    }

    /// The locations of bulk data that no metadata refers to, after the last instance.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.parts.bulk.keys().filter(|location| !self.used.contains(*location)).map(String::as_str)
    }

    /// The text of the next instance's metadata.
    async fn next_metadata(&mut self) -> Option<Result<(MetadataFormat, Vec<u8>), Refusal>> {
        loop {
            if let Some((splitter, range)) = &mut self.array {
                if let Some(object) = splitter.take_object() {
                    return Some(object.map(|text| (MetadataFormat::Json, text)).map_err(Refusal::from));
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
                MetadataFormat::Json => self.array = Some((Splitter::new(max_bytes, max_objects), range)),
                MetadataFormat::Xml if range.end - range.start > max_bytes as u64 => {
                    return Some(Err(Failure::HeaderTooLarge { limit: max_bytes }.into()));
                }
                MetadataFormat::Xml => {
                    return Some(self.read(range).await.map(|text| (MetadataFormat::Xml, text)));
                }
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

    async fn make(
        &mut self,
        caller: &Caller,
        mut upload: Upload,
        form: MetadataFormat,
        text: Vec<u8>,
    ) -> Result<Upload, UnassembledInstance> {
        let AssemblyPlan { pieces, warnings, reference, used } = self.plan(caller, form, text).await?;
        self.used.extend(used);
        upload.warn(warnings);
        for piece in pieces {
            match piece {
                AssemblyPiece::Bytes(bytes) => upload.write(bytes.into()).await,
                AssemblyPiece::Picture(kind, range) => {
                    if let Err(refusal) = self.write_frames(caller, kind, range, &mut upload).await {
                        return Err(UnassembledInstance { reference: Some(reference), refusal });
                    }
                }
                AssemblyPiece::Spooled(mut range) => loop {
                    match self.parts.spooled.next(&mut range).await {
                        Ok(Some(bytes)) => upload.write(bytes).await,
                        Ok(None) => break,
                        Err(refusal) => {
                            return Err(UnassembledInstance { reference: Some(reference), refusal });
                        }
                    }
                },
            }
        }
        Ok(upload)
    }

    /// Writes the frames of a PNG or GIF file, decoded one after the other.
    async fn write_frames(
        &self,
        caller: &Caller,
        kind: ImageFileFormat,
        range: Range<u64>,
        upload: &mut Upload,
    ) -> Result<(), Refusal> {
        let permit = self.archive.permits.codec(caller).await;
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

    /// Plans an instance, one at a time in the whole server: parsed metadata may take a hundred times the
    /// memory of its text.
    async fn plan(
        &self,
        caller: &Caller,
        form: MetadataFormat,
        text: Vec<u8>,
    ) -> Result<AssemblyPlan, UnassembledInstance> {
        let permit = self.archive.permits.assembly(caller).await;
        let parts = Arc::clone(&self.parts);
        let max_depth = self.archive.ingest.max_sequence_depth;
        let max_elements = self.archive.ingest.max_metadata_elements;
        let plan = move || {
            let nesting = plan::nesting(form, &text, max_depth)?;
            with_stack_for(nesting, || plan::plan(form, &text, &parts, max_depth, max_elements))
                .map_err(Refusal::from)?
        };
        run_blocking(Some(permit), plan).await.map_err(Refusal::from)?
    }
}

impl Archive {
    /// The limits on the metadata of one instance: bytes of text, and elements in it.
    fn metadata_limits(&self) -> (usize, usize) {
        (self.ingest.max_header_bytes, self.ingest.max_metadata_elements)
    }
}
