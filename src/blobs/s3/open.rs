//! The start: is every bucket there, may it be used, and what can the store do?

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_s3::config::ProvideCredentials;
use aws_sdk_s3::primitives::ByteStream;
use tracing::{info, warn};
use uuid::Uuid;

use crate::blobs::s3::Store;
use crate::blobs::s3::client::Requests;
use crate::blobs::s3::failure::{Failure, causes};
use crate::blobs::{Bucket, Error};
use crate::config;

const NO_CREDENTIALS: &str =
    "no credentials were found (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, profiles, the machine's role)";

/// As [`crate::blobs::s3::S3Blobs::open`], with what the machine says.
pub(super) async fn open(settings: &config::S3, machine: &SdkConfig) -> Result<Store, Error> {
    let cannot = |reason: String| Error::Backend { operation: "use S3".into(), source: reason.into() };
    let requests = Requests::new(settings, machine).map_err(cannot)?;
    if let Err(cause) = credentials(machine).await {
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
            "S3 does not look after originals that must not be replaced (If-None-Match): their names are unique anyway"
        );
    }
    Ok(store)
}

/// Makes sure that there are credentials; if not, why not.
async fn credentials(machine: &SdkConfig) -> Result<(), String> {
    let provider = machine.credentials_provider().ok_or_else(String::new)?;
    let found = provider.provide_credentials().await;
    found.map(|_| ()).map_err(|error| format!(": {}", causes(&error)))
}

/// Makes sure that a bucket is there and that its objects may be listed.
async fn find(store: &Store, bucket: &str) -> Result<(), Error> {
    let request = store.requests.client.list_objects_v2().bucket(bucket).max_keys(1);
    let outcome = store.requests.send("ListObjectsV2", request.send()).await;
    outcome.map(|_| ()).map_err(|failure| cannot_use(store, bucket, failure))
}

/// The error that names the setting which is probably at fault.
fn cannot_use(store: &Store, bucket: &str, failure: Failure) -> Error {
    let endpoint = &store.settings.endpoint;
    let hint = match (failure.status(), failure.code()) {
        (0, _) if endpoint.is_empty() => "it did not answer (s3.region, or the network)".to_owned(),
        (0, _) => format!("{endpoint} did not answer (s3.endpoint)"),
        (_, "NoSuchBucket") => "there is no such bucket (s3.bucket)".to_owned(),
        (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
            "the bucket is in another region (s3.region), or its name is not to be in the host's (s3.path_style)".to_owned()
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken") => {
            "the credentials are wrong (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or where else they are from)".to_owned()
        }
        (403, _) => "it is not allowed (the policies of the bucket and of the credentials)".to_owned(),
        _ => "it is not possible (section [s3])".to_owned(),
    };
    failure.into_error(format!("use the bucket `{bucket}`: {hint}"))
}

/// Whether the store refuses to replace an object where it is asked to; some replace it all the same.
async fn is_conditional(store: &Store) -> Result<bool, Error> {
    let bucket = store.settings.bucket.bucket(Bucket::Temporary);
    let name = format!("{}probe-{}", store.settings.bucket.prefix(Bucket::Temporary), Uuid::new_v4());
    let mut is_conditional = false;
    for attempt in 1..=2 {
        let request = store.requests.client.put_object().bucket(&bucket).key(&name).if_none_match("*");
        let request = request
            .set_server_side_encryption(store.encryption())
            .set_ssekms_key_id(store.kms_key())
            .set_storage_class(store.settings.storage_classes.of(Bucket::Temporary))
            .body(ByteStream::from_static(b"probe"));
        match store.requests.send("PutObject", request.send()).await {
            Ok(_) => {}
            Err(failure) if failure.is_precondition_failed() && attempt == 2 => is_conditional = true,
            // The store knows the header, and says that it does not do that.
            Err(failure) if failure.status() == 501 => return Ok(false),
            Err(failure) => return Err(cannot_use(store, &bucket, failure)),
        }
    }
    let request = store.requests.client.delete_object().bucket(&bucket).key(&name);
    if let Err(failure) = store.requests.send("DeleteObject", request.send()).await {
        let error = failure.to_string();
        warn!(error, "cannot delete {name} in {bucket}, which was put there to see what S3 can do");
    }
    Ok(is_conditional)
}
