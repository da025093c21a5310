//! Look-up tables as data sets hold them: of modality and VOI LUTs (PS3.3 §C.11.1.1, §C.11.2.1.1) and of
//! palettes (PS3.3 §C.7.6.3.1.5, §C.7.6.3.1.6), plain or in segments (PS3.3 §C.7.9.2).

/// The most entries of a table: its descriptor counts them in 16 bits.
const MAX_ENTRIES: usize = 1 << 16;

/// A look-up table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lut {
    first: i64,
    bits: u32,
    entries: Vec<u16>,
}

/// The tables of red, green and blue.
pub type Palette = [Lut; 3];

impl Lut {
    /// Reads a table.
    ///
    /// `descriptor` is that of the data set: how many entries (0 for 65,536), the first value that is mapped,
    /// bits of an entry. The data set does not always tell whether the second is signed: `is_signed` says so.
    /// `data` are the entries in little endian, in words or, of 8 bits, in bytes. Missing entries are as the
    /// last one.
    ///
    /// `None` if there are no entries.
    pub fn read([count, first, bits]: [i64; 3], data: &[u8], is_signed: bool) -> Option<Self> {
        let count = number_of_entries(count);
        // Entries of 8 bits come in words, too.
        let is_bytes = bits <= 8 && data.len() < 2 * count;
        let mut entries = if is_bytes { data.iter().map(|&byte| byte.into()).collect() } else { words(data) };
        entries.truncate(count);
        Self::of(first, bits, entries, is_signed)
    }

    /// Reads a table in segments of opcode, length and values, all of them words, or bytes where entries are
    /// of 8 bits. What cannot be understood ends it.
    ///
    /// `None` if there are no entries.
    pub fn read_segments([count, first, bits]: [i64; 3], data: &[u8], is_signed: bool) -> Option<Self> {
        let data = if bits <= 8 { data.iter().map(|&byte| byte.into()).collect() } else { words(data) };
        let mut segments = LutSegments { data: &data, is_bytes: bits <= 8, entries: Vec::new() };
        segments.expand(0, usize::MAX, true);
        let mut entries = segments.entries;
        entries.truncate(number_of_entries(count));
        Self::of(first, bits, entries, is_signed)
    }

    fn of(first: i64, bits: i64, entries: Vec<u16>, is_signed: bool) -> Option<Self> {
        let first = if is_signed { i64::from(first as u16 as i16) } else { i64::from(first as u16) };
        // A descriptor that leaves no room for the entries is wrong.
        let needed = u16::BITS - entries.iter().max()?.leading_zeros();
        let bits = u32::try_from(bits).unwrap_or(16).clamp(needed.max(1), 16);
        Some(Self { first, bits, entries })
    }

    /// The entry of a value; values beside the table have its first or last one.
    pub fn entry(&self, value: i64) -> u16 {
        let last = self.entries.len() as i64 - 1;
        self.entries[value.saturating_sub(self.first).clamp(0, last) as usize]
    }

    /// The entry of a value, from 0 to 1.
    pub fn level(&self, value: i64) -> f64 {
        f64::from(self.entry(value)) / f64::from(self.highest())
    }

    /// The entry at a part of the table, from 0 (the first entry) to 1 (the last one), itself from 0 to 1.
    pub fn level_at(&self, part: f64) -> f64 {
        let place = (part.clamp(0.0, 1.0) * (self.entries.len() - 1) as f64).round() as i64;
        self.level(self.first + place)
    }

    /// The highest entry that there could be.
    pub fn highest(&self) -> u32 {
        (1 << self.bits) - 1
    }
}

/// Scales a table by its entries if these have fewer bits than its descriptor says: all would be dark.
pub fn scaled(table: Lut) -> Lut {
    let bits = used_bits(std::slice::from_ref(&table));
    Lut { bits, ..table }
}

/// Scales a palette by 8 bits if no entry of its tables has more, whatever their descriptors say: all colours
/// would be black. Other palettes mean what they say, however dark they are.
pub fn palette(mut tables: Palette) -> Palette {
    if used_bits(&tables) <= 8 {
        tables.iter_mut().for_each(|table| table.bits = table.bits.min(8));
    }
    tables
}

