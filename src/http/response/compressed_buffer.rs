//! Text that is written before its answer can begin: kept compressed in memory once it is long.

use std::io::{Cursor, Read, Write};

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::response::Builder;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::stream;

use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::response::ranged;

/// Text up to this length is kept as it is.
const MAX_PLAIN_BYTES: usize = 64 * 1024;
/// Answers smaller than this are not worth compressing: they fit into a few packets.
const MIN_GZIP_BYTES: usize = 4096;
/// Text that is inflated at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Text of any length. DICOM JSON and XML take a tenth of it in memory, or less.
#[derive(Debug)]
pub(crate) struct LongText {
    text: Text,
    length: u64,
}

#[derive(Debug)]
enum Text {
    Plain(Vec<u8>),
    Compressed(Box<GzEncoder<Vec<u8>>>),
}

impl LongText {
    /// A text with nothing in it.
    pub(crate) fn new() -> Self {
        Self { text: Text::Plain(Vec::new()), length: 0 }
    }

    /// Appends text.
    pub(crate) fn write(&mut self, text: &[u8]) {
        self.length += text.len() as u64;
        match &mut self.text {
            Text::Plain(plain) => {
                plain.extend_from_slice(text);
                if plain.len() > MAX_PLAIN_BYTES {
                    self.text = Text::Compressed(Box::new(gzip(plain)));
                }
            }
            Text::Compressed(encoder) => encoder.write_all(text).expect("a vector takes every byte"),
        }
    }

    /// Bytes that the text takes in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.text {
            Text::Plain(plain) => plain.len(),
            Text::Compressed(encoder) => encoder.get_ref().len(),
        }
    }

    /// Ends a response with the text, compressed if the client can take that and it pays.
    pub(crate) fn answer(self, response: Builder, head: &Head) -> Result<Response<Body>, Error> {
        let compressed = match self.text {
            Text::Plain(plain) if plain.len() < MIN_GZIP_BYTES || !head.takes_gzip() => {
                return ranged::finish(response.header(CONTENT_LENGTH, plain.len()), Body::from(plain));
            }
            Text::Plain(plain) => gzip(&plain),
            Text::Compressed(encoder) => *encoder,
        };
        let compressed = compressed.finish().expect("a vector takes every byte");
        if head.takes_gzip() {
            let response = response.header(CONTENT_ENCODING, "gzip").header(CONTENT_LENGTH, compressed.len());
            return ranged::finish(response, Body::from(compressed));
        }
        let response = response.header(CONTENT_LENGTH, self.length);
        ranged::finish(response, inflated(compressed))
    }
}

fn gzip(text: &[u8]) -> GzEncoder<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text).expect("a vector takes every byte");
    encoder
}

/// A body of what was compressed, inflated a chunk at a time.
fn inflated(compressed: Vec<u8>) -> Body {
    let decoder = GzDecoder::new(Cursor::new(compressed));
    let next = |mut decoder: GzDecoder<Cursor<Vec<u8>>>| async move {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut decoder).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(chunk), decoder)))
    };
    Body::from_stream(stream::try_unfold(decoder, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_takes_little_memory() {
        let mut long = LongText::new();
        let result =
            br#"{"00080020":{"vr":"DA","Value":["20240229"]},"00100020":{"vr":"LO","Value":["P7"]}},"#;
        for _ in 0..100_000 {
            long.write(result);
        }
        assert_eq!(long.length, 100_000 * result.len() as u64);
        let Text::Compressed(encoder) = &long.text else { panic!("it is not compressed") };
        assert!(encoder.get_ref().capacity() < 1_000_000, "{}", encoder.get_ref().capacity());
        assert!((100_000..1_000_000).contains(&long.held_bytes()), "{}", long.held_bytes());
    }
}
