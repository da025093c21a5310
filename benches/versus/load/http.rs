//! STOW-RS and GET over HTTP/1.1 with kept connections (PS3.18 §10.4, §10.5).

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::TcpStream;

use crate::{Report, dicom, run};

const BOUNDARY: &str = "versus-boundary";

/// Stores every file of a directory, so many in a request, over so many connections.
pub(crate) fn stow(url: &str, connections: usize, per_request: usize, directory: &str) -> Result<Report> {
    let (address, path) = split(url)?;
    let files = dicom::read_directory(directory)?;
    let jobs: Vec<&[Vec<u8>]> = files.chunks(per_request.max(1)).collect();
    run(&jobs, connections, || {
        let mut connection = Connection::open(address)?;
        Ok(move |files: &&[Vec<u8>]| connection.post(path, files))
    })
}

/// Gets every path that a file lists, so many times, over so many connections. Each of `headers` ends its
/// line.
pub(crate) fn get(
    address: &str,
    connections: usize,
    repeats: usize,
    headers: &str,
    file: &str,
) -> Result<Report> {
    let text = std::fs::read_to_string(file)?;
    let paths: Vec<&str> = (0..repeats).flat_map(|_| text.lines()).collect();
    run(&paths, connections, || {
        let mut connection = Connection::open(address)?;
        Ok(move |path: &&str| connection.get(path, headers))
    })
}

fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").ok_or_else(|| Error::other("the URL must start with http://"))?;
    let slash = rest.find('/').ok_or_else(|| Error::other("the URL has no path"))?;
    Ok(rest.split_at(slash))
}

pub(crate) struct Connection {
    address: String,
    stream: BufReader<TcpStream>,
    scratch: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(64 << 10, stream);
        Ok(Self { address: address.into(), stream, scratch: vec![0; 256 << 10] })
    }

    /// Sends one request to store; the bytes that it stored.
    pub(crate) fn post(&mut self, path: &str, files: &[Vec<u8>]) -> Result<u64> {
        let part = format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n");
        let end = format!("--{BOUNDARY}--\r\n");
        let stored: usize = files.iter().map(Vec::len).sum();
        let length = stored + files.len() * (part.len() + 2) + end.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/dicom+json\r\nContent-Length: {length}\r\n\
             Content-Type: multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}\r\n\r\n",
            self.address
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        for file in files {
            // A small file goes out in one piece with its delimiters; a large one is not copied.
            if file.len() < 32 << 10 {
                stream.write_all(&[part.as_bytes(), file, b"\r\n"].concat())?;
            } else {
                stream.write_all(part.as_bytes())?;
                stream.write_all(file)?;
                stream.write_all(b"\r\n")?;
            }
        }
        stream.write_all(end.as_bytes())?;
        self.answer(path)?;
        Ok(stored as u64)
    }

    /// Sends one GET; the bytes of the body.
    fn get(&mut self, path: &str, headers: &str) -> Result<u64> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.answer(path)
    }

    /// Reads an answer to its end; the bytes of its body.
    fn answer(&mut self, path: &str) -> Result<u64> {
        let status = self.line()?;
        let (mut length, mut is_chunked) = (None, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse().map_err(Error::other)?);
            }
            is_chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let body = match length {
            _ if is_chunked => self.chunks()?,
            Some(length) => self.swallow(length)?,
            // Ended by the end of the connection (RFC 9112 §6.3).
            None => std::io::copy(&mut self.stream, &mut std::io::sink())?,
        };
        match status.split(' ').nth(1) {
            Some("200") => Ok(body),
            _ => Err(Error::other(format!("{path}: {status}"))),
        }
    }

    fn chunks(&mut self) -> Result<u64> {
        let mut total = 0;
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(Error::other)?;
            total += self.swallow(size)?;
            self.line()?;
            if size == 0 {
                return Ok(total);
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(Error::other("the server closed the connection"));
        }
        Ok(line.trim_end().to_owned())
    }

    fn swallow(&mut self, length: u64) -> Result<u64> {
        let mut left = length;
        while left > 0 {
            let wanted = self.scratch.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.stream.read(&mut self.scratch[..wanted])?;
            if read == 0 {
                return Err(Error::other("the body ends too early"));
            }
            left -= read as u64;
        }
        Ok(length)
    }
}
