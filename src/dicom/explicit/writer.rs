//! The writer of a rewrite plan, and of the bytes of elements in Explicit VR Little Endian.

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::dictionary;
use crate::dicom::explicit::{
    EncodedElement, Error, FrameOutput, IMPLEMENTATION_CLASS_UID, OffsetTableSpace, Rewrite, RewritePlan,
    RewriteSegment, top_level,
};
use crate::dicom::scan::{EventKind, Outline, ScanEvent, has_short_length};
use crate::dicom::tags;
use crate::dicom::value_reader::is_binary;

const IMPLEMENTATION_VERSION_NAME: &str = "CUSPID";

const UNDEFINED: u32 = u32::MAX;

/// A plan while it is written.
pub(super) struct PlanWriter<'a> {
    outline: &'a Outline,
    frames: FrameOutput,
    is_signed: bool,
    bits_allocated: u16,
    /// The bytes of the next segment.
    bytes: Vec<u8>,
    start: u64,
    segments: Vec<RewriteSegment>,
    plan: RewritePlan,
    has_frames: bool,
}

impl<'a> PlanWriter<'a> {
    pub(super) fn new(outline: &'a Outline, rewrite: &Rewrite) -> Self {
        let bytes = file_meta(outline, rewrite);
        Self {
            outline,
            frames: rewrite.frames,
            is_signed: number(outline, tags::PIXEL_REPRESENTATION) == Some(1),
            bits_allocated: number(outline, tags::BITS_ALLOCATED).unwrap_or(16),
            plan: RewritePlan { data_set_at: bytes.len() as u64, ..RewritePlan::default() },
            bytes,
            start: 0,
            segments: Vec::new(),
            has_frames: false,
        }
    }

    pub(super) fn event(&mut self, event: &ScanEvent) -> Result<(), Error> {
        match &event.kind {
            EventKind::Value(_) | EventKind::Bulk if event.tag.element() == 0 => {}
            EventKind::Value(range) => {
                let vr = self.vr(event);
                let mut value = self.outline.head.get(range.clone()).unwrap_or_default().to_vec();
                swap_words(&mut value, self.word_size(event, vr));
                push_element(&mut self.bytes, event.tag, vr, &value);
            }
            EventKind::Bulk => self.bulk(event)?,
            EventKind::Encapsulated => {}
            EventKind::Sequence => push_header(&mut self.bytes, event.tag, Vr(*b"SQ"), UNDEFINED),
            EventKind::Item => push_item_header(&mut self.bytes, tags::ITEM, UNDEFINED),
            EventKind::ItemEnd => push_item_header(&mut self.bytes, tags::ITEM_DELIMITATION_ITEM, 0),
            EventKind::SequenceEnd => push_item_header(&mut self.bytes, tags::SEQUENCE_DELIMITATION_ITEM, 0),
        }
        Ok(())
    }

    pub(super) fn change(&mut self, EncodedElement { tag, vr, value }: &EncodedElement) {
        push_element(&mut self.bytes, *tag, *vr, value);
        let place = self.position() - value.len().next_multiple_of(2) as u64;
        self.plan.places.insert(*tag, place);
    }

