//! Threads of the lowest priority, so that background work takes no time from requests.

use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{error, warn};

/// The lowest priority. The kernel derives the priority of reads and writes from it, too.
const NICE: i32 = 19;

/// Starts work on a thread of its own at the lowest priority. The channel closes when the thread ends, also
/// by a panic.
pub(super) fn spawn(
    name: String,
    work: impl FnOnce(Handle) + Send + 'static,
) -> Option<oneshot::Receiver<()>> {
    let (end, ended) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let thread = thread::Builder::new().name(name.clone()).spawn(move || {
        let _end = end;
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            warn!(%error, "background work runs at normal priority");
        }
        work(runtime);
    });
    match thread {
        Ok(_) => Some(ended),
        Err(error) => {
            error!(%error, "cannot start the thread {name}");
            None
        }
    }
}
