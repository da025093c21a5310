//! Encoding lossless JPEG frames, Process 14, Selection Value 1 (ISO/IEC 10918-1 Annex H; PS3.5 §8.2.1): each
//! sample is written as its difference from the sample on its left: the number of bits of the difference, in
//! a Huffman code made for the frame, and these bits.

use crate::pixel::{Error, Image};

/// Symbols of the code: differences of 0 to 16 bits.
const SYMBOLS: usize = 17;
/// The longest code that there may be.
const MAX_CODE_BITS: usize = 16;

/// Encodes a frame of 2 to 16 bits and at most 65,535 rows and columns, the samples of a pixel one after the
/// other. Negative samples are written as their two's complement of as many bits as the image's precision.
///
/// # Errors
/// [`Error::Unsupported`] for other frames, [`Error::Short`] if samples are missing.
pub(super) fn encode(image: &Image) -> Result<Vec<u8>, Error> {
    let needed = image.shape.number_of_samples()?;
    if image.samples.len() != needed {
        return Err(Error::Short { needed, found: image.samples.len() });
    }
    let size = (u16::try_from(image.shape.rows), u16::try_from(image.shape.columns));
    let (Ok(rows), Ok(columns), 2..=16, 1..=4) = (size.0, size.1, image.precision, image.shape.samples)
    else {
        return Err(Error::Unsupported(format!("lossless JPEG of {} bits of this size", image.precision)));
    };
    let differences = differences(image);
    let mut counts = [0; SYMBOLS];
    differences.iter().for_each(|&difference| counts[bits_of(difference)] += 1);
    let code = HuffmanCode::of(&counts);
    let mut frame = header([rows, columns], image, &code);
    write_scan(&differences, &code, &mut frame);
    frame.extend([0xFF, 0xD9]);
    Ok(frame)
}

/// Each sample less its prediction, modulo 65536 (§H.1.2.1): the sample on its left; in the first column the
/// one above; at first, half of the range.
fn differences(image: &Image) -> Vec<i16> {
    let pixel = usize::from(image.shape.samples);
    let line = image.shape.columns as usize * pixel;
    let samples = &image.samples;
    let mask = (1 << image.precision) - 1;
    let first = 1 << (image.precision - 1);
    let difference = |at: usize| {
        let prediction = match at {
            at if at % line >= pixel => samples[at - pixel] & mask,
            at if at >= line => samples[at - line] & mask,
            _ => first,
        };
        ((samples[at] & mask) - prediction) as i16
    };
    (0..samples.len()).map(difference).collect()
}

/// Bits of a difference without its sign; 16 for -32768, which stands for 32768 too.
fn bits_of(difference: i16) -> usize {
    (u16::BITS - difference.unsigned_abs().leading_zeros()) as usize
}

/// A Huffman code (§C.2).
struct HuffmanCode {
    /// The number of codes of each length, from 1.
    counts: [u8; MAX_CODE_BITS],
    /// The symbols, by the length of their codes.
    symbols: Vec<u8>,
    /// Code and length of each symbol that occurs.
    codes: [(u16, u8); SYMBOLS],
}

impl HuffmanCode {
    /// The best code for symbols that occur so often.
    fn of(occurrences: &[u64; SYMBOLS]) -> Self {
        let mut symbols: Vec<u8> = (0..).zip(occurrences).filter(|(_, n)| **n > 0).map(|(s, _)| s).collect();
        symbols.sort_by_key(|&symbol| std::cmp::Reverse(occurrences[usize::from(symbol)]));
        let mut weights: Vec<u64> = symbols.iter().map(|&symbol| occurrences[usize::from(symbol)]).collect();
        let mut lengths = lengths(&weights);
        while lengths.last().is_some_and(|&longest| longest > MAX_CODE_BITS) {
            weights.iter_mut().for_each(|weight| *weight = weight.div_ceil(2));
            lengths = self::lengths(&weights);
        }
        let mut counts = [0; MAX_CODE_BITS];
        let mut codes = [(0, 0); SYMBOLS];
        let (mut code, mut length) = (0_u32, 0);
        for (&symbol, &bits) in symbols.iter().zip(&lengths) {
            code <<= bits - length;
            length = bits;
            codes[usize::from(symbol)] = (code as u16, bits as u8);
            counts[bits - 1] += 1;
            code += 1;
        }
        Self { counts, symbols, codes }
    }
}

