//! The bounded, iterative scanner that raw input passes before anything else touches it (PS3.5 §7, PS3.10 §7).

mod elements;
mod header;
mod inflate;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

use std::ops::Range;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::failure::{Failure, Warning};
pub(crate) use crate::dicom::scan::header::{has_short_length, is_file_head};
use crate::dicom::scan::inflate::Inflater;
use crate::dicom::scan::walk::Walker;

/// Bounds on what one data set may hold; the settings of the same names under `[ingest]`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of all attributes without bulk values that are kept in memory.
    pub max_header_bytes: usize,
    /// Nesting of sequences.
    pub max_sequence_depth: usize,
    /// Elements, those in items included.
    pub max_elements: usize,
    /// Size of a deflated data set when inflated.
    pub max_inflated_bytes: u64,
    /// How many times larger a deflated data set may become.
    pub max_deflate_ratio: u64,
}

/// Scans an object as its bytes arrive, in pieces of any size.
pub struct Scanner {
    inflater: Option<Inflater>,
    walker: Walker,
}

/// What a scan found: every element's place, and the bytes of all but bulk values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outline {
    /// Bytes of the values that were kept, one after the other.
    pub head: Vec<u8>,
    /// The data set's events in order, group 0002 left out.
    pub events: Vec<Event>,
    /// The transfer syntax: as declared, or as recognised where none is declared or the bytes contradict it.
    pub transfer_syntax: String,
    /// Elements of the file meta information (PS3.10 §7.1), values in `head`; empty if there is none.
    pub file_meta: Vec<Event>,
    /// Where the data set starts, in bytes from the start of the object.
    pub data_set_offset: u64,
    /// Whether the data set is deflated; all offsets then count as if it were inflated in its place.
    pub is_deflated: bool,
    /// Fragments of encapsulated Pixel Data (7FE0,0010) at top level, the Basic Offset Table left out:
    /// (first byte, bytes).
    pub fragments: Vec<(u64, u32)>,
    /// Indices in `fragments` of those that begin as a codestream or an image file begins: SOI of JPEG and
    /// JPEG-LS, SOC of JPEG 2000, JP2, JPEG XL.
    pub codestream_starts: Vec<u32>,
    /// The Basic Offset Table's value in `head`, if Pixel Data is encapsulated.
    pub basic_offset_table: Option<Range<usize>>,
    /// What was wrong and was let pass.
    pub warnings: Vec<Warning>,
}

/// One event of a data set. Sequences and items end with events of their own, whatever way they are delimited.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What it is.
    pub kind: Kind,
    /// The element's tag; of ends, the tag of what ends (an item's is FFFE,E000).
    pub tag: Tag,
    /// The VR as sent; `None` in implicit VR, for items and for ends.
    pub vr: Option<Vr>,
    /// Where the value starts, in bytes from the start of the object.
    pub offset: u64,
    /// Bytes of the value; for what is delimited, up to the delimiter; 0 for ends.
    pub length: u64,
    /// Whether numbers in the value are big endian.
    pub is_big_endian: bool,
}

/// The kind of an [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// An element whose value lies at this range of `head`.
    Value(Range<usize>),
    /// An element whose value was passed over: a bulk value.
    Bulk,
    /// Encapsulated pixel data (also float and nested ones), passed over; `length` covers all items with headers.
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
    pub fn new(limits: Limits) -> Self {
        Self { inflater: None, walker: Walker::new(limits, None) }
    }

    /// A scanner for a data set without preamble and group 0002, in a transfer syntax known from elsewhere.
    pub fn for_data_set(limits: Limits, transfer_syntax: &str) -> Self {
        Self { inflater: None, walker: Walker::new(limits, Some(transfer_syntax)) }
    }

    /// Takes the next bytes of the object. After a failure nothing more may be pushed.
    ///
    /// The outline does not depend on how the object was cut into pieces. A bulk value is passed over in a
    /// time that does not depend on its length.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(inflater) = &mut self.inflater {
            return inflater.push(bytes, &mut self.walker);
        }
        let rest = self.walker.push(bytes)?;
        if let Some((mut inflater, carried)) = self.walker.take_inflater() {
            inflater.push(&carried, &mut self.walker)?;
            inflater.push(rest, &mut self.walker)?;
            self.inflater = Some(inflater);
        }
        Ok(())
    }

    /// Ends the object.
    ///
    /// # Errors
    /// [`Failure::Truncated`] if it ends inside an element, an item or a sequence; also those of
    /// [`Scanner::push`] in the last few bytes.
    pub fn finish(mut self) -> Result<Outline, Failure> {
        if let Some(inflater) = &self.inflater {
            inflater.finish(&self.walker)?;
        }
        self.walker.finish()?;
        Ok(self.walker.into_outline())
    }
}
