//! Pixel Data that was sent as bulk data: uncompressed; or compressed with one part for each frame, in a
//! transfer syntax by media type and bytes; or image files that no transfer syntax holds, which are decoded
//! (PS3.18 §8.7.3.3, §10.5.1.4, Tables 8.7.3-5 and 10.5.2-1).

use std::ops::Range;

use serde_json::{Value as Json, json};

use crate::archive::ingest::Refusal;
use crate::archive::ingest::assembly::{AssemblyPiece, BulkPart};
use crate::archive::ingest::spool::Spooled;
use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::codestream::{self, Codestream};
use crate::dicom::tags;
use crate::dicom::transfer_syntax;
use crate::dicom::write;
use crate::pixel;
use crate::pixel::png_gif::{self, ImageFileFormat, ImageFileProperties};

/// Bytes of a compressed frame that are read to find its transfer syntax; the next number if these do not
/// suffice.
const HEAD_BYTES: [usize; 3] = [4 * 1024, 64 * 1024, 1024 * 1024];

/// The largest PNG or GIF file that is decoded, in bytes: it is held in memory.
const MAX_PICTURE_BYTES: u64 = 64 << 20;

/// Pixel Data of one instance.
pub(super) enum Pixels {
    /// As it is, little endian.
    Native,
    /// In frames.
    Encapsulated(Encapsulated),
    /// In files that are to be decoded.
    Pictures(Pictures),
}

/// PNG or GIF files, whose frames are alike.
pub(super) struct Pictures {
    kind: ImageFileFormat,
    /// The description of the files, with the number of all frames.
    picture: ImageFileProperties,
    files: Vec<Range<u64>>,
    /// The header of the Pixel Data element.
    header: Vec<u8>,
}

/// Compressed frames.
pub(super) struct Encapsulated {
    transfer_syntax: String,
    /// Whether the transfer syntax is another than the one named.
    is_other: bool,
    /// The description in the first frame.
    codestream: Option<Codestream>,
    /// The range of each frame in the spool; one range for a video.
    frames: Vec<Range<u64>>,
    is_video: bool,
}

/// Reads the parts that Pixel Data refers to, as far as it takes to describe them. Blocks.
///
/// # Errors
/// [`Refusal::NoTransferSyntax`] if there is none for them.
pub(super) fn read(parts: &[BulkPart], spooled: &Spooled) -> Result<Pixels, Refusal> {
    let Some(first) = parts.first() else { return Ok(Pixels::Native) };
    let named = first.transfer_syntax.as_deref().filter(|uid| *uid != "*");
    if is_raw(&first.media_type) && named.is_none_or(transfer_syntax::is_native_little_endian) {
        return Ok(Pixels::Native);
    }
    if named.is_some_and(|named| !transfer_syntax::is_compressed(named)) {
        return Err(no_syntax(
            "the transfer syntax named for the pixels is none that compressed pixels are in",
        ));
    }
    if parts.iter().any(|part| part.media_type != first.media_type) {
        return Err(no_syntax("the frames are of more than one media type"));
    }
    if let Some(kind) = picture_kind(&first.media_type) {
        return pictures(kind, parts, spooled).map(Pixels::Pictures);
    }
    let is_video = first.media_type.starts_with("video/");
    let mut frames = Vec::with_capacity(parts.len());
    let mut codestream = None;
    let mut syntax = None;
    for part in parts {
        let found = describe(part, spooled)?;
        let of_part = transfer_syntax(&part.media_type, named, found.as_ref())?;
        if syntax.get_or_insert_with(|| of_part.clone()) != &of_part {
            return Err(no_syntax("the frames are in more than one transfer syntax"));
        }
        let offset = found.map_or(0, |found| found.offset as u64);
        frames.push(part.range.start + offset..part.range.end);
        codestream = codestream.or(found);
    }
    let transfer_syntax = syntax.unwrap_or_default();
    let is_other = named.is_some_and(|named| named != transfer_syntax);
    Ok(Pixels::Encapsulated(Encapsulated { transfer_syntax, is_other, codestream, frames, is_video }))
}

fn picture_kind(media_type: &str) -> Option<ImageFileFormat> {
    match media_type {
        "image/png" => Some(ImageFileFormat::Png),
        "image/gif" => Some(ImageFileFormat::Gif),
        _ => None,
    }
}

fn pictures(kind: ImageFileFormat, parts: &[BulkPart], spooled: &Spooled) -> Result<Pictures, Refusal> {
    let mut all: Option<ImageFileProperties> = None;
    for part in parts {
        let file = whole(&part.range, spooled)?;
        let picture = png_gif::describe(kind, &file).map_err(|error| unreadable(kind, &error))?;
        let before = all.unwrap_or(ImageFileProperties { frames: 0, ..picture });
        if (before.shape, before.bits) != (picture.shape, picture.bits) {
            return Err(no_syntax("the pictures sent as frames are of more than one size"));
        }
        all = Some(ImageFileProperties { frames: before.frames.saturating_add(picture.frames), ..picture });
    }
    let picture = all.ok_or_else(|| no_syntax("there is no picture"))?;
    let vr = Vr(if picture.bits == 16 { *b"OW" } else { *b"OB" });
    let header = write::element_header(tags::PIXEL_DATA, vr, picture.length());
    let header = header.ok_or_else(|| no_syntax("the pictures become 4 GiB of pixels or more"))?;
    Ok(Pictures { kind, picture, files: parts.iter().map(|part| part.range.clone()).collect(), header })
}