    fn position(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn bulk(&mut self, event: &ScanEvent) -> Result<(), Error> {
        let vr = self.vr(event);
        let swap = self.word_size(event, vr);
        self.value_header(event.tag, vr, event.length)?;
        self.end_segment();
        self.segments.push(RewriteSegment::Copy { offset: event.offset, length: event.length, swap });
        self.start += event.length;
        self.pad(event.length);
        Ok(())
    }

    pub(super) fn pixel_data(&mut self, event: &ScanEvent) -> Result<(), Error> {
        match self.frames {
            FrameOutput::Stored if event.kind == EventKind::Encapsulated => return Err(Error::NotDecoded),
            FrameOutput::Stored => return self.event(event),
            FrameOutput::Encapsulation => self.encapsulation(event),
            FrameOutput::Native { length, bits_allocated } => {
                let vr = Vr(if bits_allocated > 8 { *b"OW" } else { *b"OB" });
                self.value_header(tags::PIXEL_DATA, vr, length)?;
                self.split();
                self.pad(length);
            }
            FrameOutput::Encapsulated(space) => {
                let table_length = match space {
                    OffsetTableSpace::Basic(length) => length,
                    OffsetTableSpace::Extended(length) => {
                        for tag in [tags::EXTENDED_OFFSET_TABLE, tags::EXTENDED_OFFSET_TABLE_LENGTHS] {
                            push_header(&mut self.bytes, tag, Vr(*b"OV"), length);
                            self.space(tag, length);
                        }
                        0
                    }
                };
                push_header(&mut self.bytes, tags::PIXEL_DATA, Vr(*b"OB"), UNDEFINED);
                push_item_header(&mut self.bytes, tags::ITEM, table_length);
                self.space(tags::PIXEL_DATA, table_length);
                self.split();
                push_item_header(&mut self.bytes, tags::SEQUENCE_DELIMITATION_ITEM, 0);
            }
        }
        Ok(())
    }

    /// Pixel Data with its items as they are stored. Pixel Data that is a codestream without items becomes
    /// one fragment (PS3.5 §A.4).
    fn encapsulation(&mut self, event: &ScanEvent) {
        push_header(&mut self.bytes, tags::PIXEL_DATA, Vr(*b"OB"), UNDEFINED);
        let is_bare = event.kind != EventKind::Encapsulated;
        if is_bare {
            push_item_header(&mut self.bytes, tags::ITEM, 0);
            // The length is that of an element, which has 32 bits.
            push_item_header(&mut self.bytes, tags::ITEM, event.length.next_multiple_of(2) as u32);
        }
        self.end_segment();
        self.segments.push(RewriteSegment::Copy { offset: event.offset, length: event.length, swap: 1 });
        self.start += event.length;
        if is_bare {
            self.pad(event.length);
        }
        push_item_header(&mut self.bytes, tags::SEQUENCE_DELIMITATION_ITEM, 0);
    }

    /// Space for a value of a tag, which is filled in later.
    fn space(&mut self, tag: Tag, length: u32) {
        self.end_segment();
        self.plan.places.insert(tag, self.start);
        self.segments.push(RewriteSegment::Zeros(length.into()));
        self.start += u64::from(length);
    }

    fn value_header(&mut self, tag: Tag, vr: Vr, length: u64) -> Result<(), Error> {
        let padded = length.next_multiple_of(2);
        let padded = u32::try_from(padded).ok().filter(|&padded| padded != UNDEFINED);
        push_header(&mut self.bytes, tag, vr, padded.ok_or(Error::TooLong { length })?);
        Ok(())
    }

    fn end_segment(&mut self) {
        if !self.bytes.is_empty() {
            self.start = self.position();
            self.segments.push(RewriteSegment::Bytes(std::mem::take(&mut self.bytes)));
        }
    }

    /// Ends the part of the plan before the frames.
    fn split(&mut self) {
        self.end_segment();
        self.plan.before = std::mem::take(&mut self.segments);
        self.has_frames = true;
    }

    fn pad(&mut self, length: u64) {
        if !length.is_multiple_of(2) {
            self.bytes.push(0);
        }
    }

    fn vr(&self, event: &ScanEvent) -> Vr {
        event.vr.unwrap_or_else(|| dictionary::vr(event.tag, self.is_signed))
    }

    fn word_size(&self, event: &ScanEvent, vr: Vr) -> u8 {
        if event.is_big_endian { word_size(event.tag, vr, self.bits_allocated) } else { 1 }
    }

    pub(super) fn finish(mut self) -> RewritePlan {
        self.end_segment();
        let part = if self.has_frames { &mut self.plan.after } else { &mut self.plan.before };
        *part = self.segments;
        self.plan
    }
}

/// Bytes of the numbers of a value, whose order is reversed between big and little endian: 2, 4 or 8; else 1.
/// `bits_allocated` is that of the pixels: they are numbers of their own size, whatever the words of OW are.
pub fn word_size(tag: Tag, vr: Vr, bits_allocated: u16) -> u8 {
    match &vr.0 {
        b"OW" if tag == tags::PIXEL_DATA && bits_allocated == 32 => 4,
        b"OW" if tag == tags::PIXEL_DATA && bits_allocated == 64 => 8,
        b"AT" | b"OW" | b"SS" | b"US" => 2,
        b"FL" | b"OF" | b"OL" | b"SL" | b"UL" => 4,
        b"FD" | b"OD" | b"OV" | b"SV" | b"UV" => 8,
        _ => 1,
    }
}

/// Reverses the bytes of each word of `size` bytes; a rest that is no whole word stays as it is.
pub fn swap_words(value: &mut [u8], size: u8) {
    if size > 1 {
        value.chunks_exact_mut(size.into()).for_each(<[u8]>::reverse);
    }
}

pub(crate) fn push_element(bytes: &mut Vec<u8>, tag: Tag, vr: Vr, value: &[u8]) {
    let padded = value.len().next_multiple_of(2);
    push_header(bytes, tag, vr, padded as u32);
    bytes.extend_from_slice(value);
    if padded > value.len() {
        let is_text = !is_binary(vr) && &vr.0 != b"UI";
        bytes.push(if is_text { b' ' } else { 0 });
    }
}

pub(crate) fn push_header(bytes: &mut Vec<u8>, tag: Tag, vr: Vr, length: u32) {
    push_tag(bytes, tag);
    match u16::try_from(length) {
        Ok(length) if has_short_length(vr) => {
            bytes.extend_from_slice(&vr.0);
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        _ => {
            // A value that is too long for a length of 16 bits is written as UN (PS3.5 §6.2.2).
            bytes.extend_from_slice(if has_short_length(vr) { b"UN" } else { &vr.0 });
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&length.to_le_bytes());
        }
    }
}

pub(super) fn push_item_header(bytes: &mut Vec<u8>, tag: Tag, length: u32) {
    push_tag(bytes, tag);
    bytes.extend_from_slice(&length.to_le_bytes());
}

pub(crate) fn push_tag(bytes: &mut Vec<u8>, tag: Tag) {
    bytes.extend_from_slice(&tag.group().to_le_bytes());
    bytes.extend_from_slice(&tag.element().to_le_bytes());
}

/// The first number of an attribute of VR US that is not nested.
pub(super) fn number(outline: &Outline, tag: Tag) -> Option<u16> {
    let (event, value) = top_level(outline, tag)?;
    let bytes = *value.first_chunk()?;
    Some(if event.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
}

/// Preamble, prefix and group 0002 (PS3.10 §7.1).
fn file_meta(outline: &Outline, rewrite: &Rewrite) -> Vec<u8> {
    let uid = |tag| {
        let changed = rewrite.changes.iter().find(|change| change.tag == tag);
        let stored = || top_level(outline, tag).map_or(&[][..], |(_, value)| value);
        let value = changed.map_or_else(stored, |change| &change.value);
        let end = value.iter().rposition(|byte| !b"\0 ".contains(byte)).map_or(0, |last| last + 1);
        &value[..end]
    };
    let mut meta = Vec::new();
    push_element(&mut meta, tags::FILE_META_INFORMATION_VERSION, Vr(*b"OB"), &[0, 1]);
    push_element(&mut meta, tags::MEDIA_STORAGE_SOP_CLASS_UID, Vr(*b"UI"), uid(tags::SOP_CLASS_UID));
    push_element(&mut meta, tags::MEDIA_STORAGE_SOP_INSTANCE_UID, Vr(*b"UI"), uid(tags::SOP_INSTANCE_UID));
    push_element(&mut meta, tags::TRANSFER_SYNTAX_UID, Vr(*b"UI"), rewrite.transfer_syntax.as_bytes());
    push_element(&mut meta, tags::IMPLEMENTATION_CLASS_UID, Vr(*b"UI"), IMPLEMENTATION_CLASS_UID.as_bytes());
    push_element(
        &mut meta,
        tags::IMPLEMENTATION_VERSION_NAME,
        Vr(*b"SH"),
        IMPLEMENTATION_VERSION_NAME.as_bytes(),
    );
    let mut bytes = [&[0; 128], b"DICM".as_slice()].concat();
    push_element(
        &mut bytes,
        tags::FILE_META_INFORMATION_GROUP_LENGTH,
        Vr(*b"UL"),
        &(meta.len() as u32).to_le_bytes(),
    );
    bytes.append(&mut meta);
    bytes
}
