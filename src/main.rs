//! `cuspid`: arguments to a command.

use clap::Parser;
use cuspid::cli::Arguments;
use mimalloc::MiMalloc;

// Buffers come and go on many threads; this allocator gives them back to the system. Without huge pages (a feature of
// the crate), it holds a quarter of the memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    Arguments::parse().run()
}
