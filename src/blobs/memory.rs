//! Objects in memory, for tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::blobs::staged::StagedData;
use crate::blobs::{Blobs, Bucket, ByteStream, CHUNK_BYTES, Error, Key, ListedObject, Staged};
use crate::clock::now_millis;

/// Objects in memory. They do not survive the process; all else is as the contract says.
#[derive(Debug, Default)]
pub struct MemoryBlobs {
    /// Each object with the time of its put, in milliseconds since 1970 UTC.
    objects: Mutex<BTreeMap<Key, (Bytes, i64)>>,
}

impl MemoryBlobs {
    /// A store without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an object older than it is.
    #[cfg(test)]
    pub(crate) fn age(&self, key: &Key, milliseconds: i64) {
        if let Some((_, modified_at)) = self.objects().get_mut(key) {
            *modified_at -= milliseconds;
        }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, (Bytes, i64)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn stage(&self) -> Result<Staged, Error> {
        Ok(Staged::new(StagedData::Memory(Vec::new())))
    }

    async fn put(&self, staged: Staged, key: &Key) -> Result<(), Error> {
        let bytes = match staged.into_data() {
            StagedData::Memory(bytes) => bytes.into(),
            StagedData::Shared(bytes) => bytes,
            StagedData::File(_) | StagedData::Growing(..) => {
                let operation = format!("put {key}");
                return Err(Error::Backend {
                    operation,
                    source: "the object was staged in another store".into(),
                });
            }
        };
        self.objects().insert(key.clone(), (bytes, now_millis()));
        Ok(())
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        let (object, _) = self.objects().get(key).cloned().ok_or_else(|| Error::NotFound(key.clone()))?;
        if range.start > range.end || range.end > object.len() as u64 {
            return Err(Error::OutOfRange { key: key.clone(), range });
        }
        let mut left = object.slice(range.start as usize..range.end as usize);
        let chunks = std::iter::from_fn(move || {
            let chunk = left.split_to(left.len().min(CHUNK_BYTES));
            (!chunk.is_empty()).then_some(Ok(chunk))
        });
        Ok(stream::iter(chunks).boxed())
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        Ok(self.objects().get(key).map(|(object, _)| object.len() as u64))
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.objects().remove(key);
        Ok(())
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn health(&self) -> Result<(), Error> {
        Ok(())
    }

    fn unconfirmed(&self) -> Vec<Key> {
        Vec::new()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, Error>> {
        let entries: Vec<_> = self
            .objects()
            .iter()
            .filter(|(key, _)| key.bucket == bucket && key.path.starts_with(prefix))
            .map(|(key, (object, modified_at))| {
                let (key, size_bytes) = (key.clone(), object.len() as u64);
                Ok(ListedObject { key, size_bytes, modified_at: *modified_at })
            })
            .collect();
        stream::iter(entries).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::contract;

    #[tokio::test]
    async fn the_contract_holds_in_memory() {
        contract::check(&MemoryBlobs::new()).await;
    }
}
