//! Operations of an association that are under way. Each gives messages to send, in order; a long one runs in
//! a task of its own, so that the association goes on reading: a cancellation may arrive.

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
        Self { context, message_id, messages, cancel: CancellationToken::new(), responses: None }
    }

    /// Starts a long operation, which sends its messages by an [`Outbox`].
    pub fn start<F>(
        context: u8,
        message_id: u16,
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
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(interruption) = work.await {
                // If the association has ended, the reason is not needed.
                let _ = sender.send(Err(interruption)).await;
            }
        }));
        let messages = stream::unfold(Some((receiver, task)), |state| async move {
            let (mut receiver, task) = state?;
            match receiver.recv().await {
                Some(message) => Some((message, Some((receiver, task)))),
                // The messages have ended; a panic of the task ends the association.
                None => task.await.err().map(|_| (Err(Interruption::Broken), None)),
            }
        });
        Self { context, message_id, messages: messages.boxed(), cancel, responses: Some(responses) }
    }

    /// The next message; `None` when the operation has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, Interruption>> {
        self.messages.next().await
    }

    /// Whether the operation runs until it ends or is cancelled, and may get responses.
    pub fn is_long(&self) -> bool {
        self.responses.is_some()
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
    use tokio::time::sleep;

    use super::*;
    use crate::dimse::command::DimseOperation;

    #[tokio::test]
    async fn the_time_of_a_response_begins_when_its_request_is_sent() {
        let patience = Duration::from_secs(1);
        let start = || {
            Operation::start(1, 1, patience, CancellationToken::new(), |mut outbox| async move {
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
        let operation_kind = DimseOperation::Store;
        let response =
            DimseResponse { operation: operation_kind, message_id: 1, status: 0, has_data_set: false };
        assert!(operation.respond(response));
        assert_eq!(operation.next().await.unwrap().unwrap(), [2_u8][..]);
        assert!(operation.next().await.is_none());
        let mut unanswered = start();
        assert_eq!(unanswered.next().await.unwrap().unwrap(), [1_u8][..]);
        assert!(matches!(unanswered.next().await, Some(Err(Interruption::Silent(_)))));
    }
}
