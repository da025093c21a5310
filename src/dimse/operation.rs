//! Outstanding operations of an association. Each gives messages to send, in order. A long one runs in a task
//! of its own, so that the association goes on reading: a cancellation may arrive. It begins when the
//! operations before it have ended, so that an association is one piece of work at a time, however much its
//! peer sends.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::dimse::command::DimseResponse;
use crate::dimse::connection::Interruption;

/// The messages that wait to be sent, besides the one that is being sent. With one, there is room again when
/// the last message is being sent.
const WAITING_MESSAGES: usize = 1;

/// An operation that a peer requested.
pub struct Operation {
    context: u8,
    message_id: u16,
    messages: BoxStream<'static, Result<Bytes, Interruption>>,
    cancel: CancellationToken,
    /// The bytes of the data set of an operation that has not begun.
    waiting_bytes: usize,
    /// Takes the responses of the peer to the requests of a long operation.
    responses: Option<mpsc::Sender<DimseResponse>>,
}

impl Operation {
    /// An operation that ends with one message.
    pub fn ending_with(
        context: u8,
        message_id: u16,
        message: impl Future<Output = Vec<u8>> + Send + 'static,
    ) -> Self {
        let messages = stream::once(async move { Ok(Bytes::from(message.await)) }).boxed();
        let cancel = CancellationToken::new();
        Self { context, message_id, messages, cancel, waiting_bytes: 0, responses: None }
    }

    /// A long operation, which sends its messages by an [`Outbox`], and holds `waiting_bytes` until it
    /// begins: when the first of its messages is awaited.
    pub fn long<F>(
        (context, message_id): (u8, u16),
        waiting_bytes: usize,
        response_timeout: Duration,
        stop: CancellationToken,
        work: impl FnOnce(Outbox) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), Interruption>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(WAITING_MESSAGES);
        let (responses, incoming) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let messages = sender.clone();
        let outbox = Outbox {
            messages,
            responses: incoming,
            cancel: cancel.clone(),
            stop,
            response_timeout,
            last_id: 0,
        };
        let work = work(outbox);
        let begin = async move {
            let task = AbortOnDropHandle::new(tokio::spawn(async move {
                if let Err(interruption) = work.await {
                    // If the association has ended, the reason is not needed.
                    let _ = sender.send(Err(interruption)).await;
                }
            }));
            stream::unfold(Some((receiver, task)), |state| async move {
                let (mut receiver, task) = state?;
                match receiver.recv().await {
                    Some(message) => Some((message, Some((receiver, task)))),
                    // The messages have ended; a panic of the task ends the association.
                    None => task.await.err().map(|_| (Err(Interruption::Broken), None)),
                }
            })
        };
        let messages = stream::once(begin).flatten().boxed();
        Self { context, message_id, messages, cancel, waiting_bytes, responses: Some(responses) }
    }

    /// The next message; `None` when the operation has ended. The first call begins a long operation. Cancel
    /// safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, Interruption>> {
        self.waiting_bytes = 0;
        self.messages.next().await
    }

    /// Whether the operation runs until it ends or is cancelled, and may get responses.
    pub fn is_long(&self) -> bool {
        self.responses.is_some()
    }

    /// The bytes of the data set, while the operation has not begun.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Cancels the operation, if this is the one.
    pub fn cancel_if(&self, context: u8, message_id: u16) {
        if (self.context, self.message_id) == (context, message_id) {
            self.cancel.cancel();
        }
    }

    /// Cancels the operation, which gets no further responses.
    pub fn abandon(&mut self) {
        self.cancel.cancel();
        if self.is_long() {
            let (closed, _) = mpsc::channel(1);
            self.responses = Some(closed);
        }
    }

    /// Gives a response of the peer to the operation. Returns whether the operation takes one now.
    pub fn respond(&self, response: DimseResponse) -> bool {
        self.responses.as_ref().is_some_and(|responses| responses.try_send(response).is_ok())
    }
}

/// The way of a long operation to its peer.
pub struct Outbox {
    messages: mpsc::Sender<Result<Bytes, Interruption>>,
    responses: mpsc::Receiver<DimseResponse>,
    cancel: CancellationToken,
    stop: CancellationToken,
    response_timeout: Duration,
    last_id: u16,
}

