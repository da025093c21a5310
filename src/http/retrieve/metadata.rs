//! Metadata in DICOM JSON, joined from the text that was written when the instances were stored, or in XML
//! (PS3.18 §10.4.1.1.2, §10.4.4).

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, WARNING};
use axum::http::response::Builder;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::timeout;

use crate::archive::access::Caller;
use crate::archive::derived::metadata_bundle::{self, MetadataStream};
use crate::archive::derived::metadata_text::{self, MetadataSource, TextBundle, TextCoding};
use crate::archive::scope::Scope;
use crate::archive::{Archive, run_blocking};
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::{Accept, Offer};
use crate::http::request::accept_encoding::ContentCoding;
use crate::http::request::path::Target;
use crate::http::response::multipart as parts;
use crate::http::response::multipart::{DICOM_XML, MODEL_BOUNDARY};
use crate::http::response::negotiation::not_acceptable;
use crate::http::response::ranged::{describe, finish};
use crate::http::retrieve::metadata_writer::{MetadataFormat, MetadataWriter};
use crate::http::warning::warning;

const DICOM_JSON: &str = "application/dicom+json";

/// The maximal size of a response that is collected first, so that its length is known.
const MAX_GATHERED_BYTES: usize = 4 * 1024 * 1024;

/// The longest wait for the next text, while a response is collected.
const LONGEST_GATHERING: Duration = Duration::from_secs(1);

/// Text that is decompressed at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// The maximal size of text that is written at a time, but for the text of one instance.
const MAX_BATCH_BYTES: u64 = 4 << 20;

/// `GET …/metadata` of a study, a series or an instance.
pub(crate) async fn metadata(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let archive = &service.archive;
    archive.note_base_url(head.base_url());
    let offer = choose(&head.accept(), &scope)?;
    let (form, name) = form(&offer);
    let coding = choose_coding(&head, form)?;
    let source = MetadataSource::read(archive, &caller, &scope).await?;
    let version = source.version();
    let etag = |kind: &str, coding: ContentCoding| match coding.name() {
        Some(coding) => format!("\"{version}-{name}{kind}-{coding}\""),
        None => format!("\"{version}-{name}\""),
    };
    // The bytes of a text bundle differ from those that are joined of pieces; a client can have either.
    let bundled_etag = etag("-bundle", coding);
    let joined_coding = joined_coding(&head, form, coding);
    let joined_etag = etag("", joined_coding);
    for known in [&bundled_etag, &joined_etag] {
        if head.has(known) {
            return finish(describe(known).status(StatusCode::NOT_MODIFIED), Body::empty());
        }
    }
    if form == MetadataFormat::Json {
        let stored = if coding == ContentCoding::Gzip { TextCoding::Gzip } else { TextCoding::Zstd };
        // Without a coding the text bundle saves nothing on the line, and is not waited for.
        let stored = (stored, coding != ContentCoding::Identity);
        let bundle = metadata_text::text_bundle(archive, &caller, &source, head.base_url(), stored).await?;
        if let Some(bundle) = bundle {
            return bundled(begin(&bundled_etag, &offer, coding), bundle, coding);
        }
    }
    let pages = in_batches(metadata_bundle::metadata(archive, &caller, &scope).await?);
    let writer = MetadataWriter::new(form, joined_coding, head.base_url())?;
    joined(begin(&joined_etag, &offer, joined_coding), (Arc::clone(archive), caller), pages, writer).await
}

/// Begins a response with a body.
fn begin(etag: &str, offer: &Offer, coding: ContentCoding) -> Builder {
    let content_type = match offer.is_multipart {
        true => parts::content_type(offer.essence, MODEL_BOUNDARY),
        false => offer.essence.to_owned(),
    };
    let response = describe(etag).header(CONTENT_TYPE, content_type);
    match coding.name() {
        Some(name) => response.header(CONTENT_ENCODING, name),
        None => response,
    }
}

/// Answers with a text bundle, decompressed if the client accepts no coding.
fn bundled(response: Builder, bundle: TextBundle, coding: ContentCoding) -> Result<Response<Body>, Error> {
    if coding == ContentCoding::Identity {
        let response = response.header(CONTENT_LENGTH, bundle.text_bytes);
        return finish(response, decompressed(bundle.compressed)?);
    }
    let response = response.header(CONTENT_LENGTH, bundle.compressed.len());
    finish(response, Body::from(bundle.compressed))
}

/// A body that decompresses a Zstandard frame, a chunk at a time.
fn decompressed(compressed: Bytes) -> Result<Body, Error> {
    let decoder = zstd::Decoder::with_buffer(Cursor::new(compressed)).map_err(anyhow::Error::from);
    let next = |mut decoder: zstd::Decoder<'static, Cursor<Bytes>>| async move {
        let read = run_blocking(None, move || {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let bytes = (&mut decoder).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
            Ok::<_, anyhow::Error>((bytes > 0).then(|| (Bytes::from(chunk), decoder)))
        });
        read.await?
    };
    Ok(Body::from_stream(stream::try_unfold(decoder.map_err(Error::Damaged)?, next)))
}

