//! The elements of a data set: values, sequences, items and fragments, however they are delimited (PS3.5 §7, §A.4).

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::failure::Failure;
use crate::dicom::scan::header::{
    self, Encoding, Header, ITEM, ITEM_DELIMITER, SEQUENCE_DELIMITER, UNDEFINED,
};
use crate::dicom::scan::walk::{PIXEL_DATA, Stage, Step, Walker};
use crate::dicom::scan::{Event, Kind};

/// Bytes of a fragment that are looked at to recognise a codestream.
const LOOK_AT_FRAGMENT_BYTES: u32 = 12;

#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) kind: LevelKind,
    pub(super) tag: Tag,
    /// Where it ends, if its length is defined.
    pub(super) end: Option<u64>,
    /// How the elements in it are encoded.
    pub(super) encoding: Encoding,
    /// The index of the event that opened it.
    pub(super) event: usize,
    /// Whether `encoding` is a rule's and not what the elements showed.
    pub(super) is_unsure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LevelKind {
    Sequence,
    Item,
    Fragments,
}

impl Walker {
    pub(super) fn take_element(&mut self, window: &[u8]) -> Result<Step, Failure> {
        self.close_ended_levels();
        let level = self.levels.last().copied();
        let mut encoding = level.map_or(self.encoding, |level| level.encoding);
        if let Some(Level { kind: LevelKind::Item, is_unsure: true, .. }) = level {
            let Some(&first) = window.first_chunk::<8>() else { return Ok(Step::Wants(8)) };
            if header::is_explicit_after_all(first) {
                encoding = Encoding::EXPLICIT;
            }
            if let Some(level) = self.levels.last_mut() {
                level.encoding = encoding;
                level.is_unsure = false;
            }
        }
        let header = match header::read(window, encoding) {
            Ok(header) => header,
            Err(wanted) => return Ok(Step::Wants(wanted)),
        };
        self.start = self.position;
        match level {
            None if self.is_trailing(&header, window) => {
                self.stage = Stage::Trailing;
                Ok(Step::Took(0))
            }
            Some(Level { kind: LevelKind::Sequence, .. }) => self.take_item(&header),
            Some(Level { kind: LevelKind::Fragments, .. }) => self.take_fragment(&header, window),
            _ if header.tag.group() == 0xFFFE => self.take_stray(&header),
            _ => self.take_data_element(&header, window, encoding),
        }
    }

    fn take_data_element(
        &mut self,
        header: &Header,
        window: &[u8],
        encoding: Encoding,
    ) -> Result<Step, Failure> {
        let is_pixel_data = header::is_pixel_data(header.tag);
        let is_sequence = header.vr == Some(Vr(*b"SQ"));
        let is_unknown = header.vr == Some(Vr(*b"UN"));
        let inner = if is_unknown { Encoding::IMPLICIT } else { encoding };
        let may_hold_items = !is_pixel_data && !is_sequence && header.length >= 8;
        let mut opens = match (header.length, is_sequence) {
            (_, true) => Some(LevelKind::Sequence),
            (UNDEFINED, _) if is_pixel_data => Some(LevelKind::Fragments),
            (UNDEFINED, _) => Some(LevelKind::Sequence),
            _ => None,
        };
        // Only an implicit VR, UN and (of undefined length) OB and OW leave open whether there are items.
        let is_open = header.vr.is_none_or(|vr| matches!(&vr.0, b"UN" | b"OB" | b"OW"));
        if may_hold_items && is_open {
            let Some(first) = window[header.size..].first_chunk::<8>() else {
                return Ok(Step::Wants(header.size + 8));
            };
            opens = self.look_for_items(header, *first, inner);
        }
        self.count_element()?;
        if self.levels.is_empty() {
            self.last_tag = header.tag;
        }
        match opens {
            None => {
                let event = self.value_event(header, !header::is_bulk(header));
                self.outline.events.push(Event { is_big_endian: encoding.is_big_endian, ..event });
                self.warn_of_overrun(header);
            }
            Some(kind) => self.open(kind, header, inner, is_unknown)?,
        }
        Ok(Step::Took(header.size))
    }

