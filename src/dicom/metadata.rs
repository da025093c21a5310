//! The DICOM JSON metadata of an instance, in compressed pieces that are joined to a response without
//! decompressing.

use std::cell::RefCell;

use crc32fast::Hasher;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde::{Deserialize, Serialize};

/// The DICOM JSON object of one instance (PS3.18 §F.2), cut wherever a BulkDataURI needs the server's base
/// URL.
///
/// The text is: piece 0, base URL, piece 1, base URL, …, last piece. The base URL ends before `/studies/…`.
/// Each piece is raw deflate (RFC 1951) that was ended by a full flush: it closes on a byte boundary, is not
/// final and refers to nothing before it, so that pieces, and stored blocks between them, form one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The pieces in order; at least one.
    pub pieces: Vec<MetadataPiece>,
}

/// A piece of JSON text, compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataPiece {
    /// Raw deflate, fully flushed, not final.
    #[serde(with = "serde_bytes")]
    pub deflated: Vec<u8>,
    /// CRC-32 of the text, as in gzip.
    pub crc32: u32,
    /// Bytes of the text.
    pub length: u32,
}

/// Level 1: at the size of a header it is within a few per cent of the default at a third of the time.
const LEVEL: u32 = 1;
/// The maximum number of bytes that one byte of deflate expands to.
const MAX_DEFLATE_RATIO: usize = 1032;
/// Room for the empty block that a flush leaves at the end.
const FLUSH_BYTES: usize = 16;
/// The longest stored block (RFC 1951 §3.2.4).
const MAX_STORED: usize = 65535;

/// Compresses JSON text that was cut at each place where the base URL belongs.
pub fn compress(pieces: &[Vec<u8>]) -> Metadata {
    thread_local! {
        /// Its tables take longer to make than a header takes to compress.
        static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(LEVEL), false));
    }
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        Metadata { pieces: pieces.iter().map(|text| compress_piece(deflate, text)).collect() }
    })
}

fn compress_piece(deflate: &mut Compress, text: &[u8]) -> MetadataPiece {
    let mut deflated = Vec::with_capacity(text.len() / 2 + 64);
    let before = deflate.total_in();
    loop {
        let consumed = (deflate.total_in() - before) as usize;
        // The only failure is a full buffer, and the next round extends it.
        let _ = deflate.compress_vec(&text[consumed..], &mut deflated, FlushCompress::Full);
        if deflated.len() < deflated.capacity() && (deflate.total_in() - before) as usize == text.len() {
            break;
        }
        deflated.reserve(text.len() / 4 + 64);
    }
    deflated.shrink_to_fit();
    MetadataPiece { deflated, crc32: crc32fast::hash(text), length: text.len() as u32 }
}

impl Metadata {
    /// Bytes of the JSON text, base URLs left out.
    pub fn text_bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.length)).sum()
    }

    /// Appends the JSON text with `base_url` in its places.
    ///
    /// # Errors
    /// If a piece does not inflate to what its length and checksum say: the record is damaged.
    pub fn write_text(&self, base_url: &str, out: &mut Vec<u8>) -> Result<(), std::io::Error> {
        // One stream for all: a piece refers to nothing before it and is not final.
        let mut inflate = Decompress::new(false);
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(base_url.as_bytes());
            }
            inflate_piece(&mut inflate, piece, out)?;
        }
        Ok(())
    }
}

fn inflate_piece(
    inflate: &mut Decompress,
    piece: &MetadataPiece,
    out: &mut Vec<u8>,
) -> Result<(), std::io::Error> {
    let damaged = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the metadata record is damaged");
    let length = piece.length as usize;
    if length > piece.deflated.len().saturating_mul(MAX_DEFLATE_RATIO) {
        return Err(damaged());
    }
    let start = out.len();
    let before = inflate.total_in();
    out.reserve(length + FLUSH_BYTES);
    inflate.decompress_vec(&piece.deflated, out, FlushDecompress::Sync).map_err(|_| damaged())?;
    let is_whole = (inflate.total_in() - before) as usize == piece.deflated.len()
        && out.len() - start == length
        && crc32fast::hash(&out[start..]) == piece.crc32;
    if is_whole { Ok(()) } else { Err(damaged()) }
}

