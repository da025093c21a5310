//! A disk that loses power: the files of a table in memory, with all writes that a crash may lose.
//!
//! A write is in the cache at once, where reads see it, and on the disk at the latest when its file is
//! flushed. Before, any of its sectors of 512 bytes may be there or not. A flush that fails leaves the cache
//! as it is and the disk with some of the sectors, and later flushes do not write the others, as on Linux.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use crate::table::redb::wal::{LogFile, LogSizes};

/// Sizes of a log that is filled by some ten transactions.
pub(super) const SIZES: LogSizes = LogSizes { initial: 32 << 10, max: 128 << 10 };

const SECTOR: usize = 512;

/// The files of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SimulatedFile {
    Table,
    Log,
}

/// A change of a file, or a flush.
#[derive(Debug, Clone)]
enum Operation {
    Write(SimulatedFile, usize, Vec<u8>),
    SetLength(SimulatedFile, usize),
    Flush(SimulatedFile),
}

impl Operation {
    fn file(&self) -> SimulatedFile {
        match self {
            Self::Write(file, ..) | Self::SetLength(file, _) | Self::Flush(file) => *file,
        }
    }
}

/// What happens at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The disk is full: this write and all later ones that need space fail.
    Full,
    /// This operation fails, and none after it.
    Once,
    /// This operation and all after it fail.
    Broken,
}

/// The contents of both files.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    table: Vec<u8>,
    log: Vec<u8>,
}

impl Image {
    pub(super) fn file(&mut self, file: SimulatedFile) -> &mut Vec<u8> {
        match file {
            SimulatedFile::Table => &mut self.table,
            SimulatedFile::Log => &mut self.log,
        }
    }

