//! Turns a file in Explicit VR Little Endian into a data set, while its bytes pass: without the file header
//! (PS3.10 §7.1), and in Implicit VR Little Endian where that is wanted (PS3.5 §A.1).

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::explicit::push_tag;
use crate::dicom::scan::{ElementHeader, read_explicit};
use crate::dicom::tags;

const PREAMBLE_AND_PREFIX: usize = 132;
const UNDEFINED: u32 = u32::MAX;

/// Removes the file header from a file that has one, as its bytes pass.
#[derive(Debug, Default)]
pub struct HeaderRemover {
    held: Vec<u8>,
    /// Bytes of a value of group 0002 that are still to be dropped.
    to_drop: u64,
    has_begun: bool,
    is_done: bool,
}

impl HeaderRemover {
    /// Whether all bytes that follow are of the data set.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Takes the next bytes of the file, and returns those of them that are of the data set, with bytes that
    /// were held back.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.is_done {
            return bytes.to_vec();
        }
        self.held.extend_from_slice(bytes);
        if !self.has_begun {
            if self.held.len() < PREAMBLE_AND_PREFIX {
                return Vec::new();
            }
            self.has_begun = true;
            if !self.held[..PREAMBLE_AND_PREFIX].ends_with(b"DICM") {
                return self.finish();
            }
            self.held.drain(..PREAMBLE_AND_PREFIX);
        }
        let mut at = 0;
        loop {
            let left = self.held.len() - at;
            let dropped = usize::try_from(self.to_drop).unwrap_or(usize::MAX).min(left);
            self.to_drop -= dropped as u64;
            at += dropped;
            match read_explicit(&self.held[at..]) {
                _ if self.to_drop > 0 => break,
                Some(found) if found.tag.group() == 0x0002 && found.length != UNDEFINED => {
                    at += found.size;
                    self.to_drop = found.length.into();
                }
                Some(_) => {
                    self.held.drain(..at);
                    return self.finish();
                }
                None => break,
            }
        }
        self.held.drain(..at);
        Vec::new()
    }

    /// The bytes that were held back at the end of the file.
    pub fn finish(&mut self) -> Vec<u8> {
        self.is_done = true;
        std::mem::take(&mut self.held)
    }
}

/// Turns a data set in Explicit VR Little Endian, as [`crate::dicom::explicit`] writes it, into Implicit VR
/// Little Endian. Sequences and items get undefined lengths, because their lengths change.
#[derive(Debug, Default)]
pub struct ImplicitWriter {
    /// The first bytes of an element header that is not complete.
    held: Vec<u8>,
    /// Bytes of the value that still pass.
    to_pass: u64,
    /// Bytes that were taken so far.
    position: u64,
    /// The ends of sequences and items of defined length that are open, the innermost last, each with its
    /// delimiter.
    ends: Vec<(u64, Tag)>,
}

impl ImplicitWriter {
    /// Takes the next bytes, and returns them in the other encoding. Bytes of an incomplete header are held
    /// back.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.held.len());
        self.held.extend_from_slice(bytes);
        let joined = std::mem::take(&mut self.held);
        let mut rest = joined.as_slice();
        loop {
            let passed = usize::try_from(self.to_pass).unwrap_or(usize::MAX).min(rest.len());
            out.extend_from_slice(&rest[..passed]);
            self.to_pass -= passed as u64;
            self.position += passed as u64;
            rest = &rest[passed..];
            while self.to_pass == 0
                && let Some((_, delimiter)) = self.ends.pop_if(|(end, _)| *end <= self.position)
            {
                push_tag(&mut out, delimiter);
                out.extend_from_slice(&[0; 4]);
            }
            let Some(found) = read_explicit(rest).filter(|_| self.to_pass == 0) else {
                self.held = rest.to_vec();
                return out;
            };
            self.element(&found, &mut out);
            rest = &rest[found.size..];
        }
    }

    fn element(&mut self, found: &ElementHeader, out: &mut Vec<u8>) {
        self.position += found.size as u64;
        push_tag(out, found.tag);
        let delimiter = match found.tag {
            tags::ITEM => Some(tags::ITEM_DELIMITATION_ITEM),
            _ if found.vr == Some(Vr(*b"SQ")) => Some(tags::SEQUENCE_DELIMITATION_ITEM),
            _ => None,
        };
        let mut length = found.length;
        if let Some(delimiter) = delimiter.filter(|_| length != UNDEFINED) {
            self.ends.push((self.position + u64::from(length), delimiter));
            length = UNDEFINED;
        }
        out.extend_from_slice(&length.to_le_bytes());
        self.to_pass = if length == UNDEFINED { 0 } else { length.into() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::{Attribute, Attributes, Value};
    use crate::dicom::data_set::{DataSetEncoding, write};
    use crate::dicom::repertoire::Repertoire;
    use crate::dicom::write::file_head;

    #[test]
    fn a_file_becomes_a_data_set_in_implicit_vr_however_it_is_cut() {
        let item = Attributes::from([(Tag(0x0040_A160), Attribute::text(b"UT", "x".repeat(40)))]);
        let all = Attributes::from([
            (tags::SOP_CLASS_UID, Attribute::text(b"UI", "1.2.3")),
            (
                Tag(0x0008_1032),
                Attribute { vr: Vr(*b"SQ"), values: vec![Value::Item(item), Value::Item(Attributes::new())] },
            ),
            (tags::ROWS, Attribute::number(b"US", 4)),
            (Tag(0x0040_A160), Attribute::text(b"UT", "long")),
        ]);
        let explicit = write(&all, DataSetEncoding::Explicit, Repertoire::UNICODE);
        let expected = write(&all, DataSetEncoding::Implicit, Repertoire::UNICODE);
        let file = [file_head("1.2.3", "1.2.4", "1.2.840.10008.1.2.1"), explicit.clone()].concat();
        for size in 1..=file.len() {
            let (mut remover, mut writer) = (HeaderRemover::default(), ImplicitWriter::default());
            let (mut data_set, mut implicit) = (Vec::new(), Vec::new());
            for chunk in file.chunks(size) {
                let bytes = remover.push(chunk);
                implicit.extend(writer.push(&bytes));
                data_set.extend(bytes);
            }
            let last = remover.finish();
            implicit.extend(writer.push(&last));
            data_set.extend(last);
            assert_eq!(data_set, explicit, "{size}");
            assert_eq!(implicit, expected, "{size}");
        }
    }

    #[test]
    fn defined_lengths_become_undefined() {
        let explicit = b"\x08\0\x32\x10SQ\0\0\x14\0\0\0\xFE\xFF\0\xE0\x0C\0\0\0\x40\0\x60\xA1UT\0\0\0\0\0\0\
            \x28\0\x10\0US\x02\0\x04\0";
        let implicit = b"\x08\0\x32\x10\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\xFF\xFF\xFF\xFF\x40\0\x60\xA1\0\0\0\0\
            \xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0\x28\0\x10\0\x02\0\0\0\x04\0";
        for size in 1..=explicit.len() {
            let mut writer = ImplicitWriter::default();
            let out: Vec<u8> = explicit.chunks(size).flat_map(|chunk| writer.push(chunk)).collect();
            assert_eq!(out, implicit, "{size}");
        }
    }
}
