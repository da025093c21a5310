//! A decoder process, from the server's side.

use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::warn;

use crate::config::DecodersSettings;
use crate::decoders::protocol::{
    self, LENGTHS_BYTES, Lengths, PackedFrame, ReplyHead, Request, RequestHead, SANDBOXED,
};
use crate::decoders::sandbox::Limits;
use crate::decoders::{Error, Priority};

/// The program of this process, even if its file was replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// The longest time until a process is ready.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The text that the allocator writes before it aborts a process.
const OUT_OF_MEMORY: &str = "memory allocation of";
/// The most bytes that are read from a process's standard error.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// The program and limits that processes are started with.
pub(super) struct Launch {
    program: PathBuf,
    limits: Limits,
}

/// A decoder process. The process is killed when this value is dropped.
pub(super) struct Process {
    child: RunningChild,
    stream: UnixStream,
    /// Frames that the process has decoded.
    pub(super) frames: u32,
    /// The total time that the process has spent decoding.
    pub(super) busy: Duration,
}

impl Launch {
    pub(super) fn new(settings: &DecodersSettings, priority: Priority) -> Self {
        let program = match settings.program.as_os_str().is_empty() {
            true => Path::new(OWN_PROGRAM).to_owned(),
            false => settings.program.clone(),
        };
        let limits = Limits {
            memory_bytes: settings.max_memory_bytes,
            // A process is replaced once its total decoding time is `max_seconds`, and its last frame takes
            // no longer than that.
            cpu_seconds: settings.max_seconds.saturating_mul(2).saturating_add(1),
            is_background: priority == Priority::Background,
        };
        Self { program, limits }
    }

    /// Starts a process and waits until it is ready.
    pub(super) async fn start(&self) -> io::Result<Process> {
        let (own, other) = std::os::unix::net::UnixStream::pair()?;
        own.set_nonblocking(true)?;
        let (program, limits) = (self.program.clone(), self.limits);
        // Starting a process takes some milliseconds, so it runs on a blocking thread.
        let child = spawn_blocking(move || Ok(RunningChild(Some(spawn(&program, &limits, other.into())?))));
        let child = child.await.map_err(io::Error::other).flatten()?;
        let stream = UnixStream::from_std(own)?;
        let mut process = Process { child, stream, frames: 0, busy: Duration::ZERO };
        let first = timeout(START_TIMEOUT, process.stream.read_u8()).await;
        if first.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? != SANDBOXED {
            static ONCE: Once = Once::new();
            ONCE.call_once(|| warn!("seccomp is not available: decoder processes have resource limits only"));
        }
        Ok(process)
    }
}

/// Starts the program with a socket as its standard input. The program inherits nothing else from this
/// process.
fn spawn(program: &Path, limits: &Limits, socket: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(["decoder", "--memory-bytes", &limits.memory_bytes.to_string()]);
    command.args(["--cpu-seconds", &limits.cpu_seconds.to_string()]);
    if limits.is_background {
        command.arg("--background");
    }
    // The allocator would reserve 1 GiB of the address space that the limit is about.
    command.env_clear().env("MIMALLOC_ARENA_RESERVE", "0");
    command.stdin(socket).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

impl Process {
    /// Whether the process has not ended.
    pub(super) fn is_running(&mut self) -> bool {
        self.child.0.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends a frame to the process and reads the decoded frame.
    ///
    /// # Errors
    /// The inner error if the frame cannot be decoded; the process may be used again. The outer error if the
    /// process ended or sent no valid reply.
    pub(super) async fn decode(&mut self, request: &Request) -> io::Result<Result<PackedFrame, ReplyHead>> {
        let head =
            RequestHead { layout: request.layout.clone(), transfer_syntax: request.transfer_syntax.clone() };
        let head = protocol::head(&head, request.frame.len() as u64)?;
        self.stream.write_all(&head).await?;
        self.stream.write_all(&request.frame).await?;
        let mut lengths = [0; LENGTHS_BYTES];
        self.stream.read_exact(&mut lengths).await?;
        let lengths = Lengths::read(lengths)?;
        let mut head = vec![0; lengths.head];
        self.stream.read_exact(&mut head).await?;
        match protocol::parse(&head)? {
            ReplyHead::Decoded(frame) if frame.is_reply_to(&request.layout, lengths.body) => {
                let count = lengths.body as usize;
                let mut samples = Vec::with_capacity(count);
                let mut stream = (&mut self.stream).take(lengths.body);
                while samples.len() < count {
                    if stream.read_buf(&mut samples).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(Ok(frame.with(samples)))
            }
            ReplyHead::Decoded(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is not to the request"))
            }
            refusal => Ok(Err(refusal)),
        }
    }

    /// Ends a process that failed, and returns the reason for the failure.
    pub(super) async fn end(mut self, memory_bytes: u64) -> Error {
        let Some(child) = self.child.0.take() else { return Error::Crash { signal: None } };
        let ending = spawn_blocking(move || end(child)).await.unwrap_or_default();
        match ending {
            Ending { is_out_of_memory: true, .. } => Error::Memory { bytes: memory_bytes },
            Ending { signal, .. } => Error::Crash { signal },
        }
    }
}

/// A child process, which is killed and waited for when this value is dropped; `None` only after
/// [`Process::end`].
struct RunningChild(Option<Child>);

impl Drop for RunningChild {
    fn drop(&mut self) {
        let Some(child) = self.0.take() else { return };
        // The kernel takes a while to free a lot of memory, so the process is ended on a blocking thread.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || end(child))),
            Err(_) => drop(end(child)),
        }
    }
}

/// The exit state of a process.
#[derive(Debug, Default)]
struct Ending {
    signal: Option<i32>,
    is_out_of_memory: bool,
}

/// Kills a process, if it has not ended by itself, and frees the resources that the system holds for it.
fn end(mut child: Child) -> Ending {
    let _ = child.kill();
    let status = child.wait();
    let mut message = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX_MESSAGE_BYTES).read_to_end(&mut message);
    }
    Ending {
        signal: status.ok().and_then(|status| status.signal()),
        is_out_of_memory: String::from_utf8_lossy(&message).contains(OUT_OF_MEMORY),
    }
}
