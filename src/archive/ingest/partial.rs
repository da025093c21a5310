//! An instance while its bytes arrive: scanned, hashed and staged.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::archive::hexadecimal::hexadecimal;
use crate::archive::ingest::{Identity, Refusal, read_instance};
use crate::archive::scan_limits;
use crate::blobs::Staged;
use crate::config::IngestSettings;
use crate::dicom::instance::ParsedInstance;
use crate::dicom::scan::Scanner;

/// An instance whose bytes are arriving.
pub(super) struct PartialInstance {
    staged: Result<Staged, Refusal>,
    scanner: Scanner,
    hasher: Sha256,
    max_bytes: u64,
}

/// An instance whose bytes are all there.
pub(in crate::archive) struct ReceivedInstance {
    pub(in crate::archive) instance: ParsedInstance,
    pub(in crate::archive) digest: String,
    pub(in crate::archive) staged: Staged,
    /// The offset of its data set in the staged object.
    pub(in crate::archive) data_set_offset: u64,
}

impl PartialInstance {
    pub(super) fn new(staged: Result<Staged, Refusal>, ingest: &IngestSettings) -> Self {
        let scanner = Scanner::new(scan_limits(ingest));
        Self { staged, scanner, hasher: Sha256::new(), max_bytes: ingest.max_instance_bytes }
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
        for bytes in batch {
            if let Ok(staged) = &mut self.staged
                && let Err(refusal) = append(staged, &mut self.scanner, bytes, self.max_bytes)
            {
                self.staged = Err(refusal);
            }
            if self.staged.is_ok() {
                self.hasher.update(bytes);
            }
        }
    }

    pub(super) fn conclude(self) -> Result<ReceivedInstance, Refusal> {
        let staged = self.staged?;
        let outline = self.scanner.finish()?;
        let instance = read_instance(&outline)?;
        let digest = hexadecimal(&self.hasher.finalize());
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

fn append(staged: &mut Staged, scanner: &mut Scanner, bytes: &[u8], limit: u64) -> Result<(), Refusal> {
    if staged.length() + bytes.len() as u64 > limit {
        return Err(Refusal::TooLarge { limit });
    }
    scanner.push(bytes)?;
    Ok(staged.write(bytes)?)
}
