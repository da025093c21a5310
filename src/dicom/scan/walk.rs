//! Walks over the bytes of an object, element by element, without recursion (PS3.5 §7, PS3.10 §7.1).

use crate::dicom::attributes::Tag;
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::scan::elements::{Level, LevelKind};
use crate::dicom::scan::header::{self, Encoding, Header, UNDEFINED};
use crate::dicom::scan::inflate::Inflater;
use crate::dicom::scan::{Event, Kind, Limits, Outline};

const TRANSFER_SYNTAX: Tag = Tag(0x0002_0010);
pub(super) const PIXEL_DATA: Tag = Tag(0x7FE0_0010);
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

pub(super) struct Walker {
    pub(super) limits: Limits,
    pub(super) outline: Outline,
    pub(super) stage: Stage,
    /// The place of the next byte to be taken.
    pub(super) position: u64,
    /// Where the element at hand starts.
    pub(super) start: u64,
    /// Bytes of the value at hand that are still to be kept, and to be passed over.
    pub(super) keep: u64,
    pub(super) skip: u64,
    /// The sequences and items that are open, the outermost first.
    pub(super) levels: Vec<Level>,
    pub(super) encoding: Encoding,
    elements: usize,
    /// The last tag that is not nested.
    pub(super) last_tag: Tag,
    /// Bytes that came but do not suffice for the next step, and how many it takes.
    carry: Vec<u8>,
    wanted: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    Start,
    Meta,
    DataSetStart,
    Deflated([u8; 2]),
    Elements,
    Trailing,
}

pub(super) enum Step {
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
            self.stage = Stage::Meta;
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
        let is_bare_prefix = window.starts_with(PREFIX);
        if !is_bare_prefix && window.len() < PREAMBLE + PREFIX.len() {
            return Step::Wants(PREAMBLE + PREFIX.len());
        }
        self.stage = Stage::Meta;
        Step::Took(match is_bare_prefix {
            true => PREFIX.len(),
            false if window[PREAMBLE..].starts_with(PREFIX) => PREAMBLE + PREFIX.len(),
            false => 0,
        })
    }

    fn take_meta_element(&mut self, window: &[u8]) -> Result<Step, Failure> {
        // File meta information is explicit VR little endian (PS3.10 §7.1). Its group length is often wrong, so
        // that it ends where group 0002 does.
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
            // Deflated bytes may spell a VR by chance: only with a low group before it is that an element.
            let is_plain = look.has_known_vr && look.is_plausible;
            if DEFLATED.contains(&declared.as_str()) && !is_plain {
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
        // An explicit element is beyond doubt; an implicit one only if it does not look like an explicit one with
        // a VR of tomorrow.
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

    /// Whether the data set has ended and this is padding: zeros, or after Pixel Data anything that cannot be
    /// an element in its place.
    pub(super) fn is_trailing(&self, header: &Header, window: &[u8]) -> bool {
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

    pub(super) fn value_event(&mut self, header: &Header, is_kept: bool) -> Event {
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

    pub(super) fn count_element(&mut self) -> Result<(), Failure> {
        self.elements += 1;
        if self.elements > self.limits.max_elements {
            return Err(Failure::TooManyElements { limit: self.limits.max_elements });
        }
        Ok(())
    }

    /// Notes what is wrong, under the outermost attribute.
    pub(super) fn warn_of(&mut self, tag: Tag, reason: &str) {
        let warning =
            Warning { tag: self.levels.first().map_or(tag, |level| level.tag), reason: reason.into() };
        if self.outline.warnings.len() < MAX_WARNINGS && !self.outline.warnings.contains(&warning) {
            self.outline.warnings.push(warning);
        }
    }
}
