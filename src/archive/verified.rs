//! Whole objects are verified while they are read: the digest of every object is known.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use futures_util::{StreamExt, TryStreamExt};
use tracing::error;

use crate::archive::damaged::DamagedObjects;
use crate::archive::{Archive, run_blocking};
use crate::blobs::{Blobs, ByteStream, CHUNK_BYTES, Error, Key};
use crate::digest::{DigestAlgorithm, Hasher, ObjectDigest};
use crate::telemetry;

/// A whole object that is being read.
struct WholeRead {
    blobs: Arc<dyn Blobs>,
    damaged: Arc<DamagedObjects>,
    key: Key,
    digest: ObjectDigest,
    bytes: ByteStream,
    hasher: Hasher,
    /// The last chunk that was read.
    held: Option<Bytes>,
    is_ended: bool,
}

/// Verifies the bytes of a whole object, with a given digest, while they are read. If the digest differs, the
/// stream ends with an error in place of the last chunk, so that no reader takes the object for complete.
pub(in crate::archive) fn verified(
    archive: &Archive,
    bytes: ByteStream,
    key: Key,
    digest: ObjectDigest,
) -> ByteStream {
    let read = WholeRead {
        blobs: archive.blobs.clone(),
        damaged: archive.damaged.clone(),
        key,
        digest,
        bytes,
        hasher: Hasher::new(digest.algorithm()),
        held: None,
        is_ended: false,
    };
    stream::try_unfold(read, WholeRead::next).boxed()
}

/// Whether an object is there with this size and this digest.
pub(in crate::archive) async fn is_intact(
    archive: &Archive,
    key: &Key,
    digest: ObjectDigest,
    size_bytes: u64,
) -> Result<bool, Error> {
    if archive.blobs.size(key).await? != Some(size_bytes) {
        return Ok(false);
    }
    let bytes = match archive.blobs.read(key, 0..size_bytes).await {
        Err(Error::NotFound(_) | Error::OutOfRange { .. }) => return Ok(false),
        opened => opened?,
    };
    let mut bytes = verified(archive, bytes, key.clone(), digest);
    loop {
        match bytes.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(true),
            Err(Error::Damaged(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

impl WholeRead {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        while !self.is_ended {
            let Some(chunk) = self.bytes.try_next().await? else {
                self.is_ended = true;
                self.verify().await?;
                break;
            };
            self.hasher = hash(self.hasher, chunk.clone()).await?;
            if let Some(before) = self.held.replace(chunk) {
                return Ok(Some((before, self)));
            }
        }
        Ok(self.held.take().map(|last| (last, self)))
    }

    async fn verify(&mut self) -> Result<(), Error> {
        if self.hasher.clone().finish() == self.digest {
            self.damaged.remove(&self.key);
            return Ok(());
        }
        if self.damaged.add(&self.key) {
            error!("object {} is damaged; sending the instance again, or a back-up, replaces it", self.key);
        }
        telemetry::object_damaged("damaged");
        self.blobs.evict(&self.key).await;
        Err(Error::Damaged(self.key.clone()))
    }
}

/// The bytes that are hashed on the thread of the caller, in some ten microseconds; more are hashed on a
/// blocking thread.
fn max_inline_bytes(algorithm: DigestAlgorithm) -> usize {
    match algorithm {
        DigestAlgorithm::Sha256 => 16 * 1024,
        DigestAlgorithm::Blake3 => CHUNK_BYTES,
    }
}

async fn hash(mut hasher: Hasher, chunk: Bytes) -> Result<Hasher, Error> {
    if chunk.len() <= max_inline_bytes(hasher.algorithm()) {
        hasher.update(&chunk);
        return Ok(hasher);
    }
    let hashed = run_blocking(None, move || {
        hasher.update(&chunk);
        hasher
    });
    hashed
        .await
        .map_err(|source| Error::Backend { operation: "hash an object".into(), source: source.into() })
}
