//! The elements of a data set: values, sequences, items and fragments, however they are delimited (PS3.5 §7,
//! §A.4).

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::failure::Failure;
use crate::dicom::scan::header::{self, ElementEncoding, ElementHeader, UNDEFINED};
use crate::dicom::scan::state::{LevelKind, OpenLevel, ScanStage, ScanState, ScanStep};
use crate::dicom::scan::{EventKind, ScanEvent};
use crate::dicom::tags;

/// The bytes of a fragment by which a codestream is recognised.
const LOOK_AT_FRAGMENT_BYTES: u32 = 12;
/// The most bytes of the first frame that are kept in memory: its headers, which describe the frame, with the
/// colour profile that may stand among them.
const MAX_FRAME_HEAD_BYTES: usize = 64 * 1024;

impl ScanState {
    pub(super) fn take_element(&mut self, window: &[u8]) -> Result<ScanStep, Failure> {
        self.close_ended_levels();
        let level = self.levels.last().copied();
        let mut encoding = level.map_or(self.encoding, |level| level.encoding);
        if let Some(OpenLevel { kind: LevelKind::Item, is_unsure: true, .. }) = level {
            let Some(&first) = window.first_chunk::<8>() else { return Ok(ScanStep::Wants(8)) };
            if header::is_explicit_after_all(first) {
                encoding = ElementEncoding::EXPLICIT;
            }
            if let Some(level) = self.levels.last_mut() {
                level.encoding = encoding;
                level.is_unsure = false;
            }
        }
        let header = match header::read(window, encoding) {
            Ok(header) => header,
            Err(wanted) => return Ok(ScanStep::Wants(wanted)),
        };
        self.start = self.position;
        match level {
            None if self.is_trailing(&header, window) => {
                self.stage = ScanStage::Trailing;
                Ok(ScanStep::Took(0))
            }
            Some(OpenLevel { kind: LevelKind::Sequence, .. }) => self.take_item(&header),
            Some(OpenLevel { kind: LevelKind::Fragments, .. }) => self.take_fragment(&header, window),
            _ if header.tag.group() == 0xFFFE => self.take_stray(&header),
            _ => self.take_data_element(&header, window, encoding),
        }
    }

    /// Whether the data set has ended and this is padding: zeros, or after Pixel Data anything that cannot be
    /// an element in its place.
    fn is_trailing(&self, header: &ElementHeader, window: &[u8]) -> bool {
        let is_after_pixels = tags::is_pixel_data(self.last_tag) || self.last_tag > tags::PIXEL_DATA;
        let has_known_vr = window.first_chunk().is_some_and(|&first| header::recognise(first).has_known_vr);
        let is_ascending = header.tag > self.last_tag && header.tag.group() != 0xFFFE;
        let is_element = is_ascending && (has_known_vr || !self.encoding.is_explicit);
        header.tag == Tag(0) || (is_after_pixels && !is_element && header.tag.group() != 0xFFFE)
    }

    fn take_data_element(
        &mut self,
        header: &ElementHeader,
        window: &[u8],
        encoding: ElementEncoding,
    ) -> Result<ScanStep, Failure> {
        let is_pixel_data = tags::is_pixel_data(header.tag);
        let is_sequence = header.vr == Some(Vr(*b"SQ"));
        let is_unknown = header.vr == Some(Vr(*b"UN"));
        let inner = if is_unknown { ElementEncoding::IMPLICIT } else { encoding };
        let may_hold_items = !is_pixel_data && !is_sequence && header.length >= 8;
        let mut opens = match (header.length, is_sequence) {
            (_, true) => Some(LevelKind::Sequence),
            (UNDEFINED, _) if is_pixel_data => Some(LevelKind::Fragments),
            (UNDEFINED, _) => Some(LevelKind::Sequence),
            _ => None,
        };
        // Only with an implicit VR, UN and (of undefined length) OB and OW, items are possible but not
        // certain.
        let is_open = header.vr.is_none_or(|vr| matches!(&vr.0, b"UN" | b"OB" | b"OW"));
        if may_hold_items && is_open {
            let Some(first) = window[header.size..].first_chunk::<8>() else {
                return Ok(ScanStep::Wants(header.size + 8));
            };
            opens = self.look_for_items(header, *first, inner);
        }
        // Without items and without a VR, only the dictionary tells that an element is a sequence.
        let is_untyped = header.vr.is_none_or(|vr| vr.0 == *b"UN");
        if header.length == 0 && is_untyped && header::is_sequence_by_dictionary(header.tag) == Some(true) {
            opens = Some(LevelKind::Sequence);
        }
        if header.tag == tags::PIXEL_DATA && self.levels.is_empty() && header.length != UNDEFINED {
            let look_at = header.length.min(LOOK_AT_FRAGMENT_BYTES) as usize;
            if window.len() < header.size + look_at {
                return Ok(ScanStep::Wants(header.size + look_at));
            }
            self.copy_bare_codestream(&window[header.size..][..look_at], header.length);
        }
        self.count_element()?;
        if self.levels.is_empty() {
            self.last_tag = header.tag;
        }
        if encoding.is_explicit && header::has_blank_vr(window) {
            self.irregular(header.tag, "its VR is not one, the VR of the dictionary is used");
        }
        match opens {
            None => {
                let is_bulk = header::is_bulk(header);
                if is_bulk {
                    self.count_reference()?;
                }
                let event = self.value_event(header, !is_bulk);
                self.outline.events.push(ScanEvent { is_big_endian: encoding.is_big_endian, ..event });
                self.warn_of_overrun(header);
            }
            Some(kind) => self.open(kind, header, inner, is_unknown)?,
        }
        Ok(ScanStep::Took(header.size))
    }

