//! An instance while its bytes arrive: scanned, hashed and staged.

use bytes::Bytes;

use crate::archive::ingest::{Identity, Refusal, SopReference, read_instance};
use crate::archive::scan_limits;
use crate::blobs::Staged;
use crate::config::IngestSettings;
use crate::dicom::instance::{ParsedInstance, reference};
use crate::dicom::scan::Scanner;
use crate::digest::{DigestAlgorithm, Hasher, ObjectDigest};

/// An instance whose bytes are arriving.
pub(super) struct PartialInstance {
    staged: Result<Staged, Refusal>,
    scanner: Scanner,
    hasher: Hasher,
    max_bytes: u64,
}

/// An instance whose bytes are all there.
pub(in crate::archive) struct ReceivedInstance {
    pub(in crate::archive) instance: ParsedInstance,
    pub(in crate::archive) digest: ObjectDigest,
    pub(in crate::archive) staged: Staged,
    /// The offset of its data set in the staged object.
    pub(in crate::archive) data_set_offset: u64,
}

/// An instance that is refused before its identity is read.
pub(super) struct UnreadInstance {
    /// Its SOP Class UID and SOP Instance UID, if these could be read.
    pub(super) reference: Option<SopReference>,
    pub(super) refusal: Refusal,
}

impl From<Refusal> for UnreadInstance {
    fn from(refusal: Refusal) -> Self {
        Self { reference: None, refusal }
    }
}

impl PartialInstance {
    pub(super) fn new(staged: Result<Staged, Refusal>, ingest: &IngestSettings) -> Self {
        let scanner = Scanner::new(scan_limits(ingest));
        let hasher = Hasher::new(DigestAlgorithm::OF_NEW_OBJECTS);
        Self { staged, scanner, hasher, max_bytes: ingest.max_instance_bytes }
    }

    /// The bytes of memory that the instance takes; `None` if it is refused.
    pub(super) fn held_bytes(&self) -> Option<usize> {
        let staged = self.staged.as_ref().ok()?;
        Some(self.scanner.held_bytes() + staged.memory_bytes())
    }

    /// Refuses the instance, unless it is refused already.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        if self.staged.is_ok() {
            self.staged = Err(refusal);
        }
    }

    /// Takes a batch; after a refusal, discards it.
    pub(super) fn take(&mut self, batch: &[Bytes]) {
        if let Ok(staged) = &mut self.staged
            && let Err(refusal) = append(staged, &mut self.scanner, &mut self.hasher, batch, self.max_bytes)
        {
            self.staged = Err(refusal);
        }
    }

    pub(super) fn conclude(self) -> Result<ReceivedInstance, UnreadInstance> {
        let Self { staged, scanner, hasher, .. } = self;
        let staged = match staged {
            Ok(staged) => staged,
            Err(refusal) => return Err(UnreadInstance { reference: reference(scanner.outline()), refusal }),
        };
        let outline = scanner.finish_or_part().map_err(|(outline, failure)| UnreadInstance {
            reference: reference(&outline),
            refusal: failure.into(),
        })?;
        let instance = read_instance(&outline)
            .map_err(|failure| UnreadInstance { reference: reference(&outline), refusal: failure.into() })?;
        let digest = hasher.finish();
        Ok(ReceivedInstance { instance, digest, staged, data_set_offset: outline.data_set_offset })
    }
}

impl ReceivedInstance {
    pub(super) fn identity(&self) -> Identity {
        Identity {
            study: self.instance.study.clone(),
            series: self.instance.series.clone(),
            instance: self.instance.instance.clone(),
            sop_class: self.instance.sop_class.clone(),
        }
    }
}

fn append(
    staged: &mut Staged,
    scanner: &mut Scanner,
    hasher: &mut Hasher,
    batch: &[Bytes],
    limit: u64,
) -> Result<(), Refusal> {
    let mut length = staged.length();
    for bytes in batch {
        length += bytes.len() as u64;
        if length > limit {
            return Err(Refusal::TooLarge { limit });
        }
        scanner.push(bytes)?;
        hasher.update(bytes);
    }
    Ok(staged.write_all(batch)?)
}