impl Outbox {
    /// Sends bytes of P-DATA-TF. Waits until the bytes before are being sent.
    pub async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Interruption> {
        if self.is_stopped() {
            return Err(Interruption::Stopped);
        }
        self.messages.send(Ok(bytes.into())).await.map_err(|_| Interruption::Closed)
    }

    /// Whether the server stops.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until the server stops.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Whether the peer has cancelled the operation.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Waits until the peer cancels the operation, or the server stops.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        let (cancel, stop) = (self.cancel.clone(), self.stop.clone());
        async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// A way to send requests to a peer, one after the other, and to get its responses.
pub trait RequestLink: Send {
    /// An ID for the next request.
    fn next_id(&mut self) -> u16;

    /// Sends bytes of P-DATA-TF.
    fn request(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<(), Interruption>> + Send;

    /// Waits for the response to the request with this ID.
    fn response(&mut self, id: u16) -> impl Future<Output = Result<DimseResponse, Interruption>> + Send;
}

impl RequestLink for Outbox {
    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    async fn request(&mut self, bytes: Vec<u8>) -> Result<(), Interruption> {
        self.send(bytes).await
    }

    async fn response(&mut self, id: u16) -> Result<DimseResponse, Interruption> {
        // The time begins when the request is being sent: the messages of earlier operations come first.
        let is_sent = async { self.messages.reserve().await.map(drop).map_err(|_| Interruption::Closed) };
        tokio::select! {
            () = self.stop.cancelled() => return Err(Interruption::Stopped),
            is_sent = is_sent => is_sent?,
        }
        let response = tokio::select! {
            () = self.stop.cancelled() => return Err(Interruption::Stopped),
            response = timeout(self.response_timeout, self.responses.recv()) => response,
        };
        let response = response.map_err(|_| Interruption::Silent(self.response_timeout))?;
        let response = response.ok_or(Interruption::Closed)?;
        if response.message_id == id { Ok(response) } else { Err(Interruption::UnexpectedResponse) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::dimse::command::{DimseOperation, SubOperations};

    #[tokio::test]
    async fn a_long_operation_begins_when_its_first_message_is_awaited() {
        let has_begun = Arc::new(AtomicBool::new(false));
        let begin = has_begun.clone();
        let patience = Duration::from_secs(30);
        let mut operation =
            Operation::long((1, 1), 1000, patience, CancellationToken::new(), |mut outbox| async move {
                begin.store(true, Ordering::Relaxed);
                outbox.send(vec![1]).await
            });
        sleep(Duration::from_millis(50)).await;
        assert!(!has_begun.load(Ordering::Relaxed));
        assert_eq!(operation.waiting_bytes(), 1000);
        assert_eq!(operation.next().await.unwrap().unwrap(), [1_u8][..]);
        assert!(has_begun.load(Ordering::Relaxed));
        assert_eq!(operation.waiting_bytes(), 0);
    }

    #[tokio::test]
    async fn the_time_of_a_response_begins_when_its_request_is_sent() {
        let patience = Duration::from_secs(1);
        let start = || {
            Operation::long((1, 1), 0, patience, CancellationToken::new(), |mut outbox| async move {
                let id = outbox.next_id();
                outbox.request(vec![1]).await?;
                outbox.response(id).await?;
                outbox.send(vec![2]).await
            })
        };
        let mut operation = start();
        // Earlier operations of the association send their messages.
        sleep(2 * patience).await;
        assert_eq!(operation.next().await.unwrap().unwrap(), [1_u8][..]);
        let (operation_kind, counts) = (DimseOperation::Store, SubOperations::default());
        let response = DimseResponse {
            operation: operation_kind,
            message_id: 1,
            status: 0,
            counts,
            has_data_set: false,
        };
        assert!(operation.respond(response));
        assert_eq!(operation.next().await.unwrap().unwrap(), [2_u8][..]);
        assert!(operation.next().await.is_none());
        let mut unanswered = start();
        assert_eq!(unanswered.next().await.unwrap().unwrap(), [1_u8][..]);
        assert!(matches!(unanswered.next().await, Some(Err(Interruption::Silent(_)))));
    }
}
