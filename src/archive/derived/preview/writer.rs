//! Writes a preview: first the codestreams one by one, then the index, which is complete only after them.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::archive::derived::preview::PreviewError;
use crate::archive::derived::preview::geometry::Geometry;
use crate::archive::derived::preview::slices::{Description, Index, Slice};
use crate::blobs::Staged;
use crate::dicom::uid::InstanceUid;
use crate::pixel::j2k::resolution_ends;
use crate::pixel::preview::PreviewImage;

/// A preview while it is being written.
pub(super) struct Writer {
    staged: Staged,
    index: Index,
    /// The descriptions in the index, by their hashes: each slice may have one of its own.
    known: HashMap<u64, usize>,
}

impl Writer {
    /// Begins a preview with an index without slices.
    pub(super) fn new(staged: Staged, index: Index) -> Self {
        Self { staged, index, known: HashMap::new() }
    }

    /// Begins the next instance.
    pub(super) fn begin_instance(&mut self, instance: InstanceUid) {
        self.index.instances.push(instance);
    }

    /// Appends frame `frame` (from 1) of the last instance.
    pub(super) fn append(
        &mut self,
        frame: u32,
        geometry: Geometry,
        picture: &PreviewImage,
    ) -> Result<(), PreviewError> {
        let geometry = geometry.binned(picture.binning);
        let description = Description::new(picture, &geometry);
        let images = &mut self.index.images;
        let hash = self.known.hasher().hash_one(format!("{description:?}"));
        let known = self.known.get(&hash).filter(|&&image| images[image] == description);
        let image = known.copied().unwrap_or_else(|| {
            images.push(description);
            self.known.insert(hash, images.len() - 1);
            images.len() - 1
        });
        let mut slice = self.next_slice(frame, &geometry);
        slice.image = Some(image as u32);
        slice.length = picture.codestream.len() as u32;
        slice.resolutions = resolution_ends(&picture.codestream);
        self.staged.write(&picture.codestream)?;
        self.index.slices.push(slice);
        Ok(())
    }

    /// Leaves out a frame of the last instance.
    pub(super) fn omit(&mut self, frame: u32, geometry: &Geometry, reason: String) {
        let mut slice = self.next_slice(frame, geometry);
        slice.failure = Some(reason);
        self.index.slices.push(slice);
    }

    fn next_slice(&self, frame: u32, geometry: &Geometry) -> Slice {
        Slice {
            number: self.index.slices.len() as u32,
            instance: self.index.instances.len() as u32 - 1,
            frame,
            image: None,
            position: geometry.position,
            offset: self.staged.length(),
            length: 0,
            resolutions: Vec::new(),
            failure: None,
        }
    }

    /// Ends the preview with its index.
    pub(super) fn finish(mut self) -> Result<Staged, PreviewError> {
        if self.index.images.is_empty() {
            let reasons = self.index.slices.into_iter().find_map(|slice| slice.failure);
            return Err(PreviewError::Permanent(reasons.unwrap_or_else(|| "there are no frames".into())));
        }
        self.staged.write(&self.index.tail())?;
        Ok(self.staged)
    }
}
