//! A connection, with TLS or without, that reads pieces of PDUs and writes bytes, with the reasons for which
//! a connection ends.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tokio_util::either::Either;

use crate::dimse::pdu::{PduPiece, PduSplitter, Violation};

/// The length of a read buffer, which pieces share and which is freed with the last of them.
const BUFFER_BYTES: usize = 256 * 1024;
/// The least free room of a buffer for another read; with less, the next read uses a new buffer.
const LEAST_READ_BYTES: usize = 16 * 1024;
/// The time in which a peer may read the last PDU and close, before the connection is reset.
const LINGER: Duration = Duration::from_secs(3);

/// The reason for which an association ended in another way than by release or rejection.
#[derive(Debug, thiserror::Error)]
pub enum Interruption {
    /// The peer aborted.
    #[error("the peer aborted")]
    Aborted,
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
    /// The peer sent or read nothing for too long.
    #[error("the peer was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer sent less than the minimum.
    #[error("the peer sent less than {0} bytes a second (ingest.min_bytes_per_second)")]
    TooSlow(u64),
    /// A response of the peer is to another request than the last.
    #[error("the peer responded to another request than the last")]
    UnexpectedResponse,
    /// A message cannot be sent to its end.
    #[error("a message cannot be sent to its end, because the server failed")]
    Broken,
    /// The peer acted against the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The server stops.
    #[error("the server stops")]
    Stopped,
    /// The peer sent no request, and others wait to be connected.
    #[error("the peer had sent no request when another peer needed its connection")]
    Displaced,
}

impl Interruption {
    /// The source of the A-ABORT for the peer; `None` if the peer is gone.
    pub fn abort_source(&self) -> Option<AbortRQSource> {
        match self {
            Self::Aborted | Self::Closed | Self::Failed(_) => None,
            Self::Silent(_) | Self::TooSlow(_) | Self::Displaced => {
                Some(AbortRQSource::ServiceProvider(AbortRQServiceProviderReason::ReasonNotSpecified))
            }
            Self::Violation(violation) => Some(violation.abort_source()),
            Self::Stopped | Self::Broken | Self::UnexpectedResponse => Some(AbortRQSource::ServiceUser),
        }
    }
}

/// The stream of a connection: without TLS, or with it.
pub type DimseStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection to a peer.
pub struct Connection {
    stream: DimseStream,
    buffer: BytesMut,
    splitter: PduSplitter,
    write_timeout: Duration,
}

impl Connection {
    /// A connection over a stream, on which a peer may send P-DATA-TF of `max_pdu_bytes`. Each write must end
    /// within `write_timeout`.
    pub fn new(stream: DimseStream, max_pdu_bytes: u32, write_timeout: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), splitter: PduSplitter::new(max_pdu_bytes), write_timeout }
    }

    /// Waits for the next piece. Cancel safe: no bytes are lost if the future is dropped.
    pub async fn next(&mut self) -> Result<PduPiece, Interruption> {
        loop {
            if let Some(piece) = self.splitter.next(&mut self.buffer)? {
                return Ok(piece);
            }
            if self.buffer.capacity() - self.buffer.len() < LEAST_READ_BYTES {
                self.buffer.reserve(BUFFER_BYTES);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Interruption::Closed);
            }
        }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Interruption> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(self.write_timeout, write).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Interruption::Silent(self.write_timeout)),
        }
    }

    /// Closes the connection after the peer has closed or `LINGER` has passed.
    pub async fn close(mut self) {
        let linger = async {
            self.stream.shutdown().await?;
            let mut unread = [0; 4096];
            while self.stream.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        // No more data is sent or expected, so errors do not matter.
        let _ = timeout(LINGER, linger).await;
    }
}
