//! Parses a multipart body as its bytes arrive, without copying them (RFC 2046 §5.1.1, PS3.18 §8.6.1.2).
//!
//! Pure: bytes in, events out. Lines may end in LF alone, a preamble and an epilogue are skipped, and the
//! line end after the last delimiter may be missing, because senders of all these kinds exist.

use bytes::{Buf, Bytes};
use memchr::memmem::{self, Finder};

/// The maximal size of a part's header fields.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The maximal number of spaces between a delimiter and its line end ("transport padding").
const MAX_PADDING_BYTES: usize = 64;

/// An event of the parser, in the order of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part(PartHeaders),
    /// Bytes of the part, never empty.
    Bytes(Bytes),
    /// The part is complete.
    End,
}

/// The header fields of a part; `None` for missing fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartHeaders {
    /// Content-Type.
    pub content_type: Option<String>,
    /// Content-Location: the name by which metadata refer to bulk data.
    pub content_location: Option<String>,
    /// Content-Disposition: in forms, the name of the field and of the file.
    pub content_disposition: Option<String>,
}

/// The error of a body that is not valid multipart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body ends before its closing delimiter.
    #[error("the body ends before the closing delimiter")]
    Incomplete,
    /// The boundary does not occur.
    #[error("the boundary that Content-Type names does not occur in the body")]
    NoBoundary,
    /// A part's header fields are too long.
    #[error("the header fields of a part take more than {MAX_HEAD_BYTES} bytes")]
    HeadTooLarge,
}

/// A parser of one body: [`MultipartScanner::push`] a chunk, take events by [`MultipartScanner::event`] until
/// there are none, and repeat.
pub struct MultipartScanner {
    /// Each finds a line feed, two hyphens and the boundary. The first delimiter of the body decides on one.
    delimiters: Vec<Finder<'static>>,
    /// Bytes of earlier chunks that may begin a delimiter; less than a line.
    held: Vec<u8>,
    /// The rest of the last chunk.
    chunk: Bytes,
    /// Header fields of the part that begins, as far as they have arrived.
    head: Vec<u8>,
    state: ScannerState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ScannerState {
    Preamble,
    Head,
    Body,
    Epilogue,
}

/// The result of comparing bytes with a delimiter.
enum DelimiterMatch {
    /// A delimiter of `bytes` bytes; after a closing delimiter there is no further part.
    Delimiter { bytes: usize, is_closing: bool, finder: usize },
    /// More bytes are needed to decide.
    Undecided,
    /// Bytes of the part.
    Other,
}

impl MultipartScanner {
    /// A scanner for a body whose Content-Type names this boundary (without its hyphens).
    ///
    /// Apostrophes around the boundary belong to it (RFC 2046 §5.1.1), but some clients write them for
    /// quotation marks: such a boundary is found with and without them.
    pub fn new(boundary: &str) -> Self {
        let inner = boundary.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let boundaries = [Some(boundary), inner.filter(|inner| !inner.is_empty())];
        let finder = |boundary| Finder::new(&format!("\n--{boundary}")).into_owned();
        let delimiters = boundaries.into_iter().flatten().map(finder).collect();
        // A body may start with the delimiter, without the line end that all others have.
        let held = b"\r\n".to_vec();
        Self { delimiters, held, chunk: Bytes::new(), head: Vec::new(), state: ScannerState::Preamble }
    }

    /// Adds the next chunk of the body. All events of the last chunk must have been taken.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "events are left");
        self.chunk = chunk;
    }

