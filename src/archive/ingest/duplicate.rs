//! Whether an object holds the data set of a stored one under another file header: the same instance, sent as a file by
//! one and by C-STORE by another, who has no file header, or by a sender that writes headers of its own (PS3.10 §7.1).

use std::io;
use std::ops::Range;
use std::sync::Arc;

use futures_util::TryStreamExt;

use crate::archive::access::Caller;
use crate::archive::ingest::Refusal;
use crate::archive::keys;
use crate::archive::{Archive, run_blocking};
use crate::blobs;
use crate::blobs::{Key, Staged};
use crate::dicom::instance::ParsedInstance;
use crate::dicom::scan::is_file_head;
use crate::index::records::InstanceRecord;

/// Bytes of file header that a stored object may have to be looked at.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

impl Archive {
    /// Whether the object that is stored under the UID of `instance`, with the digest `known`, holds the data set of
    /// `staged`, which starts at `data_set_offset`. Gives the staged object back.
    pub(in crate::archive) async fn is_known(
        &self,
        caller: &Caller,
        instance: &ParsedInstance,
        known: &str,
        staged: Staged,
        data_set_offset: u64,
    ) -> Result<(bool, Staged), Refusal> {
        let ParsedInstance { study, series, instance: uid, transfer_syntax, .. } = instance;
        let record: Option<InstanceRecord> =
            self.index.instance(caller.tenant.as_str(), study, series, uid).await?;
        let Some(record) = record.filter(|record| record.transfer_syntax == *transfer_syntax) else {
            return Ok((false, staged));
        };
        let data_set_bytes = staged.length().saturating_sub(data_set_offset);
        let head_bytes = record.size_bytes.checked_sub(data_set_bytes).filter(|&head| head <= MAX_HEAD_BYTES);
        let Some(head_bytes) = head_bytes.filter(|_| record.digest == known) else {
            return Ok((false, staged));
        };
        let key = keys::original_of(&caller.tenant, &record);
        let staged = Arc::new(staged);
        let is_same = self.compare(&key, head_bytes..record.size_bytes, &staged, data_set_offset).await?;
        Ok((is_same, Arc::into_inner(staged).expect("the comparisons have ended")))
    }

    /// Whether the object `key` has nothing but a file header before `data_set`, and there the bytes of `staged` from
    /// `offset` on.
    async fn compare(
        &self,
        key: &Key,
        data_set: Range<u64>,
        staged: &Arc<Staged>,
        mut offset: u64,
    ) -> Result<bool, Refusal> {
        let read = async |range| match self.blobs.read(key, range).await {
            Ok(bytes) => Ok(Some(bytes)),
            // It was lost; it can be stored again.
            Err(blobs::Error::NotFound(_) | blobs::Error::OutOfRange { .. }) => Ok(None),
            Err(error) => Err(Refusal::from(error)),
        };
        let Some(head) = read(0..data_set.start).await? else { return Ok(false) };
        let head = head.try_collect::<Vec<_>>().await?.concat();
        if !is_file_head(&head) {
            return Ok(false);
        }
        let Some(mut bytes) = read(data_set).await? else { return Ok(false) };
        while let Some(chunk) = bytes.try_next().await? {
            let (staged, at) = (Arc::clone(staged), offset);
            offset += chunk.len() as u64;
            if !run_blocking(None, move || holds(&staged, at, &chunk)).await?? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether these bytes stand at this place.
fn holds(staged: &Staged, mut offset: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut buffer = vec![0; bytes.len()];
    let mut read = 0;
    while read < buffer.len() {
        match staged.read_at(&mut buffer[read..], offset)? {
            0 => return Ok(false),
            some => {
                read += some;
                offset += some as u64;
            }
        }
    }
    Ok(buffer == bytes)
}
