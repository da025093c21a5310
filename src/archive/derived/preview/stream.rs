//! Reading of stored previews.

use std::ops::Range;

use bytes::Bytes;

use crate::archive::access::Caller;
use crate::archive::derived::preview::slices;
use crate::archive::read::collect;
use crate::archive::{Archive, Error, keys};
use crate::blobs;
use crate::blobs::{ByteStream, Key};
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::records::PreviewState;

/// A preview, or a part of its slices, in the fast stream's format: the same bytes at each read.
#[derive(Debug, Clone)]
pub struct PreviewStream {
    /// A value that changes whenever the bytes do. Opaque, without quotation marks.
    pub version: String,
    head: Bytes,
    key: Key,
    codestreams: Range<u64>,
}

impl PreviewStream {
    /// Bytes of the stream.
    pub fn length(&self) -> u64 {
        self.head.len() as u64 + self.codestreams.end - self.codestreams.start
    }
}

/// Returns the preview of a series, or slices `slices` of the series (from 0), to be read by [`read`].
///
/// # Errors
/// [`Error::NotReady`] if the preview is not encoded yet; [`Error::NotFound`] if there is no such series or
/// slice, if nothing in the series can be shown, or with the reason if the preview could not be encoded.
pub async fn open(
    archive: &Archive,
    caller: &Caller,
    study: &StudyUid,
    series: &SeriesUid,
    slices: Option<Range<u32>>,
) -> Result<PreviewStream, Error> {
    let (generation, size_bytes) = match archive.series(caller, study, series).await?.preview {
        PreviewState::Ready { generation, size_bytes } => (generation, size_bytes),
        PreviewState::Pending { .. } => {
            return Err(Error::NotReady(format!("the preview of series {series} is still being made")));
        }
        PreviewState::Failed { reason, .. } => {
            return Err(Error::NotFound(format!("preview of series {series}: {reason}")));
        }
        PreviewState::None => {
            return Err(Error::NotFound(format!("preview of series {series}: nothing in it can be shown")));
        }
    };
    let key = keys::preview(&caller.tenant, study, series, generation);
    let (index, index_start) = preview_index(archive, &key, size_bytes).await?;
    let version = format!("{generation}-{size_bytes}");
    let Some(slices) = slices else {
        let head = index.head().into();
        return Ok(PreviewStream { version, head, key, codestreams: 0..index_start });
    };
    let version = format!("{version}-{}-{}", slices.start, slices.end);
    let count = index.number_of_slices;
    let (part, codestreams) = index
        .part(slices.clone())
        .ok_or_else(|| Error::NotFound(format!("slices {slices:?} in series {series}, which has {count}")))?;
    Ok(PreviewStream { version, head: part.head().into(), key, codestreams })
}

/// Reads bytes `range` of a preview's stream; the range must lie inside the stream.
///
/// # Errors
/// [`Error::NotReady`] if the series has changed meanwhile: a new request gets another preview.
pub async fn read(
    archive: &Archive,
    preview: &PreviewStream,
    range: Range<u64>,
) -> Result<ByteStream, Error> {
    let head_bytes = preview.head.len() as u64;
    let from_head = range.start.min(head_bytes)..range.end.min(head_bytes);
    let head = preview.head.slice(from_head.start as usize..from_head.end as usize);
    let start = preview.codestreams.start + range.start.saturating_sub(head_bytes);
    let end = preview.codestreams.start + range.end.saturating_sub(head_bytes);
    let head = futures_util::stream::iter((!head.is_empty()).then_some(Ok(head)));
    let rest = archive.blobs.read(&preview.key, start..end).await.map_err(|error| match error {
        blobs::Error::NotFound(_) => Error::NotReady("another preview takes the place of this one".into()),
        error => error.into(),
    })?;
    Ok(Box::pin(futures_util::StreamExt::chain(head, rest)))
}

/// Reads the index of a stored preview. Returns the index and its offset, which is the end of the
/// codestreams.
async fn preview_index(archive: &Archive, key: &Key, size_bytes: u64) -> Result<(slices::Index, u64), Error> {
    let damaged = || {
        let source = std::io::Error::from(std::io::ErrorKind::InvalidData).into();
        Error::Blobs(blobs::Error::Backend { operation: format!("read the index of {key}"), source })
    };
    let end = size_bytes.checked_sub(slices::HEADER_BYTES as u64).ok_or_else(damaged)?;
    let header = collect(archive.blobs.read(key, end..size_bytes).await?).await?;
    let index_bytes = slices::index_bytes(&header).ok_or_else(damaged)?;
    let start = end.checked_sub(index_bytes).ok_or_else(damaged)?;
    let text = collect(archive.blobs.read(key, start..end).await?).await?;
    Ok((serde_json::from_slice(&text).map_err(|_| damaged())?, start))
}
