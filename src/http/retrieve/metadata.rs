//! Metadata in DICOM JSON, joined from what was made when the instances came in (PS3.18 §10.4.1.3, §F.2).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use crate::archive::access::Caller;
use crate::archive::records::MetadataRecord;
use crate::archive::retrieve::MetadataStream;
use crate::dicom::metadata::GzipJoiner;
use crate::http::Service;
use crate::http::content::{describe, finish};
use crate::http::error::Error;
use crate::http::json;
use crate::http::path::Target;
use crate::http::request::Head;

/// Answers up to this size are gathered, so that their length can be told.
const MAX_GATHERED_BYTES: usize = 4 * 1024 * 1024;

/// `GET …/metadata` of a study, a series or an instance.
pub(crate) async fn metadata(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let media_type = json::media_type(&head)?;
    let is_gzip = head.takes_gzip();
    let version = service.archive.version(&caller, &scope).await?;
    let etag = format!("\"{version}-json{}\"", if is_gzip { "-gzip" } else { "" });
    let mut response = describe(&etag);
    if head.has(&etag) {
        return finish(response.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    response = response.header(CONTENT_TYPE, media_type);
    if is_gzip {
        response = response.header(CONTENT_ENCODING, "gzip");
    }
    let pages = service.archive.metadata(&caller, &scope).await?;
    let mut text = pieces(pages, Writer::new(is_gzip, head.base_url()));
    let mut gathered = Vec::new();
    while gathered.len() <= MAX_GATHERED_BYTES {
        match text.try_next().await? {
            Some(piece) => gathered.extend_from_slice(&piece),
            None => {
                let response = response.header(CONTENT_LENGTH, gathered.len());
                return finish(response, Body::from(gathered));
            }
        }
    }
    let first = stream::once(async { Ok(Bytes::from(gathered)) });
    finish(response, Body::from_stream(first.chain(text)))
}

/// The text of all pages, a piece for each.
fn pieces(
    pages: MetadataStream,
    writer: Writer,
) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + Unpin + Send + 'static {
    stream::try_unfold(Some((pages, writer)), |state| async move {
        let Some((mut pages, mut writer)) = state else { return Ok(None) };
        let Some(page) = pages.try_next().await? else {
            return Ok(Some((Bytes::from(writer.finish()), None)));
        };
        // Inflating some hundred instances takes milliseconds: too long for a thread that others wait for.
        let written = spawn_blocking(move || writer.page(&page).map(|piece| (piece, writer))).await;
        let (piece, writer) = written.map_err(|error| Error::Damaged(error.into()))??;
        Ok(Some((Bytes::from(piece), Some((pages, writer)))))
    })
    .boxed()
}

/// Writes the array, as text or compressed.
struct Writer {
    base_url: String,
    is_first: bool,
    gzip: Option<GzipJoiner>,
}

impl Writer {
    fn new(is_gzip: bool, base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), is_first: true, gzip: is_gzip.then(GzipJoiner::new) }
    }

    fn page(&mut self, records: &[MetadataRecord]) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        for record in records {
            let before = if std::mem::take(&mut self.is_first) { b"[" } else { b"," };
            match &mut self.gzip {
                Some(gzip) => {
                    gzip.text(before);
                    gzip.metadata(&record.metadata, &self.base_url);
                }
                None => {
                    text.extend_from_slice(before);
                    let written = record.metadata.write_text(&self.base_url, &mut text);
                    written.map_err(|error| Error::Damaged(error.into()))?;
                }
            }
        }
        Ok(self.gzip.as_mut().map_or(text, GzipJoiner::take))
    }

    fn finish(self) -> Vec<u8> {
        let end: &[u8] = if self.is_first { b"[]" } else { b"]" };
        match self.gzip {
            Some(mut gzip) => {
                gzip.text(end);
                gzip.finish()
            }
            None => end.to_vec(),
        }
    }
}
