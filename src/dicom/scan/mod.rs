//! The scanner for raw input, bounded and without recursion; all other code reads its outline (PS3.5 §7,
//! PS3.10 §7).

mod elements;
mod header;
mod inflate;
mod pixel_syntax;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

use std::ops::Range;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::failure::{Failure, Warning};
pub(crate) use crate::dicom::scan::header::{ElementHeader, has_short_length, is_file_head, read_explicit};
use crate::dicom::scan::inflate::Inflater;
use crate::dicom::scan::state::{ScanStage, ScanState};

/// The limits of one data set; the settings of the same names under `[ingest]`.
#[derive(Debug, Clone)]
pub struct ScanLimits {
    /// Bytes of all attributes without bulk values that are held in memory.
    pub max_header_bytes: usize,
    /// Nesting of sequences.
    pub max_sequence_depth: usize,
    /// Elements, those in items included.
    pub max_elements: usize,
    /// Size of a deflated data set when inflated.
    pub max_inflated_bytes: u64,
    /// The largest ratio of a deflated data set's size when inflated to its deflated size.
    pub max_deflate_ratio: u64,
}

/// Scans an object as its bytes arrive, in pieces of any size.
pub struct Scanner {
    inflater: Option<Inflater>,
    state: ScanState,
}

/// The result of a scan: the place of every element, and the bytes of all values but bulk values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outline {
    /// Bytes of the values that are held in memory, one after the other.
    pub head: Vec<u8>,
    /// The data set's events in order, group 0002 left out.
    pub events: Vec<ScanEvent>,
    /// The transfer syntax: as declared, or as recognised where none is declared or the bytes of data set or
    /// frames contradict it.
    pub transfer_syntax: String,
    /// Elements of the file meta information (PS3.10 §7.1), values in `head`; empty if there is none.
    pub file_meta: Vec<ScanEvent>,
    /// The offset of the data set, in bytes from the start of the object.
    pub data_set_offset: u64,
    /// Whether the data set is deflated; all offsets then count as if it were inflated in its place.
    pub is_deflated: bool,
    /// Fragments of encapsulated Pixel Data (7FE0,0010) at top level, the Basic Offset Table left out:
    /// (first byte, bytes). Also Pixel Data that is a codestream without items.
    pub fragments: Vec<(u64, u32)>,
    /// Indices in `fragments` of those that begin as a codestream or an image file begins: SOI of JPEG and
    /// JPEG-LS, SOC of JPEG 2000, JP2, JPEG XL, the header of RLE.
    pub codestream_starts: Vec<u32>,
    /// The first bytes of the first frame in `fragments`, 64 KiB at most; of native Pixel Data, only if it
    /// begins like a frame.
    pub first_frame_head: Vec<u8>,
    /// The Basic Offset Table's value in `head`, if Pixel Data is encapsulated; empty if the first item is a
    /// frame.
    pub basic_offset_table: Option<Range<usize>>,
    /// Whether the encoding breaks a rule of PS3.5 §7 in a place, such as a VR that is none or a delimiter
    /// that is missing, so that other readers may fail.
    pub is_irregular: bool,
    /// The faults that did not prevent reading.
    pub warnings: Vec<Warning>,
}

/// One event of a data set. Sequences and items end with events of their own, whatever way they are
/// delimited.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanEvent {
    /// The kind of the event.
    pub kind: EventKind,
    /// The tag of the element; for an end, the tag of the sequence or item that ends (an item's is
    /// FFFE,E000).
    pub tag: Tag,
    /// The VR as sent; `None` in implicit VR, for items and for ends.
    pub vr: Option<Vr>,
    /// The offset of the value, in bytes from the start of the object.
    pub offset: u64,
    /// Bytes of the value; up to the delimiter if it has one; 0 for ends.
    pub length: u64,
    /// Whether numbers in the value are big endian.
    pub is_big_endian: bool,
}

/// The kind of a [`ScanEvent`].
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// An element whose value lies at this range of `head`.
    Value(Range<usize>),
    /// An element whose value was skipped: a bulk value.
    Bulk,
    /// Encapsulated pixel data (also float and nested ones), skipped; `length` covers all items with headers.
    Encapsulated,
    /// A sequence starts (also UN that holds one, PS3.5 §6.2.2).
    Sequence,
    /// An item starts.
    Item,
    /// An item ends.
    ItemEnd,
    /// A sequence ends.
    SequenceEnd,
}

impl Scanner {
    /// A scanner for one object.
    pub fn new(limits: ScanLimits) -> Self {
        Self { inflater: None, state: ScanState::new(limits) }
    }

    /// Scans the next bytes of the object. After a failure, no more bytes may be pushed.
    ///
    /// The outline does not depend on how the object was cut into pieces. A bulk value is skipped in a
    /// time that does not depend on its length.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(inflater) = &mut self.inflater {
            return inflater.push(bytes, &mut self.state);
        }
        let rest = self.state.push(bytes)?;
        if let Some((mut inflater, carried)) = self.take_inflater() {
            inflater.push(&carried, &mut self.state)?;
            inflater.push(rest, &mut self.state)?;
            self.inflater = Some(inflater);
        }
        Ok(())
    }

    /// The bytes of memory that the outline takes so far.
    pub fn held_bytes(&self) -> usize {
        let Outline { head, events, fragments, .. } = &self.state.outline;
        head.capacity()
            + events.capacity() * size_of::<ScanEvent>()
            + fragments.capacity() * size_of::<(u64, u32)>()
    }

    /// Ends the object.
    ///
    /// # Errors
    /// [`Failure::Truncated`] if the object ends inside an element, an item or a sequence; also the errors of
    /// [`Scanner::push`] for the last few bytes.
    pub fn finish(self) -> Result<Outline, Failure> {
        self.finish_or_part().map_err(|(_, failure)| failure)
    }

    /// Like [`Scanner::finish`]; an error comes with the outline of the part that was scanned.
    pub fn finish_or_part(mut self) -> Result<Outline, (Box<Outline>, Failure)> {
        let inflated = self.inflater.as_ref().map_or(Ok(()), |inflater| inflater.finish(&self.state));
        if let Err(failure) = inflated.and_then(|()| self.state.finish()) {
            return Err((Box::new(self.state.outline), failure));
        }
        self.state.correct_pixel_syntax();
        Ok(self.state.outline)
    }

    /// The outline of the part that was scanned.
    pub fn outline(&self) -> &Outline {
        &self.state.outline
    }

    /// An inflater, with the first bytes of the data set, if the scan has just reached a deflated data set.
    fn take_inflater(&mut self) -> Option<(Inflater, Vec<u8>)> {
        let ScanStage::Deflated(start) = self.state.stage else { return None };
        self.state.stage = ScanStage::DataSetStart;
        self.state.outline.is_deflated = true;
        let inflater = Inflater::new(&self.state.limits, start);
        Some((inflater, std::mem::take(&mut self.state.carry)))
    }
}