    /// Starts to copy Pixel Data without items that begins as a codestream begins.
    fn copy_bare_codestream(&mut self, start: &[u8], length: u32) {
        if header::starts_codestream(start) {
            self.copy = MAX_FRAME_HEAD_BYTES.min(length as usize);
        }
    }

    /// Decides by the first 8 bytes of its value whether an element is a sequence.
    fn look_for_items(
        &self,
        header: &ElementHeader,
        first: [u8; 8],
        inner: ElementEncoding,
    ) -> Option<LevelKind> {
        if header.length == UNDEFINED {
            let is_opaque = header.vr.is_some_and(|vr| vr.0 != *b"UN");
            let item = header::read(&first, inner).ok();
            let is_fragment = item.is_some_and(|item| item.tag == tags::ITEM && item.length != UNDEFINED);
            return Some(if is_opaque && is_fragment { LevelKind::Fragments } else { LevelKind::Sequence });
        }
        let has_item = header::starts_with_item(first, header.length, inner);
        let is_known = header::is_sequence_by_dictionary;
        let is_sequence = match header.vr {
            None => has_item && is_known(header.tag) != Some(false),
            Some(Vr([b'U', b'N'])) => has_item && is_known(header.tag) == Some(true),
            Some(_) => false,
        };
        is_sequence.then_some(LevelKind::Sequence)
    }

    fn open(
        &mut self,
        kind: LevelKind,
        header: &ElementHeader,
        encoding: ElementEncoding,
        is_unsure: bool,
    ) -> Result<(), Failure> {
        let depth = self.levels.len().div_ceil(2);
        if kind == LevelKind::Sequence && depth >= self.limits.max_sequence_depth {
            return Err(Failure::TooDeep { limit: self.limits.max_sequence_depth });
        }
        if kind == LevelKind::Fragments {
            self.count_reference()?;
        }
        let offset = self.position + header.size as u64;
        let outer = self.levels.last().and_then(|level| level.first_end);
        let end = (header.length != UNDEFINED).then(|| {
            let end = offset + u64::from(header.length);
            if outer.is_some_and(|outer| end > outer) {
                self.irregular(header.tag, "its length is larger than what it lies in");
            }
            outer.map_or(end, |outer| end.min(outer))
        });
        let event_kind = match kind {
            LevelKind::Sequence => EventKind::Sequence,
            LevelKind::Item => EventKind::Item,
            LevelKind::Fragments => EventKind::Encapsulated,
        };
        self.levels.push(OpenLevel {
            kind,
            tag: header.tag,
            end,
            first_end: end.or(outer),
            encoding,
            event: self.outline.events.len(),
            is_unsure,
        });
        self.outline.events.push(ScanEvent {
            kind: event_kind,
            tag: header.tag,
            vr: header.vr,
            offset,
            length: 0,
            is_big_endian: encoding.is_big_endian,
        });
        Ok(())
    }

    /// Closes the levels whose defined length has ended, with the open levels in them, the innermost first.
    fn close_ended_levels(&mut self) {
        let has_ended = |level: &OpenLevel| level.end.is_some_and(|end| end <= self.position);
        // Each element comes here: the levels are searched only if one has ended.
        if self.levels.last().and_then(|level| level.first_end).is_none_or(|end| end > self.position) {
            return;
        }
        let Some(outermost) = self.levels.iter().position(has_ended) else { return };
        while self.levels.len() > outermost {
            if self.levels.last().is_some_and(|level| level.end.is_none()) {
                self.irregular(tags::SEQUENCE_DELIMITATION_ITEM, "a delimiter is missing");
            }
            self.close();
        }
    }

