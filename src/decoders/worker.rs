//! The program of a decoder process: reads requests from standard input, which is a socket, and writes
//! replies to it.

use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;

use crate::decoders::protocol::{self, LIMITED, SANDBOXED};
use crate::decoders::sandbox;
use crate::decoders::sandbox::Limits;
use crate::dicom::frames::PixelLayout;
use crate::pixel::decode::{FrameEncoding, decode};
use crate::pixel::{Error, Shape};

/// Decodes frames until the server closes the socket.
///
/// # Errors
/// If standard input is no socket, a limit cannot be set, or the server sends no request.
pub fn run(limits: &Limits) -> anyhow::Result<()> {
    // Standard input without its buffer.
    let socket = io::stdin().as_fd().try_clone_to_owned().context("standard input is not open")?;
    let mut socket = UnixStream::from(socket);
    // A panic of a codec is an error of the frame.
    std::panic::set_hook(Box::new(|_| {}));
    let is_sandboxed = sandbox::enter(limits).context("cannot set the limits of a decoder")?;
    socket
        .write_all(&[if is_sandboxed { SANDBOXED } else { LIMITED }])
        .context("`decoder` is started by the server only: standard input is no socket")?;
    while let Some((request, frame)) = protocol::read_request(&mut socket)? {
        let stored = FrameEncoding::Compressed(&request.transfer_syntax);
        let decoded = decode(&frame, &request.layout, stored);
        drop(frame);
        let is_out_of_memory = matches!(decoded, Err(Error::Codec { .. })) && lacks_memory(&request.layout);
        protocol::write_reply(&mut socket, decoded, is_out_of_memory)?;
    }
    Ok(())
}

/// Whether an image of this layout fits into the memory that is left: not all codecs say that they failed for
/// lack of it.
fn lacks_memory(layout: &PixelLayout) -> bool {
    let shape = Shape { rows: layout.rows, columns: layout.columns, samples: layout.samples };
    let count = shape.number_of_samples().unwrap_or_default();
    Vec::<[i32; 2]>::new().try_reserve_exact(count).is_err()
}
