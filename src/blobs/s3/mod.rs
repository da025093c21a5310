//! Objects in S3, or in what speaks its protocol.
//!
//! An object is staged here, in memory or in a file, and sent when it is complete: in one request if it is small, else in
//! parts. It exists when the store has answered; a crash before leaves nothing, or parts that nobody sees and that a lifecycle
//! rule of the bucket removes.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::ServerSideEncryption;
use futures_util::stream::BoxStream;

use crate::blobs::s3::client::Requests;
use crate::blobs::s3::failure::Failure;
use crate::blobs::scratch::Scratch;
use crate::blobs::staged::{Place, Spill};
use crate::blobs::{Blobs, Bucket, ByteStream, Entry, Error, Key, Staged};
use crate::config;

mod client;
mod failure;
mod keep;
mod list;
mod open;
#[cfg(test)]
mod proxy;
mod read;
mod settings;
mod source;
#[cfg(test)]
mod tests;

pub use settings::{Checksum, Encryption, Places, StorageClasses};

/// The longest that a presigned URL may be good for: what the signature allows.
pub const MAX_PRESIGNED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Objects in S3; any number of processes may use them at the same time.
#[derive(Debug)]
pub struct S3Blobs {
    store: Arc<Store>,
    staging: Scratch,
}

/// What every operation needs.
#[derive(Debug)]
struct Store {
    requests: Requests,
    settings: config::S3,
    /// Whether the store refuses to replace an object where it is asked to.
    is_conditional: bool,
}

impl S3Blobs {
    /// Opens the store: makes sure that every bucket is there and may be used, and finds out what the store can do.
    /// Objects are staged in a directory below `staging`.
    ///
    /// # Errors
    /// [`Error::Backend`], whose cause names the setting that is at fault.
    pub async fn open(settings: &config::S3, staging: &Path) -> Result<Self, Error> {
        let staging = Scratch::make(staging).map_err(|error| Error::Backend {
            operation: format!("use the directory {}", staging.display()),
            source: error.into(),
        })?;
        Ok(Self { store: Arc::new(open::open(settings, &client::machine(settings).await).await?), staging })
    }

    /// A URL with which anybody may read the object, without credentials, for as long as `expires_in`. Nothing is asked of
    /// the store: there need not be such an object.
    ///
    /// # Errors
    /// [`Error::Backend`] if `expires_in` is longer than [`MAX_PRESIGNED`], or if there are no credentials to sign with. URLs
    /// that are signed with temporary credentials end with these.
    pub async fn presigned_get(&self, key: &Key, expires_in: Duration) -> Result<String, Error> {
        let operation = || format!("sign a URL of {key}");
        let failed = |source| Error::Backend { operation: operation(), source };
        let expires = PresigningConfig::expires_in(expires_in).map_err(|error| failed(error.into()))?;
        let (bucket, name) = self.store.settings.bucket.of(key);
        let request = self.store.requests.client.get_object().bucket(bucket).key(name);
        let signed = request.presigned(expires).await;
        let signed = signed.map_err(|error| Failure::of(&error).into_error(operation()))?;
        Ok(signed.uri().to_owned())
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn stage(&self) -> Result<Staged, Error> {
        let max_memory_bytes = self.store.settings.stage_memory_bytes;
        let spill = Spill { max_memory_bytes, directory: self.staging.path().to_owned() };
        Ok(Staged::new(Place::Growing(Vec::new(), spill)))
    }

    async fn keep(&self, staged: Staged, key: &Key) -> Result<(), Error> {
        keep::keep(&self.store, staged, key).await
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        read::read(&self.store, key, range).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        self.store.size(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let (bucket, name) = self.store.settings.bucket.of(key);
        let request = self.store.requests.client.delete_object().bucket(bucket).key(name);
        match self.store.requests.send("DeleteObject", request.send()).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_not_found() => Ok(()),
            Err(failure) => Err(failure.into_error(format!("delete {key}"))),
        }
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn unsettled(&self) -> Vec<Key> {
        Vec::new()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<Entry, Error>> {
        list::list(Arc::clone(&self.store), bucket, prefix)
    }
}

impl Store {
    /// As [`Blobs::size`].
    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        let (bucket, name) = self.settings.bucket.of(key);
        let request = self.requests.client.head_object().bucket(bucket).key(name);
        match self.requests.send("HeadObject", request.send()).await {
            Ok(head) => {
                let length = head.content_length().and_then(|length| u64::try_from(length).ok());
                let nonsense = || Failure::Nonsense("without a length").into_error(format!("find {key}"));
                length.map(Some).ok_or_else(nonsense)
            }
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure.into_error(format!("find {key}"))),
        }
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.settings.encryption.header()
    }

    fn kms_key(&self) -> Option<String> {
        (!self.settings.kms_key.is_empty()).then(|| self.settings.kms_key.clone())
    }
}
