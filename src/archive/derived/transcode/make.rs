//! Writes a file in another transfer syntax, a frame at a time, into a staged object.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use uuid::Builder;

use crate::archive::derived::explicit_vr::Source;
use crate::archive::derived::transcode::offsets::{Offsets, Patch};
use crate::archive::derived::transcode::{Encoding, encode_frame};
use crate::archive::permits::cores;
use crate::archive::{Error, run_blocking};
use crate::blobs;
use crate::blobs::Staged;
use crate::decoders::Priority;
use crate::dicom::derived;
use crate::dicom::explicit;
use crate::dicom::explicit::{EncodedElement, Rewrite, fragment_header};
use crate::dicom::frames::PixelLayout;
use crate::dicom::scan::Outline;
use crate::dicom::transfer_syntax;
use crate::digest::ObjectDigest;
use crate::pixel::transcode::{Codec, Encoded, REVISION};

/// Bytes that are collected before they are written.
const BATCH_BYTES: usize = 256 * 1024;

/// The beginning of every error reason.
const CANNOT: &str = "the instance cannot be transcoded";

impl Source {
    /// Writes the file. Returns also the offset of its Basic Offset Table, if the file has one. Holds as many
    /// frames in memory as there are cores, and nothing that grows with their number.
    pub(super) async fn make(
        self,
        encoding: Encoding,
        priority: Priority,
    ) -> Result<(Staged, Option<u64>), Error> {
        let output = Output { staged: Some(self.archive.blobs.stage().await?), batch: Vec::new() };
        match encoding {
            Encoding::Deflated => Ok((self.deflate(output).await?, None)),
            Encoding::Compressed(codec) => self.compress(output, codec, priority).await,
        }
    }

    /// Writes the file with encapsulated frames. Offsets are filled in some thousand frames at a time, and
    /// values that depend on all frames after the last frame.
    async fn compress(
        &self,
        mut output: Output,
        codec: Codec,
        priority: Priority,
    ) -> Result<(Staged, Option<u64>), Error> {
        let layout = self.record.layout.pixels.as_ref().ok_or_else(|| unsupported("there is no image"))?;
        let outline = self.outline().await?;
        let first = encode_frame(&self.archive, &self.caller, &self.record, 1, codec, priority).await?;
        let photometric = first.photometric;
        let mut offsets = Offsets::new(layout);
        let mut changes = self.changes(&outline, layout, photometric, codec);
        changes.sort_by_key(|change| change.tag);
        let frames = explicit::FrameOutput::Encapsulated(offsets.space());
        let rewrite = Rewrite { transfer_syntax: codec.transfer_syntax().to_owned(), changes, frames };
        let plan = explicit::plan(&outline, &rewrite).map_err(|error| Error::from(error).context(CANNOT))?;
        drop(outline);

        output.write_all(self.read(plan.before)).await?;
        let mut frames = self.frames(first, layout.number_of_frames, codec, priority);
        while let Some(frame) = frames.try_next().await? {
            if frame.photometric != photometric {
                return Err(unsupported("the frames are not of one photometric interpretation"));
            }
            let length = u32::try_from(frame.bytes.len())
                .map_err(|_| Error::TooLarge(format!("{CANNOT}: a frame is too large")))?;
            offsets
                .push(length)
                .ok_or_else(|| Error::TooLarge(format!("{CANNOT}: it takes 4 GiB or more")))?;
            output.write(&fragment_header(length)).await?;
            output.write(&frame.bytes).await?;
            if offsets.is_batch_full() {
                output.overwrite(offsets.take_patches(&plan.places)).await?;
            }
        }
        output.write_all(self.read(plan.after)).await?;
        let mut patches = offsets.take_patches(&plan.places);
        patches.extend(offsets.ratio(&rewrite.changes, &plan.places));
        Ok((output.finish(patches).await?, offsets.basic_at(&plan.places)))
    }

    /// The elements of the file that differ from the stored object, offset tables left out.
    fn changes(
        &self,
        outline: &Outline,
        layout: &PixelLayout,
        photometric: &str,
        codec: Codec,
    ) -> Vec<EncodedElement> {
        let photometric = photometric.into();
        let encoded = PixelLayout { photometric, is_planar: false, ..layout.with_usual_high_bit() };
        let mut changes = explicit::pixel_elements(outline, &encoded);
        match codec.lossy() {
            Some(lossy) => {
                let uid = derived_uid(&self.record.digest, codec);
                changes.extend(derived::elements(outline, &uid, lossy.method, lossy.description));
            }
            None => changes.extend(explicit::loss_of_codestream(outline)),
        }
        changes
    }

