//! Upload of the instances in a zip archive that was spooled. Each entry is ingested like any other instance.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::archive::access::Caller;
use crate::archive::ingest::Upload;
use crate::archive::ingest::spool::Spooled;
use crate::archive::{Archive, run_blocking};
use crate::dicom::uid::StudyUid;
use crate::threads;
use crate::zip::reader::{self, ZipLimits};

/// Bytes of an entry that are read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Entries that may wait for the receiver.
const MAX_WAITING: usize = 4;

/// An entry of an archive.
pub struct ZipEntry {
    /// The name in the archive.
    pub name: String,
    /// Whether the entry is a zip archive itself.
    pub is_zip: bool,
    /// The upload with all bytes written, or the error in reading them.
    pub upload: Result<Upload, reader::Error>,
}

/// The entries of an archive.
pub struct ZipEntries {
    entries: mpsc::Receiver<Result<ZipEntry, reader::Error>>,
}

impl Archive {
    /// Unpacks an archive. The work goes on while entries are received, and ends when the receiver is
    /// dropped.
    pub fn receive_zip(
        self: &Arc<Self>,
        caller: &Caller,
        study: Option<StudyUid>,
        zip: Spooled,
    ) -> ZipEntries {
        let (sender, entries) = mpsc::channel(MAX_WAITING);
        let (archive, caller) = (Arc::clone(self), caller.clone());
        tokio::spawn(async move {
            let permit = archive.permits.unzip(&caller).await;
            let mut unpacker = Unpacker { archive, caller, study, sender: sender.clone() };
            if let Err(error) = run_blocking(Some(permit), move || unpacker.unpack(zip)).await {
                // Without an error, the entries would seem to be complete.
                let _ = sender.send(Err(reader::Error::Io(io::Error::other(error)))).await;
            }
        });
        ZipEntries { entries }
    }

    /// The limits on one zip archive.
    pub fn zip_limits(&self) -> ZipLimits {
        ZipLimits { max_entries: self.ingest.max_parts as u64, max_bytes: self.ingest.max_request_bytes }
    }
}

impl ZipEntries {
    /// The next entry that is no folder; an error, the last, if the archive cannot be read on.
    pub async fn next(&mut self) -> Option<Result<ZipEntry, reader::Error>> {
        self.entries.recv().await
    }
}

struct Unpacker {
    archive: Arc<Archive>,
    caller: Caller,
    study: Option<StudyUid>,
    sender: mpsc::Sender<Result<ZipEntry, reader::Error>>,
}

impl Unpacker {
    fn unpack(&mut self, zip: Spooled) {
        let limits = self.archive.zip_limits();
        let reader = SpoolReader { zip, position: 0 };
        let ended = reader::unpack(reader, &limits, &mut |name, content| {
            let mut is_zip = false;
            let upload = content.and_then(|content| self.take(content, &mut is_zip));
            let entry = ZipEntry { name: name.to_owned(), is_zip, upload };
            // The receiver may have been dropped.
            self.sender.blocking_send(Ok(entry)).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        if let Err(error) = ended {
            // As above.
            let _ = self.sender.blocking_send(Err(error));
        }
    }

    fn take(&self, content: &mut dyn Read, is_zip: &mut bool) -> Result<Upload, reader::Error> {
        let mut upload = threads::block_on(self.archive.receive(&self.caller, self.study.clone()));
        let mut is_first = true;
        loop {
            let mut bytes = Vec::with_capacity(READ_BYTES);
            if let Err(error) = content.take(READ_BYTES as u64).read_to_end(&mut bytes) {
                return Err(error.downcast::<reader::Error>().unwrap_or_else(reader::Error::Io));
            }
            if bytes.is_empty() {
                return Ok(upload);
            }
            *is_zip |= std::mem::replace(&mut is_first, false) && bytes.starts_with(b"PK\x03\x04");
            threads::block_on(upload.write(Bytes::from(bytes)));
        }
    }
}

/// Reads a spool from any position.
struct SpoolReader {
    zip: Spooled,
    position: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.zip.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SpoolReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(from_end) => self.zip.length().checked_add_signed(from_end),
            SeekFrom::Current(from_here) => self.position.checked_add_signed(from_here),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
