//! A proxy that delays requests: the latency of a remote service before one on this machine.

use std::io::{Error, Read, Result, Write, stdout};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 256 << 10;
/// The chunks of a request that are on their way at the same time.
const MAX_CHUNKS: usize = 64;

/// Passes connections on to `upstream` until it is killed. What a client sends arrives so many milliseconds
/// later, and answers arrive at once, so that each request takes that much longer. Prints its port.
pub(crate) fn run(upstream: &str, milliseconds: u64) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(stdout(), "{}", listener.local_addr()?.port())?;
    stdout().flush()?;
    for client in listener.incoming() {
        let (client, upstream) = (client?, upstream.to_owned());
        thread::spawn(move || {
            // A connection ends when one of its ends closes it, which is no error.
            let _ = pass_on(&client, &upstream, Duration::from_millis(milliseconds));
        });
    }
    Ok(())
}

fn pass_on(client: &TcpStream, upstream: &str, delay: Duration) -> Result<()> {
    let server = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (chunks, later) = mpsc::sync_channel::<(Instant, Vec<u8>)>(MAX_CHUNKS);
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let (mut from_server, mut to_client) = (server, client.try_clone()?);
    thread::spawn(move || {
        for (at, chunk) in later {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to_server.write_all(&chunk).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = copy(&mut from_server, |chunk| to_client.write_all(chunk));
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let closed = |_| Error::other("closed");
    copy(&mut from_client, |chunk| chunks.send((Instant::now() + delay, chunk.to_vec())).map_err(closed))
}

fn copy(from: &mut TcpStream, mut to: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        to(&buffer[..read])?;
    }
}
