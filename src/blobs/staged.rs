//! An object while it is being written.

use std::io;

/// An object that is being written and that nobody can see: a file that is removed when this is dropped.
#[derive(Debug)]
pub struct Staged {
    length: u64,
}

impl Staged {
    /// Appends bytes. Blocks: call it on a thread that may.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _ = bytes;
        unimplemented!()
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }
}