    /// Takes an item of a sequence, or the end of the sequence.
    fn take_item(&mut self, header: &ElementHeader) -> Result<ScanStep, Failure> {
        let Some(&OpenLevel { end, encoding, is_unsure, .. }) = self.levels.last() else {
            return Ok(ScanStep::Took(0));
        };
        match (header.tag, end) {
            (tags::ITEM, _) => {
                self.count_element()?;
                self.open(LevelKind::Item, header, encoding, is_unsure)?;
            }
            (tags::SEQUENCE_DELIMITATION_ITEM, None) => self.close(),
            (tags::SEQUENCE_DELIMITATION_ITEM | tags::ITEM_DELIMITATION_ITEM, _) => {
                self.irregular(header.tag, "a delimiter where none belongs")
            }
            // A sequence of defined length can be skipped.
            (_, Some(end)) => {
                self.irregular(header.tag, "what stands in the sequence is no item");
                self.skip = end - self.position;
                return Ok(ScanStep::Took(0));
            }
            (tag, None) => return Err(Failure::Malformed { offset: self.start, tag }),
        }
        Ok(ScanStep::Took(8))
    }

    /// Takes the offset table, a fragment or the end of encapsulated pixel data (PS3.5 §A.4).
    fn take_fragment(&mut self, header: &ElementHeader, window: &[u8]) -> Result<ScanStep, Failure> {
        let malformed = Failure::Malformed { offset: self.start, tag: header.tag };
        match header.tag {
            tags::SEQUENCE_DELIMITATION_ITEM => {
                self.close();
                return Ok(ScanStep::Took(8));
            }
            Tag(0) if self.levels.len() == 1 => {
                self.close_without_delimiter();
                return Ok(ScanStep::Took(0));
            }
            tags::ITEM if header.length != UNDEFINED => {}
            _ => return Err(malformed),
        }
        let look_at = header.length.min(LOOK_AT_FRAGMENT_BYTES) as usize;
        let Some(start) = window[8..].get(..look_at) else { return Ok(ScanStep::Wants(8 + look_at)) };
        let is_first = self.levels.last().is_some_and(|level| {
            self.outline.events.get(level.event).is_some_and(|event| event.offset == self.position)
        });
        self.count_element()?;
        let is_image = self.levels.len() == 1 && self.levels[0].tag == tags::PIXEL_DATA;
        let starts_codestream = header::starts_codestream(start);
        if is_image && is_first && self.outline.basic_offset_table.is_none() {
            let from = self.outline.head.len();
            let length = if starts_codestream { 0 } else { header.length };
            self.outline.basic_offset_table = Some(from..from + length as usize);
            self.keep = length.into();
            if !starts_codestream {
                return Ok(ScanStep::Took(8));
            }
            self.warn_of(tags::PIXEL_DATA, "its first item is a frame, not an offset table");
        } else if is_first {
            self.skip = header.length.into();
            return Ok(ScanStep::Took(8));
        }
        if is_image {
            self.take_image_fragment(header, starts_codestream);
        }
        self.skip = header.length.into();
        Ok(ScanStep::Took(8))
    }

    /// Notes a fragment of Pixel Data, and starts to copy it if it belongs to the first frame.
    fn take_image_fragment(&mut self, header: &ElementHeader, starts_codestream: bool) {
        let outline = &mut self.outline;
        if starts_codestream {
            outline.codestream_starts.push(outline.fragments.len() as u32);
        }
        if outline.codestream_starts.iter().all(|&start| start == 0) {
            let room = MAX_FRAME_HEAD_BYTES.saturating_sub(outline.first_frame_head.len());
            self.copy = room.min(header.length as usize);
        }
        outline.fragments.push((self.position + 8, header.length));
    }

    /// Takes an item or a delimiter in the place of an element.
    fn take_stray(&mut self, header: &ElementHeader) -> Result<ScanStep, Failure> {
        let has_length = self.levels.last().map(|level| level.end.is_some());
        match (header.tag, has_length) {
            (tags::ITEM_DELIMITATION_ITEM, Some(false)) => self.close(),
            (tags::ITEM_DELIMITATION_ITEM | tags::SEQUENCE_DELIMITATION_ITEM, None | Some(true)) => {
                self.irregular(header.tag, "a delimiter where none belongs");
            }
            (tags::ITEM | tags::SEQUENCE_DELIMITATION_ITEM, Some(false)) => {
                self.irregular(header.tag, "an item's delimiter is missing");
                self.close();
                return Ok(ScanStep::Took(0));
            }
            // Written by some consoles after a sequence of length 0.
            (tags::ITEM, None | Some(true)) if header.length == 0 => {
                self.irregular(header.tag, "an empty item outside of a sequence");
            }
            (tag, _) => return Err(Failure::Malformed { offset: self.start, tag }),
        }
        Ok(ScanStep::Took(8))
    }

    fn warn_of_overrun(&mut self, header: &ElementHeader) {
        let end = self.position + header.size as u64 + u64::from(header.length);
        let outer = self.levels.last().and_then(|level| level.first_end);
        if outer.is_some_and(|outer| end > outer) {
            self.irregular(header.tag, "its value is longer than the item it lies in");
        }
    }
}
