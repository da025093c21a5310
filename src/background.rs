//! Background work: work that takes a core for a while and whose result no client waits for runs on threads
//! of the lowest priority.
//!
//! A thread starts with the priority of the thread that started it, and may not raise its priority. These
//! threads therefore do this work and nothing else. A future that was polled on one of them could start
//! blocking threads of the runtime, which would then serve requests at the lowest priority.

use std::num::NonZero;
use std::sync::LazyLock;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tracing::warn;

/// The lowest priority. The kernel derives the priority of reads and writes from it, too.
const NICE: i32 = 19;

/// The threads, as the blocking threads of a runtime that does nothing else: as many as there are cores.
static THREADS: LazyLock<Runtime> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = Builder::new_current_thread();
    builder.thread_name("background").max_blocking_threads(cores).on_thread_start(|| {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            warn!(%error, "background work runs at normal priority");
        }
    });
    builder.build().expect("a runtime without input and output can be made")
});

/// Starts work on a thread of the lowest priority. The work goes on to its end even if the handle is dropped.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    THREADS.spawn_blocking(work)
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;
    use tokio::task::spawn_blocking;

    use super::*;

    #[tokio::test]
    async fn background_work_has_the_lowest_priority_and_blocking_threads_keep_theirs() {
        let nice = || getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(spawn(nice).await.unwrap(), NICE);
        // All at the same time, so that threads are started while background work ends.
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                tokio::spawn(async move {
                    assert_eq!(spawn(nice).await.unwrap(), NICE);
                    spawn_blocking(nice).await.unwrap()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), before);
        }
    }
}