/// The bits of the highest entry of tables, if these are at least two fewer than the tables have. A table
/// that leaves out half of its range may mean what it says.
fn used_bits(tables: &[Lut]) -> u32 {
    let bits = tables.iter().map(|table| table.bits).max().unwrap_or_default();
    let highest = tables.iter().flat_map(|table| &table.entries).max().copied().unwrap_or_default();
    let used = u16::BITS - highest.leading_zeros();
    if used > 0 && used + 2 <= bits { used } else { bits }
}

fn number_of_entries(count: i64) -> usize {
    match count as u16 {
        0 => MAX_ENTRIES,
        count => count.into(),
    }
}

fn words(data: &[u8]) -> Vec<u16> {
    data.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word)).collect()
}

/// The segments of a table, and the entries that they have given so far.
struct LutSegments<'a> {
    data: &'a [u16],
    is_bytes: bool,
    entries: Vec<u16>,
}

impl LutSegments<'_> {
    /// Expands `count` segments from word (or byte) `at` on. `None` where they end early.
    fn expand(&mut self, mut at: usize, count: usize, may_refer: bool) -> Option<()> {
        for _ in 0..count {
            let (opcode, length) = (*self.data.get(at)?, usize::from(*self.data.get(at + 1)?));
            at += 2;
            match opcode {
                0 => {
                    self.entries.extend_from_slice(self.data.get(at..at + length)?);
                    at += length;
                }
                1 => {
                    self.line(length, *self.data.get(at)?)?;
                    at += 1;
                }
                // Segments that are referred to refer to no others.
                2 if may_refer => {
                    let words = if self.is_bytes { 4 } else { 2 };
                    let offset = self.offset(self.data.get(at..at + words)?);
                    self.expand(offset, length, false)?;
                    at += words;
                }
                _ => return None,
            }
            if self.entries.len() >= MAX_ENTRIES {
                return None;
            }
        }
        Some(())
    }

    /// A line of `length` entries from the last one, which it does not repeat, to `end`.
    fn line(&mut self, length: usize, end: u16) -> Option<()> {
        let (start, end) = (f64::from(*self.entries.last()?), f64::from(end));
        let step = (end - start) / length as f64;
        self.entries.extend((1..=length).map(|place| (start + step * place as f64).round() as u16));
        Some(())
    }

    /// The place of a byte offset from the first segment on, whose least significant part comes first.
    fn offset(&self, parts: &[u16]) -> usize {
        let part_bits = if self.is_bytes { 8 } else { 16 };
        let bytes = parts.iter().rev().fold(0, |offset, part| offset << part_bits | usize::from(*part));
        if self.is_bytes { bytes } else { bytes / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_descriptor_says_how_entries_are_read() {
        for (descriptor, data, is_signed, value, entry, highest) in [
            ([3, 10, 8], vec![1, 2, 3], false, 11, 2, 255),
            ([3, 10, 8], vec![1, 2, 3, 0], false, 12, 3, 255),
            ([2, 0, 8], bytes(&[7, 9]), false, 1, 9, 255),
            ([2, 0, 8], bytes(&[7, 0x0900]), false, 1, 0x0900, 4095),
            ([2, 0, 12], bytes(&[7, 0x0900]), false, 1, 0x0900, 4095),
            ([2, 0xFFFE, 16], bytes(&[7, 9]), true, -1, 9, 65535),
            ([2, -2, 16], bytes(&[7, 9]), true, -1, 9, 65535),
            ([2, -2, 16], bytes(&[7, 9]), false, 0xFFFF, 9, 65535),
            // Beside the table, and where entries are missing.
            ([2, 5, 16], bytes(&[7, 9]), false, i64::MIN, 7, 65535),
            ([2, 5, 16], bytes(&[7, 9]), false, i64::MAX, 9, 65535),
            ([200, 0, 16], bytes(&[7, 9]), false, 100, 9, 65535),
        ] {
            let lut = Lut::read(descriptor, &data, is_signed).unwrap();
            assert_eq!((lut.entry(value), lut.highest()), (entry, highest), "{descriptor:?} {value}");
        }
        assert_eq!(Lut::read([2, 0, 16], &[], false), None);
    }

    #[test]
    fn zero_entries_are_65536() {
        let all: Vec<u16> = (0..=u16::MAX).rev().collect();
        let lut = Lut::read([0, 0, 16], &bytes(&all), false).unwrap();
        assert_eq!((lut.entry(0), lut.entry(65535), lut.entry(1)), (65535, 0, 65534));
    }

    #[test]
    fn segments_are_values_lines_and_references() {
        let expanded = |words: &[u16]| Lut::read_segments([0, 0, 16], &bytes(words), false).unwrap().entries;
        assert_eq!(expanded(&[0, 3, 5, 6, 7]), [5, 6, 7]);
        assert_eq!(expanded(&[0, 1, 0, 1, 4, 8]), [0, 2, 4, 6, 8]);
        assert_eq!(expanded(&[0, 1, 9, 1, 3, 0, 1, 2, 9]), [9, 6, 3, 0, 5, 9]);
        // Two segments from byte 6 on, word 3.
        assert_eq!(expanded(&[0, 1, 4, 0, 2, 1, 2, 1, 2, 6, 2, 2, 6, 0]), [4, 1, 2, 4, 6, 1, 2, 4, 6]);
        let of_bytes = Lut::read_segments([0, 0, 8], &[0, 2, 1, 2, 2, 1, 0, 0, 0, 0], false).unwrap();
        assert_eq!(of_bytes.entries, [1, 2, 1, 2]);
    }

    #[test]
    fn damaged_segments_end_the_table() {
        for words in
            [&[0, 2, 1, 2, 7, 7][..], &[0, 2, 1, 2, 0, 9, 1], &[0, 2, 1, 2, 2, 1, 8, 0], &[0, 2, 1, 2, 2]]
        {
            let lut = Lut::read_segments([0, 0, 16], &bytes(words), false).unwrap();
            assert_eq!(lut.entries, [1, 2], "{words:?}");
        }
        assert_eq!(Lut::read_segments([0, 0, 16], &bytes(&[1, 4, 8]), false), None);
        let bomb: Vec<u16> = [0, 1, 0].into_iter().chain([1, u16::MAX, 9].repeat(1000)).collect();
        assert_eq!(Lut::read_segments([0, 0, 16], &bytes(&bomb), false).unwrap().entries.len(), MAX_ENTRIES);
    }

    #[test]
    fn a_palette_of_bytes_that_are_called_words_is_seen() {
        let table = Lut::read([2, 0, 16], &bytes(&[0, 200]), false).unwrap();
        assert_eq!(palette([table.clone(), table.clone(), table])[0].highest(), 255);
    }

    #[test]
    fn a_table_that_uses_a_quarter_of_its_range_is_scaled_by_its_entries() {
        for (bits, highest_entry, scale, scale_of_palette) in [
            (16, 0x0FFF, 0x0FFF, 0xFFFF),
            (16, 0x00C8, 0x00FF, 0x00FF),
            (16, 0x3FFF, 0x3FFF, 0xFFFF),
            (16, 0x7FFF, 0xFFFF, 0xFFFF),
            (12, 0x03FF, 0x03FF, 0x0FFF),
            (12, 0x0800, 0x0FFF, 0x0FFF),
            (8, 0x003F, 0x003F, 0x00FF),
            (8, 0x0000, 0x00FF, 0x00FF),
        ] {
            let table = Lut::read([2, 0, bits], &bytes(&[0, highest_entry]), false).unwrap();
            assert_eq!(scaled(table.clone()).highest(), scale, "{bits} {highest_entry:x}");
            let palette = palette([table.clone(), table.clone(), table]);
            assert_eq!(
                palette.map(|table| table.highest()),
                [scale_of_palette; 3],
                "{bits} {highest_entry:x}"
            );
        }
    }
}
