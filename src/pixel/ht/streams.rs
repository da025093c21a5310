//! The three bit streams of a code-block's cleanup pass (ITU-T T.814 §7.1).

/// The most bits that a value of [`MagSgn`] or [`Vlc`] has.
pub(super) const MAX_VALUE_BITS: u32 = 32;

/// The writer of magnitudes and signs: grows forwards, from the lowest bit of each byte on; the byte after
/// FF has 7 bits (ITU-T T.814 §7.1.2).
#[derive(Debug, Default)]
pub(super) struct MagSgn {
    bytes: Vec<u8>,
    pending: u64,
    pending_bits: u32,
    is_after_ff: bool,
}

impl MagSgn {
    /// Empties the stream.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.pending, self.pending_bits, self.is_after_ff) = (0, 0, false);
    }

    /// Appends the `bits` lowest bits of a value that has no more.
    #[inline]
    pub(super) fn push(&mut self, value: u32, bits: u32) {
        self.pending |= u64::from(value) << self.pending_bits;
        self.pending_bits += bits;
        if self.pending_bits >= MAX_VALUE_BITS {
            self.write_bytes();
        }
    }

    #[inline]
    fn write_bytes(&mut self) {
        let word = self.pending as u32;
        // A byte of `word` is FF if adding 1 to it carries.
        let has_ff = (!word).wrapping_sub(0x0101_0101) & word & 0x8080_8080 != 0;
        if !self.is_after_ff && !has_ff {
            self.bytes.extend_from_slice(&word.to_le_bytes());
            self.pending >>= 32;
            self.pending_bits -= 32;
            return;
        }
        while self.pending_bits >= 8 {
            let bits = 8 - u32::from(self.is_after_ff);
            let byte = (self.pending & ((1 << bits) - 1)) as u8;
            self.bytes.push(byte);
            self.pending >>= bits;
            self.pending_bits -= bits;
            self.is_after_ff = byte == 0xFF;
        }
    }

    /// The bytes of the stream, which is at its end: readers go on with FF after the last byte.
    pub(super) fn finish(&mut self) -> &[u8] {
        while self.pending_bits > 0 {
            let bits = 8 - u32::from(self.is_after_ff);
            let mask = (1_u64 << bits) - 1;
            let used = self.pending_bits.min(bits);
            let byte = ((self.pending | mask << used) & mask) as u8;
            self.pending >>= used;
            self.pending_bits -= used;
            self.bytes.push(byte);
            self.is_after_ff = byte == 0xFF;
        }
        if self.is_after_ff {
            self.bytes.pop();
        }
        &self.bytes
    }
}

/// The writer of run lengths of events that are rarely true (ITU-T T.814 §7.1.3, §7.3.3): grows forwards,
/// from the highest bit of each byte on; the byte after FF has 7 bits.
#[derive(Debug, Default)]
pub(super) struct Mel {
    bytes: Vec<u8>,
    byte: u32,
    used_bits: u32,
    state: usize,
    run: u32,
}

/// The exponent of a complete run in each state (ITU-T T.814, Table 2).
const MEL_EXPONENTS: [u32; 13] = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5];

impl Mel {
    /// Empties the stream.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.byte, self.used_bits, self.state, self.run) = (0, 0, 0, 0);
    }

    /// Appends an event.
    #[inline]
    pub(super) fn push(&mut self, event: bool) {
        let exponent = MEL_EXPONENTS[self.state];
        if event {
            self.push_bit(0);
            for bit in (0..exponent).rev() {
                self.push_bit(self.run >> bit & 1);
            }
            self.run = 0;
            self.state = self.state.saturating_sub(1);
        } else {
            self.run += 1;
            if self.run >= 1 << exponent {
                self.push_bit(1);
                self.run = 0;
                self.state = (self.state + 1).min(MEL_EXPONENTS.len() - 1);
            }
        }
    }

    fn size_of_byte(&self) -> u32 {
        8 - u32::from(self.bytes.last() == Some(&0xFF))
    }

    fn push_bit(&mut self, bit: u32) {
        self.byte = self.byte << 1 | bit;
        self.used_bits += 1;
        if self.used_bits == self.size_of_byte() {
            self.bytes.push(self.byte as u8);
            (self.byte, self.used_bits) = (0, 0);
        }
    }
}

/// The writer of the code words of quads: grows backwards, from the lowest bit of each byte on; a byte that
/// follows one above 8F and would end in seven set bits has only those (ITU-T T.814 §7.1.4). Its last two
/// bytes hold the length of this and the MEL stream in 12 bits.
#[derive(Debug, Default)]
pub(super) struct Vlc {
    /// The bytes from the last one on.
    bytes: Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl Vlc {
    /// Empties the stream.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        // The place of the length, whose bits are read as set.
        self.bytes.push(0xFF);
        (self.pending, self.pending_bits) = (0xF, 4);
    }

    /// Appends the `bits` lowest bits of a value that has no more.
    #[inline]
    pub(super) fn push(&mut self, value: u32, bits: u32) {
        self.pending |= u64::from(value) << self.pending_bits;
        self.pending_bits += bits;
        if self.pending_bits >= MAX_VALUE_BITS {
            self.write_bytes();
        }
    }

    fn write_bytes(&mut self) {
        let mut last = self.bytes.last().copied().unwrap_or(0xFF);
        while self.pending_bits >= 7 {
            let is_stuffed = last > 0x8F && self.pending & 0x7F == 0x7F;
            if !is_stuffed && self.pending_bits == 7 {
                break;
            }
            let bits = 8 - u32::from(is_stuffed);
            last = (self.pending & ((1 << bits) - 1)) as u8;
            self.bytes.push(last);
            self.pending >>= bits;
            self.pending_bits -= bits;
        }
    }
}

/// Ends both streams and appends them, with the length of both.
pub(super) fn finish(mel: &mut Mel, vlc: &mut Vlc, output: &mut Vec<u8>) {
    if mel.run > 0 {
        mel.push_bit(1);
    }
    vlc.write_bytes();
    let unused = mel.size_of_byte() - mel.used_bits;
    let mel_byte = (mel.byte << unused) as u8;
    let mel_mask = (0xFF_u32 << unused) as u8;
    let vlc_byte = vlc.pending as u8;
    let vlc_mask = ((1_u32 << vlc.pending_bits) - 1) as u8;
    if mel_mask | vlc_mask != 0 {
        // The unused bits of both may share a byte.
        let both = mel_byte | vlc_byte;
        let is_shared = (both ^ mel_byte) & mel_mask == 0
            && (both ^ vlc_byte) & vlc_mask == 0
            && both != 0xFF
            && vlc.bytes.len() > 1;
        if is_shared {
            mel.bytes.push(both);
        } else {
            mel.bytes.push(mel_byte);
            vlc.bytes.push(vlc_byte);
        }
    }
    let length = mel.bytes.len() + vlc.bytes.len();
    vlc.bytes[0] = (length >> 4) as u8;
    vlc.bytes[1] = vlc.bytes[1] & 0xF0 | (length & 0xF) as u8;
    output.extend_from_slice(&mel.bytes);
    output.extend(vlc.bytes.iter().rev());
}