/// Answers with the text that is joined of the records of all instances.
async fn joined(
    response: Builder,
    (archive, caller): (Arc<Archive>, Caller),
    pages: MetadataStream,
    writer: MetadataWriter,
) -> Result<Response<Body>, Error> {
    let left_out = writer.left_out();
    let mut text = chunks(archive, caller, pages, writer);
    let (mut gathered, mut length) = (Vec::new(), 0);
    while length <= MAX_GATHERED_BYTES {
        let next = match gathered.is_empty() {
            true => text.try_next().await,
            // What is gathered holds memory, for which other responses may wait.
            false => match timeout(LONGEST_GATHERING, text.try_next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        let Some(chunk) = next? else {
            let chunks = stream::iter(gathered.into_iter().map(Ok::<_, Error>));
            let response = with_warning(response, &left_out).header(CONTENT_LENGTH, length);
            return finish(response, Body::from_stream(chunks));
        };
        length += chunk.len();
        gathered.push(chunk);
    }
    let first = stream::iter(gathered.into_iter().map(Ok));
    finish(with_warning(response, &left_out), Body::from_stream(first.chain(text)))
}

/// The content coding of a response whose bytes are at hand in each; XML is not given in zstd.
///
/// # Errors
/// [`Error::NotAcceptable`] if the client excludes the response without a coding, and names no other one.
fn choose_coding(head: &Head, form: MetadataFormat) -> Result<ContentCoding, Error> {
    let all = [ContentCoding::Zstd, ContentCoding::Gzip, ContentCoding::Identity];
    let offers = if form == MetadataFormat::Json { &all[..] } else { &all[1..] };
    let refused = || Error::NotAcceptable("Accept-Encoding: can be gzip or identity; zstd for JSON".into());
    head.accept_encoding().choose(offers).ok_or_else(refused)
}

/// The content coding of a response that is joined of pieces: gzip instead of zstd where the client accepts
/// gzip, because the pieces are compressed by gzip already.
fn joined_coding(head: &Head, form: MetadataFormat, coding: ContentCoding) -> ContentCoding {
    let is_joined = form == MetadataFormat::Json && coding == ContentCoding::Zstd;
    if is_joined && head.accept_encoding().accepts(ContentCoding::Gzip) {
        ContentCoding::Gzip
    } else {
        coding
    }
}

/// Adds a Warning if instances were left out so far.
fn with_warning(response: Builder, left_out: &AtomicUsize) -> Builder {
    match left_out.load(Ordering::Relaxed) {
        0 => response,
        count => {
            let text = format!("the metadata of {count} instances cannot be read; they are left out");
            response.header(WARNING, warning(&text))
        }
    }
}

/// The representation of metadata: JSON by default; XML in a part for each instance, or alone for one
/// instance.
fn choose(accept: &Accept, scope: &Scope) -> Result<Offer, Error> {
    let offer =
        |is_multipart, essence| Offer { is_multipart, essence, transfer_syntax: None, is_default: true };
    let mut offers = vec![offer(false, DICOM_JSON), offer(false, "application/json"), offer(true, DICOM_XML)];
    if scope.instance.is_some() {
        offers.push(offer(false, DICOM_XML));
    }
    accept.choose(&offers).cloned().ok_or_else(|| not_acceptable(&offers))
}

/// The format of an offer, and its name in an ETag.
fn form(offer: &Offer) -> (MetadataFormat, &'static str) {
    match (offer.is_multipart, offer.essence) {
        (true, _) => (MetadataFormat::XmlParts, "xml-parts"),
        (false, DICOM_XML) => (MetadataFormat::Xml, "xml"),
        (false, _) => (MetadataFormat::Json, "json"),
    }
}

/// The same metadata in smaller pages, so that their text fits into memory.
fn in_batches(pages: MetadataStream) -> MetadataStream {
    let batches = pages.map_ok(|page| {
        let mut batches = vec![Vec::new()];
        let mut bytes = 0;
        for record in page {
            if bytes >= MAX_BATCH_BYTES {
                batches.push(Vec::new());
                bytes = 0;
            }
            bytes += record.metadata.text_bytes();
            batches.last_mut().expect("there is one").push(record);
        }
        stream::iter(batches.into_iter().map(Ok))
    });
    batches.try_flatten().boxed()
}

/// The text of all pages, one chunk for each, with memory for it. The first chunk waits for memory for a
/// limited time only.
fn chunks(
    archive: Arc<Archive>,
    caller: Caller,
    pages: MetadataStream,
    writer: MetadataWriter,
) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + Unpin + Send + 'static {
    let reader = (archive, caller);
    stream::try_unfold(Some((reader, pages, writer, true)), |state| async move {
        let Some((reader, mut pages, mut writer, is_first)) = state else { return Ok(None) };
        let (archive, caller) = &reader;
        let Some(page) = pages.try_next().await? else {
            return Ok(Some((Bytes::from(writer.finish()?), None)));
        };
        let bytes = page.iter().map(|record| record.metadata.text_bytes()).sum::<u64>();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let memory = match is_first {
            true => archive.response_memory_in_time(caller, bytes).await?,
            false => archive.response_memory(caller, bytes).await,
        };
        // Decompressing some hundred instances takes milliseconds: too long for a thread of the runtime.
        let permit = if writer.parses() { Some(archive.permits().codec().await) } else { None };
        let written = run_blocking(permit, move || writer.page(&page).map(|chunk| (chunk, writer)));
        let (chunk, writer) = written.await??;
        Ok(Some((memory.hold(Bytes::from(chunk)), Some((reader, pages, writer, false)))))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::records::MetadataRecord;
    use crate::dicom::metadata::compress;

    #[tokio::test]
    async fn long_texts_are_written_few_at_a_time() {
        let record = |length: usize| MetadataRecord { metadata: compress(&[vec![b' '; length]]) };
        let page = [3_000_000, 3_000_000, 3_000_000, 3, 3, 3_000_000, 3].map(record).to_vec();
        let pages = stream::iter([Ok(page), Ok(vec![record(1)])]).boxed();
        let batches: Vec<_> = in_batches(pages).try_collect().await.unwrap();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 4, 1, 1]);
    }
}
