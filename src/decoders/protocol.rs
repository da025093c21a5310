//! The messages between server and decoder process.
//!
//! A message is the length of its head (4 bytes, little endian), the length of its body (8 bytes), the head
//! in MessagePack and the body: a codestream in requests, packed samples in replies. A process sends one byte
//! ([`SANDBOXED`] or [`LIMITED`]) when it starts, and then a reply to each request.

use std::io;
use std::io::{Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dicom::frames::PixelLayout;
use crate::pixel;
use crate::pixel::decode::Decoded;
use crate::pixel::j2k::NO_REASON;
use crate::pixel::words::write_words;
use crate::pixel::{Image, Shape};

/// The first byte of a process in which seccomp is on.
pub(super) const SANDBOXED: u8 = b'S';
/// The first byte of a process which has resource limits only.
pub(super) const LIMITED: u8 = b'L';
/// Bytes before the head of a message.
pub(super) const LENGTHS_BYTES: usize = 12;
/// The maximum length of a head.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A frame to decode.
#[derive(Debug)]
pub struct Request {
    /// The pixel layout that the codestream should have.
    pub layout: PixelLayout,
    /// UID of the transfer syntax.
    pub transfer_syntax: String,
    /// The codestream.
    pub frame: Vec<u8>,
}

/// The head of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RequestHead {
    pub(super) layout: PixelLayout,
    pub(super) transfer_syntax: String,
}

/// The head of a reply.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ReplyHead {
    /// The frame was decoded; its samples are the body.
    Decoded(FrameHead),
    /// The frame is in a form that the codecs do not support.
    Unsupported(String),
    /// The frame is damaged.
    Damaged(String),
    /// A codec could not allocate memory.
    Memory,
}

/// A decoded frame without its samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FrameHead {
    rows: u32,
    columns: u32,
    samples: u16,
    precision: u32,
    is_signed: bool,
    photometric: String,
    /// Bytes of a packed sample: 1, 2 or 4.
    width: u8,
    /// Whether packed samples are in two's complement.
    has_negatives: bool,
}

/// A decoded frame with its samples in as few bytes as they need.
#[derive(Debug)]
pub struct PackedFrame {
    head: FrameHead,
    samples: Vec<u8>,
}

/// The lengths of head and body.
pub(super) struct Lengths {
    pub(super) head: usize,
    pub(super) body: u64,
}

impl Lengths {
    /// Reads the lengths of a message.
    pub(super) fn read(bytes: [u8; LENGTHS_BYTES]) -> io::Result<Self> {
        let [h0, h1, h2, h3, body @ ..] = bytes;
        let head = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
        if head > MAX_HEAD_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head of a message is too long"));
        }
        Ok(Self { head, body: u64::from_le_bytes(body) })
    }
}

/// The beginning of a message up to its body.
pub(super) fn head(head: &impl Serialize, body_bytes: u64) -> io::Result<Vec<u8>> {
    let packed = rmp_serde::to_vec(head).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(LENGTHS_BYTES + packed.len());
    message.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    message.extend_from_slice(&body_bytes.to_le_bytes());
    message.extend_from_slice(&packed);
    Ok(message)
}

