//! The listing of objects, page by page.

use std::sync::Arc;

use aws_sdk_s3::types::Object;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use crate::blobs::s3::Store;
use crate::blobs::{Bucket, Error, Key, ListedObject};

/// As [`crate::blobs::Blobs::list`].
pub(super) fn list(
    store: Arc<Store>,
    bucket: Bucket,
    prefix: &str,
) -> BoxStream<'static, Result<ListedObject, Error>> {
    let class_prefix = store.settings.bucket.prefix(bucket);
    let prefix = format!("{class_prefix}{prefix}");
    let pages = stream::try_unfold(NextPage::First, move |next| {
        let (store, prefix, class_prefix) = (Arc::clone(&store), prefix.clone(), class_prefix.clone());
        async move {
            let token = match next {
                NextPage::First => None,
                NextPage::After(token) => Some(token),
                NextPage::None => return Ok(None),
            };
            let (objects, next) = page(&store, bucket, &prefix, token).await?;
            let entries = objects.into_iter().filter_map(move |object| entry(bucket, &class_prefix, &object));
            Ok(Some((stream::iter(entries.map(Ok)), next)))
        }
    });
    pages.try_flatten().boxed()
}

/// The next page of a listing.
enum NextPage {
    First,
    /// The page of this continuation token.
    After(String),
    None,
}

async fn page(
    store: &Store,
    bucket: Bucket,
    prefix: &str,
    token: Option<String>,
) -> Result<(Vec<Object>, NextPage), Error> {
    let request = store.requests.client.list_objects_v2().bucket(store.settings.bucket.bucket(bucket));
    let request = request.prefix(prefix).set_continuation_token(token);
    let page = store.requests.send("ListObjectsV2", request.send()).await;
    let page = page.map_err(|failure| failure.into_error(format!("list {}", bucket.name())))?;
    let next = match page.next_continuation_token {
        Some(token) if page.is_truncated == Some(true) => NextPage::After(token),
        _ => NextPage::None,
    };
    Ok((page.contents.unwrap_or_default(), next))
}

/// Converts an object of a listing; `None` if it has no key or no size.
fn entry(bucket: Bucket, class_prefix: &str, object: &Object) -> Option<ListedObject> {
    let path = object.key()?.strip_prefix(class_prefix)?.to_owned();
    let size_bytes = u64::try_from(object.size()?).ok()?;
    // An object of unknown age counts as new, because old objects without a reference may be deleted.
    let modified_at = object.last_modified().and_then(|time| time.to_millis().ok()).unwrap_or(i64::MAX);
    Some(ListedObject { key: Key { bucket, path }, size_bytes, modified_at })
}
