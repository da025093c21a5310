//! A buffer for text that is written before its response can begin; long text is held compressed.

use std::io::{Cursor, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::response::Builder;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::future::BoxFuture;
use futures_util::stream;

use crate::archive;
use crate::archive::run_blocking;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::response::ranged;

/// Text up to this length is held as it is; also the size of the chunks that are compressed.
const MAX_PLAIN_BYTES: usize = 64 * 1024;
/// Smaller responses are not worth compressing: they fit into a few packets.
const MIN_GZIP_BYTES: usize = 4096;
/// Text that is decompressed at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// A buffer for text of any length. DICOM JSON and XML take a tenth of their length in memory, or less.
///
/// The text is compressed on a blocking thread while more is written.
pub(crate) struct CompressedBuffer {
    /// Text that the compressor has not been given yet.
    plain: Vec<u8>,
    compressor: Option<Compressor>,
    length: u64,
}

impl CompressedBuffer {
    /// An empty buffer.
    pub(crate) fn new() -> Self {
        Self { plain: Vec::new(), compressor: None, length: 0 }
    }

    /// Appends text. Must be called in the context of a Tokio runtime.
    pub(crate) fn write(&mut self, text: &[u8]) {
        self.length += text.len() as u64;
        self.plain.extend_from_slice(text);
        if self.plain.len() > MAX_PLAIN_BYTES {
            let chunk = std::mem::take(&mut self.plain);
            self.compressor.get_or_insert_with(Compressor::start).send(chunk);
        }
    }

    /// The bytes of the text in memory, with those that wait for compression.
    pub(crate) fn held_bytes(&self) -> usize {
        self.plain.len() + self.compressor.as_ref().map_or(0, Compressor::held_bytes)
    }

    /// Ends a response with the text, compressed if the client accepts that and if the text is long enough.
    pub(crate) async fn answer(self, response: Builder, head: &Head) -> Result<Response<Body>, Error> {
        let takes_gzip = head.takes_gzip();
        let compressor = match self.compressor {
            Some(compressor) => compressor,
            None if self.plain.len() < MIN_GZIP_BYTES || !takes_gzip => {
                let response = response.header(CONTENT_LENGTH, self.plain.len());
                return ranged::finish(response, Body::from(self.plain));
            }
            None => Compressor::start(),
        };
        compressor.send(self.plain);
        let compressed = compressor.finish().await?;
        if takes_gzip {
            let response = response.header(CONTENT_ENCODING, "gzip").header(CONTENT_LENGTH, compressed.len());
            return ranged::finish(response, Body::from(compressed));
        }
        let response = response.header(CONTENT_LENGTH, self.length);
        ranged::finish(response, decompressed(compressed))
    }
}

/// Compresses chunks by gzip on a blocking thread.
struct Compressor {
    chunks: mpsc::Sender<Vec<u8>>,
    /// Bytes that are sent and not compressed yet.
    waiting_bytes: Arc<AtomicUsize>,
    compressed_bytes: Arc<AtomicUsize>,
    compression: BoxFuture<'static, Result<Vec<u8>, archive::Error>>,
}

impl Compressor {
    fn start() -> Self {
        let (chunks, received) = mpsc::channel::<Vec<u8>>();
        let (waiting_bytes, compressed_bytes) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (waiting, compressed) = (Arc::clone(&waiting_bytes), Arc::clone(&compressed_bytes));
        // Ends when the sender is dropped, with or without a response.
        let compression = run_blocking(None, move || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            for chunk in received {
                encoder.write_all(&chunk).expect("a vector takes every byte");
                compressed.store(encoder.get_ref().len(), Ordering::Relaxed);
                waiting.fetch_sub(chunk.len(), Ordering::Relaxed);
            }
            encoder.finish().expect("a vector takes every byte")
        });
        Self { chunks, waiting_bytes, compressed_bytes, compression: Box::pin(compression) }
    }

    fn send(&self, chunk: Vec<u8>) {
        self.waiting_bytes.fetch_add(chunk.len(), Ordering::Relaxed);
        // Fails only if the compression has panicked, which `finish` reports.
        let _ = self.chunks.send(chunk);
    }

    fn held_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed) + self.compressed_bytes.load(Ordering::Relaxed)
    }

    /// All chunks, compressed.
    async fn finish(self) -> Result<Vec<u8>, Error> {
        drop(self.chunks);
        Ok(self.compression.await?)
    }
}

/// A body that decompresses a chunk at a time.
fn decompressed(compressed: Vec<u8>) -> Body {
    let next = |mut decoder: GzDecoder<Cursor<Vec<u8>>>| async move {
        let read = run_blocking(None, move || {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let bytes = (&mut decoder).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
            Ok::<_, anyhow::Error>((bytes > 0).then(|| (Bytes::from(chunk), decoder)))
        });
        read.await?
    };
    Body::from_stream(stream::try_unfold(GzDecoder::new(Cursor::new(compressed)), next))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    const RESULT: &[u8] =
        br#"{"00080020":{"vr":"DA","Value":["20240229"]},"00100020":{"vr":"LO","Value":["P7"]}},"#;

    #[tokio::test]
    async fn long_text_takes_little_memory() {
        let mut buffer = CompressedBuffer::new();
        for _ in 0..100_000 {
            buffer.write(RESULT);
        }
        assert_eq!(buffer.length, 100_000 * RESULT.len() as u64);
        let compressor = buffer.compressor.as_ref().unwrap();
        while compressor.waiting_bytes.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        assert!((100_000..1_000_000).contains(&buffer.held_bytes()), "{}", buffer.held_bytes());
        let compressed = buffer.compressor.unwrap().finish().await.unwrap();
        assert!(compressed.capacity() < 1_000_000, "{}", compressed.capacity());
    }

    #[tokio::test]
    async fn clients_without_gzip_get_the_text_of_any_length() {
        for count in [0, 1, 100, 10_000] {
            let mut buffer = CompressedBuffer::new();
            (0..count).for_each(|_| buffer.write(RESULT));
            let head = Head::for_tests("http://h/dicom-web");
            let response = buffer.answer(Response::builder(), &head).await.unwrap();
            let length = response.headers()[CONTENT_LENGTH].to_str().unwrap().parse();
            let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert_eq!((text.len(), length), (count * RESULT.len(), Ok(text.len())));
            assert!(text.chunks(RESULT.len()).all(|chunk| chunk == RESULT));
        }
    }
}
