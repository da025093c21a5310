//! Packets: the code-blocks of a resolution with their header (ISO/IEC 15444-1 §B.10).

/// The code-blocks of a subband, by row.
#[derive(Debug, Default)]
pub(super) struct CodedBand {
    /// Code-blocks in a row and in a column.
    pub(super) blocks: [usize; 2],
    /// The bytes of all code-blocks.
    pub(super) bytes: Vec<u8>,
    /// The bytes of each code-block; 0 if all its samples are zero.
    pub(super) lengths: Vec<usize>,
    /// The bit planes of the subband above the lowest, which is the only one that is coded.
    pub(super) missing_planes: u32,
}

/// Appends the packet of subbands, all of whose code-blocks are in one precinct.
pub(super) fn write(bands: &[CodedBand], out: &mut Vec<u8>) {
    let mut header = HeaderBits::new(out);
    if bands.iter().all(|band| band.bytes.is_empty()) {
        header.push(0);
        header.finish();
        return;
    }
    header.push(1);
    for band in bands.iter().filter(|band| !band.lengths.is_empty()) {
        write_band(band, &mut header);
    }
    header.finish();
    for band in bands {
        out.extend_from_slice(&band.bytes);
    }
}

fn write_band(band: &CodedBand, header: &mut HeaderBits) {
    let [across, _] = band.blocks;
    let is_left_out = band.lengths.iter().map(|length| u32::from(*length == 0));
    let mut inclusion = TagTree::new(band.blocks, is_left_out);
    // Those that are left out do not matter: no other number is less than theirs.
    let mut planes = TagTree::new(band.blocks, band.lengths.iter().map(|_| band.missing_planes));
    for (at, length) in band.lengths.iter().enumerate() {
        let place = [at % across, at / across];
        inclusion.write(place, 1, header);
        if *length == 0 {
            continue;
        }
        planes.write(place, band.missing_planes + 1, header);
        // One coding pass.
        header.push(0);
        let bits = (length.ilog2() + 1).max(LENGTH_BITS);
        for _ in LENGTH_BITS..bits {
            header.push(1);
        }
        header.push(0);
        for bit in (0..bits).rev() {
            header.push((length >> bit & 1) as u32);
        }
    }
}

/// The bits of a length, if no more are announced (Lblock).
const LENGTH_BITS: u32 = 3;

/// The bits of a packet header, with a bit of 0 after each byte FF (ISO/IEC 15444-1 §B.10.1).
struct HeaderBits<'a> {
    out: &'a mut Vec<u8>,
    byte: u32,
    free: u32,
}

impl<'a> HeaderBits<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, byte: 0, free: 8 }
    }

    fn push(&mut self, bit: u32) {
        self.free -= 1;
        self.byte |= bit << self.free;
        if self.free == 0 {
            self.write_byte();
        }
    }

    fn write_byte(&mut self) {
        self.out.push(self.byte as u8);
        self.free = if self.byte == 0xFF { 7 } else { 8 };
        self.byte = 0;
    }

    fn finish(mut self) {
        // A header does not end in FF, so that it has another byte.
        let size = if self.out.last() == Some(&0xFF) { 7 } else { 8 };
        if self.free < size || size == 7 {
            self.write_byte();
        }
    }
}

/// A tag tree (ISO/IEC 15444-1 §B.10.2): numbers of a grid, each node with the least one below it.
struct TagTree {
    /// From the leaves to the root: the nodes in a row, and all nodes.
    levels: Vec<(usize, Vec<Node>)>,
}

#[derive(Clone, Copy)]
struct Node {
    value: u32,
    /// The value is known to be this or more.
    least: u32,
    is_known: bool,
}

impl TagTree {
    /// A tree of a grid with so many leaves in a row and in a column.
    fn new([mut across, mut down]: [usize; 2], leaves: impl Iterator<Item = u32>) -> Self {
        let node = |value| Node { value, least: 0, is_known: false };
        let mut levels = vec![(across, leaves.map(node).collect::<Vec<_>>())];
        while across * down > 1 {
            let (half_across, half_down) = (across.div_ceil(2), down.div_ceil(2));
            let mut nodes = vec![node(u32::MAX); half_across * half_down];
            let (_, below) = &levels[levels.len() - 1];
            for (at, leaf) in below.iter().enumerate() {
                let parent = &mut nodes[at / across / 2 * half_across + at % across / 2];
                parent.value = parent.value.min(leaf.value);
            }
            levels.push((half_across, nodes));
            (across, down) = (half_across, half_down);
        }
        Self { levels }
    }

    /// Writes whether the number at a place is less than `threshold`, and which one it is then.
    fn write(&mut self, [column, row]: [usize; 2], threshold: u32, header: &mut HeaderBits) {
        let mut least = 0;
        for (level, (across, nodes)) in self.levels.iter_mut().enumerate().rev() {
            let node = &mut nodes[(row >> level) * *across + (column >> level)];
            least = node.least.max(least);
            while least < threshold && !node.is_known {
                if least >= node.value {
                    header.push(1);
                    node.is_known = true;
                } else {
                    header.push(0);
                    least += 1;
                }
            }
            node.least = least;
        }
    }
}
