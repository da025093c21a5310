//! Walks over the bytes of an object, element by element, without recursion (PS3.5 §7, PS3.10 §7.1).

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::scan::header::{
    self, Encoding, Header, ITEM, ITEM_DELIMITER, SEQUENCE_DELIMITER, UNDEFINED,
};
use crate::dicom::scan::inflate::Inflater;
use crate::dicom::scan::{Event, Kind, Limits, Outline};

const TRANSFER_SYNTAX: Tag = Tag(0x0002_0010);
const PIXEL_DATA: Tag = Tag(0x7FE0_0010);
/// Data Set Trailing Padding (PS3.10 §7.2): warnings about what follows the data set carry its tag.
const TRAILING_PADDING: Tag = Tag(0xFFFC_FFFC);

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// Deflated Explicit VR Little Endian, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate.
const DEFLATED: [&str; 3] = ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"];

/// Where the preamble ends and `DICM` ends (PS3.10 §7.1).
const PREAMBLE: usize = 128;
const PREFIX: &[u8] = b"DICM";

/// Different warnings that are kept; what has more is no better understood by more of them.
const MAX_WARNINGS: usize = 32;
/// Bytes of a fragment that are looked at to recognise a codestream.
const LOOK_AT_FRAGMENT_BYTES: u32 = 12;

pub(super) struct Walker {
    limits: Limits,
    outline: Outline,
    stage: Stage,
    /// The place of the next byte to be taken.
    position: u64,
    /// Where the element at hand starts.
    start: u64,
    /// Bytes of the value at hand that are still to be kept, and to be passed over.
    keep: u64,
    skip: u64,
    /// The sequences and items that are open, the outermost first.
    levels: Vec<Level>,
    encoding: Encoding,
    elements: usize,
    /// The last tag that is not nested.
    last_tag: Tag,
    /// Bytes that came but do not suffice for the next step, and how many it takes.
    carry: Vec<u8>,
    wanted: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Start,
    Meta,
    DataSetStart,
    Deflated([u8; 2]),
    Elements,
    Trailing,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    kind: LevelKind,
    tag: Tag,
    /// Where it ends, if its length is defined.
    end: Option<u64>,
    /// How the elements in it are encoded.
    encoding: Encoding,
    /// The index of the event that opened it.
    event: usize,
    /// Whether `encoding` is a rule's and not what the elements showed.
    is_unsure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum LevelKind {
    Sequence,
    Item,
    Fragments,
}

enum Step {
    Took(usize),
    Wants(usize),
}

impl Walker {
    pub(super) fn new(limits: Limits, transfer_syntax: Option<&str>) -> Self {
        let outline =
            Outline { transfer_syntax: transfer_syntax.unwrap_or_default().to_owned(), ..Outline::default() };
        Self {
            limits,
            outline,
            stage: if transfer_syntax.is_some() { Stage::DataSetStart } else { Stage::Start },
            position: 0,
            start: 0,
            keep: 0,
            skip: 0,
            levels: Vec::new(),
            encoding: Encoding::EXPLICIT,
            elements: 0,
            last_tag: Tag(0),
            carry: Vec::new(),
            wanted: 0,
        }
    }

    /// Takes the next bytes; returns those that it left, which it does only before a deflated data set.
    pub(super) fn push<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], Failure> {
        while !self.carry.is_empty() && !bytes.is_empty() && !self.is_at_deflated() {
            let (topping, rest) = bytes.split_at((self.wanted - self.carry.len()).min(bytes.len()));
            bytes = rest;
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(topping);
            let used = self.walk(&carry)?;
            carry.drain(..used);
            self.carry = carry;
        }
        if self.carry.is_empty() {
            let used = self.walk(bytes)?;
            bytes = &bytes[used..];
            if !self.is_at_deflated() {
                self.carry.extend_from_slice(bytes);
                bytes = &[];
            }
        }
        Ok(bytes)
    }