    /// Decides what an element that may be a sequence is by the first 8 bytes of its value.
    fn look_for_items(&self, header: &Header, first: [u8; 8], inner: Encoding) -> Option<LevelKind> {
        if header.length == UNDEFINED {
            let is_opaque = header.vr.is_some_and(|vr| vr.0 != *b"UN");
            let item = header::read(&first, inner).ok();
            let is_fragment = item.is_some_and(|item| item.tag == ITEM && item.length != UNDEFINED);
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
        header: &Header,
        encoding: Encoding,
        is_unsure: bool,
    ) -> Result<(), Failure> {
        let depth = self.levels.len().div_ceil(2);
        if kind == LevelKind::Sequence && depth >= self.limits.max_sequence_depth {
            return Err(Failure::TooDeep { limit: self.limits.max_sequence_depth });
        }
        let offset = self.position + header.size as u64;
        let outer = self.levels.iter().rev().find_map(|level| level.end);
        let end = (header.length != UNDEFINED).then(|| {
            let end = offset + u64::from(header.length);
            if outer.is_some_and(|outer| end > outer) {
                self.warn_of(header.tag, "its length is larger than what it lies in");
            }
            outer.map_or(end, |outer| end.min(outer))
        });
        let event_kind = match kind {
            LevelKind::Sequence => Kind::Sequence,
            LevelKind::Item => Kind::Item,
            LevelKind::Fragments => Kind::Encapsulated,
        };
        self.levels.push(Level {
            kind,
            tag: header.tag,
            end,
            encoding,
            event: self.outline.events.len(),
            is_unsure,
        });
        self.outline.events.push(Event {
            kind: event_kind,
            tag: header.tag,
            vr: header.vr,
            offset,
            length: 0,
            is_big_endian: encoding.is_big_endian,
        });
        Ok(())
    }

    /// Closes the levels whose defined length is used up, with all that is open in them, the innermost first.
    fn close_ended_levels(&mut self) {
        let has_ended = |level: &Level| level.end.is_some_and(|end| end <= self.position);
        let Some(outermost) = self.levels.iter().position(has_ended) else { return };
        while self.levels.len() > outermost {
            if self.levels.last().is_some_and(|level| level.end.is_none()) {
                self.warn_of(SEQUENCE_DELIMITER, "a delimiter is missing");
            }
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        if let Some(event) = self.outline.events.get_mut(level.event) {
            event.length = self.position.saturating_sub(event.offset);
        }
        let kind = match level.kind {
            LevelKind::Sequence => Kind::SequenceEnd,
            LevelKind::Item => Kind::ItemEnd,
            LevelKind::Fragments => return,
        };
        self.outline.events.push(Event {
            kind,
            tag: level.tag,
            vr: None,
            offset: self.position,
            length: 0,
            is_big_endian: level.encoding.is_big_endian,
        });
    }

    /// In a sequence: an item, or its end.
    fn take_item(&mut self, header: &Header) -> Result<Step, Failure> {
        let Some(&Level { end, encoding, is_unsure, .. }) = self.levels.last() else {
            return Ok(Step::Took(0));
        };
        match (header.tag, end) {
            (ITEM, _) => {
                self.count_element()?;
                self.open(LevelKind::Item, header, encoding, is_unsure)?;
            }
            (SEQUENCE_DELIMITER, None) => self.close(),
            (SEQUENCE_DELIMITER | ITEM_DELIMITER, _) => {
                self.warn_of(header.tag, "a delimiter where none belongs")
            }
            // A sequence that states its length can be left out without losing the place.
            (_, Some(end)) => {
                self.warn_of(header.tag, "what stands in the sequence is no item");
                self.skip = end - self.position;
                return Ok(Step::Took(0));
            }
            (tag, None) => return Err(Failure::Malformed { offset: self.start, tag }),
        }
        Ok(Step::Took(8))
    }

    /// In encapsulated pixel data: the offset table, a fragment, or the end (PS3.5 §A.4).
    fn take_fragment(&mut self, header: &Header, window: &[u8]) -> Result<Step, Failure> {
        let malformed = Failure::Malformed { offset: self.start, tag: header.tag };
        match header.tag {
            SEQUENCE_DELIMITER => {
                self.close();
                return Ok(Step::Took(8));
            }
            Tag(0) if self.levels.len() == 1 => {
                self.close_without_delimiter();
                return Ok(Step::Took(0));
            }
            ITEM if header.length != UNDEFINED => {}
            _ => return Err(malformed),
        }
        let look_at = header.length.min(LOOK_AT_FRAGMENT_BYTES) as usize;
        let Some(start) = window[8..].get(..look_at) else { return Ok(Step::Wants(8 + look_at)) };
        let is_first = self.levels.last().is_some_and(|level| {
            self.outline.events.get(level.event).is_some_and(|event| event.offset == self.position)
        });
        self.count_element()?;
        let is_image = self.levels.len() == 1 && self.levels[0].tag == PIXEL_DATA;
        if is_image && is_first && self.outline.basic_offset_table.is_none() {
            let from = self.outline.head.len();
            self.outline.basic_offset_table = Some(from..from + header.length as usize);
            self.keep = header.length.into();
            return Ok(Step::Took(8));
        }
        if is_image && !is_first {
            if header::starts_codestream(start) {
                self.outline.codestream_starts.push(self.outline.fragments.len() as u32);
            }
            self.outline.fragments.push((self.position + 8, header.length));
        }
        self.skip = header.length.into();
        Ok(Step::Took(8))
    }

    pub(super) fn close_without_delimiter(&mut self) {
        self.warn_of(PIXEL_DATA, "its sequence delimiter is missing");
        self.close();
    }

    /// An item or a delimiter where an element belongs.
    fn take_stray(&mut self, header: &Header) -> Result<Step, Failure> {
        let has_length = self.levels.last().map(|level| level.end.is_some());
        match (header.tag, has_length) {
            (ITEM_DELIMITER, Some(false)) => self.close(),
            (ITEM_DELIMITER | SEQUENCE_DELIMITER, None | Some(true)) => {
                self.warn_of(header.tag, "a delimiter where none belongs");
            }
            (ITEM | SEQUENCE_DELIMITER, Some(false)) => {
                self.warn_of(header.tag, "an item's delimiter is missing");
                self.close();
                return Ok(Step::Took(0));
            }
            (tag, _) => return Err(Failure::Malformed { offset: self.start, tag }),
        }
        Ok(Step::Took(8))
    }

    fn warn_of_overrun(&mut self, header: &Header) {
        let end = self.position + header.size as u64 + u64::from(header.length);
        let outer = self.levels.iter().rev().find_map(|level| level.end);
        if outer.is_some_and(|outer| end > outer) {
            self.warn_of(header.tag, "its value is longer than the item it lies in");
        }
    }
}
