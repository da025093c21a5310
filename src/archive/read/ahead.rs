//! Reading ahead: the next objects of a response are opened while the current one is sent. A remote store
//! answers after a time in which a fast connection sends many objects, so more of them are opened there, as
//! far as there is memory.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{BoxStream, Fuse, FuturesOrdered, Stream, StreamExt};

use crate::archive::access::Caller;
use crate::archive::{Archive, ResponseMemory};

/// The objects that are opened ahead of the one that is sent, whatever their size.
const MIN_OBJECTS: usize = 2;
/// The objects that are opened ahead at most.
const MAX_OBJECTS: usize = 16;

/// An object that is opened ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AheadSize {
    /// The object is read as it is stored. It has so many bytes.
    Stored(u64),
    /// Opening takes a core, too: few such objects are opened ahead.
    Made,
}

impl Archive {
    /// Opens objects by `open`, some of them ahead, and returns what `open` returns in the order of `items`.
    /// Those beyond the first two get memory from the budget for responses, which they have to hold as long
    /// as their bytes; without memory that is free at once they are opened later.
    pub fn opened_ahead<I, F>(
        self: &Arc<Self>,
        caller: Caller,
        items: BoxStream<'static, I>,
        size: impl Fn(&I) -> AheadSize + Send + 'static,
        open: impl FnMut(I, Option<ResponseMemory>) -> F + Send + 'static,
    ) -> BoxStream<'static, F::Output>
    where
        I: Send + 'static,
        F: Future<Output: Send> + Send + 'static,
    {
        let (archive, max_held) = (Arc::clone(self), self.max_held_bytes());
        let memory = move |bytes: u64| {
            archive.ahead_memory(&caller, usize::try_from(bytes.min(max_held)).unwrap_or(0))
        };
        let max_bytes = self.max_ahead_bytes;
        let (items, sizes, waiting) = (items.fuse(), VecDeque::new(), None);
        OpenedAhead { items, size, open, memory, max_bytes, waiting, sizes, opening: FuturesOrdered::new() }
            .boxed()
    }
}

struct OpenedAhead<I, S, O, M, F: Future> {
    items: Fuse<BoxStream<'static, I>>,
    size: S,
    open: O,
    memory: M,
    /// The most bytes of objects that are opened ahead, beyond the first ones.
    max_bytes: u64,
    /// The next item, for which there was no room.
    waiting: Option<I>,
    /// The bytes of the objects of `opening`, in the same order.
    sizes: VecDeque<u64>,
    opening: FuturesOrdered<F>,
}

// Nothing but `opening` is pinned, and a `FuturesOrdered` can be moved.
impl<I, S, O, M, F: Future> Unpin for OpenedAhead<I, S, O, M, F> {}

impl<I, S, O, M, F> OpenedAhead<I, S, O, M, F>
where
    S: Fn(&I) -> AheadSize,
    M: Fn(u64) -> Option<ResponseMemory>,
    F: Future,
{
    /// Whether an object may be opened now, with the memory for it and its bytes.
    fn room(&self, item: &I) -> Option<(Option<ResponseMemory>, u64)> {
        let size = (self.size)(item);
        let bytes = if let AheadSize::Stored(bytes) = size { bytes } else { 0 };
        if self.sizes.len() < MIN_OBJECTS {
            return Some((None, bytes));
        }
        let opened = self.sizes.iter().fold(bytes, |sum, bytes| sum.saturating_add(*bytes));
        let is_within = self.max_bytes > 0 && opened <= self.max_bytes;
        let may = size != AheadSize::Made && self.sizes.len() < MAX_OBJECTS && is_within;
        may.then(|| (self.memory)(bytes)).flatten().map(|memory| (Some(memory), bytes))
    }
}

impl<I, S, O, M, F> Stream for OpenedAhead<I, S, O, M, F>
where
    S: Fn(&I) -> AheadSize,
    O: FnMut(I, Option<ResponseMemory>) -> F,
    M: Fn(u64) -> Option<ResponseMemory>,
    F: Future,
{
    type Item = F::Output;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = &mut *self;
        loop {
            if this.waiting.is_none() {
                match this.items.poll_next_unpin(context) {
                    Poll::Ready(Some(item)) => this.waiting = Some(item),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            let Some(item) = this.waiting.take() else { break };
            let Some((memory, bytes)) = this.room(&item) else {
                this.waiting = Some(item);
                break;
            };
            this.sizes.push_back(bytes);
            this.opening.push_back((this.open)(item, memory));
        }
        match this.opening.poll_next_unpin(context) {
            Poll::Ready(Some(opened)) => {
                this.sizes.pop_front();
                Poll::Ready(Some(opened))
            }
            Poll::Ready(None) if this.items.is_done() => Poll::Ready(None),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// A stream that holds memory until it is dropped.
pub fn holding<T: Send + 'static>(
    stream: BoxStream<'static, T>,
    memory: Option<ResponseMemory>,
) -> BoxStream<'static, T> {
    match memory {
        None => stream,
        Some(memory) => stream
            .map(move |item| {
                // The closure holds the memory.
                let _ = &memory;
                item
            })
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::{BlobStore, Config};
    use crate::index::Index;

    /// Opens so many objects of this size, and returns how many are being opened before the first is taken.
    async fn opened_at_once(store: BlobStore, size: AheadSize, change: impl FnOnce(&mut Config)) -> usize {
        let mut config = Config::defaults();
        config.storage.blobs = store;
        config.s3.max_ahead_bytes = 8 << 20;
        change(&mut config);
        let archive = Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &config);
        let (begun, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counter = begun.clone();
        let open = move |item: usize, memory| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { (item, memory) }
        };
        let items = stream::iter(0..100).boxed();
        let mut opened = archive.opened_ahead(Caller::anonymous(), items, move |_| size, open);
        let mut taken = 0;
        while let Some((item, _memory)) = opened.next().await {
            assert_eq!(item, taken, "the order is kept");
            most.fetch_max(begun.load(Ordering::SeqCst) - taken, Ordering::SeqCst);
            taken += 1;
        }
        assert_eq!(taken, 100);
        most.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn objects_of_a_remote_store_are_opened_ahead_by_bytes() {
        let same = |_: &mut Config| {};
        for (size, expected) in [
            (AheadSize::Stored(0), MAX_OBJECTS),
            (AheadSize::Stored(512 << 10), MAX_OBJECTS),
            (AheadSize::Stored(1 << 20), 8),
            (AheadSize::Stored(3 << 20), MIN_OBJECTS),
            (AheadSize::Stored(u64::MAX), MIN_OBJECTS),
            (AheadSize::Made, MIN_OBJECTS),
        ] {
            assert_eq!(opened_at_once(BlobStore::S3, size, same).await, expected, "{size:?}");
            assert_eq!(opened_at_once(BlobStore::Fs, size, same).await, MIN_OBJECTS, "{size:?}");
        }
    }

    #[tokio::test]
    async fn without_memory_few_objects_are_opened_ahead() {
        let little = |config: &mut Config| config.http.max_response_memory_bytes = 8 << 20;
        // The client's share of 1 MiB is 512 KiB.
        for (bytes, expected) in [(100 << 10, MIN_OBJECTS + 5), (256 << 10, MIN_OBJECTS + 2), (1 << 20, 3)] {
            let opened = opened_at_once(BlobStore::S3, AheadSize::Stored(bytes), little).await;
            assert_eq!(opened, expected, "{bytes}");
        }
    }
}
