//! Section `[decoders]`.

use std::path::PathBuf;

use anyhow::ensure;
use serde::Deserialize;

/// The program itself and small frames need about half of this address space.
const MIN_MEMORY_BYTES: u64 = 256 << 20;

/// Section `[decoders]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct DecodersSettings {
    pub processes: usize,
    pub max_memory_bytes: u64,
    pub max_seconds: u64,
    pub max_frames: u32,
    pub program: PathBuf,
}

impl DecodersSettings {
    /// Refuses limits within which nothing can be decoded.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let Self { max_memory_bytes, max_seconds, max_frames, .. } = *self;
        ensure!(
            max_memory_bytes >= MIN_MEMORY_BYTES,
            "decoders.max_memory_bytes cannot be {max_memory_bytes}: it is at least {MIN_MEMORY_BYTES}"
        );
        ensure!(max_seconds > 0, "decoders.max_seconds cannot be 0");
        ensure!(max_frames > 0, "decoders.max_frames cannot be 0");
        Ok(())
    }
}