/// Joins texts and compressed pieces to one gzip stream (RFC 1952) without compressing again.
pub struct GzipJoiner {
    ready: Vec<u8>,
    crc32: Hasher,
    length: u32,
}

impl Default for GzipJoiner {
    fn default() -> Self {
        Self::new()
    }
}

impl GzipJoiner {
    /// A stream that holds nothing yet.
    pub fn new() -> Self {
        // Deflate, no flags, no time, unknown system.
        let header = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
        Self { ready: header.to_vec(), crc32: Hasher::new(), length: 0 }
    }

    /// Appends plain text, as stored blocks.
    pub fn text(&mut self, text: &[u8]) {
        for block in text.chunks(MAX_STORED) {
            self.stored_block(block, false);
        }
        self.crc32.update(text);
        self.length = self.length.wrapping_add(text.len() as u32);
    }

    /// Appends an instance's metadata.
    pub fn metadata(&mut self, metadata: &Metadata, base_url: &str) {
        for (index, piece) in metadata.pieces.iter().enumerate() {
            if index > 0 {
                self.text(base_url.as_bytes());
            }
            self.ready.extend_from_slice(&piece.deflated);
            self.crc32.combine(&Hasher::new_with_initial_len(piece.crc32, u64::from(piece.length)));
            self.length = self.length.wrapping_add(piece.length);
        }
    }

    /// Takes what is ready to be sent.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// Ends the stream and takes the rest.
    pub fn finish(mut self) -> Vec<u8> {
        self.stored_block(&[], true);
        self.ready.extend_from_slice(&self.crc32.finalize().to_le_bytes());
        self.ready.extend_from_slice(&self.length.to_le_bytes());
        self.ready
    }

    fn stored_block(&mut self, block: &[u8], is_final: bool) {
        let length = block.len() as u16;
        self.ready.push(u8::from(is_final));
        self.ready.extend_from_slice(&length.to_le_bytes());
        self.ready.extend_from_slice(&(!length).to_le_bytes());
        self.ready.extend_from_slice(block);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn header_like(seed: usize) -> Vec<u8> {
        (0..60)
            .map(|n| format!("\"0028{:04X}\":{{\"vr\":\"DS\",\"Value\":[{}]}},", n * 7 + seed, n * seed * 31))
            .collect::<String>()
            .into_bytes()
    }

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn pieces_come_back_with_the_base_url_between_them() {
        for pieces in [
            vec![b"{}".to_vec()],
            vec![Vec::new()],
            vec![header_like(1), b"/studies/1".to_vec(), Vec::new(), header_like(2)],
            vec![
                vec![b'x'; 300_000],
                (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
            ],
        ] {
            let metadata = compress(&pieces);
            let mut text = b"before".to_vec();
            metadata.write_text("http://pacs/dicom-web", &mut text).unwrap();
            assert_eq!(text, [b"before".to_vec(), pieces.join(&b"http://pacs/dicom-web"[..])].concat());
        }
    }

    #[test]
    fn joined_gzip_inflates_to_the_plain_text() {
        let instances: Vec<_> = (1..50).map(|n| compress(&[header_like(n), header_like(n + 1)])).collect();
        let mut joiner = GzipJoiner::new();
        let (mut plain, mut sent) = (vec![b'['; 70_000], Vec::new());
        joiner.text(&plain);
        for instance in &instances {
            joiner.metadata(instance, "http://pacs");
            joiner.text(b",");
            instance.write_text("http://pacs", &mut plain).unwrap();
            plain.push(b',');
            sent.extend(joiner.take());
        }
        sent.extend(joiner.finish());
        assert!(gunzip(&sent) == plain);
        assert!(gunzip(&GzipJoiner::new().finish()).is_empty());
    }

    #[test]
    fn a_damaged_record_is_an_error() {
        let whole = compress(&[header_like(1)]);
        let damage: [fn(&mut MetadataPiece); 5] = [
            |piece| piece.length = u32::MAX,
            |piece| piece.length -= 1,
            |piece| piece.crc32 ^= 1,
            |piece| piece.deflated.truncate(40),
            |piece| piece.deflated[0] = 0xFF,
        ];
        for break_it in damage {
            let mut metadata = whole.clone();
            break_it(&mut metadata.pieces[0]);
            assert!(metadata.write_text("", &mut Vec::new()).is_err());
        }
    }
}