/// Reads a head.
pub(super) fn parse<T: DeserializeOwned>(head: &[u8]) -> io::Result<T> {
    rmp_serde::from_slice(head).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads a request; `None` at the end of the stream.
pub(super) fn read_request(stream: &mut impl Read) -> io::Result<Option<(RequestHead, Vec<u8>)>> {
    let mut lengths = [0; LENGTHS_BYTES];
    match stream.read_exact(&mut lengths) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let lengths = Lengths::read(lengths)?;
    let mut head = vec![0; lengths.head];
    stream.read_exact(&mut head)?;
    let mut frame = Vec::with_capacity(lengths.body as usize);
    stream.take(lengths.body).read_to_end(&mut frame)?;
    Ok(Some((parse(&head)?, frame)))
}

/// Writes a reply; `is_out_of_memory` is the reason of an error that does not say so itself.
pub(super) fn write_reply(
    stream: &mut impl Write,
    decoded: Result<Decoded, pixel::Error>,
    is_out_of_memory: bool,
) -> io::Result<()> {
    let message = match decoded {
        Ok(decoded) => reply(decoded)?,
        Err(_) if is_out_of_memory => head(&ReplyHead::Memory, 0)?,
        Err(error) => head(&refusal(&error), 0)?,
    };
    stream.write_all(&message)
}

fn refusal(error: &pixel::Error) -> ReplyHead {
    let text = error.to_string();
    match error {
        pixel::Error::Codec { reason, .. }
            if reason == NO_REASON || reason.to_lowercase().contains("memory") =>
        {
            ReplyHead::Memory
        }
        pixel::Error::Unsupported(_) | pixel::Error::Size(_) => ReplyHead::Unsupported(text),
        _ => ReplyHead::Damaged(text),
    }
}

/// A whole reply with the samples of a frame.
fn reply(decoded: Decoded) -> io::Result<Vec<u8>> {
    let Decoded { image, photometric } = decoded;
    let Image { shape: Shape { rows, columns, samples }, precision, is_signed, samples: values } = image;
    let (least, most) =
        values.iter().fold((0, 0), |(least, most): (i32, i32), &value| (least.min(value), most.max(value)));
    let has_negatives = least < 0;
    let width = match (least, most) {
        (0, ..=0xFF) | (-0x80.., ..=0x7F) => 1,
        (0, ..=0xFFFF) | (-0x8000.., ..=0x7FFF) => 2,
        _ => 4,
    };
    let frame = FrameHead { rows, columns, samples, precision, is_signed, photometric, width, has_negatives };
    let mut message = head(&ReplyHead::Decoded(frame), values.len() as u64 * u64::from(width))?;
    let start = message.len();
    message.resize(start + values.len() * usize::from(width), 0);
    let body = &mut message[start..];
    match width {
        1 => write_words(&values, body, |value| [value as u8]),
        2 => write_words(&values, body, |value| (value as u16).to_le_bytes()),
        _ => write_words(&values, body, i32::to_le_bytes),
    }
    Ok(message)
}

impl FrameHead {
    /// Checks a reply against the request: what a process sends is not to be trusted.
    pub(super) fn is_reply_to(&self, layout: &PixelLayout, body_bytes: u64) -> bool {
        let shape = Shape { rows: self.rows, columns: self.columns, samples: self.samples };
        let expected = Shape { rows: layout.rows, columns: layout.columns, samples: layout.samples };
        let count = shape.number_of_samples().unwrap_or_default() as u64;
        shape == expected
            && (1..=32).contains(&self.precision)
            && matches!(self.width, 1 | 2 | 4)
            && count > 0
            && body_bytes == count * u64::from(self.width)
    }

    /// The frame with its samples, of which there must be as many as [`Self::is_reply_to`] has checked.
    pub(super) fn with(self, samples: Vec<u8>) -> PackedFrame {
        PackedFrame { head: self, samples }
    }
}

impl PackedFrame {
    /// Unpacks the samples. Takes some milliseconds for large frames.
    pub fn unpack(&self) -> Decoded {
        let FrameHead { rows, columns, samples, precision, is_signed, .. } = self.head;
        let bytes = &self.samples;
        let values: Vec<i32> = match (self.head.width, self.head.has_negatives) {
            (1, false) => bytes.iter().map(|&byte| byte.into()).collect(),
            (1, true) => bytes.iter().map(|&byte| (byte as i8).into()).collect(),
            (2, false) => bytes.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word).into()).collect(),
            (2, true) => bytes.as_chunks().0.iter().map(|&word| i16::from_le_bytes(word).into()).collect(),
            _ => bytes.as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).collect(),
        };
        let shape = Shape { rows, columns, samples };
        let image = Image { shape, precision, is_signed, samples: values };
        Decoded { image, photometric: self.head.photometric.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> PixelLayout {
        PixelLayout {
            rows: 1,
            columns: 3,
            samples: 1,
            bits_allocated: 16,
            bits_stored: 16,
            high_bit: 15,
            is_signed: true,
            photometric: "MONOCHROME2".into(),
            is_planar: false,
            number_of_frames: 1,
        }
    }

    fn received(message: &[u8]) -> (ReplyHead, Vec<u8>) {
        let lengths = Lengths::read(*message.first_chunk().unwrap()).unwrap();
        let (head, body) = message[LENGTHS_BYTES..].split_at(lengths.head);
        assert_eq!(body.len() as u64, lengths.body);
        (parse(head).unwrap(), body.to_vec())
    }

    #[test]
    fn samples_are_the_same_after_the_way_through_a_pipe() {
        for (samples, width) in [
            (vec![0, 255, 7], 1),
            (vec![-128, 127, 0], 1),
            (vec![-1, 128, 0], 2),
            (vec![0, 65535, 1], 2),
            (vec![-32768, 32767, 0], 2),
            (vec![-1, 65535, 0], 4),
            (vec![i32::MIN, i32::MAX, 0], 4),
        ] {
            let shape = Shape { rows: 1, columns: 3, samples: 1 };
            let image = Image { shape, precision: 32, is_signed: true, samples };
            let decoded = Decoded { image, photometric: "MONOCHROME2".into() };
            let mut message = Vec::new();
            write_reply(&mut message, Ok(decoded.clone()), false).unwrap();
            let (ReplyHead::Decoded(head), body) = received(&message) else { panic!("not decoded") };
            assert_eq!(head.width, width);
            assert!(head.is_reply_to(&layout(), body.len() as u64));
            assert!(!head.is_reply_to(&layout(), body.len() as u64 + 1));
            assert!(!head.is_reply_to(&PixelLayout { rows: 2, ..layout() }, body.len() as u64));
            assert_eq!(head.with(body).unpack(), decoded);
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_the_end_is_no_request() {
        let request = RequestHead { layout: layout(), transfer_syntax: "1.2.3".into() };
        let message = [head(&request, 4).unwrap(), b"abcd".to_vec()].concat();
        let mut stream = &message[..];
        let (read, frame) = read_request(&mut stream).unwrap().unwrap();
        assert_eq!((read.layout, read.transfer_syntax, frame), (layout(), "1.2.3".into(), b"abcd".to_vec()));
        assert!(read_request(&mut stream).unwrap().is_none());
    }

    #[test]
    fn errors_keep_their_kind() {
        let codec = |reason: &str| pixel::Error::Codec { codec: "JPEG 2000", reason: reason.into() };
        assert!(matches!(refusal(&codec("Not enough memory to decode tile")), ReplyHead::Memory));
        assert!(matches!(refusal(&codec("bad marker")), ReplyHead::Damaged(_)));
        assert!(matches!(refusal(&pixel::Error::Unsupported("x".into())), ReplyHead::Unsupported(_)));
    }

    #[test]
    fn the_lengths_of_a_message_are_limited() {
        let mut lengths = [0xFF; LENGTHS_BYTES];
        assert!(Lengths::read(lengths).is_err());
        lengths[1..4].fill(0);
        assert_eq!(Lengths::read(lengths).unwrap().head, 255);
    }
}