/// Reads a PNG or GIF file. Blocks.
pub(super) fn whole(range: &Range<u64>, spooled: &Spooled) -> Result<Vec<u8>, Refusal> {
    let length = range.end - range.start;
    if length > MAX_PICTURE_BYTES {
        return Err(no_syntax(&format!("a picture has more than {MAX_PICTURE_BYTES} bytes")));
    }
    let mut file = vec![0; length as usize];
    let read = read_up_to(&mut file, range.start, spooled)?;
    file.truncate(read);
    Ok(file)
}

fn read_up_to(buffer: &mut [u8], start: u64, spooled: &Spooled) -> Result<usize, Refusal> {
    let mut read = 0;
    while read < buffer.len() {
        match spooled.read_at(&mut buffer[read..], start + read as u64)? {
            0 => break,
            some => read += some,
        }
    }
    Ok(read)
}

/// The reason why a PNG or GIF file is no Pixel Data.
pub(super) fn unreadable(kind: ImageFileFormat, error: &pixel::Error) -> Refusal {
    let name = if kind == ImageFileFormat::Png { "image/png" } else { "image/gif" };
    no_syntax(&format!("a picture sent as {name} cannot be read: {error}"))
}

fn no_syntax(reason: &str) -> Refusal {
    Refusal::NoTransferSyntax(reason.to_owned())
}

fn is_raw(media_type: &str) -> bool {
    !media_type.starts_with("image/") && !media_type.starts_with("video/")
}

