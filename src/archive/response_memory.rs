//! Memory for the parts of a response that are made before they are sent: one client that does not read its
//! responses takes no more than its share (`http.max_response_memory_bytes`).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::budget::{Budget, Grant};
use crate::config::HttpSettings;

/// The bytes by which memory grows at least.
const GROWTH_BYTES: usize = 1 << 20;
/// The size of the largest small part.
const SMALL_BYTES: usize = 512 * 1024;
/// Small parts have an eighth of the memory for themselves, so that large ones keep no small one waiting,
/// also of the same client.
const SMALL_FRACTION: usize = 8;

/// The memory for the responses to all clients.
pub(in crate::archive) struct ResponseBudget {
    small: Arc<Budget>,
    large: Arc<Budget>,
    longest_wait: Duration,
}

/// Memory for a part of a response, until it is dropped.
pub struct ResponseMemory {
    /// The budget for growth.
    budget: Arc<Budget>,
    client: String,
    grants: Vec<Grant>,
    bytes: usize,
}

/// Bytes with the memory that was granted for them.
struct GrantedBytes {
    bytes: Bytes,
    _memory: ResponseMemory,
}

impl ResponseBudget {
    pub(in crate::archive) fn new(settings: &HttpSettings) -> Self {
        let small = settings.max_response_memory_bytes / SMALL_FRACTION;
        Self {
            small: Arc::new(Budget::of_bytes(small)),
            large: Arc::new(Budget::of_bytes(settings.max_response_memory_bytes - small)),
            longest_wait: Duration::from_secs(settings.response_wait_seconds),
        }
    }
}

impl Archive {
    /// Waits for memory for bytes that will be sent to a caller. More than the share of the caller takes all
    /// of the share.
    pub async fn response_memory(&self, caller: &Caller, bytes: usize) -> ResponseMemory {
        let ResponseBudget { small, large, .. } = &self.response_budget;
        let client = caller.sharing_client();
        let grant = if bytes <= SMALL_BYTES { small } else { large }.take(&client, bytes).await;
        ResponseMemory { budget: large.clone(), client, grants: vec![grant], bytes }
    }

    /// Waits like [`Self::response_memory`], but not longer than `http.response_wait_seconds`: before a
    /// response begins, the client can still be told to try again.
    ///
    /// # Errors
    /// [`Error::Busy`] if there is no memory in time.
    pub async fn response_memory_in_time(
        &self,
        caller: &Caller,
        bytes: usize,
    ) -> Result<ResponseMemory, Error> {
        let memory = self.response_memory(caller, bytes);
        timeout(self.response_budget.longest_wait, memory).await.map_err(|_| Error::Busy)
    }
}

/// The parts of one response that were given, or that are being made.
#[derive(Debug, Clone, Default)]
pub struct PartsUnderWay(Arc<AtomicUsize>);

/// A part of a response that is to be made.
pub struct PartUnderWay {
    /// Memory for the part, if it takes any.
    pub memory: Option<ResponseMemory>,
    /// Counts the part among those under way.
    pub mark: PartMark,
}

/// Counts a part among those under way: until the mark is dropped, or for good.
pub struct PartMark(Option<PartsUnderWay>);

impl Archive {
    /// Waits for memory for the next part of a response, if the part takes any. The wait is limited to
    /// `http.response_wait_seconds` while no part is under way: the response has not begun.
    ///
    /// # Errors
    /// [`Error::Busy`] if there is no memory in time.
    pub async fn response_part(
        &self,
        caller: &Caller,
        bytes: Option<usize>,
        under_way: &PartsUnderWay,
    ) -> Result<PartUnderWay, Error> {
        let memory = match bytes {
            Some(bytes) => {
                let mut memory = pin!(self.response_memory(caller, bytes));
                loop {
                    match timeout(self.response_budget.longest_wait, &mut memory).await {
                        Ok(memory) => break Some(memory),
                        Err(_) if under_way.0.load(Ordering::Relaxed) == 0 => return Err(Error::Busy),
                        Err(_) => {}
                    }
                }
            }
            None => None,
        };
        under_way.0.fetch_add(1, Ordering::Relaxed);
        Ok(PartUnderWay { memory, mark: PartMark(Some(under_way.clone())) })
    }
}

