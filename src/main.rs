//! `cuspid`: arguments to a command.

use clap::Parser;
use cuspid::cli::Arguments;
use mimalloc::MiMalloc;

// Uploads and answers come and go in large buffers; this allocator gives them back to the system.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    Arguments::parse().run()
}
