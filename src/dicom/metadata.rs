//! DICOM JSON metadata of an instance, in pieces that are joined to an answer without decompressing.

use serde::{Deserialize, Serialize};

/// The DICOM JSON object of one instance (PS3.18 §F.2), cut wherever a BulkDataURI needs the server's base URL.
///
/// The text is: piece 0, base URL, piece 1, base URL, …, last piece. The base URL ends before `/studies/…`.
/// Each piece is raw deflate (RFC 1951) that was ended by a full flush: it closes on a byte boundary, is not
/// final and refers to nothing before it, so that pieces, and stored blocks between them, form one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The pieces in order; at least one.
    pub pieces: Vec<Piece>,
}

/// A piece of JSON text, compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Raw deflate, fully flushed, not final.
    #[serde(with = "serde_bytes")]
    pub deflated: Vec<u8>,
    /// CRC-32 of the text (as gzip wants it).
    pub crc32: u32,
    /// Bytes of the text.
    pub length: u32,
}

/// Compresses JSON text that was cut at each place where the base URL belongs.
pub fn compress(pieces: &[Vec<u8>]) -> Metadata {
    let _ = pieces;
    unimplemented!()
}

impl Metadata {
    /// Appends the JSON text with `base_url` in its places.
    ///
    /// # Errors
    /// If a piece does not inflate to what its length says: the record is damaged.
    pub fn write_text(&self, base_url: &str, out: &mut Vec<u8>) -> Result<(), std::io::Error> {
        let _ = (base_url, out);
        unimplemented!()
    }
}

/// Joins texts and compressed pieces to one gzip stream (RFC 1952) without compressing again.
pub struct GzipJoiner {}

impl GzipJoiner {
    /// A stream that holds nothing yet.
    pub fn new() -> Self {
        unimplemented!()
    }

    /// Appends plain text, as a stored block.
    pub fn text(&mut self, text: &[u8]) {
        let _ = text;
        unimplemented!()
    }

    /// Appends an instance's metadata.
    pub fn metadata(&mut self, metadata: &Metadata, base_url: &str) {
        let _ = (metadata, base_url);
        unimplemented!()
    }

    /// Takes what is ready to be sent.
    pub fn take(&mut self) -> Vec<u8> {
        unimplemented!()
    }

    /// Ends the stream and takes the rest.
    pub fn finish(self) -> Vec<u8> {
        unimplemented!()
    }
}
