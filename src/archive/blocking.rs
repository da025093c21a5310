//! Blocking work: work that waits for a disk or takes a core for a while runs on a blocking thread, never on
//! a thread of the async runtime.
//!
//! A panic in such work is a fault of the program. It is logged and counted once, with the place in the code
//! but without its message, which may hold text of a patient, and becomes [`Error::Internal`].

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;
use std::thread;

use tracing::error;

use crate::archive::Error;
use crate::archive::permits::Permit;
use crate::background;
use crate::dicom::json;
use crate::telemetry;
use crate::threads;

/// Stack for each level of nested JSON: several times what parsing, writing and dropping take without
/// optimisation. Only the memory that is used counts.
const STACK_BYTES_PER_LEVEL: usize = 16 * 1024;

thread_local! {
    /// Whether this thread does work whose panics are caught here.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    /// The place of the last panic on this thread while it was watched.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Starts `work` on a blocking thread at once, and returns a future of its result. If this thread may block,
/// the work is done here, before this returns.
///
/// The permit, if the work needs one, is held until the work ends. The work goes on to its end even if the
/// future is dropped.
///
/// # Errors
/// [`Error::Internal`] if the work panics, or if the server stops before the work begins.
pub fn run_blocking<T: Send + 'static>(
    permit: Option<Permit>,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Error>> + Send + 'static {
    #[cfg(test)]
    let work = injected::panic_before(work);
    let task = threads::run(move || {
        let outcome = catch_panic(work);
        drop(permit);
        outcome
    });
    async { task.await.unwrap_or_else(|_| Err(Error::Internal("the server is stopping".into()))) }
}

/// Starts background work ([`background`]) at once, and returns a future of its result. The work goes on to
/// its end even if the future is dropped.
///
/// # Errors
/// As [`run_blocking`].
pub fn run_in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Error>> + Send + 'static {
    let task = background::spawn(|| catch_panic(work));
    async { task.await.unwrap_or_else(|_| Err(Error::Internal("the server is stopping".into()))) }
}

/// Does work that recurses for each level of deeply nested JSON or XML, on a thread with a stack for
/// `nesting` levels if this thread may have none. All that is nested must be dropped in `work` too.
///
/// # Errors
/// [`Error::Internal`] if the work panics, or if there can be no such thread.
pub fn with_stack_for<T: Send>(nesting: usize, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    if nesting <= json::MAX_NESTING {
        return Ok(work());
    }
    let bytes = nesting.saturating_mul(STACK_BYTES_PER_LEVEL);
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(bytes).spawn_scoped(scope, || catch_panic(work));
        let thread =
            thread.map_err(|error| Error::Internal(format!("no thread for deep nesting: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(Error::Internal("a thread for deep nesting ended".into())))
    })
}

/// Polls a future that does work which may panic, on a thread that may block.
///
/// # Errors
/// [`Error::Internal`] if the future panics; the future is then dropped.
pub(in crate::archive) async fn catch_panics<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let mut work = pin!(work);
    poll_fn(|context| match catch_panic(|| work.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

/// Does work that may panic. What the work was changing is dropped with it, so that nothing half changed is
/// seen later.
fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    record_places();
    let was_watched = IS_WATCHED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    IS_WATCHED.set(was_watched);
    outcome.map_err(|_| {
        let place = PLACE.take().unwrap_or_else(|| "an unknown place".into());
        error!(place, "a panic at {place} ended blocking work: a fault of the program");
        telemetry::panicked();
        Error::Internal(format!("a panic at {place}"))
    })
}

/// Lets the panic hook record the places of panics that are caught here, instead of printing their messages.
/// Other panics are printed as before.
fn record_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if IS_WATCHED.get() {
                PLACE.set(panic.location().map(|place| format!("{}:{}", place.file(), place.line())));
            } else {
                before(panic);
            }
        }));
    });
}

/// Panics that tests inject.
#[cfg(test)]
pub(crate) mod injected {
    use std::cell::Cell;

    thread_local! {
        /// Pieces of blocking work that this thread starts before one that panics.
        static PANIC_AFTER: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Lets blocking work panic that this thread starts: the piece after the next `count` ones.
    pub(crate) fn panic_after(count: usize) {
        PANIC_AFTER.set(Some(count));
    }

    /// The same work, with a panic before it if one is due.
    pub(super) fn panic_before<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
        let after = PANIC_AFTER.take();
        PANIC_AFTER.set(after.and_then(|after| after.checked_sub(1)));
        move || {
            assert!(after != Some(0), "the name of a patient");
            work()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::dicom::{write, xml};

    /// A log that is held in memory.
    #[derive(Clone, Default)]
    struct MemoryLog(Arc<Mutex<Vec<u8>>>);

    impl io::Write for MemoryLog {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for MemoryLog {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn panics(text: &str) -> usize {
        let line = text.lines().find(|line| line.starts_with("cuspid_panics_total "));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    #[test]
    fn the_deepest_metadata_is_parsed_written_and_dropped_on_a_stack_of_its_own() {
        let depth = 4096;
        let (open, close) = (r#"{"00400275":{"vr":"SQ","Value":["#, "]}}");
        let text = open.repeat(depth) + r#"{"00100020":{"vr":"LO","Value":["1"]}}"# + &close.repeat(depth);
        let nesting = json::nesting(text.as_bytes());
        assert!(nesting <= json::nesting_of_sequences(depth));
        let document = with_stack_for(nesting, || {
            let data_set: serde_json::Value = json::parse_nested(text.as_bytes()).unwrap();
            write::write(&data_set).unwrap();
            let mut document = Vec::new();
            xml::write(&data_set, &mut document);
            document
        });
        let document = document.unwrap();
        let again =
            with_stack_for(nesting, || xml::read(&document, depth, usize::MAX).map(|read| read.to_string()));
        assert!(again.unwrap().unwrap() == text);
    }

    #[test]
    fn a_panic_is_one_line_of_the_log_with_its_place_and_without_its_message() {
        let log = MemoryLog::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        let metrics = telemetry::metrics();
        let before = panics(&metrics.render());
        let outcome = tracing::subscriber::with_default(subscriber, || {
            catch_panic(|| -> u8 { panic!("the name of a patient") })
        });
        assert!(matches!(outcome, Err(Error::Internal(reason)) if reason.contains("blocking.rs:")));
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("ERROR") && text.contains("src/archive/blocking.rs:"), "{text}");
        assert!(!text.contains("patient"), "{text}");
        assert!(panics(&metrics.render()) > before);
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_work_after_it_goes_on() {
        injected::panic_after(1);
        assert_eq!(run_blocking(None, || 1).await.ok(), Some(1));
        assert!(matches!(run_blocking(None, || 2).await, Err(Error::Internal(_))));
        assert_eq!(run_blocking(None, || 3).await.ok(), Some(3));
    }

    #[tokio::test]
    async fn a_future_that_panics_is_an_error() {
        let panicking = async {
            tokio::task::yield_now().await;
            panic!("the name of a patient")
        };
        assert!(matches!(catch_panics::<()>(panicking).await, Err(Error::Internal(_))));
        assert_eq!(catch_panics(async { 1 }).await.ok(), Some(1));
    }
}
