//! The state of a scan: the stage that the bytes have reached, the sequences and items that are open, and the
//! outline.

use crate::dicom::attributes::Tag;
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::scan::header::{ElementEncoding, ElementHeader};
use crate::dicom::scan::{EventKind, Outline, ScanEvent, ScanLimits};
use crate::dicom::tags;

/// The maximum number of warnings about one object.
const MAX_WARNINGS: usize = 32;
/// Bytes of a reference to a bulk value for each sequence and each item around it.
const REFERENCE_BYTES_PER_LEVEL: usize = 8;

/// A scan of one object.
pub(super) struct ScanState {
    pub(super) limits: ScanLimits,
    pub(super) outline: Outline,
    pub(super) stage: ScanStage,
    /// The offset of the next byte.
    pub(super) position: u64,
    /// The offset of the current element.
    pub(super) start: u64,
    /// Bytes of the current value that are still to be copied to the outline.
    pub(super) keep: u64,
    /// Bytes of the current value that are still to be skipped.
    pub(super) skip: u64,
    /// Bytes of the current fragment that are still to be copied to the head of the first frame.
    pub(super) copy: usize,
    /// The sequences and items that are open, the outermost first.
    pub(super) levels: Vec<OpenLevel>,
    /// The encoding of elements that are not nested.
    pub(super) encoding: ElementEncoding,
    /// Elements so far, those in items included.
    elements: usize,
    /// Bytes of the references to nested bulk values so far.
    reference_bytes: usize,
    /// The last tag that is not nested.
    pub(super) last_tag: Tag,
    /// Bytes that were received but are too few for the next step.
    pub(super) carry: Vec<u8>,
    /// Bytes that the next step needs.
    pub(super) wanted: usize,
}

/// The part of an object that the scan has reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ScanStage {
    /// The preamble.
    Start,
    /// The file meta information.
    Meta,
    /// The first bytes of the data set.
    DataSetStart,
    /// A deflated data set, with its first two bytes.
    Deflated([u8; 2]),
    /// The elements of the data set.
    Elements,
    /// The bytes after the data set.
    Trailing,
}

/// The outcome of one step of the scan.
pub(super) enum ScanStep {
    /// This many bytes were used.
    Took(usize),
    /// The step needs this many bytes, and used none.
    Wants(usize),
}

/// A sequence, an item or encapsulated pixel data that has not ended yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenLevel {
    pub(super) kind: LevelKind,
    pub(super) tag: Tag,
    /// The offset of its end, if its length is defined.
    pub(super) end: Option<u64>,
    /// The first end of those of this level and of all levels around it.
    pub(super) first_end: Option<u64>,
    /// The encoding of the elements in it.
    pub(super) encoding: ElementEncoding,
    /// The index of the event that opened it.
    pub(super) event: usize,
    /// Whether `encoding` follows a rule of the standard and is not confirmed by an element yet.
    pub(super) is_unsure: bool,
}

/// The kind of an [`OpenLevel`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LevelKind {
    Sequence,
    Item,
    Fragments,
}

impl ScanState {
    /// The state before the first byte.
    pub(super) fn new(limits: ScanLimits) -> Self {
        Self {
            limits,
            outline: Outline::default(),
            stage: ScanStage::Start,
            position: 0,
            start: 0,
            keep: 0,
            skip: 0,
            copy: 0,
            levels: Vec::new(),
            encoding: ElementEncoding::EXPLICIT,
            elements: 0,
            reference_bytes: 0,
            last_tag: Tag(0),
            carry: Vec::new(),
            wanted: 0,
        }
    }

    /// Starts the value of an element: `is_kept` decides whether it is copied to the outline or skipped.
    pub(super) fn value_event(&mut self, header: &ElementHeader, is_kept: bool) -> ScanEvent {
        let length = u64::from(header.length);
        let kind = if is_kept {
            let from = self.outline.head.len();
            self.keep = length;
            EventKind::Value(from..from + header.length as usize)
        } else {
            self.skip = length;
            EventKind::Bulk
        };
        let offset = self.position + header.size as u64;
        ScanEvent { kind, tag: header.tag, vr: header.vr, offset, length, is_big_endian: false }
    }

    /// Counts an element.
    ///
    /// # Errors
    /// [`Failure::TooManyElements`] over the limit.
    pub(super) fn count_element(&mut self) -> Result<(), Failure> {
        self.elements += 1;
        if self.elements > self.limits.max_elements {
            return Err(Failure::TooManyElements { limit: self.limits.max_elements });
        }
        Ok(())
    }

    /// Counts the reference to a bulk value: it names all sequences around the value.
    ///
    /// # Errors
    /// [`Failure::HeaderTooLarge`] if the references take more memory than the attributes may.
    pub(super) fn count_reference(&mut self) -> Result<(), Failure> {
        self.reference_bytes += REFERENCE_BYTES_PER_LEVEL * self.levels.len();
        if self.reference_bytes > self.limits.max_header_bytes {
            return Err(Failure::HeaderTooLarge { limit: self.limits.max_header_bytes });
        }
        Ok(())
    }

    /// Adds a warning, once, under the outermost attribute.
    pub(super) fn warn_of(&mut self, tag: Tag, reason: &str) {
        let warning =
            Warning { tag: self.levels.first().map_or(tag, |level| level.tag), reason: reason.into() };
        if self.outline.warnings.len() < MAX_WARNINGS && !self.outline.warnings.contains(&warning) {
            self.outline.warnings.push(warning);
        }
    }

    /// Adds a warning about a place in which the encoding breaks a rule.
    pub(super) fn irregular(&mut self, tag: Tag, reason: &str) {
        self.outline.is_irregular = true;
        self.warn_of(tag, reason);
    }

    /// Adds a warning about the bytes after the data set.
    pub(super) fn warn(&mut self, reason: &str) {
        self.warn_of(tags::DATA_SET_TRAILING_PADDING, reason);
    }

    /// The failure of an object that ends in the current element.
    pub(super) fn truncated(&self) -> Failure {
        Failure::Truncated { offset: self.start }
    }

    /// Closes the innermost level, and writes the event of its end.
    pub(super) fn close(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        if let Some(event) = self.outline.events.get_mut(level.event) {
            event.length = self.position.saturating_sub(event.offset);
        }
        let kind = match level.kind {
            LevelKind::Sequence => EventKind::SequenceEnd,
            LevelKind::Item => EventKind::ItemEnd,
            LevelKind::Fragments => return,
        };
        self.outline.events.push(ScanEvent {
            kind,
            tag: level.tag,
            vr: None,
            offset: self.position,
            length: 0,
            is_big_endian: level.encoding.is_big_endian,
        });
    }

    pub(super) fn close_without_delimiter(&mut self) {
        self.irregular(tags::PIXEL_DATA, "its sequence delimiter is missing");
        self.close();
    }
}
