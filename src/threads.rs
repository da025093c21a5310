//! The threads that may block: work that waits for a disk runs on one of them, never on a thread of the async
//! runtime.
//!
//! Each change of threads costs two switches and a wait for a core. A future that does such work several
//! times in a row therefore runs on one blocking thread from its beginning to its end, by [`block_on`]; all
//! of its work that blocks stays on that thread.

use std::cell::Cell;
use std::future::{Future, ready};

use futures_util::future::Either;
use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

thread_local! {
    /// Whether a future runs on this thread by [`block_on`].
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is polled on a thread that may block.
pub fn may_block() -> bool {
    MAY_BLOCK.get()
}

/// Runs a future to its end on this thread, which must be a blocking thread of the runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAY_BLOCK.set(self.0);
        }
    }
    let _restore = Restore(MAY_BLOCK.replace(true));
    Handle::current().block_on(future)
}

/// Does work that may block: at once if this thread may block, otherwise on a blocking thread. The work goes
/// on to its end even if the future is dropped.
///
/// # Errors
/// If the work panics on a blocking thread, or if the runtime stops before the work begins.
pub fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, JoinError>> + Send + 'static {
    if may_block() { Either::Left(ready(Ok(work()))) } else { Either::Right(spawn_blocking(work)) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn work_leaves_a_thread_of_the_runtime_and_stays_on_a_blocking_thread() {
        let here = || thread::current().id();
        assert_ne!(run(here).await.unwrap(), here());
        let (first, inner) = spawn_blocking(move || {
            assert!(!may_block());
            let inner = block_on(async { (may_block(), run(here).await.unwrap(), run(here).await.unwrap()) });
            assert!(!may_block(), "the thread returns to the pool as it was");
            (here(), inner)
        })
        .await
        .unwrap();
        assert_eq!(inner, (true, first, first));
    }

    #[tokio::test]
    async fn a_task_of_the_runtime_may_not_block_even_if_a_blocking_thread_started_it() {
        let may = spawn_blocking(|| block_on(async { tokio::spawn(async { may_block() }).await.unwrap() }));
        assert!(!may.await.unwrap());
    }

    #[tokio::test]
    async fn a_panic_leaves_the_thread_as_it_was() {
        let panicked = spawn_blocking(|| {
            let outcome = std::panic::catch_unwind(|| block_on(async { panic!("for a test") }));
            (outcome.is_err(), may_block())
        });
        assert_eq!(panicked.await.unwrap(), (true, false));
    }
}
