//! The body of a request as it arrives: within the limits on size, time and rate, and decompressed (RFC 9110
//! §8.4, §15.5.9).

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::archive::ingest::pace::Pace;
use crate::http::error::Error;

/// The maximal number of compressed bytes that are decompressed at a time; the result may be a thousand times
/// as long.
const GZIP_STEP_BYTES: usize = 2048;

/// The limits on a body.
#[derive(Debug, Clone)]
pub(super) struct BodyLimits {
    /// The maximal size, decompressed.
    pub(super) max_bytes: u64,
    /// The maximal time without any byte, and with fewer bytes than `min_bytes_per_second`.
    pub(super) idle_timeout: Duration,
    /// The minimal average number of bytes per second; 0 for no minimum.
    pub(super) min_bytes_per_second: u64,
    /// The maximal ratio of the decompressed size to the compressed one.
    pub(super) max_gzip_ratio: u64,
    /// The decompressed size from which on the ratio counts.
    pub(super) gzip_grace_bytes: u64,
}

/// Reads a body in chunks.
pub(super) struct BodyReader {
    body: BodyDataStream,
    limits: BodyLimits,
    read_bytes: u64,
    pace: Pace,
    gzip: Option<GzipReader>,
}

struct GzipReader {
    decoder: MultiGzDecoder<Vec<u8>>,
    /// Compressed bytes that are not decompressed yet.
    waiting: VecDeque<Bytes>,
    /// The number of compressed bytes that were decompressed.
    read_bytes: u64,
    has_ended: bool,
}

impl BodyReader {
    /// A reader of a body. Nothing is read before the first chunk is requested, so that a client that waits
    /// for `100 Continue` does not send a body that is refused.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if Content-Length exceeds the limit; [`Error::ContentEncoding`] for an unsupported
    /// content coding.
    pub(super) fn new(body: Body, headers: &HeaderMap, limits: BodyLimits) -> Result<Self, Error> {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limits.max_bytes) {
            return Err(Error::TooLarge { limit: limits.max_bytes });
        }
        let codings = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
        let codings =
            codings.flat_map(|list| list.split(',')).map(|coding| coding.trim().to_ascii_lowercase());
        let applied: Vec<_> = codings.filter(|coding| !["", "identity"].contains(&coding.as_str())).collect();
        let gzip = match applied.as_slice() {
            [] => None,
            [coding] if ["gzip", "x-gzip"].contains(&coding.as_str()) => Some(GzipReader::new()),
            _ => return Err(Error::ContentEncoding),
        };
        let pace = Pace::new(limits.idle_timeout, limits.min_bytes_per_second);
        Ok(Self { body: body.into_data_stream(), limits, read_bytes: 0, pace, gzip })
    }

    /// The next chunk, `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = loop {
            if let Some(gzip) = &mut self.gzip
                && let Some(decompressed) = gzip.decompress()?
            {
                break Some(decompressed);
            }
            let received = self.receive().await?;
            match (&mut self.gzip, received) {
                (None, received) => break received,
                (Some(gzip), Some(received)) => gzip.waiting.push_back(received),
                (Some(gzip), None) => match gzip.finish()? {
                    rest if rest.is_empty() => break None,
                    rest => break Some(rest),
                },
            }
        };
        self.read_bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.read_bytes > self.limits.max_bytes {
            return Err(Error::TooLarge { limit: self.limits.max_bytes });
        }
        self.check_ratio()?;
        Ok(chunk)
    }

    /// Refuses a compressed body that grows out of proportion.
    fn check_ratio(&self) -> Result<(), Error> {
        let limit = self.limits.max_gzip_ratio;
        let is_over = self.gzip.as_ref().is_some_and(|gzip| {
            self.read_bytes > self.limits.gzip_grace_bytes
                && self.read_bytes > gzip.read_bytes.saturating_mul(limit)
        });
        if is_over { Err(Error::TooCompressed { limit }) } else { Ok(()) }
    }

    /// The next bytes as they arrive. Only the time that is spent waiting for them counts, not that in which
    /// they are stored.
    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        let started = Instant::now();
        let chunk = timeout(self.pace.allowance(), self.body.next()).await;
        let waited = started.elapsed();
        let Ok(chunk) = chunk else {
            // A client that has sent all the time, but too little, gets the error for its rate.
            return Err(match self.pace.is_kept() {
                true => Error::TimedOut { seconds: self.limits.idle_timeout.as_secs() },
                false => Error::TooSlow { bytes_per_second: self.limits.min_bytes_per_second },
            });
        };
        let chunk = chunk.transpose().map_err(|_| Error::Body("the body ends too early".into()))?;
        let bytes = chunk.as_ref().map_or(0, Bytes::len);
        self.pace.receive(bytes, waited);
        Ok(chunk)
    }
}

