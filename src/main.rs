//! The binary `cuspid`: runs the command that the arguments name.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use cuspid::cli::Arguments;
use mimalloc::MiMalloc;

// Many threads allocate and free large buffers; this allocator returns their memory to the system. Without
// huge pages (feature `no_thp`) it holds a quarter of the memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // All causes on one line; a backtrace does not help a user of the command line.
            let causes = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(std::io::stderr(), "cuspid: {causes}");
            ExitCode::FAILURE
        }
    }
}
