//! Writes the DICOM JSON metadata of many instances as one text, compressed by gzip and by Zstandard at the
//! same time, and the objects of a text bundle.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::zstd_safe::CParameter;

use crate::archive::Error;
use crate::index::records::MetadataRecord;

/// The level of gzip: with this encoder, the first whose result is as small as that of `gzip -6`. Level 6 is
/// a fifth larger, and higher levels save 2 %.
const GZIP_LEVEL: u32 = 7;
/// The level of Zstandard: below half of gzip's size in less than gzip's time.
const ZSTD_LEVEL: i32 = 6;
/// The window of Zstandard is 2 MiB; every client has memory for 8 MiB (RFC 9659 §3).
const ZSTD_WINDOW_LOG: u32 = 21;
/// Text that is compressed at a time.
const CHUNK_BYTES: usize = 256 * 1024;
const LENGTH_BYTES: usize = 8;
const DIGEST_BYTES: usize = blake3::OUT_LEN;

/// A content coding in which a text bundle is stored (RFC 9110 §8.4.1, RFC 8878 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextCoding {
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl TextCoding {
    /// All codings.
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// The name of the content coding.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Compresses the metadata of instances.
pub(super) struct MetadataEncoder {
    base_url: String,
    /// Text that is not compressed yet.
    text: Vec<u8>,
    text_bytes: u64,
    is_first: bool,
    gzip: GzEncoder<Vec<u8>>,
    zstd: zstd::Encoder<'static, Vec<u8>>,
}

/// The bytes of an object of a text bundle.
pub(super) struct TextBundleBytes {
    pub(super) bytes: Vec<u8>,
}

impl MetadataEncoder {
    /// An encoder of metadata whose BulkDataURIs begin with a URL.
    pub(super) fn new(base_url: String) -> Result<Self, Error> {
        let gzip = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
        let mut zstd = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(cannot_encode)?;
        zstd.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG)).map_err(cannot_encode)?;
        Ok(Self { base_url, text: Vec::new(), text_bytes: 0, is_first: true, gzip, zstd })
    }

    /// Adds a page of instances.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the metadata of an instance cannot be read.
    pub(super) fn page(&mut self, records: &[MetadataRecord]) -> Result<(), Error> {
        for record in records {
            self.text.push(if self.is_first { b'[' } else { b',' });
            self.is_first = false;
            let written = record.metadata.write_text(&self.base_url, &mut self.text);
            written.map_err(|error| Error::Damaged(format!("the metadata of an instance: {error}")))?;
            if self.text.len() >= CHUNK_BYTES {
                self.compress().map_err(cannot_encode)?;
            }
        }
        Ok(())
    }

    /// The bytes of the larger object so far.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.gzip.get_ref().len().max(self.zstd.get_ref().len())
    }

    /// Ends the text. Returns the objects in the order of [`TextCoding::ALL`].
    pub(super) fn finish(mut self) -> Result<[TextBundleBytes; 2], Error> {
        self.text.extend_from_slice(if self.is_first { b"[]" } else { b"]" });
        self.compress().map_err(cannot_encode)?;
        let Self { gzip, zstd, text_bytes, .. } = self;
        let objects = || Ok::<_, io::Error>([gzip.finish()?, zstd.finish()?]);
        Ok(objects().map_err(cannot_encode)?.map(|compressed| TextBundleBytes::new(compressed, text_bytes)))
    }

    fn compress(&mut self) -> io::Result<()> {
        self.text_bytes += self.text.len() as u64;
        self.gzip.write_all(&self.text)?;
        self.zstd.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }
}

impl TextBundleBytes {
    fn new(compressed: Vec<u8>, text_bytes: u64) -> Self {
        let mut bytes = compressed;
        bytes.extend_from_slice(&text_bytes.to_le_bytes());
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        Self { bytes }
    }

    /// The compressed bytes of an object and the length of their text; `None` if the object is damaged.
    pub(super) fn parse(object: Vec<u8>) -> Option<(Bytes, u64)> {
        let (rest, digest) = object.split_last_chunk::<DIGEST_BYTES>()?;
        let (compressed, text_bytes) = rest.split_last_chunk::<LENGTH_BYTES>()?;
        if blake3::hash(rest) != *digest {
            return None;
        }
        let (length, text_bytes) = (compressed.len(), u64::from_le_bytes(*text_bytes));
        Some((Bytes::from(object).slice(..length), text_bytes))
    }
}

fn cannot_encode(error: io::Error) -> Error {
    Error::Internal(format!("cannot compress metadata: {error}"))
}
