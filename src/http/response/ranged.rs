//! Bodies of text and of ranges of an instance: whole or in part, of known length, never copied.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE, VARY,
};
use axum::http::response::Builder;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::archive::access::Caller;
use crate::archive::derived::transcode::{TranscodedFile, read_transcoded};
use crate::archive::read::pass::InflatePass;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::digest::hexadecimal;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::response::frame_list::{FrameList, FramePiece};

/// A body whose bytes are the same for every request, so that clients can request ranges of it (RFC 9110
/// §14).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SegmentedBody {
    segments: Vec<BodySegment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum BodySegment {
    Text(Bytes),
    /// A range of the instance as a file.
    File(Range<u64>),
    /// A range of a bulk value.
    Value(Range<u64>),
    /// A range of a list of frames.
    Frames(FrameList, Range<u64>),
    /// A range of a transcoded file.
    Transcoded(TranscodedFile, Range<u64>),
}

impl BodySegment {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(range) | Self::Value(range) | Self::Frames(_, range) | Self::Transcoded(_, range) => {
                range.end - range.start
            }
        }
    }

    /// A range of the segment, which must lie inside.
    fn slice(self, range: Range<u64>) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.slice(range.start as usize..range.end as usize)),
            Self::File(whole) => Self::File(whole.start + range.start..whole.start + range.end),
            Self::Value(whole) => Self::Value(whole.start + range.start..whole.start + range.end),
            Self::Frames(list, whole) => {
                Self::Frames(list, whole.start + range.start..whole.start + range.end)
            }
            Self::Transcoded(file, whole) => {
                Self::Transcoded(file, whole.start + range.start..whole.start + range.end)
            }
        }
    }
}

impl SegmentedBody {
    /// Appends text.
    pub(crate) fn text(&mut self, text: impl Into<Bytes>) {
        self.segments.push(BodySegment::Text(text.into()));
    }

    /// Appends a range of the instance as a file.
    pub(crate) fn file(&mut self, range: Range<u64>) {
        self.segments.push(BodySegment::File(range));
    }

    /// Appends frames, as they are stored.
    pub(crate) fn frames(&mut self, list: FrameList) {
        let range = 0..list.len();
        self.segments.push(BodySegment::Frames(list, range));
    }

    /// Appends a bulk value or a part of one.
    pub(crate) fn value(&mut self, range: Range<u64>) {
        self.segments.push(BodySegment::Value(range));
    }

    /// Appends a transcoded file.
    pub(crate) fn transcoded(&mut self, file: TranscodedFile) {
        let range = 0..file.size_bytes;
        self.segments.push(BodySegment::Transcoded(file, range));
    }

    /// Appends another body.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.segments.append(&mut other.segments);
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.segments.iter().map(BodySegment::len).sum()
    }

    /// A range of the body; a range beyond the end is cut off.
    fn slice(self, range: Range<u64>) -> Self {
        let mut start = 0;
        let mut segments = Vec::new();
        for segment in self.segments {
            let end = start + segment.len();
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                segments.push(segment.slice(from - start..to - start));
            }
            start = end;
        }
        Self { segments }
    }

    /// Opens the body. Its first bytes are read before this returns, so that they are sent together with the
    /// head, and so that an object that cannot be read is an error and not an incomplete body.
    async fn open(
        self,
        archive: Arc<Archive>,
        caller: Caller,
        record: InstanceRecord,
    ) -> Result<Body, Error> {
        let reader = Arc::new(BodyReader { archive, caller, record, pass: InflatePass::default() });
        let pieces = stream::iter(self.segments).then(move |segment| Arc::clone(&reader).open(segment));
        let mut pieces = pieces.try_flatten().boxed();
        let mut first = Vec::new();
        // The text, and the first bytes after it.
        for _ in 0..2 {
            first.extend(pieces.try_next().await?);
        }
        Ok(Body::from_stream(stream::iter(first).map(Ok).chain(pieces)))
    }
}

/// Reads the segments of a body, one after the other.
struct BodyReader {
    archive: Arc<Archive>,
    caller: Caller,
    record: InstanceRecord,
    pass: InflatePass,
}

type SegmentBytes = BoxStream<'static, Result<Bytes, ArchiveError>>;

impl BodyReader {
    async fn open(self: Arc<Self>, segment: BodySegment) -> Result<SegmentBytes, ArchiveError> {
        let Self { archive, caller, record, pass } = &*self;
        let bytes = match segment {
            BodySegment::Text(text) => return Ok(stream::once(ready(Ok(text))).boxed()),
            BodySegment::File(range) => archive.read_file(caller, record, range).await?,
            BodySegment::Value(range) => archive.read_value_on(caller, record, range, pass).await?,
            BodySegment::Frames(list, range) => return Ok(self.open_frames(list, range)),
            BodySegment::Transcoded(file, range) => read_transcoded(archive, &file, range).await?,
        };
        Ok(bytes.map_err(ArchiveError::from).boxed())
    }

    fn open_frames(self: Arc<Self>, list: FrameList, range: Range<u64>) -> SegmentBytes {
        let for_lengths = Arc::clone(&self);
        let frame_bytes = move |number: u32| {
            let span = number.checked_sub(1).and_then(|index| for_lengths.record.layout.frames.span(index));
            span.map_or(0, |span| span.bytes)
        };
        let pieces = stream::iter(list.pieces(range, frame_bytes)).then(move |piece| {
            let reader = Arc::clone(&self);
            async move {
                let Self { archive, caller, record, pass } = &*reader;
                let (number, part) = match piece {
                    FramePiece::Head(head) => return Ok(stream::once(ready(Ok(head))).boxed()),
                    FramePiece::Frame(number, part) => (number, part),
                };
                let bytes = archive.read_frame_on(caller, record, number, part, pass).await?;
                Ok::<_, ArchiveError>(bytes.map_err(ArchiveError::from).boxed())
            }
        });
        pieces.try_flatten().boxed()
    }
}

