//! A zip file of files that are made while it is read, none of which may be missing.

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::archive::Error;
use crate::archive::read::zip_download::ZipStream;
use crate::zip::writer::{DirectoryWriter, EntryHeader};

/// A file with its name in the zip file.
pub(in crate::archive) type NamedFile = (String, Bytes);

/// Writes a zip file of these files, one after the other. An error of one ends the zip file. The entries have
/// no time.
pub(in crate::archive) fn zip_of(files: BoxStream<'static, Result<NamedFile, Error>>) -> ZipStream {
    let state = Some((files, DirectoryWriter::default()));
    let pieces = stream::try_unfold(state, |state| async move {
        let Some((mut files, mut directory)) = state else { return Ok::<_, Error>(None) };
        let Some((name, bytes)) = files.try_next().await? else {
            return Ok(Some(([directory.into_bytes().into(), Bytes::new(), Bytes::new()], None)));
        };
        let header = EntryHeader { name, size_bytes: bytes.len() as u64, modified_at: 0 };
        let start = Bytes::from(header.local());
        let end = Bytes::from(directory.end_entry(&header, crc32fast::hash(&bytes)));
        Ok(Some(([start, bytes, end], Some((files, directory)))))
    });
    let pieces = pieces.map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok))).try_flatten();
    pieces.try_filter(|piece| std::future::ready(!piece.is_empty())).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_cannot_be_made_ends_the_zip_file() {
        let files =
            || [Ok(("a/1".to_owned(), Bytes::from_static(b"one"))), Ok(("b".to_owned(), Bytes::new()))];
        let zip = zip_of(stream::iter(files()).boxed()).try_collect::<Vec<_>>().await.unwrap().concat();
        assert!(zip.starts_with(b"PK\x03\x04"));
        assert_eq!(zip[zip.len() - 22..][..4], *b"PK\x05\x06");
        assert_eq!(zip[zip.len() - 12], 2, "entries");
        let broken = files().into_iter().chain([Err(Error::Busy)]);
        let pieces = zip_of(stream::iter(broken.collect::<Vec<_>>()).boxed()).try_collect::<Vec<_>>().await;
        assert!(matches!(pieces, Err(Error::Busy)));
    }
}
