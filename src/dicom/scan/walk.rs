//! The walk over the bytes of an object, through its stages and element by element, without recursion (PS3.5
//! §7, PS3.10 §7.1).

use crate::dicom::failure::Failure;
use crate::dicom::scan::header::{self, ElementEncoding, UNDEFINED};
use crate::dicom::scan::state::{LevelKind, ScanStage, ScanState, ScanStep};
use crate::dicom::scan::{EventKind, ScanEvent};
use crate::dicom::tags;
use crate::dicom::transfer_syntax;

/// Bytes of the preamble (PS3.10 §7.1).
const PREAMBLE: usize = 128;
const PREFIX: &[u8] = b"DICM";

impl ScanState {
    /// Takes the next bytes. Returns the rest of them if a deflated data set begins, else none.
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
        matches!(self.stage, ScanStage::Deflated(_))
    }

    /// Ends the input; all open elements must be complete.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let carry = std::mem::take(&mut self.carry);
        let mut used = self.walk(&carry)?;
        if self.stage == ScanStage::Start {
            self.stage = ScanStage::Meta;
            used += self.walk(&carry[used..])?;
        }
        if self.keep > 0 || self.skip > 0 {
            return Err(self.truncated());
        }
        self.start = self.position;
        self.end_with(&carry[used..])
    }

    /// Takes as many steps as the bytes allow; returns the number of bytes used.
    fn walk(&mut self, window: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        loop {
            let rest = &window[used..];
            let step = if self.keep > 0 || self.skip > 0 {
                self.take_value(rest)?
            } else {
                match self.stage {
                    ScanStage::Start => self.take_prefix(rest),
                    ScanStage::Meta => self.take_meta_element(rest)?,
                    ScanStage::DataSetStart => self.look_at_data_set(rest)?,
                    ScanStage::Deflated(_) => return Ok(used),
                    ScanStage::Elements => self.take_element(rest)?,
                    ScanStage::Trailing => self.take_trailing(rest),
                }
            };
            match step {
                ScanStep::Took(bytes) => {
                    used += bytes;
                    self.position += bytes as u64;
                }
                ScanStep::Wants(bytes) => {
                    self.wanted = bytes;
                    return Ok(used);
                }
            }
        }
    }

    fn take_value(&mut self, window: &[u8]) -> Result<ScanStep, Failure> {
        if window.is_empty() {
            return Ok(ScanStep::Wants(1));
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
            let (head, _) = window.split_at(bytes.min(self.copy));
            self.outline.first_frame_head.extend_from_slice(head);
            self.copy -= head.len();
            self.skip -= bytes as u64;
        }
        Ok(ScanStep::Took(bytes))
    }

    fn take_prefix(&mut self, window: &[u8]) -> ScanStep {
        let is_bare_prefix = window.starts_with(PREFIX);
        if !is_bare_prefix && window.len() < PREAMBLE + PREFIX.len() {
            return ScanStep::Wants(PREAMBLE + PREFIX.len());
        }
        self.stage = ScanStage::Meta;
        ScanStep::Took(match is_bare_prefix {
            true => PREFIX.len(),
            false if window[PREAMBLE..].starts_with(PREFIX) => PREAMBLE + PREFIX.len(),
            false => 0,
        })
    }

    fn take_meta_element(&mut self, window: &[u8]) -> Result<ScanStep, Failure> {
        // File meta information is explicit VR little endian (PS3.10 §7.1). Its group length is often wrong,
        // so that it ends where group 0002 does.
        let header = match header::read(window, ElementEncoding::EXPLICIT) {
            Ok(header) => header,
            Err(wanted) => return Ok(ScanStep::Wants(wanted)),
        };
        self.start = self.position;
        if header.tag.group() != 2 {
            self.end_meta();
            return Ok(ScanStep::Took(0));
        }
        if header.length == UNDEFINED {
            return Err(Failure::Malformed { offset: self.start, tag: header.tag });
        }
        self.count_element()?;
        let event = self.value_event(&header, true);
        self.outline.file_meta.push(event);
        Ok(ScanStep::Took(header.size))
    }

    fn end_meta(&mut self) {
        let declared = self.outline.file_meta.iter().find(|event| event.tag == tags::TRANSFER_SYNTAX_UID);
        if let Some(ScanEvent { kind: EventKind::Value(range), .. }) = declared {
            let value = String::from_utf8_lossy(&self.outline.head[range.clone()]);
            self.outline.transfer_syntax = value.trim_matches(['\0', ' ']).to_owned();
        }
        self.stage = ScanStage::DataSetStart;
    }

    fn look_at_data_set(&mut self, window: &[u8]) -> Result<ScanStep, Failure> {
        let Some(&first) = window.first_chunk::<8>() else { return Ok(ScanStep::Wants(8)) };
        let look = header::recognise(first);
        let declared = self.outline.transfer_syntax.clone();
        if !self.outline.is_deflated {
            self.outline.data_set_offset = self.position;
            // Deflated bytes may spell a VR by chance: only with a low group before it is that an element.
            let is_plain = look.has_known_vr && look.is_plausible;
            if transfer_syntax::is_deflated(&declared) && !is_plain {
                self.stage = ScanStage::Deflated([first[0], first[1]]);
                return Ok(ScanStep::Took(0));
            }
        }
        if declared.is_empty() && self.outline.file_meta.is_empty() && !look.is_plausible {
            return Err(Failure::NotDicom);
        }
        let expected = match declared.as_str() {
            transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN => ElementEncoding::IMPLICIT,
            transfer_syntax::EXPLICIT_VR_BIG_ENDIAN => ElementEncoding::BIG_ENDIAN,
            _ => ElementEncoding::EXPLICIT,
        };
        // An explicit element is certain; an implicit one only if it does not look like an explicit one with
        // a VR of a later edition.
        let is_certain = look.has_known_vr || (!look.encoding.is_explicit && look.is_plausible);
        self.encoding = if declared.is_empty() || is_certain { look.encoding } else { expected };
        let is_inflated_already = transfer_syntax::is_deflated(&declared) && !self.outline.is_deflated;
        if declared.is_empty() || self.encoding != expected || is_inflated_already {
            self.correct_transfer_syntax(&declared);
        }
        self.stage = ScanStage::Elements;
        Ok(ScanStep::Took(0))
    }

    fn correct_transfer_syntax(&mut self, declared: &str) {
        let recognised = match self.encoding {
            ElementEncoding { is_explicit: false, .. } => transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN,
            ElementEncoding { is_big_endian: true, .. } => transfer_syntax::EXPLICIT_VR_BIG_ENDIAN,
            _ => transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN,
        };
        // A transfer syntax that says how pixel data is compressed is kept, whatever the encoding of the
        // elements.
        let tells_nothing_of_pixels = [
            transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN,
            transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN,
            transfer_syntax::EXPLICIT_VR_BIG_ENDIAN,
            "",
        ]
        .contains(&declared)
            || transfer_syntax::is_deflated(declared)
            || self.encoding.is_big_endian;
        if tells_nothing_of_pixels {
            self.outline.transfer_syntax = recognised.to_owned();
        }
        let reason = if declared.is_empty() {
            "no transfer syntax is declared, it was recognised"
        } else {
            "the data set is not in the declared transfer syntax"
        };
        self.warn_of(tags::TRANSFER_SYNTAX_UID, reason);
    }

    fn take_trailing(&mut self, window: &[u8]) -> ScanStep {
        if window.is_empty() {
            return ScanStep::Wants(1);
        }
        if window.iter().any(|&byte| byte != 0) {
            self.warn("bytes other than zero follow the data set");
        }
        ScanStep::Took(window.len())
    }

    /// Ends the input with `rest` left, which does not make up a header.
    fn end_with(&mut self, rest: &[u8]) -> Result<(), Failure> {
        let is_blank = rest.iter().all(|&byte| byte == 0);
        match self.stage {
            ScanStage::Meta if rest.is_empty() && !self.outline.file_meta.is_empty() => {
                self.end_meta();
                self.outline.data_set_offset = self.position;
            }
            ScanStage::DataSetStart if rest.is_empty() => {}
            ScanStage::Meta if self.outline.file_meta.is_empty() => return Err(Failure::NotDicom),
            ScanStage::Elements if self.levels.is_empty() && is_blank => {}
            ScanStage::Elements if self.levels.is_empty() && self.is_no_element(rest) => {
                self.warn("bytes other than zero follow the data set");
            }
            ScanStage::Elements if is_blank && self.levels.len() == 1 => {
                if self.levels[0].kind != LevelKind::Fragments {
                    return Err(self.truncated());
                }
                self.close_without_delimiter();
            }
            ScanStage::Trailing => {}
            _ => return Err(self.truncated()),
        }
        Ok(())
    }

    /// Whether the last few bytes cannot be the beginning of an element: line ends, or anything after Pixel
    /// Data that is not of the groups that may follow it.
    fn is_no_element(&self, rest: &[u8]) -> bool {
        let is_after_pixels = tags::is_pixel_data(self.last_tag) || self.last_tag > tags::PIXEL_DATA;
        let may_follow = [[0xFA, 0xFF], [0xFC, 0xFF], [0xFF, 0xFA], [0xFF, 0xFC]]
            .iter()
            .any(|group| group.starts_with(&rest[..rest.len().min(2)]));
        rest.iter().all(|byte| b"\r\n\0".contains(byte)) || (is_after_pixels && !may_follow)
    }
}
