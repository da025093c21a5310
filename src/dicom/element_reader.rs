//! Reads the elements of a scanned data set in order, with the context of their values: the value
//! representation, the character sets in force, and one element for each tag (PS3.5 §6.1, §6.2, §7.1).

use std::collections::BTreeSet;

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::charset::Charset;
use crate::dicom::dictionary;
use crate::dicom::failure::Warning;
use crate::dicom::scan::{EventKind, Outline, ScanEvent};
use crate::dicom::tags;
use crate::dicom::value_reader::{self, Token};

/// The maximum number of warnings about one data set.
const MAX_WARNINGS: usize = 32;
/// The maximum nesting of sequences that are collected: all that is done with attributes recurses.
const MAX_COLLECTED_DEPTH: usize = 64;

/// One step through a data set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ElementStep<'a> {
    /// An element with its value: neither a sequence nor a bulk value.
    Value(ValueElement<'a>),
    /// An element whose value was skipped, or does not belong into metadata.
    Bulk(Vr, &'a ScanEvent),
    /// A sequence starts.
    Sequence(Tag),
    /// An item starts.
    Item,
    /// An item ends.
    ItemEnd,
    /// A sequence ends.
    SequenceEnd,
}

/// An element with its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueElement<'a> {
    /// Its tag.
    pub(crate) tag: Tag,
    /// Its value representation: one of PS3.5 §6.2, never SQ, and one that the length allows.
    pub(crate) vr: Vr,
    /// Its value.
    pub(crate) bytes: &'a [u8],
    /// Whether numbers in the value are big endian.
    pub(crate) is_big_endian: bool,
}

/// A reader of the elements of a data set, one step at a time.
pub(crate) struct ElementReader<'a> {
    outline: &'a Outline,
    next: usize,
    is_signed: bool,
    /// The data set and the items that are open.
    levels: Vec<DataSetLevel>,
    /// The current element at top level.
    outermost: Tag,
    /// The warnings about the elements so far.
    pub(crate) warnings: Vec<Warning>,
}

struct DataSetLevel {
    charset: Charset,
    /// Tags that came in order, which are nearly all.
    ascending: Vec<Tag>,
    /// Tags that came after a higher one.
    strays: BTreeSet<Tag>,
}

impl DataSetLevel {
    fn new(charset: Charset) -> Self {
        Self { charset, ascending: Vec::new(), strays: BTreeSet::new() }
    }
}

impl<'a> ElementReader<'a> {
    /// A reader at the start of the data set.
    pub(crate) fn new(outline: &'a Outline) -> Self {
        let top = DataSetLevel::new(Charset::default());
        Self {
            outline,
            next: 0,
            is_signed: is_signed(outline),
            levels: vec![top],
            outermost: Tag(0),
            warnings: Vec::new(),
        }
    }

    /// The next step, or none at the end. Skips group lengths, and elements whose tag was read before.
    pub(crate) fn step(&mut self) -> Option<ElementStep<'a>> {
        loop {
            let event = self.outline.events.get(self.next)?;
            self.next += 1;
            match &event.kind {
                EventKind::Item => {
                    let charset = self.level().charset.clone();
                    self.levels.push(DataSetLevel::new(charset));
                    return Some(ElementStep::Item);
                }
                EventKind::ItemEnd => {
                    if self.levels.len() > 1 {
                        self.levels.pop();
                    }
                    return Some(ElementStep::ItemEnd);
                }
                EventKind::SequenceEnd => return Some(ElementStep::SequenceEnd),
                _ if self.is_to_be_skipped(event) => self.skip_rest_of(event),
                EventKind::Sequence => return Some(ElementStep::Sequence(event.tag)),
                EventKind::Bulk | EventKind::Encapsulated => {
                    return Some(ElementStep::Bulk(self.bulk_vr(event), event));
                }
                EventKind::Value(range) => {
                    let bytes = self.outline.head.get(range.clone()).unwrap_or_default();
                    return Some(self.value(event, bytes));
                }
            }
        }
    }

    /// Skips the rest of the sequence that the last step started, its end included.
    pub(crate) fn skip_sequence(&mut self) {
        let mut depth = 1;
        while let Some(event) = self.outline.events.get(self.next) {
            self.next += 1;
            match event.kind {
                EventKind::Sequence => depth += 1,
                EventKind::SequenceEnd => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Calls `sink` with each value of `element`, which is not binary. Values in doubt become a warning.
    pub(crate) fn visit(&mut self, element: &ValueElement<'a>, sink: &mut dyn FnMut(Token<'_>)) {
        let charset = &self.level().charset;
        let warning = value_reader::visit(element.vr, element.bytes, element.is_big_endian, charset, sink);
        if let Some(warning) = warning {
            self.warn(warning.reason());
        }
    }

    fn level(&self) -> &DataSetLevel {
        self.levels.last().expect("the top level is never popped")
    }

    fn warn(&mut self, reason: &str) {
        // An attribute with a thousand bad items gets one warning.
        let is_said = |said: &Warning| said.tag == self.outermost && said.reason == reason;
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.last().is_some_and(is_said) {
            self.warnings.push(Warning { tag: self.outermost, reason: reason.to_owned() });
        }
    }

    fn is_to_be_skipped(&mut self, event: &ScanEvent) -> bool {
        if self.levels.len() == 1 {
            self.outermost = event.tag;
        }
        if event.tag.element() == 0 || matches!(event.tag.group(), 0x0002 | 0xFFFE) {
            return true;
        }
        let level = self.levels.last_mut().expect("the top level is never popped");
        if level.ascending.last().is_none_or(|last| *last < event.tag) {
            level.ascending.push(event.tag);
            return false;
        }
        let is_first = level.ascending.binary_search(&event.tag).is_err() && level.strays.insert(event.tag);
        self.warn(match is_first {
            true => "the attribute is out of order",
            false => "the attribute is there more than once; the first one counts",
        });
        !is_first
    }

    fn skip_rest_of(&mut self, event: &ScanEvent) {
        if event.kind == EventKind::Sequence {
            self.skip_sequence();
        }
    }

    fn value(&mut self, event: &'a ScanEvent, bytes: &'a [u8]) -> ElementStep<'a> {
        if event.tag == tags::SPECIFIC_CHARACTER_SET {
            let (charset, is_known) = Charset::from_value(bytes);
            if let Some(level) = self.levels.last_mut() {
                level.charset = charset;
            }
            if !is_known {
                self.warn("the character set is unknown; its text is guessed");
            }
        }
        if tags::is_pixel_data(event.tag) {
            return ElementStep::Bulk(self.bulk_vr(event), event);
        }
        let mut vr = self.declared_vr(event, bytes);
        if value_reader::number_bytes(vr).is_some_and(|size| !bytes.len().is_multiple_of(size)) {
            self.warn("the length does not fit the value representation");
            vr = Vr(*b"UN");
        }
        if &vr.0 == b"SQ" {
            vr = Vr(*b"UN");
        }
        ElementStep::Value(ValueElement { tag: event.tag, vr, bytes, is_big_endian: event.is_big_endian })
    }

    /// The VR that was sent; that of the dictionary if none or an unknown one was sent, or UN for a known
    /// attribute.
    fn declared_vr(&self, event: &ScanEvent, bytes: &[u8]) -> Vr {
        let by_dictionary = || dictionary::vr(event.tag, self.is_signed);
        match event.vr {
            Some(vr) if &vr.0 == b"UN" => {
                let known = by_dictionary();
                if value_reader::is_plausible(known, bytes) { known } else { vr }
            }
            Some(vr) if value_reader::is_known(vr) => vr,
            _ => by_dictionary(),
        }
    }

    fn bulk_vr(&self, event: &ScanEvent) -> Vr {
        let sent = event.vr.filter(|vr| value_reader::is_known(*vr) && &vr.0 != b"UN");
        let vr = sent.unwrap_or_else(|| dictionary::vr(event.tag, self.is_signed));
        if &vr.0 == b"SQ" { Vr(*b"UN") } else { vr }
    }
}