    /// Encodes all frames but the first one, which is encoded already, and streams them in order.
    fn frames(
        &self,
        first: Encoded,
        number_of_frames: u32,
        codec: Codec,
        priority: Priority,
    ) -> BoxStream<'static, Result<Encoded, Error>> {
        let source = self.clone();
        let others = stream::iter(2..=number_of_frames).map(move |number| {
            let Self { archive, caller, record } = source.clone();
            async move { encode_frame(&archive, &caller, &record, number, codec, priority).await }
        });
        stream::iter([Ok(first)]).chain(others.buffered(cores())).boxed()
    }

    /// Writes the file with its data set deflated, and appends a zero byte if the length is odd (PS3.5 §A.5).
    async fn deflate(self, mut output: Output) -> Result<Staged, Error> {
        let (archive, caller) = (self.archive.clone(), self.caller.clone());
        let file = self.explicit(transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN).await?;
        let mut head_bytes = file.plan.data_set_at as usize;
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        let mut chunks = file.read();
        while let Some(mut chunk) = chunks.try_next().await? {
            let head = chunk.split_to(head_bytes.min(chunk.len()));
            head_bytes -= head.len();
            output.write(&head).await?;
            let permit = archive.permits.codec(&caller).await;
            let write = move || deflate.write_all(&chunk).map(|()| deflate);
            deflate = run_blocking(Some(permit), write).await?.map_err(cannot_write)?;
            output.write(&std::mem::take(deflate.get_mut())).await?;
        }
        let rest = run_blocking(None, move || deflate.finish()).await?.map_err(cannot_write)?;
        output.write(&rest).await?;
        output.finish(Vec::new()).await
    }
}

/// The UID of the image that a lossy codec produces from the object with this digest: the same each time
/// (PS3.5 §B.2).
fn derived_uid(digest: &ObjectDigest, codec: Codec) -> String {
    let name = format!("{digest} {} {REVISION}", codec.transfer_syntax());
    let hash = Sha256::digest(name);
    let bytes = hash.first_chunk().copied().unwrap_or_default();
    format!("2.25.{}", Builder::from_custom_bytes(bytes).into_uuid().as_u128())
}

/// A staged object, written in batches on threads that may block.
struct Output {
    /// `None` only while a batch is being written.
    staged: Option<Staged>,
    batch: Vec<u8>,
}

impl Output {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.batch.extend_from_slice(bytes);
        if self.batch.len() < BATCH_BYTES {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.apply(move |staged| staged.write(&batch)).await
    }

    async fn write_all(&mut self, mut bytes: BoxStream<'_, Result<Bytes, Error>>) -> Result<(), Error> {
        while let Some(bytes) = bytes.try_next().await? {
            self.write(&bytes).await?;
        }
        Ok(())
    }

    /// Writes the last batch, then `patches`.
    async fn finish(mut self, patches: Vec<Patch>) -> Result<Staged, Error> {
        self.overwrite(patches).await?;
        self.apply(|staged| if staged.length().is_multiple_of(2) { Ok(()) } else { staged.write(&[0]) })
            .await?;
        self.staged.ok_or_else(gone)
    }

    /// Writes the bytes so far, then `patches` over some of them.
    async fn overwrite(&mut self, patches: Vec<Patch>) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        self.apply(move |staged| {
            staged.write(&batch)?;
            patches.iter().try_for_each(|(place, bytes)| staged.overwrite(*place, bytes))
        })
        .await
    }

    async fn apply(
        &mut self,
        change: impl FnOnce(&mut Staged) -> Result<(), blobs::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let mut staged = self.staged.take().ok_or_else(gone)?;
        self.staged = Some(run_blocking(None, move || change(&mut staged).map(|()| staged)).await??);
        Ok(())
    }
}

fn gone() -> Error {
    Error::Blobs(cannot_write("an earlier write failed"))
}

fn cannot_write(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> blobs::Error {
    let operation = "write a transcoded instance".to_owned();
    blobs::Error::Backend { operation, source: cause.into() }
}

fn unsupported(reason: &str) -> Error {
    Error::Unsupported(format!("{CANNOT}: {reason}"))
}
