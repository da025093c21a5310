//! `cuspid decoder`: the program of decoder processes, which a server starts from itself.

use clap::Args;

use crate::decoders;
use crate::decoders::Limits;

/// Arguments of `cuspid decoder`.
#[derive(Debug, Args)]
pub(super) struct DecoderArguments {
    /// Maximum address space in bytes.
    #[arg(long)]
    memory_bytes: u64,
    /// Maximum processor time in seconds.
    #[arg(long)]
    cpu_seconds: u64,
    /// Run at the lowest priority.
    #[arg(long)]
    background: bool,
}

impl DecoderArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { memory_bytes, cpu_seconds, background } = self;
        decoders::run(&Limits { memory_bytes, cpu_seconds, is_background: background })
    }
}
