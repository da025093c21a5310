//! The checks at the start: every bucket exists and may be used, and the features of the service.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_s3::config::ProvideCredentials;
use aws_sdk_s3::primitives::ByteStream;
use tracing::{info, warn};
use uuid::Uuid;

use crate::blobs::s3::Store;
use crate::blobs::s3::client::Requests;
use crate::blobs::s3::failure::{RequestFailure, causes};
use crate::blobs::{Bucket, Error};
use crate::config;

const NO_CREDENTIALS: &str = "no credentials were found (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, profiles, the sdk_config's role)";

/// As [`crate::blobs::s3::S3Blobs::open`], with the configuration of the SDK.
pub(super) async fn open(settings: &config::S3Settings, sdk_config: &SdkConfig) -> Result<Store, Error> {
    let cannot = |reason: String| Error::Backend { operation: "use S3".into(), source: reason.into() };
    let requests = Requests::new(settings, sdk_config).map_err(cannot)?;
    if let Err(cause) = credentials(sdk_config).await {
        return Err(cannot(format!("{NO_CREDENTIALS}{cause}")));
    }
    let mut store = Store { requests, settings: settings.clone(), is_conditional: false };
    let buckets: BTreeSet<_> = Bucket::ALL.into_iter().map(|class| settings.bucket.bucket(class)).collect();
    for bucket in &buckets {
        find(&store, bucket).await?;
    }
    store.is_conditional = is_conditional(&store).await?;
    if !store.is_conditional {
        info!(
            "S3 does not support If-None-Match, which refuses to replace an original: originals have unique names anyway"
        );
    }
    Ok(store)
}

/// Makes sure that there are credentials.
///
/// # Errors
/// The reason why there are none.
async fn credentials(sdk_config: &SdkConfig) -> Result<(), String> {
    let provider = sdk_config.credentials_provider().ok_or_else(String::new)?;
    let found = provider.provide_credentials().await;
    found.map(|_| ()).map_err(|error| format!(": {}", causes(&error)))
}

/// Makes sure that a bucket exists and that its objects may be listed.
async fn find(store: &Store, bucket: &str) -> Result<(), Error> {
    let request = store.requests.client.list_objects_v2().bucket(bucket).max_keys(1);
    let outcome = store.requests.send("ListObjectsV2", request.send()).await;
    outcome.map(|_| ()).map_err(|failure| cannot_use(store, bucket, failure))
}

/// The error for a bucket, with the setting that is probably wrong.
fn cannot_use(store: &Store, bucket: &str, failure: RequestFailure) -> Error {
    let endpoint = &store.settings.endpoint;
    let hint = match (failure.status(), failure.code()) {
        (0, _) if endpoint.is_empty() => "no answer (s3.region, or the network)".to_owned(),
        (0, _) => format!("{endpoint} did not answer (s3.endpoint)"),
        (_, "NoSuchBucket") => "there is no such bucket (s3.bucket)".to_owned(),
        (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
            "the bucket is in another region (s3.region), or its name is not to be in the host's (s3.path_style)".to_owned()
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken") => {
            "the credentials are wrong (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another source)".to_owned()
        }
        (403, _) => "access is denied (the policies of the bucket and of the credentials)".to_owned(),
        _ => "the request failed (section [s3])".to_owned(),
    };
    failure.into_error(format!("use the bucket `{bucket}`: {hint}"))
}

/// Whether the service supports `If-None-Match: *`; some services ignore it and replace the object.
async fn is_conditional(store: &Store) -> Result<bool, Error> {
    let bucket = store.settings.bucket.bucket(Bucket::Temporary);
    let name = format!("{}probe-{}", store.settings.bucket.prefix(Bucket::Temporary), Uuid::new_v4());
    let mut is_conditional = false;
    for attempt in 1..=2 {
        let request = store.requests.client.put_object().bucket(&bucket).key(&name).if_none_match("*");
        let request = request
            .set_server_side_encryption(store.encryption())
            .set_ssekms_key_id(store.kms_key())
            .set_storage_class(store.storage_class(Bucket::Temporary))
            .body(ByteStream::from_static(b"probe"));
        match store.requests.send("PutObject", request.send()).await {
            Ok(_) => {}
            Err(failure) if failure.is_precondition_failed() && attempt == 2 => is_conditional = true,
            // Not implemented: the service refuses the header.
            Err(failure) if failure.status() == 501 => return Ok(false),
            Err(failure) => return Err(cannot_use(store, &bucket, failure)),
        }
    }
    let request = store.requests.client.delete_object().bucket(&bucket).key(&name);
    if let Err(failure) = store.requests.send("DeleteObject", request.send()).await {
        let error = failure.to_string();
        warn!(error, "cannot delete {name} in {bucket}, which was put there to test conditional writes");
    }
    Ok(is_conditional)
}