fn is_signed(outline: &Outline) -> bool {
    let mut depth = 0;
    for event in &outline.events {
        match &event.kind {
            EventKind::Sequence => depth += 1,
            EventKind::SequenceEnd => depth -= 1,
            EventKind::Value(range) if depth == 0 && event.tag == tags::PIXEL_REPRESENTATION => {
                return outline.head.get(range.clone()).is_some_and(|bytes| bytes.contains(&1));
            }
            _ => {}
        }
    }
    false
}

/// Collects the attributes at top level that `is_wanted` names, sequences with all that is in them down to
/// [`MAX_COLLECTED_DEPTH`]. Binary and bulk values are left out.
pub(crate) fn collect(outline: &Outline, is_wanted: impl Fn(Tag) -> bool) -> Attributes {
    let mut walk = ElementReader::new(outline);
    // The data set and the items that are open, and the sequences that they are in.
    let mut items = vec![Attributes::new()];
    let mut sequences: Vec<(Tag, Vec<Value>)> = Vec::new();
    while let Some(step) = walk.step() {
        let is_top = sequences.is_empty();
        match step {
            ElementStep::Sequence(tag) if is_top && !is_wanted(tag) => walk.skip_sequence(),
            ElementStep::Sequence(_) if sequences.len() == MAX_COLLECTED_DEPTH => walk.skip_sequence(),
            ElementStep::Sequence(tag) => sequences.push((tag, Vec::new())),
            ElementStep::Item => items.push(Attributes::new()),
            ElementStep::ItemEnd => {
                if let (Some(item), Some((_, values))) = (items.pop(), sequences.last_mut()) {
                    values.push(Value::Item(item));
                }
            }
            ElementStep::SequenceEnd => {
                if let (Some((tag, values)), Some(item)) = (sequences.pop(), items.last_mut()) {
                    item.insert(tag, Attribute { vr: Vr(*b"SQ"), values });
                }
            }
            ElementStep::Value(element)
                if (is_top && !is_wanted(element.tag)) || value_reader::is_binary(element.vr) => {}
            ElementStep::Value(element) => {
                let mut values = Vec::new();
                walk.visit(&element, &mut |token| values.push(owned(token)));
                if let Some(item) = items.last_mut() {
                    item.insert(element.tag, Attribute { vr: element.vr, values });
                }
            }
            ElementStep::Bulk(..) => {}
        }
    }
    items.into_iter().next().unwrap_or_default()
}

fn owned(token: Token<'_>) -> Value {
    match token {
        Token::Absent => Value::Absent,
        Token::Text(text) => Value::Text(text.to_owned()),
        Token::Number(number) => Value::Number(number.to_owned()),
        Token::Name([alphabetic, ideographic, phonetic]) => Value::Name(PersonName {
            alphabetic: alphabetic.to_owned(),
            ideographic: ideographic.to_owned(),
            phonetic: phonetic.to_owned(),
        }),
    }
}
