//! Instances as files: the stored object, with another file header where the stored one is missing or wrong
//! (PS3.10 §7.1, `docs/decisions/0095-file-headers-that-are-missing-or-wrong.md`).

use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::read::cut;
use crate::archive::{Archive, Error};
use crate::blobs::ByteStream;
use crate::dicom::file_header::FileHeader;
use crate::index::records::InstanceRecord;

impl Archive {
    /// Reads bytes `range` of an instance as a file, which has [`InstanceRecord::file_bytes`]. The digest of
    /// the stored object is verified if the whole file is read.
    ///
    /// # Errors
    /// As [`Archive::read_object`].
    pub async fn read_file(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        range: Range<u64>,
    ) -> Result<ByteStream, Error> {
        let Some(header) = &record.file_header else { return self.read_object(caller, record, range).await };
        let header_bytes = header.bytes.len() as u64;
        let within = range.start.min(header_bytes) as usize..range.end.min(header_bytes) as usize;
        let mut head = header.bytes.get(within).unwrap_or_default().to_vec();
        let in_object = |place: u64| place.max(header_bytes) - header_bytes + header.replaces;
        let rest = in_object(range.start)..in_object(range.end);
        let mut object = match range == (0..record.file_bytes()) {
            true => cut(self.read_object(caller, record, 0..record.size_bytes).await?, rest),
            false if rest.is_empty() => stream::empty().boxed(),
            false => self.read_object(caller, record, rest).await?,
        };
        // An object that cannot be read is an error of this call and not of the stream after the header.
        if let Some(first) = object.try_next().await? {
            head.extend_from_slice(&first);
        }
        Ok(stream::iter([Ok(Bytes::from(head))]).chain(object).boxed())
    }
}

/// A whole stored object as a file: with another file header, if there is one.
pub(super) fn as_file(object: ByteStream, size_bytes: u64, header: Option<FileHeader>) -> ByteStream {
    let Some(FileHeader { replaces, bytes }) = header else { return object };
    stream::iter([Ok(Bytes::from(bytes))]).chain(cut(object, replaces..size_bytes)).boxed()
}
