//! The slices of a series while its preview is being made.

use bytes::Bytes;

use crate::archive::derived::preview::PreviewError;
use crate::archive::derived::preview::encoded::{EncodedImage, EncodedSlice, SeriesKey, TileParts};
use crate::archive::{Archive, run_blocking};
use crate::blobs::Staged;

/// The slices of a series.
#[derive(Default)]
pub(super) struct Collection {
    pub(super) slices: Vec<EncodedSlice>,
    /// The tile-parts that are not held in memory.
    pub(super) scratch: Option<Staged>,
    held_bytes: usize,
}

impl Collection {
    /// Adds a slice that is in memory.
    pub(super) fn push(&mut self, slice: EncodedSlice) {
        self.held_bytes += slice.length();
        self.slices.push(slice);
    }

    /// Adds a slice that was encoded just now. Beyond a limit, tile-parts go to a file.
    pub(super) async fn add(
        &mut self,
        archive: &Archive,
        series: &SeriesKey,
        mut slice: EncodedSlice,
    ) -> Result<(), PreviewError> {
        // For the next attempt, if this one is overtaken by new instances.
        archive.slices.insert(series, slice.clone());
        self.held_bytes += slice.length();
        if self.held_bytes > archive.preview.max_memory_bytes
            && let Ok(EncodedImage { tile_parts, .. }) = &mut slice.image
            && let TileParts::Memory(bytes) = tile_parts
        {
            let mut scratch = match self.scratch.take() {
                Some(scratch) => scratch,
                None => archive.blobs.stage().await?,
            };
            let (offset, bytes) = (scratch.length(), std::mem::take(bytes));
            let written = run_blocking(None, move || scratch.write(&bytes).map(|()| scratch));
            self.scratch = Some(written.await??);
            *tile_parts = TileParts::Scratch(offset);
        }
        self.slices.push(slice);
        Ok(())
    }
}

/// Bytes `range` of the tile-parts of an image.
pub(super) fn read_tile_parts(
    image: &EncodedImage,
    scratch: Option<&Staged>,
    range: std::ops::Range<u32>,
) -> Result<Bytes, std::io::Error> {
    match (&image.tile_parts, scratch) {
        (TileParts::Memory(bytes), _) => Ok(bytes.slice(range.start as usize..range.end as usize)),
        (TileParts::Scratch(offset), Some(scratch)) => {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            let mut read = 0;
            while read < bytes.len() {
                let at = offset + u64::from(range.start) + read as u64;
                match scratch.read_at(&mut bytes[read..], at)? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    more => read += more,
                }
            }
            Ok(bytes.into())
        }
        (TileParts::Scratch(_), None) => Err(std::io::ErrorKind::NotFound.into()),
    }
}
