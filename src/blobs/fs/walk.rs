//! The listing of objects: a walk that holds one open directory for each level, and at most a batch of names.

use std::fs::ReadDir;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use crate::blobs::fs::blocking;
use crate::blobs::{Bucket, Error, Key, ListedObject};

/// The most objects that one call on a blocking thread lists.
const BATCH: usize = 256;

/// Lists the objects below the directory `root` whose path starts with `prefix`.
pub(super) fn list(
    root: PathBuf,
    bucket: Bucket,
    prefix: String,
) -> BoxStream<'static, Result<ListedObject, Error>> {
    let start = prefix.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
    let walk = DirectoryWalk { root, bucket, prefix, pending: Some(start), open: Vec::new() };
    stream::try_unfold(walk, |mut walk| async move {
        let (walk, batch) = blocking(move || {
            let batch = walk.batch();
            (walk, batch)
        })
        .await?;
        let batch = batch.map_err(|error| Error::Backend {
            operation: format!("list {}", walk.bucket.name()),
            source: error.into(),
        })?;
        // A batch is empty only at the end of the walk.
        let entries = (!batch.is_empty()).then(|| stream::iter(batch.into_iter().map(Ok)));
        Ok::<_, Error>(entries.map(|entries| (entries, walk)))
    })
    .try_flatten()
    .boxed()
}

struct DirectoryWalk {
    root: PathBuf,
    bucket: Bucket,
    prefix: String,
    /// The directory to open next, as a path in the bucket.
    pending: Option<String>,
    /// The directories from the start to the current one, each with its path in the bucket.
    open: Vec<(String, ReadDir)>,
}

impl DirectoryWalk {
    fn is_done(&self) -> bool {
        self.pending.is_none() && self.open.is_empty()
    }

    fn batch(&mut self) -> std::io::Result<Vec<ListedObject>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH && !self.is_done() {
            if let Some(entry) = self.step()? {
                batch.push(entry);
            }
        }
        Ok(batch)
    }

    /// Takes one name. A file or directory that vanishes meanwhile was deleted, and is passed over.
    fn step(&mut self) -> std::io::Result<Option<ListedObject>> {
        if let Some(path) = self.pending.take() {
            match std::fs::read_dir(self.root.join(&path)) {
                Ok(names) => self.open.push((path, names)),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
            return Ok(None);
        }
        let Some((directory, names)) = self.open.last_mut() else { return Ok(None) };
        let Some(found) = names.next().transpose()? else {
            self.open.pop();
            return Ok(None);
        };
        // No key has a name that is not UTF-8.
        let Ok(name) = found.file_name().into_string() else { return Ok(None) };
        let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
        let metadata = match found.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if metadata.is_dir() && (path.starts_with(&self.prefix) || self.prefix.starts_with(&path)) {
            self.pending = Some(path);
            return Ok(None);
        }
        let is_listed = metadata.is_file() && path.starts_with(&self.prefix);
        let key = Key { bucket: self.bucket, path };
        let modified_at = metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000;
        Ok(is_listed.then_some(ListedObject { key, size_bytes: metadata.len(), modified_at }))
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
