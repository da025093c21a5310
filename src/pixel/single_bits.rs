//! Frames of single bits (Bits Allocated 1), which follow each other without a gap in native Pixel Data, so
//! that a frame may start within a byte (PS3.5 §8.1.1).

/// Joins frames that are padded to whole bytes to the bytes of native Pixel Data.
#[derive(Debug)]
pub struct BitJoiner {
    frame_bits: u64,
    /// Frames that are still to come.
    remaining: u32,
    /// The last byte, as far as it is known, in its lowest bits.
    pending: u8,
    pending_bits: u32,
}

impl BitJoiner {
    /// A joiner of frames that have this number of bits each.
    pub fn new(frame_bits: u64, number_of_frames: u32) -> Self {
        Self { frame_bits, remaining: number_of_frames, pending: 0, pending_bits: 0 }
    }

    /// Adds a frame, whose first bit is the least significant of the first byte. Returns the bytes that are
    /// complete; the last frame's include the last byte, filled with zeros.
    pub fn push(&mut self, frame: &[u8]) -> Vec<u8> {
        let (full, rest) = ((self.frame_bits / 8) as usize, (self.frame_bits % 8) as u32);
        let shift = self.pending_bits;
        let mut joined = Vec::with_capacity(frame.len() + 1);
        for &byte in &frame[..full.min(frame.len())] {
            let word = u16::from(self.pending) | (u16::from(byte) << shift);
            joined.push(word as u8);
            self.pending = (word >> 8) as u8;
        }
        let last = frame.get(full).map_or(0, |byte| byte & ((1_u16 << rest) - 1) as u8);
        let word = u16::from(self.pending) | (u16::from(last) << shift);
        self.pending_bits += rest;
        self.pending = word as u8;
        if self.pending_bits >= 8 {
            joined.push(word as u8);
            self.pending = (word >> 8) as u8;
            self.pending_bits -= 8;
        }
        self.remaining = self.remaining.saturating_sub(1);
        if self.remaining == 0 && self.pending_bits > 0 {
            joined.push(self.pending);
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_bit_by_bit() {
        for frame_bits in 1..=35_u32 {
            for frames in 1..=9 {
                let bit = |at: u32| at * at % 7 < 3;
                let packed = |bits: &[bool]| -> Vec<u8> {
                    let byte = |bits: &[bool]| (0..).zip(bits).map(|(at, &bit)| u8::from(bit) << at).sum();
                    bits.chunks(8).map(byte).collect()
                };
                let all: Vec<bool> = (0..frame_bits * frames).map(bit).collect();
                let mut joiner = BitJoiner::new(frame_bits.into(), frames);
                // Bits beside the frame are left out.
                let filled = |bits: &[bool]| {
                    let mut frame = packed(bits);
                    let beside = (!0_u8 << ((bits.len() - 1) % 8)) << 1;
                    *frame.last_mut().unwrap() |= beside;
                    frame
                };
                let joined: Vec<u8> =
                    all.chunks(frame_bits as usize).flat_map(|bits| joiner.push(&filled(bits))).collect();
                assert_eq!(joined, packed(&all), "{frames} frames of {frame_bits} bits");
            }
        }
    }
}