/// The lengths of the codes of symbols with these weights, in ascending order. One code, of ones only, stays
/// unused (§K.2).
fn lengths(weights: &[u64]) -> Vec<usize> {
    // Trees that are still apart: weight, and the depth of each leaf.
    let mut trees: Vec<(u64, Vec<usize>)> = weights.iter().map(|&weight| (weight, vec![0])).collect();
    trees.push((1, vec![0]));
    while trees.len() > 1 {
        trees.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        let lightest = trees.split_off(trees.len() - 2);
        let weight = lightest.iter().map(|(weight, _)| weight).sum();
        let depths = lightest.into_iter().flat_map(|(_, depths)| depths).map(|depth| depth + 1).collect();
        trees.push((weight, depths));
    }
    let mut lengths = trees.pop().map(|(_, depths)| depths).unwrap_or_default();
    lengths.sort_unstable();
    lengths.pop();
    lengths
}

/// All segments up to the scan's (§B.2).
fn header([rows, columns]: [u16; 2], image: &Image, code: &HuffmanCode) -> Vec<u8> {
    let components = image.shape.samples as u8;
    let mut header = vec![0xFF, 0xD8, 0xFF, 0xC3, 0, 8 + 3 * components, image.precision as u8];
    header.extend(rows.to_be_bytes());
    header.extend(columns.to_be_bytes());
    header.push(components);
    header.extend((1..=components).flat_map(|component| [component, 0x11, 0]));
    header.extend([0xFF, 0xC4, 0, (19 + code.symbols.len()) as u8, 0]);
    header.extend(code.counts);
    header.extend(&code.symbols);
    header.extend([0xFF, 0xDA, 0, 6 + 2 * components, components]);
    header.extend((1..=components).flat_map(|component| [component, 0]));
    // Selection value 1, no point transform.
    header.extend([1, 0, 0]);
    header
}

/// The bits of all differences, `FF` followed by `00`, the rest of the last byte filled with ones.
fn write_scan(differences: &[i16], code: &HuffmanCode, frame: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0);
    for &difference in differences {
        let extra = bits_of(difference);
        let (prefix, length) = code.codes[extra];
        bits = bits << length | u64::from(prefix);
        count += u32::from(length);
        // A difference of 16 bits has one value only, so its prefix suffices.
        if (1..16).contains(&extra) {
            let value = if difference < 0 { difference - 1 } else { difference };
            bits = bits << extra | (value as u64 & ((1 << extra) - 1));
            count += extra as u32;
        }
        while count >= 8 {
            count -= 8;
            push_stuffed((bits >> count) as u8, frame);
        }
    }
    if count > 0 {
        push_stuffed((bits << (8 - count)) as u8 | (0xFF >> count), frame);
    }
}

fn push_stuffed(byte: u8, frame: &mut Vec<u8>) {
    frame.push(byte);
    if byte == 0xFF {
        frame.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::{Shape, jpeg};

    fn image(columns: u32, precision: u32, samples: Vec<i32>) -> Image {
        let shape = Shape { rows: samples.len() as u32 / columns, columns, samples: 1 };
        Image { shape, precision, is_signed: false, samples }
    }

    #[test]
    fn every_difference_comes_back() {
        let steps = (0..=16).flat_map(|bit| [0, 1 << bit, (1 << bit) - 1, 0xFFFF, 0xFFFF - (1 << bit)]);
        let samples: Vec<i32> = steps.map(|sample: i32| sample & 0xFFFF).chain([0x8000, 0, 0x8000]).collect();
        for columns in [1, 4, 88] {
            let image = image(columns, 16, samples.clone());
            let decoded = jpeg::decode(&encode(&image).unwrap(), image.shape, false).unwrap();
            assert_eq!(decoded, image, "{columns}");
        }
    }

    #[test]
    fn no_code_is_longer_than_there_may_be_and_none_has_only_ones() {
        // Weights that double make the deepest tree that there is.
        let steep: [u64; SYMBOLS] = std::array::from_fn(|symbol| 1 << (2 * symbol));
        let single = std::array::from_fn(|symbol| u64::from(symbol == 3));
        for (occurrences, symbols) in [(steep, SYMBOLS), ([1; SYMBOLS], SYMBOLS), (single, 1)] {
            let code = HuffmanCode::of(&occurrences);
            assert_eq!(code.counts.iter().map(|&count| usize::from(count)).sum::<usize>(), symbols);
            for (code, length) in code.codes.into_iter().filter(|(_, length)| *length > 0) {
                assert!(u32::from(code) < (1 << length) - 1, "{code:b} of {length} bits");
            }
        }
    }

    #[test]
    fn what_cannot_be_encoded_is_refused() {
        for image in [image(1, 1, vec![0]), image(1, 17, vec![0]), image(70_000, 8, vec![0; 70_000])] {
            assert!(matches!(encode(&image), Err(Error::Unsupported(_))), "{:?}", image.shape);
        }
    }
}