    fn is_at_deflated(&self) -> bool {
        matches!(self.stage, Stage::Deflated(_))
    }

    /// An inflater if the data set turns out to be deflated, and its first bytes, which were taken already.
    pub(super) fn take_inflater(&mut self) -> Option<(Inflater, Vec<u8>)> {
        let Stage::Deflated(start) = self.stage else { return None };
        self.stage = Stage::DataSetStart;
        self.outline.is_deflated = true;
        Some((Inflater::new(&self.limits, start), std::mem::take(&mut self.carry)))
    }

    /// Ends the input; all that is open must be complete.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let carry = std::mem::take(&mut self.carry);
        let mut used = self.walk(&carry)?;
        if self.stage == Stage::Start {
            self.begin_without_preamble();
            used += self.walk(&carry[used..])?;
        }
        if self.keep > 0 || self.skip > 0 {
            return Err(self.truncated());
        }
        self.start = self.position;
        self.end_with(&carry[used..])
    }

    pub(super) fn into_outline(self) -> Outline {
        self.outline
    }

    pub(super) fn truncated(&self) -> Failure {
        Failure::Truncated { offset: self.start }
    }

    /// Notes what is wrong with the bytes after the data set.
    pub(super) fn warn(&mut self, reason: &str) {
        self.warn_of(TRAILING_PADDING, reason);
    }

    /// Goes as far as the bytes allow; returns how many were used.
    fn walk(&mut self, window: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        loop {
            let rest = &window[used..];
            let step = if self.keep > 0 || self.skip > 0 {
                self.take_value(rest)?
            } else {
                match self.stage {
                    Stage::Start => self.take_prefix(rest),
                    Stage::Meta => self.take_meta_element(rest)?,
                    Stage::DataSetStart => self.look_at_data_set(rest)?,
                    Stage::Deflated(_) => return Ok(used),
                    Stage::Elements => self.take_element(rest)?,
                    Stage::Trailing => self.take_trailing(rest),
                }
            };
            match step {
                Step::Took(bytes) => {
                    used += bytes;
                    self.position += bytes as u64;
                }
                Step::Wants(bytes) => {
                    self.wanted = bytes;
                    return Ok(used);
                }
            }
        }
    }

    fn take_value(&mut self, window: &[u8]) -> Result<Step, Failure> {
        if window.is_empty() {
            return Ok(Step::Wants(1));
        }
        let pending = self.keep.max(self.skip);
        let bytes = usize::try_from(pending).unwrap_or(usize::MAX).min(window.len());
        if self.keep > 0 {
            if self.outline.head.len() + bytes > self.limits.max_header_bytes {
                return Err(Failure::HeaderTooLarge { limit: self.limits.max_header_bytes });
            }
            self.outline.head.extend_from_slice(&window[..bytes]);
            self.keep -= bytes as u64;
        } else {
            self.skip -= bytes as u64;
        }
        Ok(Step::Took(bytes))
    }

    fn take_prefix(&mut self, window: &[u8]) -> Step {
        if window.starts_with(PREFIX) {
            self.stage = Stage::Meta;
            return Step::Took(PREFIX.len());
        }
        if window.len() < PREAMBLE + PREFIX.len() {
            return Step::Wants(PREAMBLE + PREFIX.len());
        }
        if !window[PREAMBLE..].starts_with(PREFIX) {
            self.begin_without_preamble();
            return Step::Took(0);
        }
        self.stage = Stage::Meta;
        Step::Took(PREAMBLE + PREFIX.len())
    }

    fn begin_without_preamble(&mut self) {
        self.stage = Stage::Meta;
    }

    fn take_meta_element(&mut self, window: &[u8]) -> Result<Step, Failure> {
        // File meta information is explicit VR little endian (PS3.10 §7.1); group lengths are often wrong, so that
        // it ends where group 0002 does.
        let header = match header::read(window, Encoding::EXPLICIT) {
            Ok(header) => header,
            Err(wanted) => return Ok(Step::Wants(wanted)),
        };
        self.start = self.position;
        if header.tag.group() != 2 {
            self.end_meta();
            return Ok(Step::Took(0));
        }
        if header.length == UNDEFINED {
            return Err(Failure::Malformed { offset: self.start, tag: header.tag });
        }
        self.count_element()?;
        let event = self.value_event(&header, true);
        self.outline.file_meta.push(event);
        Ok(Step::Took(header.size))
    }

    fn end_meta(&mut self) {
        let declared = self.outline.file_meta.iter().find(|event| event.tag == TRANSFER_SYNTAX);
        if let Some(Event { kind: Kind::Value(range), .. }) = declared {
            let value = String::from_utf8_lossy(&self.outline.head[range.clone()]);
            self.outline.transfer_syntax = value.trim_matches(['\0', ' ']).to_owned();
        }
        self.stage = Stage::DataSetStart;
    }

    fn look_at_data_set(&mut self, window: &[u8]) -> Result<Step, Failure> {
        let Some(&first) = window.first_chunk::<8>() else { return Ok(Step::Wants(8)) };
        let look = header::recognise(first);
        let declared = self.outline.transfer_syntax.clone();
        if !self.outline.is_deflated {
            self.outline.data_set_offset = self.position;
            if DEFLATED.contains(&declared.as_str()) && !look.has_known_vr {
                self.stage = Stage::Deflated([first[0], first[1]]);
                return Ok(Step::Took(0));
            }
        }
        if declared.is_empty() && self.outline.file_meta.is_empty() && !look.is_plausible {
            return Err(Failure::NotDicom);
        }
        let expected = match declared.as_str() {
            IMPLICIT => Encoding::IMPLICIT,
            BIG_ENDIAN => Encoding::BIG_ENDIAN,
            _ => Encoding::EXPLICIT,
        };
        // An explicit element is beyond doubt; an implicit one only if it does not look like an explicit one with a VR of tomorrow.
        let is_certain = look.has_known_vr || (!look.encoding.is_explicit && look.is_plausible);
        self.encoding = if declared.is_empty() || is_certain { look.encoding } else { expected };
        let is_inflated_already = DEFLATED.contains(&declared.as_str()) && !self.outline.is_deflated;
        if declared.is_empty() || self.encoding != expected || is_inflated_already {
            self.correct_transfer_syntax(&declared);
        }
        self.stage = Stage::Elements;
        Ok(Step::Took(0))
    }

    fn correct_transfer_syntax(&mut self, declared: &str) {
        let recognised = match self.encoding {
            Encoding { is_explicit: false, .. } => IMPLICIT,
            Encoding { is_big_endian: true, .. } => BIG_ENDIAN,
            _ => EXPLICIT,
        };
        // What tells how pixel data is compressed is kept, whatever the elements around it are encoded in.
        let tells_nothing_of_pixels = [IMPLICIT, EXPLICIT, BIG_ENDIAN, ""].contains(&declared)
            || DEFLATED.contains(&declared)
            || self.encoding.is_big_endian;
        if tells_nothing_of_pixels {
            self.outline.transfer_syntax = recognised.to_owned();
        }
        let reason = if declared.is_empty() {
            "no transfer syntax is declared, it was recognised"
        } else {
            "the data set is not in the declared transfer syntax"
        };
        self.warn_of(TRANSFER_SYNTAX, reason);
    }

    fn take_element(&mut self, window: &[u8]) -> Result<Step, Failure> {
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

    fn close_without_delimiter(&mut self) {
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

    /// Whether the data set has ended and this is padding: zeros, or after Pixel Data anything that cannot be
    /// an element in its place.
    fn is_trailing(&self, header: &Header, window: &[u8]) -> bool {
        let is_after_pixels = header::is_pixel_data(self.last_tag) || self.last_tag > PIXEL_DATA;
        let has_known_vr = window.first_chunk().is_some_and(|&first| header::recognise(first).has_known_vr);
        let is_ascending = header.tag > self.last_tag && header.tag.group() != 0xFFFE;
        let is_element = is_ascending && (has_known_vr || !self.encoding.is_explicit);
        header.tag == Tag(0) || (is_after_pixels && !is_element && header.tag.group() != 0xFFFE)
    }

    fn take_trailing(&mut self, window: &[u8]) -> Step {
        if window.is_empty() {
            return Step::Wants(1);
        }
        if window.iter().any(|&byte| byte != 0) {
            self.warn("bytes other than zero follow the data set");
        }
        Step::Took(window.len())
    }

    /// Ends the input with `rest` left, which does not make up a header.
    fn end_with(&mut self, rest: &[u8]) -> Result<(), Failure> {
        let is_blank = rest.iter().all(|&byte| byte == 0);
        match self.stage {
            Stage::Meta if rest.is_empty() && !self.outline.file_meta.is_empty() => {
                self.end_meta();
                self.outline.data_set_offset = self.position;
            }
            Stage::DataSetStart if rest.is_empty() => {}
            Stage::Meta if self.outline.file_meta.is_empty() => return Err(Failure::NotDicom),
            Stage::Elements if self.levels.is_empty() && is_blank => {}
            Stage::Elements if self.levels.is_empty() && self.is_no_element(rest) => {
                self.warn("bytes other than zero follow the data set");
            }
            Stage::Elements if is_blank && self.levels.len() == 1 => {
                if self.levels[0].kind != LevelKind::Fragments {
                    return Err(self.truncated());
                }
                self.close_without_delimiter();
            }
            Stage::Trailing => {}
            _ => return Err(self.truncated()),
        }
        Ok(())
    }

    /// Whether the last few bytes cannot be the beginning of an element: line ends, or anything after Pixel Data
    /// that is not of the groups that may follow it.
    fn is_no_element(&self, rest: &[u8]) -> bool {
        let is_after_pixels = header::is_pixel_data(self.last_tag) || self.last_tag > PIXEL_DATA;
        let may_follow = [[0xFA, 0xFF], [0xFC, 0xFF], [0xFF, 0xFA], [0xFF, 0xFC]]
            .iter()
            .any(|group| group.starts_with(&rest[..rest.len().min(2)]));
        rest.iter().all(|byte| b"\r\n\0".contains(byte)) || (is_after_pixels && !may_follow)
    }

    fn value_event(&mut self, header: &Header, is_kept: bool) -> Event {
        let length = u64::from(header.length);
        let kind = if is_kept {
            let from = self.outline.head.len();
            self.keep = length;
            Kind::Value(from..from + header.length as usize)
        } else {
            self.skip = length;
            Kind::Bulk
        };
        let offset = self.position + header.size as u64;
        Event { kind, tag: header.tag, vr: header.vr, offset, length, is_big_endian: false }
    }

    fn warn_of_overrun(&mut self, header: &Header) {
        let end = self.position + header.size as u64 + u64::from(header.length);
        let outer = self.levels.iter().rev().find_map(|level| level.end);
        if outer.is_some_and(|outer| end > outer) {
            self.warn_of(header.tag, "its value is longer than the item it lies in");
        }
    }

    fn count_element(&mut self) -> Result<(), Failure> {
        self.elements += 1;
        if self.elements > self.limits.max_elements {
            return Err(Failure::TooManyElements { limit: self.limits.max_elements });
        }
        Ok(())
    }

    /// Notes what is wrong, under the outermost attribute.
    fn warn_of(&mut self, tag: Tag, reason: &str) {
        let warning =
            Warning { tag: self.levels.first().map_or(tag, |level| level.tag), reason: reason.into() };
        if self.outline.warnings.len() < MAX_WARNINGS && !self.outline.warnings.contains(&warning) {
            self.outline.warnings.push(warning);
        }
    }
}