impl PartMark {
    /// Counts the part for good: it can be given.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for PartMark {
    fn drop(&mut self) {
        if let Some(under_way) = self.0.take() {
            under_way.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl ResponseMemory {
    /// Enlarges the memory to at least `bytes`, if that is possible at once. Returns whether it is.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            let more = (bytes - self.bytes).max(GROWTH_BYTES);
            let Some(grant) = self.budget.try_take(&self.client, more) else { return false };
            self.grants.push(grant);
            self.bytes += more;
        }
        true
    }

    /// Bytes that hold the memory until they, and all slices of them, are dropped. What is not needed is
    /// given back.
    pub fn hold(mut self, bytes: Bytes) -> Bytes {
        let mut needed = bytes.len();
        for grant in &mut self.grants {
            grant.shrink_to(needed);
            needed = needed.saturating_sub(grant.amount());
        }
        Bytes::from_owner(GrantedBytes { bytes, _memory: self })
    }

    /// Starts work that makes bytes, and returns a future of the bytes, which hold the memory.
    ///
    /// The work goes on while the future is not polled, so that it gives back its permits although the client
    /// does not read. The work ends when the future is dropped.
    pub fn fill(
        self,
        work: impl Future<Output = Result<Bytes, Error>> + Send + 'static,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send + 'static {
        run_apart(async move { Ok(self.hold(work.await?)) })
    }
}

/// Starts work in a task of its own, and returns a future of its result. The work ends when the future is
/// dropped.
///
/// Work for a response must not be a part of the response's own task if it holds permits: that task waits for
/// the client.
pub fn run_apart<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> impl Future<Output = Result<T, Error>> + Send + 'static {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async move { task.await.unwrap_or_else(|_| Err(Error::Internal("work for a response ended early".into()))) }
}

impl AsRef<[u8]> for GrantedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::Config;
    use crate::index::Index;

    fn archive() -> Arc<Archive> {
        let mut config = Config::defaults();
        config.http.max_response_memory_bytes = 8 << 20;
        config.http.response_wait_seconds = 1;
        Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &config)
    }

    fn caller(client: &str) -> Caller {
        Caller { client: client.into(), ..Caller::anonymous() }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_keeps_no_other_client_waiting() {
        let (archive, slow, other) = (archive(), caller("slow"), caller("other"));
        let made = |bytes: usize| async move { Ok(Bytes::from(vec![0; bytes])) };
        let held = archive.response_memory(&slow, 5 << 20).await.fill(made(5 << 20)).await.unwrap();
        let beyond = archive.response_memory_in_time(&slow, 1 << 20).await;
        assert!(matches!(beyond, Err(Error::Busy)));
        archive.response_memory_in_time(&slow, 1).await.unwrap();
        archive.response_memory_in_time(&other, 1 << 20).await.unwrap().fill(made(1 << 20)).await.unwrap();
        let last_slice = held.slice(1..2);
        drop(held);
        assert!(archive.response_memory_in_time(&slow, 1 << 20).await.is_err());
        drop(last_slice);
        archive.response_memory_in_time(&slow, 1 << 20).await.unwrap();
    }

    #[tokio::test]
    async fn bytes_hold_no_more_memory_than_they_take() {
        let (archive, caller) = (archive(), caller("a"));
        let small = archive.response_memory(&caller, 3 << 20).await.hold(Bytes::from_static(b"small"));
        let mut growing = archive.response_memory(&caller, 1).await;
        assert!(growing.grow_to(2 << 20) && !growing.grow_to(8 << 20));
        assert!(archive.response_memory_in_time(&caller, 2 << 20).await.is_err());
        let grown = growing.hold(Bytes::from_static(b"small after all"));
        archive.response_memory_in_time(&caller, 2 << 20).await.unwrap();
        drop((small, grown));
    }

    #[tokio::test]
    async fn work_goes_on_while_nobody_polls_for_its_result() {
        let (archive, caller) = (archive(), caller("a"));
        let permit = archive.permits().codec(&caller).await;
        let (sender, ended) = tokio::sync::oneshot::channel();
        let unpolled = archive.response_memory(&caller, 1).await.fill(async move {
            drop(permit);
            let _ = sender.send(());
            Ok(Bytes::new())
        });
        ended.await.unwrap();
        assert!(unpolled.await.unwrap().is_empty());
    }
}
