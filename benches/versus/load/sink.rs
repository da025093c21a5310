//! The limits to compare with: bare receivers of HTTP and of C-STORE. Each hashes what it receives with
//! SHA-256, writes it to a file of its own, flushes the file and answers. They keep no index and look at no
//! attribute.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::dimse::{read_pdu, write_element, write_pdu};

/// Takes POSTs until it is killed: each body goes to a file, is flushed to the disk, and is answered with
/// 200.
pub(crate) fn http(address: &str, directory: &str) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    for (number, stream) in listener.incoming().enumerate() {
        let (stream, directory) = (stream?, PathBuf::from(directory));
        std::thread::spawn(move || {
            // A connection ends when its client closes it, which is no error.
            let _ = take_posts(stream, &directory, number);
        });
    }
    Ok(())
}

fn take_posts(stream: TcpStream, directory: &Path, connection: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let mut scratch = vec![0; 256 << 10];
    for request in 0.. {
        let mut left = content_length(&mut stream)?;
        let mut object = Object::create(&directory.join(format!("{connection}-{request}")))?;
        while left > 0 {
            let wanted = scratch.len().min(left);
            let read = stream.read(&mut scratch[..wanted])?;
            if read == 0 {
                return Err(Error::other("the body ends too early"));
            }
            object.write(&scratch[..read])?;
            left -= read;
        }
        object.finish()?;
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// A file that is being written and hashed.
struct Object {
    #[expect(clippy::disallowed_types, reason = "a bare receiver has no other work for its thread")]
    file: std::fs::File,
    hasher: Sha256,
}

impl Object {
    fn create(path: &Path) -> Result<Self> {
        #[expect(clippy::disallowed_types, reason = "a bare receiver has no other work for its thread")]
        let file = std::fs::File::create(path)?;
        Ok(Self { file, hasher: Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// Makes the bytes durable, once their digest is there, as a server would use it.
    fn finish(self) -> Result<()> {
        std::hint::black_box(self.hasher.finalize());
        self.file.sync_data()
    }
}

fn content_length(stream: &mut impl BufRead) -> Result<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(Error::other("closed"));
        }
        if line.trim_end().is_empty() {
            return Ok(length);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(Error::other)?;
        }
    }
}

/// Accepts associations until it is killed: each data set goes to a file, is flushed to the disk, and is
/// answered with success.
pub(crate) fn dimse(address: &str, directory: &str) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    for (number, stream) in listener.incoming().enumerate() {
        let (stream, directory) = (stream?, PathBuf::from(directory));
        std::thread::spawn(move || {
            let _ = take_stores(stream, &directory, number);
        });
    }
    Ok(())
}

fn take_stores(mut stream: TcpStream, directory: &Path, association: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    let (_, request) = read_pdu(&mut stream)?;
    write_pdu(&mut stream, 2, &acceptance(&request))?;
    let mut object = None;
    for number in 0.. {
        let (kind, body) = read_pdu(&mut stream)?;
        // A PDV: its length, the context, flags (1: of a command, 2: the last fragment), and the fragment.
        match (kind, body.get(5)) {
            (4, Some(flags)) if flags & 1 == 0 => {
                let path = directory.join(format!("{association}-{number}"));
                let mut open = object.take().map_or_else(|| Object::create(&path), Ok)?;
                open.write(&body[6..])?;
                if flags & 2 == 0 {
                    object = Some(open);
                    continue;
                }
                open.finish()?;
                let mut answer = Vec::new();
                write_element(&mut answer, 0x0100, &0x8001u16.to_le_bytes());
                write_element(&mut answer, 0x0900, &[0, 0]);
                let mut pdv = (answer.len() as u32 + 2).to_be_bytes().to_vec();
                pdv.extend([1, 0b11]);
                pdv.extend(answer);
                write_pdu(&mut stream, 4, &pdv)?;
            }
            (4, _) => {}
            _ => return write_pdu(&mut stream, 6, &[0; 4]),
        }
    }
    Ok(())
}

/// An A-ASSOCIATE-AC for the load client's own request: one context accepted, PDUs of up to 256 KiB.
fn acceptance(request: &[u8]) -> Vec<u8> {
    let mut body = request[..68.min(request.len())].to_vec();
    body.extend([0x21, 0, 0, 4, 1, 0, 0, 0]);
    body.extend([0x50, 0, 0, 8, 0x51, 0, 0, 4, 0, 4, 0, 0]);
    body
}