impl GzipReader {
    fn new() -> Self {
        let decoder = MultiGzDecoder::new(Vec::new());
        Self { decoder, waiting: VecDeque::new(), read_bytes: 0, has_ended: false }
    }

    /// Decompresses waiting bytes until there is output; `None` if there is none.
    fn decompress(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(mut compressed) = self.waiting.pop_front() {
            let piece = compressed.split_to(GZIP_STEP_BYTES.min(compressed.len()));
            if !compressed.is_empty() {
                self.waiting.push_front(compressed);
            }
            self.read_bytes += piece.len() as u64;
            self.decoder.write_all(&piece).map_err(|_| damaged())?;
            let decompressed = std::mem::take(self.decoder.get_mut());
            if !decompressed.is_empty() {
                return Ok(Some(decompressed.into()));
            }
        }
        Ok(None)
    }

    /// The last bytes; empty if the end was reached before.
    fn finish(&mut self) -> Result<Bytes, Error> {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.decoder.try_finish().map_err(|_| damaged())?;
        }
        Ok(std::mem::take(self.decoder.get_mut()).into())
    }
}

fn damaged() -> Error {
    Error::Body("Content-Encoding: the body is not valid gzip, or ends too early".into())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::stream;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        max_bytes: 1000,
        idle_timeout: Duration::from_millis(80),
        min_bytes_per_second: 1000,
        max_gzip_ratio: 100,
        gzip_grace_bytes: 1000,
    };

    fn headers(encoding: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        headers
    }

    async fn read(body: Body, headers: &HeaderMap) -> Result<Vec<u8>, Error> {
        read_within(LIMITS, body, headers).await
    }

    async fn read_within(limits: BodyLimits, body: Body, headers: &HeaderMap) -> Result<Vec<u8>, Error> {
        let mut chunks = BodyReader::new(body, headers, limits)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn compressed_bodies_are_unpacked_within_the_limit() {
        let compressed = gzip(b"some bytes");
        for size in 1..=compressed.len() {
            let pieces: Vec<_> =
                compressed.chunks(size).map(|piece| Ok::<_, Infallible>(piece.to_vec())).collect();
            let body = Body::from_stream(stream::iter(pieces));
            assert_eq!(read(body, &headers("identity, GZIP")).await.unwrap(), b"some bytes");
        }
        assert_eq!(read(Body::from("plain"), &headers("identity")).await.unwrap(), b"plain");
        let bomb = read(Body::from(gzip(&[0; 1_000_000])), &headers("gzip")).await;
        assert!(matches!(bomb, Err(Error::TooLarge { .. })));
        let cut = read(Body::from(compressed[..compressed.len() - 1].to_vec()), &headers("gzip")).await;
        assert!(matches!(cut, Err(Error::Body(_))));
        for coding in ["br", "gzip, gzip", "identity, deflate"] {
            let other = read(Body::from(compressed.clone()), &headers(coding)).await;
            assert!(matches!(other, Err(Error::ContentEncoding)), "{coding}");
        }
    }

    #[tokio::test]
    async fn a_compressed_body_that_grows_out_of_proportion_is_refused() {
        let (zeros, noise) =
            (vec![0; 1_000_000], (0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        for (bytes, max_gzip_ratio, gzip_grace_bytes, expected) in [
            (&zeros, 100, 10_000, false),
            (&zeros, 100, 1_000_000, true),
            (&zeros, 2000, 10_000, true),
            (&noise, 100, 10_000, true),
        ] {
            let limits = BodyLimits { max_bytes: u64::MAX, max_gzip_ratio, gzip_grace_bytes, ..LIMITS };
            let outcome = read_within(limits, Body::from(gzip(bytes)), &headers("gzip")).await;
            match outcome {
                Ok(read) => assert!(expected && read == *bytes, "{max_gzip_ratio} {gzip_grace_bytes}"),
                Err(Error::TooCompressed { limit }) => assert!(!expected && limit == max_gzip_ratio),
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_trickles_is_too_slow_and_one_that_is_silent_times_out() {
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, Infallible>("x"), ()))
        });
        let outcome = read(Body::from_stream(trickle), &HeaderMap::new()).await;
        assert!(matches!(outcome, Err(Error::TooSlow { bytes_per_second: 1000 })), "{outcome:?}");
        let silent = stream::pending::<Result<&str, Infallible>>();
        let outcome = read(Body::from_stream(silent), &HeaderMap::new()).await;
        assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
        let steady = stream::unfold(0, |sent| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            (sent < 20).then(|| (Ok::<_, Infallible>("x".repeat(40)), sent + 1))
        });
        assert_eq!(read(Body::from_stream(steady), &HeaderMap::new()).await.unwrap().len(), 800);
    }
}
