//! The body of a request as it arrives: within the limits on its size, its silence and its slowness, and unpacked if it is
//! compressed (RFC 9110 §8.4, §15.5.9).

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

use crate::http::error::Error;

/// Compressed bytes that are unpacked at a time: a thousand times as many may come out.
const GZIP_PIECE_BYTES: usize = 2048;

/// The limits on a body.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Bytes, unpacked.
    pub(super) max_bytes: u64,
    /// How long the client may be silent, and how long it may be slower than `min_bytes_per_second`.
    pub(super) patience: Duration,
    /// Bytes that it must send in a second, on average; 0 for no minimum.
    pub(super) min_bytes_per_second: u64,
}

/// The chunks of a body.
pub(super) struct Chunks {
    body: BodyDataStream,
    limits: Limits,
    read_bytes: u64,
    /// How much longer the client may let us wait. Each byte adds to it, up to the patience.
    credit: Duration,
    gzip: Option<Gzip>,
}

struct Gzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    /// Compressed bytes that are not unpacked yet.
    waiting: VecDeque<Bytes>,
    has_ended: bool,
}

impl Chunks {
    /// The chunks of a body. Nothing is read before the first is asked for, so that a client that waits for `100 Continue`
    /// does not send what is refused.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a body that says that it is; [`Error::ContentEncoding`] for one that cannot be unpacked.
    pub(super) fn new(body: Body, headers: &HeaderMap, limits: Limits) -> Result<Self, Error> {
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
            [coding] if ["gzip", "x-gzip"].contains(&coding.as_str()) => Some(Gzip::new()),
            _ => return Err(Error::ContentEncoding),
        };
        let credit = limits.patience;
        Ok(Self { body: body.into_data_stream(), limits, read_bytes: 0, credit, gzip })
    }

    /// The next chunk, `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = loop {
            if let Some(gzip) = &mut self.gzip
                && let Some(unpacked) = gzip.unpack()?
            {
                break Some(unpacked);
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
        Ok(chunk)
    }

    /// The next bytes as they come. Only the time that is spent waiting for them counts, not that in which they are stored.
    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        let started = Instant::now();
        let chunk = timeout(self.credit.min(self.limits.patience), self.body.next()).await;
        let waited = started.elapsed();
        let Ok(chunk) = chunk else {
            // Who has sent all the time, only not enough, is told that and not that it was silent.
            let was_silent = self.credit >= self.limits.patience;
            return Err(match was_silent {
                true => Error::TimedOut { seconds: self.limits.patience.as_secs() },
                false => Error::TooSlow { bytes_per_second: self.limits.min_bytes_per_second },
            });
        };
        let chunk = chunk.transpose().map_err(|_| Error::Body("the body ends too early".into()))?;
        let bytes = chunk.as_ref().map_or(0, Bytes::len);
        let earned = match self.limits.min_bytes_per_second {
            0 => self.limits.patience,
            minimum => Duration::from_secs_f64(bytes as f64 / minimum as f64),
        };
        self.credit = (self.credit.saturating_sub(waited) + earned).min(self.limits.patience);
        Ok(chunk)
    }
}

impl Gzip {
    fn new() -> Self {
        Self { decoder: MultiGzDecoder::new(Vec::new()), waiting: VecDeque::new(), has_ended: false }
    }

    /// Unpacks bytes that wait until some come out; `None` if none do.
    fn unpack(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(mut packed) = self.waiting.pop_front() {
            let piece = packed.split_to(GZIP_PIECE_BYTES.min(packed.len()));
            if !packed.is_empty() {
                self.waiting.push_front(packed);
            }
            self.decoder.write_all(&piece).map_err(|_| damaged())?;
            let unpacked = std::mem::take(self.decoder.get_mut());
            if !unpacked.is_empty() {
                return Ok(Some(unpacked.into()));
            }
        }
        Ok(None)
    }

    /// The last bytes; none if it has ended before.
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

    const LIMITS: Limits =
        Limits { max_bytes: 1000, patience: Duration::from_millis(80), min_bytes_per_second: 1000 };

    fn headers(encoding: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        headers
    }

    async fn read(body: Body, headers: &HeaderMap) -> Result<Vec<u8>, Error> {
        let mut chunks = Chunks::new(body, headers, LIMITS)?;
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
        let packed = gzip(b"some bytes");
        for size in 1..=packed.len() {
            let pieces: Vec<_> =
                packed.chunks(size).map(|piece| Ok::<_, Infallible>(piece.to_vec())).collect();
            let body = Body::from_stream(stream::iter(pieces));
            assert_eq!(read(body, &headers("identity, GZIP")).await.unwrap(), b"some bytes");
        }
        assert_eq!(read(Body::from("plain"), &headers("identity")).await.unwrap(), b"plain");
        let bomb = read(Body::from(gzip(&[0; 1_000_000])), &headers("gzip")).await;
        assert!(matches!(bomb, Err(Error::TooLarge { .. })));
        let cut = read(Body::from(packed[..packed.len() - 1].to_vec()), &headers("gzip")).await;
        assert!(matches!(cut, Err(Error::Body(_))));
        for coding in ["br", "gzip, gzip", "identity, deflate"] {
            let other = read(Body::from(packed.clone()), &headers(coding)).await;
            assert!(matches!(other, Err(Error::ContentEncoding)), "{coding}");
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
