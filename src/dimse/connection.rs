//! A TCP connection as a sequence of pieces of PDUs in and bytes out, with the reasons for which it ends.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dimse::pdu::{Piece, Splitter, Violation};

/// Bytes of a read buffer; pieces share it, so it lives until the last of them is worked on.
const BUFFER_BYTES: usize = 256 * 1024;
/// Room below which a read goes to another buffer rather than into the rest of this one.
const LEAST_READ_BYTES: usize = 16 * 1024;
/// How long a peer has to close after the last PDU, so that it is read before the connection is reset.
const LINGER: Duration = Duration::from_secs(3);

/// Why an association ended in another way than by release or rejection.
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
    /// The peer sent or took nothing for too long.
    #[error("the peer was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer acted against the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The server stops.
    #[error("the server stops")]
    Stopped,
}

impl Interruption {
    /// What to tell the peer in an A-ABORT; `None` if it is gone.
    pub fn abort_source(&self) -> Option<AbortRQSource> {
        match self {
            Self::Aborted | Self::Closed | Self::Failed(_) => None,
            Self::Silent(_) => {
                Some(AbortRQSource::ServiceProvider(AbortRQServiceProviderReason::ReasonNotSpecified))
            }
            Self::Violation(violation) => Some(violation.abort_source()),
            Self::Stopped => Some(AbortRQSource::ServiceUser),
        }
    }
}

/// A connection to a peer.
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    splitter: Splitter,
    write_timeout: Duration,
}

impl Connection {
    /// Over a stream, on which a peer may send P-DATA-TF of `max_pdu_bytes` and must take what it is sent within
    /// `write_timeout`.
    pub fn new(stream: TcpStream, max_pdu_bytes: u32, write_timeout: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), splitter: Splitter::new(max_pdu_bytes), write_timeout }
    }

    /// Waits for the next piece. May be dropped at any time without losing anything.
    pub async fn next(&mut self) -> Result<Piece, Interruption> {
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
        match timeout(self.write_timeout, self.stream.write_all(bytes)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Interruption::Silent(self.write_timeout)),
        }
    }

    /// Closes, after the peer has done so or a while has passed.
    pub async fn close(mut self) {
        let linger = async {
            self.stream.shutdown().await?;
            let mut unread = [0; 4096];
            while self.stream.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        // Nothing depends on how it closes.
        let _ = timeout(LINGER, linger).await;
    }
}
