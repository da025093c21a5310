//! `cuspid`: arguments to a command.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use cuspid::cli::Arguments;
use mimalloc::MiMalloc;

// Buffers come and go on many threads; this allocator gives them back to the system. Without huge pages (a feature of
// the crate), it holds a quarter of the memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // All causes on one line; a backtrace would say nothing to whoever typed the command.
            let causes = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(std::io::stderr(), "cuspid: {causes}");
            ExitCode::FAILURE
        }
    }
}