/// A [`SegmentedBody`] with the header fields that describe it.
pub(crate) struct RangedResponse {
    pub(crate) content: SegmentedBody,
    pub(crate) content_type: String,
    /// The ETag with its quotation marks.
    pub(crate) etag: String,
}

impl RangedResponse {
    /// Answers with the whole body, with a range, or with 304 if the client has it (RFC 9110 §13, §14).
    ///
    /// # Errors
    /// [`Error::Range`] if the range lies beyond the end; the archive's error if the body cannot be read.
    pub(crate) async fn answer(
        self,
        archive: &Arc<Archive>,
        caller: Caller,
        record: InstanceRecord,
        head: &Head,
    ) -> Result<Response<Body>, Error> {
        let (response, range) = begin(&self.etag, &self.content_type, self.content.len(), head)?;
        let Some(range) = range else { return finish(response, Body::empty()) };
        finish(response, self.content.slice(range).open(Arc::clone(archive), caller, record).await?)
    }
}

/// Begins the response to a request for `size` bytes that are the same for every request: returns the range
/// to send, or `None` if the client has them (RFC 9110 §13, §14). `etag` includes its quotation marks.
///
/// # Errors
/// [`Error::Range`] when the range lies beyond the end.
pub(crate) fn begin(
    etag: &str,
    content_type: &str,
    size: u64,
    head: &Head,
) -> Result<(Builder, Option<Range<u64>>), Error> {
    let response = describe(etag);
    if head.has(etag) {
        return Ok((response.status(StatusCode::NOT_MODIFIED), None));
    }
    let response = response.header(CONTENT_TYPE, content_type).header(ACCEPT_RANGES, "bytes");
    let is_current = head.text(IF_RANGE).is_none_or(|known| known == etag);
    let asked = head.text(RANGE).filter(|_| is_current);
    let (response, range) = match asked.map_or(RequestedRange::Whole, |text| read_range(text, size)) {
        RequestedRange::Whole => (response, 0..size),
        RequestedRange::Part(range) => {
            let of_whole = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            (response.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, of_whole), range)
        }
        RequestedRange::Beyond => return Err(Error::Range { size }),
    };
    Ok((response.header(CONTENT_LENGTH, range.end - range.start), Some(range)))
}

/// A response that caches may reuse if they revalidate it.
pub(crate) fn describe(etag: &str) -> Builder {
    Response::builder()
        .header(ETAG, etag)
        .header(VARY, "Accept, Accept-Encoding")
        .header(CACHE_CONTROL, "private, no-cache")
}

/// A beginning of a SHA-256 digest that is long enough to be unique, in hexadecimal; for ETags of text that
/// has no digest of its own.
pub(crate) fn fingerprint(of: impl AsRef<[u8]>) -> String {
    hexadecimal(&Sha256::digest(of)[..16])
}

/// Ends a response whose header fields are all valid.
pub(crate) fn finish(response: Builder, body: Body) -> Result<Response<Body>, Error> {
    response.body(body).map_err(|error| Error::Unavailable(format!("the response is not valid: {error}")))
}

#[derive(Debug, PartialEq, Eq)]
enum RequestedRange {
    Whole,
    Part(Range<u64>),
    Beyond,
}

/// Parses a Range field. Several ranges, other units and invalid values count as no range.
fn read_range(text: &str, size: u64) -> RequestedRange {
    let Some((from, to)) = text.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return RequestedRange::Whole;
    };
    let range = match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => from..to.saturating_add(1).min(size),
        (Ok(from), Err(_)) if to.trim().is_empty() => from..size,
        (Err(_), Ok(last)) if from.trim().is_empty() => size.saturating_sub(last)..size,
        _ => return RequestedRange::Whole,
    };
    if range.start < range.end { RequestedRange::Part(range) } else { RequestedRange::Beyond }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, expected) in [
            ("bytes=0-", RequestedRange::Part(0..10)),
            ("bytes=0-0", RequestedRange::Part(0..1)),
            ("bytes=2-99", RequestedRange::Part(2..10)),
            ("bytes=-3", RequestedRange::Part(7..10)),
            ("bytes=-30", RequestedRange::Part(0..10)),
            ("bytes=10-", RequestedRange::Beyond),
            ("bytes=-0", RequestedRange::Beyond),
            ("bytes=5-4", RequestedRange::Whole),
            ("bytes=0-1,4-5", RequestedRange::Whole),
            ("items=0-1", RequestedRange::Whole),
            ("bytes=0-18446744073709551615", RequestedRange::Part(0..10)),
        ] {
            assert_eq!(read_range(text, 10), expected, "{text}");
        }
    }

    #[test]
    fn a_part_of_content_is_cut_from_all_its_segments() {
        let mut content = SegmentedBody::default();
        content.text("abc");
        content.value(100..110);
        content.text("de");
        let mut expected = SegmentedBody::default();
        expected.text("c");
        expected.value(100..110);
        expected.text("d");
        assert_eq!(content.clone().slice(2..14), expected);
        assert_eq!(content.clone().slice(4..6).segments, [BodySegment::Value(101..103)]);
        assert_eq!(content.len(), 15);
        assert_eq!(content.slice(20..30).len(), 0);
    }
}
