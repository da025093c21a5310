//! Builds data sets for tests in a few lines, in any of the uncompressed encodings (PS3.5 §7).

/// A data set that grows, or an item of one. Values are padded to an even length with a zero byte, text with
/// a space.
#[derive(Clone)]
pub(crate) struct DataSet {
    is_explicit: bool,
    is_big_endian: bool,
    bytes: Vec<u8>,
}

impl DataSet {
    /// An empty data set in explicit VR little endian.
    pub(crate) fn explicit() -> Self {
        Self { is_explicit: true, is_big_endian: false, bytes: Vec::new() }
    }

    /// An empty data set in implicit VR little endian.
    pub(crate) fn implicit() -> Self {
        Self { is_explicit: false, ..Self::explicit() }
    }

    /// An empty data set in explicit VR big endian.
    pub(crate) fn big_endian() -> Self {
        Self { is_big_endian: true, ..Self::explicit() }
    }

    /// Appends an element with its value as it is to be written (numbers in this encoding's byte order).
    pub(crate) fn element(mut self, tag: u32, vr: &str, value: &[u8]) -> Self {
        let padded = value.len().next_multiple_of(2);
        self.header(tag, vr, padded as u32);
        self.bytes.extend_from_slice(value);
        let end = self.bytes.len() + padded - value.len();
        self.bytes.resize(end, 0);
        self
    }

    /// Appends an element with text.
    pub(crate) fn text(self, tag: u32, vr: &str, text: &str) -> Self {
        let pad = match (text.len() % 2, vr) {
            (0, _) => "",
            (_, "UI") => "\0",
            _ => " ",
        };
        self.element(tag, vr, format!("{text}{pad}").as_bytes())
    }

    /// Appends an element with unsigned 16-bit numbers (US).
    pub(crate) fn us(self, tag: u32, numbers: &[u16]) -> Self {
        let is_big_endian = self.is_big_endian;
        let ordered = |&number: &u16| if is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() };
        let value: Vec<u8> = numbers.iter().flat_map(ordered).collect();
        self.element(tag, "US", &value)
    }

    /// Appends a sequence; it and its items state their lengths.
    pub(crate) fn sequence(mut self, tag: u32, items: &[DataSet]) -> Self {
        let length: usize = items.iter().map(|item| 8 + item.bytes.len()).sum();
        self.header(tag, "SQ", length as u32);
        for item in items {
            self.header(0xFFFE_E000, "", item.bytes.len() as u32);
            self.bytes.extend_from_slice(&item.bytes);
        }
        self
    }

    /// Appends a sequence; it and its items end with delimiters. `vr` may be "SQ" or "UN".
    pub(crate) fn delimited_sequence(mut self, tag: u32, vr: &str, items: &[DataSet]) -> Self {
        self.header(tag, vr, u32::MAX);
        for item in items {
            self.header(0xFFFE_E000, "", u32::MAX);
            self.bytes.extend_from_slice(&item.bytes);
            self.header(0xFFFE_E00D, "", 0);
        }
        self.header(0xFFFE_E0DD, "", 0);
        self
    }

    /// Appends encapsulated pixel data; the first of `items` is the Basic Offset Table (PS3.5 §A.4).
    pub(crate) fn encapsulated(mut self, items: &[&[u8]]) -> Self {
        self.header(0x7FE0_0010, "OB", u32::MAX);
        for item in items {
            self.header(0xFFFE_E000, "", item.len() as u32);
            self.bytes.extend_from_slice(item);
        }
        self.header(0xFFFE_E0DD, "", 0);
        self
    }

    /// Appends bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The data set alone.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A file with preamble and file meta information (PS3.10 §7.1) around the data set.
    pub(crate) fn file(self, transfer_syntax: &str) -> Vec<u8> {
        let meta = DataSet::explicit()
            .element(0x0002_0001, "OB", &[0, 1])
            .text(0x0002_0010, "UI", transfer_syntax)
            .bytes();
        let group_length = DataSet::explicit().element(0x0002_0000, "UL", &(meta.len() as u32).to_le_bytes());
        [&[0; 128], b"DICM".as_slice(), &group_length.bytes(), &meta, &self.bytes].concat()
    }

    fn header(&mut self, tag: u32, vr: &str, length: u32) {
        self.u16((tag >> 16) as u16);
        self.u16(tag as u16);
        if self.is_explicit && !vr.is_empty() {
            self.bytes.extend_from_slice(vr.as_bytes());
            let is_long =
                ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"].contains(&vr);
            if !is_long {
                return self.u16(length as u16);
            }
            self.u16(0);
        }
        let ordered = if self.is_big_endian { length.to_be_bytes() } else { length.to_le_bytes() };
        self.bytes.extend_from_slice(&ordered);
    }

    fn u16(&mut self, number: u16) {
        let ordered = if self.is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() };
        self.bytes.extend_from_slice(&ordered);
    }
}