    /// The next event; `None` when another chunk is needed.
    ///
    /// # Errors
    /// [`Error::HeadTooLarge`]; the rest of the body cannot be parsed then.
    pub fn event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            match self.state {
                ScannerState::Epilogue => {
                    self.chunk.clear();
                    return Ok(None);
                }
                ScannerState::Head => return self.read_head(),
                ScannerState::Preamble | ScannerState::Body => {
                    let was = self.state;
                    let found = self.next_piece();
                    match found {
                        None => return Ok(None),
                        Some(MultipartToken::Bytes(bytes)) if was == ScannerState::Body => {
                            return Ok(Some(Event::Bytes(bytes)));
                        }
                        Some(MultipartToken::Bytes(_)) => {}
                        Some(MultipartToken::Delimiter { is_closing }) => {
                            self.state = if is_closing { ScannerState::Epilogue } else { ScannerState::Head };
                            if was == ScannerState::Body {
                                return Ok(Some(Event::End));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`Error::Incomplete`] or [`Error::NoBoundary`] if the closing delimiter has not been found.
    pub fn finish(self) -> Result<(), Error> {
        match self.state {
            ScannerState::Epilogue => Ok(()),
            ScannerState::Preamble => Err(Error::NoBoundary),
            ScannerState::Head | ScannerState::Body => Err(Error::Incomplete),
        }
    }

    /// The next delimiter, or the bytes before it as far as they have arrived.
    fn next_piece(&mut self) -> Option<MultipartToken> {
        if !self.held.is_empty() {
            return self.next_held();
        }
        if self.chunk.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(line_feed) = self.find(from) {
            let start =
                if line_feed > 0 && self.chunk[line_feed - 1] == b'\r' { line_feed - 1 } else { line_feed };
            match self.look(&self.chunk[start..]) {
                DelimiterMatch::Other => from = line_feed + 1,
                DelimiterMatch::Undecided => return self.hold_from(start),
                DelimiterMatch::Delimiter { .. } if start > 0 => {
                    return Some(MultipartToken::Bytes(self.chunk.split_to(start)));
                }
                DelimiterMatch::Delimiter { bytes, is_closing, finder } => {
                    self.chunk.advance(bytes);
                    self.decide(finder);
                    return Some(MultipartToken::Delimiter { is_closing });
                }
            }
        }
        self.hold_from(self.possible_start())
    }

    /// The position in the chunk, at or after `from`, at which the first possible delimiter starts with its
    /// line feed.
    fn find(&self, from: usize) -> Option<usize> {
        let found = self.delimiters.iter().filter_map(|finder| finder.find(&self.chunk[from..]));
        found.min().map(|at| from + at)
    }

    /// Keeps the one finder whose boundary the body has.
    fn decide(&mut self, finder: usize) {
        self.delimiters.swap(0, finder);
        self.delimiters.truncate(1);
    }

    /// The length of the longest possible delimiter, from its line feed.
    fn longest(&self) -> usize {
        self.delimiters.iter().map(|finder| finder.needle().len()).max().unwrap_or_default()
    }

    /// Holds the chunk's bytes from `start` back, and returns the bytes before.
    fn hold_from(&mut self, start: usize) -> Option<MultipartToken> {
        self.held.extend_from_slice(&self.chunk[start..]);
        self.chunk.truncate(start);
        let before = std::mem::take(&mut self.chunk);
        (!before.is_empty()).then_some(MultipartToken::Bytes(before))
    }

    /// The start of a delimiter that the chunk's end may cut off; the chunk's end if there is none.
    fn possible_start(&self) -> usize {
        let end = self.chunk.len();
        let tail = &self.chunk[end.saturating_sub(self.longest())..];
        let Some(at) = memchr::memchr2(b'\r', b'\n', tail) else { return end };
        let first = end - tail.len() + at;
        (first..end)
            .find(|&start| matches!(self.look(&self.chunk[start..]), DelimiterMatch::Undecided))
            .unwrap_or(end)
    }

    /// Compares the bytes held back, with those that follow.
    fn next_held(&mut self) -> Option<MultipartToken> {
        let enough = self.longest() + MAX_PADDING_BYTES + 4;
        let mut seam = std::mem::take(&mut self.held);
        let held = seam.len();
        let taken = enough.min(self.chunk.len());
        seam.extend_from_slice(&self.chunk[..taken]);
        match self.look(&seam) {
            DelimiterMatch::Delimiter { bytes, is_closing, finder } => {
                self.chunk.advance(bytes.saturating_sub(held));
                self.decide(finder);
                Some(MultipartToken::Delimiter { is_closing })
            }
            DelimiterMatch::Undecided => {
                self.chunk.advance(taken);
                self.held = seam;
                None
            }
            DelimiterMatch::Other => {
                seam.truncate(held);
                let next = memchr::memchr2(b'\r', b'\n', &seam[1..]).map_or(held, |at| at + 1);
                self.held = seam.split_off(next);
                Some(MultipartToken::Bytes(seam.into()))
            }
        }
    }

    /// Whether `bytes` start with a delimiter, with the line end before it.
    fn look(&self, bytes: &[u8]) -> DelimiterMatch {
        let mut outcome = DelimiterMatch::Other;
        for finder in 0..self.delimiters.len() {
            match self.look_for(finder, bytes) {
                found @ DelimiterMatch::Delimiter { .. } => return found,
                DelimiterMatch::Undecided => outcome = DelimiterMatch::Undecided,
                DelimiterMatch::Other => {}
            }
        }
        outcome
    }

    /// Whether `bytes` start with the delimiter of one finder.
    fn look_for(&self, finder: usize, bytes: &[u8]) -> DelimiterMatch {
        let needle = self.delimiters[finder].needle();
        let line_feed = usize::from(bytes.first() == Some(&b'\r'));
        let here = &bytes[line_feed..];
        let shared = here.len().min(needle.len());
        if here[..shared] != needle[..shared] {
            return DelimiterMatch::Other;
        }
        let rest = &here[shared..];
        if rest.starts_with(b"--") {
            return DelimiterMatch::Delimiter { bytes: line_feed + shared + 2, is_closing: true, finder };
        }
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let line_end = match &rest[padding..] {
            _ if padding > MAX_PADDING_BYTES => return DelimiterMatch::Other,
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            [] | [b'\r'] => return DelimiterMatch::Undecided,
            [b'-'] if padding == 0 => return DelimiterMatch::Undecided,
            _ => return DelimiterMatch::Other,
        };
        let bytes = line_feed + shared + padding + line_end;
        DelimiterMatch::Delimiter { bytes, is_closing: false, finder }
    }

    /// Collects the header fields of a part up to the empty line.
    fn read_head(&mut self) -> Result<Option<Event>, Error> {
        while !self.chunk.is_empty() {
            let before = self.head.len();
            let taken = self.chunk.len().min(512);
            self.head.extend_from_slice(&self.chunk[..taken]);
            if let Some(end) = end_of_head(&self.head) {
                self.chunk.advance(end - before);
                let head = fields(&self.head[..end]);
                self.head.clear();
                self.state = ScannerState::Body;
                return Ok(Some(Event::Part(head)));
            }
            self.chunk.advance(taken);
            if self.head.len() > MAX_HEAD_BYTES {
                return Err(Error::HeadTooLarge);
            }
        }
        Ok(None)
    }
}

enum MultipartToken {
    Bytes(Bytes),
    Delimiter { is_closing: bool },
}

/// The length of the header fields at the start of `head`, with the empty line; `None` if the line is not
/// there.
fn end_of_head(head: &[u8]) -> Option<usize> {
    if head.starts_with(b"\r\n") {
        return Some(2);
    }
    if head.starts_with(b"\n") {
        return Some(1);
    }
    let crlf = memmem::find(head, b"\n\r\n").map(|at| at + 3);
    let lf = memmem::find(head, b"\n\n").map(|at| at + 2);
    crlf.into_iter().chain(lf).min()
}

/// The header fields, folded ones joined to one line; of a field that is there twice, the first.
fn fields(head: &[u8]) -> PartHeaders {
    let text = String::from_utf8_lossy(head).replace("\r\n", "\n");
    let unfolded = text.replace("\n ", " ").replace("\n\t", " ");
    let mut fields = PartHeaders::default();
    for (name, value) in unfolded.lines().filter_map(|line| line.split_once(':')) {
        let field = match name.trim().to_ascii_lowercase().as_str() {
            "content-type" => &mut fields.content_type,
            "content-location" => &mut fields.content_location,
            "content-disposition" => &mut fields.content_disposition,
            _ => continue,
        };
        field.get_or_insert_with(|| value.trim().to_owned());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = Vec<(Option<String>, Vec<u8>, bool)>;

    /// The parts (type, bytes, whether complete) of a body that arrives in chunks of `size` bytes, and its
    /// end.
    fn parts(body: &[u8], size: usize) -> (Parts, Result<(), Error>) {
        parts_between("B", body, size)
    }

    fn parts_between(boundary: &str, body: &[u8], size: usize) -> (Parts, Result<(), Error>) {
        let mut scanner = MultipartScanner::new(boundary);
        let mut parts = Parts::new();
        for chunk in body.chunks(size) {
            scanner.push(Bytes::copy_from_slice(chunk));
            loop {
                match scanner.event() {
                    Ok(Some(Event::Part(head))) => parts.push((head.content_type, Vec::new(), false)),
                    Ok(Some(Event::Bytes(bytes))) => parts.last_mut().unwrap().1.extend(bytes),
                    Ok(Some(Event::End)) => parts.last_mut().unwrap().2 = true,
                    Ok(None) => break,
                    Err(error) => return (parts, Err(error)),
                }
            }
        }
        (parts, scanner.finish())
    }

    #[test]
    fn bodies_come_apart_wherever_they_are_cut() {
        for (name, body, expected) in [
            ("plain", "--B\r\nContent-Type: a/b\r\n\r\nAB\r\n--B--\r\n", vec!["AB"]),
            ("preamble", "junk\r\n--B\r\nContent-Type: a/b\r\n\r\nAB\r\n--B--", vec!["AB"]),
            ("starts with a line end", "\r\n--B\r\nContent-Type: a/b\r\n\r\nAB\r\n--B--", vec!["AB"]),
            ("no header fields", "--B\r\n\r\nAB\r\n--B--\r\n", vec!["AB"]),
            ("line feeds alone", "--B\nContent-Type: a/b\n\nAB\n--B--\n", vec!["AB"]),
            (
                "padding",
                "--B \t \r\nContent-Type: a/b\r\n\r\nAB\r\n--B  --x\r\n--B--",
                vec!["AB\r\n--B  --x"],
            ),
            ("epilogue", "--B\r\n\r\nAB\r\n--B--\r\n--B\r\n\r\nnot a part\r\n--B--", vec!["AB"]),
            (
                "longer boundary",
                "--B\r\n\r\nA\r\n--BX\r\n-\r\n--B-x\r\n--B--",
                vec!["A\r\n--BX\r\n-\r\n--B-x"],
            ),
            ("two parts", "--B\r\n\r\nAB\r\n--B\r\nX: y\r\n\r\nCD\r\n--B--", vec!["AB", "CD"]),
            ("empty part", "--B\r\n\r\n\r\n--B\r\n\r\nCD\r\n--B--", vec!["", "CD"]),
            (
                "line ends",
                "--B\r\n\r\n\r\n\r\r\n\n\r\r\n--B\r\n\r\n--B--\n\r\n--B--",
                vec!["\r\n\r\r\n\n\r", "--B--\n"],
            ),
        ] {
            for size in 1..=body.len() {
                let (parts, end) = parts(body.as_bytes(), size);
                assert_eq!(end, Ok(()), "{name}, chunks of {size}");
                assert!(parts.iter().all(|part| part.2), "{name}, chunks of {size}");
                let texts: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(&part.1)).collect();
                assert_eq!(texts, expected, "{name}, chunks of {size}");
            }
        }
    }

    #[test]
    fn apostrophes_around_a_boundary_are_part_of_it_or_quotation_marks() {
        for (boundary, used, expected) in [
            ("'X'", "'X'", Ok("A\r\n--X\r\nB")),
            ("'X'", "X", Ok("A\r\n--'X'\r\nB")),
            ("X'", "X'", Ok("A\r\n--X\r\nB")),
            ("X'", "X", Err(Error::NoBoundary)),
            ("it's", "it's", Ok("A\r\n--its\r\nB")),
            ("a'()+_,-./:=?b", "a'()+_,-./:=?b", Ok("A")),
            ("'", "'", Ok("A")),
            ("''", "''", Ok("A")),
        ] {
            let content = expected.unwrap_or("A");
            let body = format!("--{used}\r\n\r\n{content}\r\n--{used}\r\n\r\nC\r\n--{used}--");
            for size in 1..=body.len() {
                let (parts, end) = parts_between(boundary, body.as_bytes(), size);
                assert_eq!(end, expected.map(drop), "{boundary} {used}, chunks of {size}");
                let texts: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(&part.1)).collect();
                let all = if expected.is_ok() { vec![content, "C"] } else { Vec::new() };
                assert_eq!(texts, all, "{boundary} {used}, chunks of {size}");
            }
        }
    }

    #[test]
    fn a_body_cut_short_is_incomplete() {
        let body = b"--B\r\n\r\nAB\r\n--B\r\n\r\nCD\r\n--B--";
        for length in 0..body.len() {
            let (parts, end) = parts(&body[..length], 7);
            assert_eq!(end, Err(if length < 5 { Error::NoBoundary } else { Error::Incomplete }), "{length}");
            assert_eq!(parts.iter().filter(|part| part.2).count(), usize::from(length >= 16), "{length}");
        }
    }

    #[test]
    fn the_content_type_of_a_part_is_found() {
        for (head, expected) in [
            ("content-TYPE :application/dicom\r\nX: y\r\n", Some("application/dicom")),
            ("X: y\r\nContent-Type: a/b;\r\n  c=d\r\n", Some("a/b;  c=d")),
            ("X-Content-Type: a/b\r\n", None),
            ("\u{0}\r\n", None),
        ] {
            let body = format!("--B\r\n{head}\r\nAB\r\n--B--");
            let (parts, _) = parts(body.as_bytes(), 3);
            assert_eq!(parts[0].0.as_deref(), expected, "{head:?}");
        }
    }

    #[test]
    fn header_fields_are_told_apart() {
        let head = "Content-Location: /a:b\r\ncontent-disposition: form-data;\r\n name=x\r\nContent-Location: c\r\n\r\n";
        let expected = PartHeaders {
            content_type: None,
            content_location: Some("/a:b".into()),
            content_disposition: Some("form-data; name=x".into()),
        };
        assert_eq!(fields(head.as_bytes()), expected);
    }

    #[test]
    fn endless_header_fields_are_refused() {
        let body = format!("--B\r\nX: {}\r\n\r\n", "y".repeat(2 * MAX_HEAD_BYTES));
        assert_eq!(parts(body.as_bytes(), 1000).1, Err(Error::HeadTooLarge));
    }

    #[test]
    fn bytes_inside_a_chunk_are_not_copied() {
        let body = Bytes::from_static(b"--B\r\n\r\nABCDEF\r\n--B--");
        let mut scanner = MultipartScanner::new("B");
        scanner.push(body.clone());
        let Ok(Some(Event::Part(_))) = scanner.event() else { panic!("no part") };
        let Ok(Some(Event::Bytes(bytes))) = scanner.event() else { panic!("no bytes") };
        assert_eq!(bytes.as_ptr(), body[7..].as_ptr());
    }

    #[test]
    fn padding_is_bounded_wherever_the_body_is_cut() {
        for (padding, count) in
            [(MAX_PADDING_BYTES, 1), (MAX_PADDING_BYTES + 1, 0), (3 * MAX_PADDING_BYTES, 0)]
        {
            let body = format!("--B{}\r\n\r\nAB\r\n--B--", "\t".repeat(padding));
            for size in [1, 16, 64, body.len()] {
                assert_eq!(parts(body.as_bytes(), size).0.len(), count, "{padding} {size}");
            }
        }
    }
}
