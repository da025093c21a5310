//! Objects in S3, or in another service with the same protocol.
//!
//! An object is staged locally, in memory or in a file, and sent when it is complete: in one request if it is
//! small, otherwise in parts. The object exists when the service has answered. A crash before that leaves
//! nothing, or parts that no reader sees and that a lifecycle rule of the bucket removes.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use futures_util::stream::BoxStream;

use crate::blobs::s3::client::Requests;
use crate::blobs::s3::failure::RequestFailure;
use crate::blobs::scratch::Scratch;
use crate::blobs::staged::{Spill, StagedData};
use crate::blobs::{Blobs, Bucket, ByteStream, Error, Key, ListedObject, Staged};
use crate::config::{self, Encryption};

mod client;
mod failure;
mod list;
mod open;
#[cfg(test)]
mod proxy;
mod put;
mod read;
mod source;
#[cfg(test)]
mod tests;

/// Objects in S3; any number of processes may use them at the same time.
#[derive(Debug)]
pub struct S3Blobs {
    store: Arc<Store>,
    staging: Scratch,
}

/// The state that all operations share.
#[derive(Debug)]
struct Store {
    requests: Requests,
    settings: config::S3Settings,
    /// Whether the service supports `If-None-Match: *`, which refuses to replace an object.
    is_conditional: bool,
}

impl S3Blobs {
    /// Opens the store: makes sure that every bucket exists and may be used, and finds out what the service
    /// supports. Objects are staged in a directory below `staging`.
    ///
    /// # Errors
    /// [`Error::Backend`], whose cause names the setting that is wrong.
    pub async fn open(settings: &config::S3Settings, staging: &Path) -> Result<Self, Error> {
        let staging = Scratch::create(staging).map_err(|error| Error::Backend {
            operation: format!("use the directory {}", staging.display()),
            source: error.into(),
        })?;
        Ok(Self {
            store: Arc::new(open::open(settings, &client::sdk_config(settings).await).await?),
            staging,
        })
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn stage(&self) -> Result<Staged, Error> {
        let max_memory_bytes = self.store.settings.stage_memory_bytes;
        let spill = Spill { max_memory_bytes, directory: self.staging.path().to_owned() };
        Ok(Staged::new(StagedData::Growing(Vec::new(), spill)))
    }

    async fn put(&self, staged: Staged, key: &Key) -> Result<(), Error> {
        put::put(&self.store, staged, key).await
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        read::read(&self.store, key, range).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        self.store.size(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let (bucket, name) = self.store.locate(key);
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

    fn unconfirmed(&self) -> Vec<Key> {
        Vec::new()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, Error>> {
        list::list(Arc::clone(&self.store), bucket, prefix)
    }
}

impl Store {
    /// The bucket of an object and its key there.
    fn locate(&self, key: &Key) -> (String, String) {
        let template = &self.settings.bucket;
        (template.bucket(key.bucket), template.prefix(key.bucket) + &key.path)
    }

    /// As [`Blobs::size`].
    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        let (bucket, name) = self.locate(key);
        let request = self.requests.client.head_object().bucket(bucket).key(name);
        match self.requests.send("HeadObject", request.send()).await {
            Ok(head) => {
                let length = head.content_length().and_then(|length| u64::try_from(length).ok());
                let invalid =
                    || RequestFailure::InvalidResponse("without a length").into_error(format!("find {key}"));
                length.map(Some).ok_or_else(invalid)
            }
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure.into_error(format!("find {key}"))),
        }
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        match self.settings.encryption {
            Encryption::Bucket => None,
            Encryption::S3 => Some(ServerSideEncryption::Aes256),
            Encryption::Kms => Some(ServerSideEncryption::AwsKms),
        }
    }

    /// The storage class of the objects of a bucket; `None` for the bucket's own.
    fn storage_class(&self, bucket: Bucket) -> Option<StorageClass> {
        self.settings.storage_classes.of(bucket).map(StorageClass::from)
    }

    fn kms_key(&self) -> Option<String> {
        (!self.settings.kms_key.is_empty()).then(|| self.settings.kms_key.clone())
    }
}