    fn write(&mut self, file: SimulatedFile, offset: usize, bytes: &[u8]) {
        let file = self.file(file);
        if file.len() < offset + bytes.len() {
            file.resize(offset + bytes.len(), 0);
        }
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Applies some of the sectors of a change, as `is_written` decides.
    fn write_some(&mut self, operation: &Operation, is_written: &mut impl FnMut() -> bool) {
        match operation {
            Operation::Write(file, offset, bytes) => {
                let (mut at, end) = (*offset, offset + bytes.len());
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if is_written() {
                        self.write(*file, at, &bytes[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
            Operation::SetLength(file, length) => {
                if is_written() {
                    self.file(*file).resize(*length, 0);
                }
            }
            Operation::Flush(_) => {}
        }
    }
}

#[derive(Debug, Default)]
struct DiskState {
    /// What reads see.
    cache: Image,
    /// What a crash leaves at least, but for sectors of `unflushed`.
    flushed: Image,
    unflushed: Vec<Operation>,
    /// All operations, for crashes at each of them.
    history: Vec<Operation>,
    is_recording: bool,
    operations: usize,
    fault: Option<(usize, Fault)>,
    is_full: bool,
    is_broken: bool,
    /// The first operation that failed: its kind, file, offset and length.
    failed: Option<String>,
    random: fastrand::Rng,
}

/// The disk.
#[derive(Debug)]
pub(super) struct SimulatedDisk {
    state: Mutex<DiskState>,
}

/// The fault and its place, for messages.
impl fmt::Display for SimulatedDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(formatter, "{:?} of {} operations", state.fault, state.operations)?;
        write!(formatter, ", at {:?}", state.failed)
    }
}

impl SimulatedDisk {
    /// A disk with these files, all of them flushed.
    pub(super) fn new(image: Image, seed: u64) -> Arc<Self> {
        let random = fastrand::Rng::with_seed(seed);
        let state = DiskState { cache: image.clone(), flushed: image, random, ..DiskState::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap()
    }

    /// Keeps all operations from now on for [`Self::crash_at`].
    pub(super) fn record(&self) {
        self.state().is_recording = true;
    }

    /// The number of operations until now.
    pub(super) fn operations(&self) -> usize {
        self.state().operations
    }

    /// Has a fault at an operation.
    pub(super) fn fail_at(&self, operation: usize, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    /// Removes the cause of all faults.
    pub(super) fn heal(&self) {
        let mut state = self.state();
        (state.fault, state.is_full, state.is_broken) = (None, false, false);
    }

    /// The files as reads see them: what a process that is killed leaves.
    pub(super) fn cache(&self) -> Image {
        self.state().cache.clone()
    }

    /// The files after a loss of power now, with each unflushed sector if `is_written` says so.
    pub(super) fn crash(&self, mut is_written: impl FnMut() -> bool) -> Image {
        let state = self.state();
        let mut image = state.flushed.clone();
        for operation in &state.unflushed {
            image.write_some(operation, &mut is_written);
        }
        image
    }

    /// The recorded operations, to be played one by one.
    pub(super) fn replay(&self, start: Image) -> Replay {
        Replay { flushed: start, unflushed: Vec::new(), history: self.state().history.clone(), next: 0 }
    }

    /// The files for the engine.
    pub(super) fn backend(self: &Arc<Self>) -> SimulatedBackend {
        SimulatedBackend { disk: Arc::clone(self) }
    }

    pub(super) fn log(self: &Arc<Self>) -> Box<dyn LogFile> {
        Box::new(SimulatedLog { disk: Arc::clone(self) })
    }

    fn read(&self, file: SimulatedFile, offset: u64, bytes: &mut [u8]) -> usize {
        let mut state = self.state();
        let content = state.cache.file(file);
        let from = (offset as usize).min(content.len());
        let length = bytes.len().min(content.len() - from);
        bytes[..length].copy_from_slice(&content[from..from + length]);
        length
    }

    fn len(&self, file: SimulatedFile) -> u64 {
        self.state().cache.file(file).len() as u64
    }

    fn change(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state();
        let number = state.operations;
        state.operations += 1;
        let fault = state.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        state.is_full |= fault == Some(Fault::Full);
        state.is_broken |= fault == Some(Fault::Broken);
        let file = operation.file();
        let fails = fault == Some(Fault::Once) || state.is_broken || state.needs_space(&operation);
        if fails {
            let text = match &operation {
                Operation::Write(file, offset, bytes) => format!("write {file:?} {offset} {}", bytes.len()),
                Operation::SetLength(file, length) => format!("set length {file:?} {length}"),
                Operation::Flush(file) => format!("flush {file:?}"),
            };
            state.failed.get_or_insert(text);
            state.fail(&operation);
            let kind = if state.is_full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
            return Err(io::Error::new(kind, "a fault for a test"));
        }
        if state.is_recording {
            state.history.push(operation.clone());
        }
        match &operation {
            Operation::Write(file, offset, bytes) => state.cache.write(*file, *offset, bytes),
            Operation::SetLength(file, length) => state.cache.file(*file).resize(*length, 0),
            Operation::Flush(_) => {
                let unflushed = std::mem::take(&mut state.unflushed);
                for operation in unflushed {
                    if operation.file() == file {
                        state.flushed.write_some(&operation, &mut || true);
                    } else {
                        state.unflushed.push(operation);
                    }
                }
                return Ok(());
            }
        }
        state.unflushed.push(operation);
        Ok(())
    }
}

impl DiskState {
    /// Whether a write fails because the disk is full: one that makes its file longer, or that writes where
    /// the table's file has been made longer without being written.
    fn needs_space(&mut self, operation: &Operation) -> bool {
        let Operation::Write(file, offset, bytes) = operation else { return false };
        if !self.is_full {
            return false;
        }
        let end = offset + bytes.len();
        let content = self.cache.file(*file);
        end > content.len()
            || (*file == SimulatedFile::Table && content[*offset..end].iter().all(|b| *b == 0))
    }

    fn fail(&mut self, operation: &Operation) {
        match operation {
            // A part of the bytes is written.
            Operation::Write(file, offset, bytes) => {
                let length = self.random.usize(..bytes.len().max(1)) / SECTOR * SECTOR;
                let is_longer = self.cache.file(*file).len() < offset + length;
                if length > 0 && !(self.is_full && is_longer) {
                    let part = bytes[..length].to_vec();
                    self.cache.write(*file, *offset, &part);
                    self.unflushed.push(Operation::Write(*file, *offset, part));
                }
            }
            Operation::SetLength(..) => {}
            // The rest is never written.
            Operation::Flush(file) => {
                let mut random = self.random.clone();
                let unflushed = std::mem::take(&mut self.unflushed);
                for operation in unflushed {
                    if operation.file() == *file {
                        self.flushed.write_some(&operation, &mut || random.bool());
                    } else {
                        self.unflushed.push(operation);
                    }
                }
                self.random = random;
            }
        }
    }
}

/// The recorded operations of a disk, played one by one.
pub(super) struct Replay {
    flushed: Image,
    unflushed: Vec<Operation>,
    history: Vec<Operation>,
    next: usize,
}

impl Replay {
    /// Plays the next operation; `false` at the end.
    pub(super) fn step(&mut self) -> bool {
        let Some(operation) = self.history.get(self.next).cloned() else { return false };
        self.next += 1;
        if let Operation::Flush(file) = operation {
            let (flushed, others) =
                std::mem::take(&mut self.unflushed).into_iter().partition(|other| other.file() == file);
            self.unflushed = others;
            let flushed: Vec<Operation> = flushed;
            for operation in flushed {
                self.flushed.write_some(&operation, &mut || true);
            }
        } else {
            self.unflushed.push(operation);
        }
        true
    }

    /// The number of operations that were played.
    pub(super) fn position(&self) -> usize {
        self.next
    }

    /// Whether there are operations that a crash may lose.
    pub(super) fn has_unflushed(&self) -> bool {
        !self.unflushed.is_empty()
    }

    /// The files after a loss of power at this point, with each unflushed sector if `is_written` says so.
    pub(super) fn crash(&self, mut is_written: impl FnMut() -> bool) -> Image {
        let mut image = self.flushed.clone();
        for operation in &self.unflushed {
            image.write_some(operation, &mut is_written);
        }
        image
    }
}

/// The table's file on the disk.
#[derive(Debug)]
pub(super) struct SimulatedBackend {
    disk: Arc<SimulatedDisk>,
}

impl StorageBackend for SimulatedBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.len(SimulatedFile::Table))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.disk.read(SimulatedFile::Table, offset, out) == out.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change(Operation::SetLength(SimulatedFile::Table, len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change(Operation::Flush(SimulatedFile::Table))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.change(Operation::Write(SimulatedFile::Table, offset as usize, data.to_vec()))
    }
}

/// The log's file on the disk.
struct SimulatedLog {
    disk: Arc<SimulatedDisk>,
}

impl LogFile for SimulatedLog {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.len(SimulatedFile::Log))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(self.disk.read(SimulatedFile::Log, offset, bytes))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(Operation::Write(SimulatedFile::Log, offset as usize, bytes.to_vec()))
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.change(Operation::Flush(SimulatedFile::Log))
    }

    fn flush_with_name(&self) -> io::Result<()> {
        self.flush()
    }
}