fn describe(part: &BulkPart, spooled: &Spooled) -> Result<Option<Codestream>, Refusal> {
    if ![
        "image/jpeg",
        "image/jls",
        "image/x-jls",
        "image/jp2",
        "image/jpx",
        "image/jph",
        "image/jphc",
        "image/j2c",
    ]
    .contains(&part.media_type.as_str())
        && !is_raw(&part.media_type)
    {
        return Ok(None);
    }
    let length = part.range.end - part.range.start;
    for wanted in HEAD_BYTES {
        let mut head = vec![0; wanted.min(usize::try_from(length).unwrap_or(usize::MAX))];
        let read = read_up_to(&mut head, part.range.start, spooled)?;
        let found = codestream::describe(&head[..read]);
        if found.is_some() || read as u64 == length {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The transfer syntax of a frame: the one that it is in if that can be told, unless the one named has it
/// too; else the one named; else the default of its media type.
fn transfer_syntax(
    media_type: &str,
    named: Option<&str>,
    found: Option<&Codestream>,
) -> Result<String, Refusal> {
    let found = found.map(|found| found.transfer_syntax);
    let default = match media_type {
        "image/dicom-rle" | "image/x-dicom-rle" => Some(transfer_syntax::RLE_LOSSLESS),
        "image/jxl" => Some(transfer_syntax::JPEGXL_LOSSLESS),
        "image/jpx" if found == Some(transfer_syntax::JPEG2000_LOSSLESS) => {
            Some(transfer_syntax::JPEG2000MC_LOSSLESS)
        }
        "image/jpx" if found.is_some() => Some(transfer_syntax::JPEG2000MC),
        "video/mpeg" => Some(transfer_syntax::MPEG2MPHL),
        "video/mp4" => Some(transfer_syntax::MPEG4HP41),
        "video/h265" => Some(transfer_syntax::HEVCMP51),
        _ => None,
    };
    match (named, found, default) {
        (Some(named), Some(found), _) if transfer_syntax::includes(named, found) => Ok(named.to_owned()),
        (Some(named), None, _) => Ok(named.to_owned()),
        (_, _, Some(default)) => Ok(default.to_owned()),
        (_, Some(found), None) => Ok(found.to_owned()),
        (None, None, None) => {
            Err(no_syntax(&format!("no transfer syntax can be told for pixels that come as {media_type}")))
        }
    }
}

/// Whether what is sent and what the pixels say of an attribute must be the same.
pub(super) fn must_agree(tag: Tag) -> bool {
    [tags::ROWS, tags::COLUMNS, tags::SAMPLES_PER_PIXEL].contains(&tag)
}

impl Pixels {
    /// Whether the data set must say what the pixels are made, whatever was sent.
    pub(super) fn are_made(&self) -> bool {
        matches!(self, Self::Pictures(_))
    }

    /// The transfer syntax of the instance.
    pub(super) fn transfer_syntax(&self) -> &str {
        match self {
            Self::Native | Self::Pictures(_) => transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN,
            Self::Encapsulated(pixels) => &pixels.transfer_syntax,
        }
    }

    /// Whether it is another transfer syntax than the parts' media type names.
    pub(super) fn has_other_syntax(&self) -> bool {
        matches!(self, Self::Encapsulated(pixels) if pixels.is_other)
    }

    /// The number of frames, if it is known without the metadata.
    pub(super) fn number_of_frames(&self) -> Option<u64> {
        match self {
            Self::Encapsulated(pixels) if !pixels.is_video => Some(pixels.frames.len() as u64),
            Self::Pictures(pictures) => Some(pictures.picture.frames.into()),
            _ => None,
        }
    }

    /// The attributes that the compressed pixels define, in DICOM JSON.
    pub(super) fn described(&self) -> Vec<(Tag, Json)> {
        let found = match self {
            Self::Encapsulated(Encapsulated { codestream: Some(found), .. }) => *found,
            Self::Pictures(pictures) => pictures.description(),
            _ => return Vec::new(),
        };
        let number = |number: u64| json!({"vr": "US", "Value": [number]});
        let text = |text: &str| json!({"vr": "CS", "Value": [text]});
        let mut described = vec![
            (tags::SAMPLES_PER_PIXEL, number(found.samples.into())),
            (tags::PHOTOMETRIC_INTERPRETATION, text(found.photometric)),
            (tags::ROWS, number(found.rows.into())),
            (tags::COLUMNS, number(found.columns.into())),
            (tags::BITS_ALLOCATED, number(found.bits_allocated().into())),
            (tags::BITS_STORED, number(found.bits_stored.into())),
            (tags::HIGH_BIT, number(u64::from(found.bits_stored) - 1)),
            (tags::PIXEL_REPRESENTATION, number(found.is_signed.into())),
        ];
        if found.samples > 1 {
            described.push((tags::PLANAR_CONFIGURATION, number(0)));
        }
        if found.is_lossy {
            described.push((tags::LOSSY_IMAGE_COMPRESSION, text("01")));
        }
        described
    }

    /// The element of Pixel Data; `None` if it is as it was sent.
    pub(super) fn element(&self) -> Option<Vec<AssemblyPiece>> {
        match self {
            Self::Native => None,
            Self::Encapsulated(pixels) => Some(pixels.element()),
            Self::Pictures(pictures) => Some(pictures.element()),
        }
    }
}

impl Pictures {
    /// The description of the frames, in the form of that of a codestream.
    fn description(&self) -> Codestream {
        let ImageFileProperties { shape, bits, .. } = self.picture;
        Codestream {
            transfer_syntax: transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN,
            is_lossy: false,
            rows: shape.rows,
            columns: shape.columns,
            samples: shape.samples,
            bits_stored: bits,
            is_signed: false,
            photometric: if shape.samples == 1 { "MONOCHROME2" } else { "RGB" },
            is_photometric_proved: true,
            offset: 0,
        }
    }

    fn element(&self) -> Vec<AssemblyPiece> {
        let mut pieces = vec![AssemblyPiece::Bytes(self.header.clone())];
        pieces.extend(self.files.iter().map(|file| AssemblyPiece::Picture(self.kind, file.clone())));
        if !self.picture.length().is_multiple_of(2) {
            pieces.push(AssemblyPiece::Bytes(vec![0]));
        }
        pieces
    }
}

impl Encapsulated {
    /// Each frame is a fragment, and the Basic Offset Table tells where each begins, if there are several and
    /// 32 bits suffice.
    fn element(&self) -> Vec<AssemblyPiece> {
        let frames = &self.frames;
        let mut offsets = Vec::new();
        let mut next = 0_u64;
        for frame in frames.iter().filter(|_| frames.len() > 1) {
            offsets.push(next);
            next += 8 + (frame.end - frame.start).next_multiple_of(2);
        }
        let offsets: Result<Vec<u32>, _> = offsets.into_iter().map(u32::try_from).collect();
        let header = write::encapsulation_header(tags::PIXEL_DATA, &offsets.unwrap_or_default());
        let mut pieces = vec![AssemblyPiece::Bytes(header)];
        for frame in frames {
            pieces.extend(fragments(frame));
        }
        pieces.push(AssemblyPiece::Bytes(write::encapsulation_end().to_vec()));
        pieces
    }
}

/// A frame as a fragment; as several only if it has 4 GiB or more, which videos may.
fn fragments(frame: &Range<u64>) -> Vec<AssemblyPiece> {
    const MOST: u64 = u32::MAX as u64 - 1;
    let mut pieces = Vec::new();
    let mut rest = frame.clone();
    while !rest.is_empty() {
        let length = (rest.end - rest.start).min(MOST);
        let padded = length.next_multiple_of(2);
        pieces.push(AssemblyPiece::Bytes(write::fragment_header(padded as u32).to_vec()));
        pieces.push(AssemblyPiece::Spooled(rest.start..rest.start + length));
        if padded > length {
            pieces.push(AssemblyPiece::Bytes(vec![0]));
        }
        rest.start += length;
    }
    pieces
}
