//! RLE Lossless frames (PS3.5 Annex G).

use crate::dicom::rle_header::{MAX_RLE_SEGMENTS, RLE_HEADER_BYTES, RleHeader};
use crate::pixel::{Error, Image, Shape};

/// The most bytes that one control byte stands for.
const MAX_RUN: usize = 128;

/// Decodes a frame to its samples' raw bits: rows × columns × samples, the samples of a pixel together.
///
/// # Errors
/// [`Error::Unsupported`] if `bytes_per_sample` needs more segments than there may be, [`Error::Codec`] if
/// the frame is damaged, [`Error::Short`] if a segment ends early.
pub(super) fn decode(frame: &[u8], shape: Shape, bytes_per_sample: usize) -> Result<Vec<u32>, Error> {
    let count = shape.number_of_samples()?;
    let samples = usize::from(shape.samples);
    let segments = samples * bytes_per_sample;
    if segments > MAX_RLE_SEGMENTS {
        return Err(Error::Unsupported(format!("RLE of {segments} segments")));
    }
    let RleHeader { offsets } = RleHeader::read(frame).ok_or_else(|| damaged("there is no header"))?;
    if offsets.len() != segments {
        return Err(damaged(&format!("the frame has {} segments instead of {segments}", offsets.len())));
    }
    let mut raw = vec![0; count];
    for segment in 0..segments {
        let end = offsets.get(segment + 1).copied().unwrap_or(frame.len());
        let packed =
            frame.get(offsets[segment]..end).ok_or_else(|| damaged("a segment lies outside of the frame"))?;
        let bytes = unpack(packed, count / samples)?;
        // The segments of a sample start with the most significant byte (PS3.5 §G.2).
        let shift = 8 * (bytes_per_sample - 1 - segment % bytes_per_sample);
        let places = raw.iter_mut().skip(segment / bytes_per_sample).step_by(samples);
        places.zip(bytes).for_each(|(to, byte)| *to |= u32::from(byte) << shift);
    }
    Ok(raw)
}

/// Unpacks the first `count` bytes of a segment (PS3.5 §G.3.2).
fn unpack(mut packed: &[u8], count: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        let short = Error::Short { needed: count, found: bytes.len() };
        let [control, rest @ ..] = packed else { return Err(short) };
        let room = count - bytes.len();
        packed = match *control {
            128 => rest,
            literal @ 0..128 => {
                let (run, rest) = rest.split_at_checked(usize::from(literal) + 1).unwrap_or((rest, &[]));
                bytes.extend_from_slice(&run[..run.len().min(room)]);
                rest
            }
            repeat => {
                let [byte, rest @ ..] = rest else { return Err(short) };
                bytes.resize(bytes.len() + room.min(257 - usize::from(repeat)), *byte);
                rest
            }
        };
    }
    Ok(bytes)
}

/// Encodes a frame: a segment for each byte of a sample, each row on its own.
///
/// # Errors
/// [`Error::Unsupported`] if `bytes_per_sample` needs more segments than there may be, [`Error::Short`] if
/// samples are missing.
pub(super) fn encode(image: &Image, bytes_per_sample: usize) -> Result<Vec<u8>, Error> {
    let needed = image.shape.number_of_samples()?;
    if image.samples.len() != needed {
        return Err(Error::Short { needed, found: image.samples.len() });
    }
    let samples = usize::from(image.shape.samples);
    let segments = samples * bytes_per_sample;
    if segments > MAX_RLE_SEGMENTS {
        return Err(Error::Unsupported(format!("RLE of {segments} segments")));
    }
    let mut frame = vec![0; RLE_HEADER_BYTES];
    frame[..4].copy_from_slice(&(segments as u32).to_le_bytes());
    for segment in 0..segments {
        let start = frame.len() as u32;
        frame[4 + 4 * segment..8 + 4 * segment].copy_from_slice(&start.to_le_bytes());
        let shift = 8 * (bytes_per_sample - 1 - segment % bytes_per_sample);
        let values = image.samples.iter().skip(segment / bytes_per_sample).step_by(samples);
        let bytes: Vec<u8> = values.map(|&value| (value >> shift) as u8).collect();
        for row in bytes.chunks(image.shape.columns as usize) {
            pack(row, &mut frame);
        }
        if !frame.len().is_multiple_of(2) {
            frame.push(0);
        }
    }
    Ok(frame)
}

/// Packs one row (PS3.5 §G.3.1): bytes that repeat, and runs of those that do not.
fn pack(row: &[u8], packed: &mut Vec<u8>) {
    // Bytes that wait to be written as they are.
    let mut literal = 0..0;
    let mut at = 0;
    while at < row.len() {
        let repeats = row[at..].iter().take(MAX_RUN).take_while(|&&byte| byte == row[at]).count();
        // Within other bytes, to end and begin anew costs as much as a repeated pair saves.
        if repeats > 2 || (repeats == 2 && literal.is_empty()) {
            push_literal(&row[literal], packed);
            packed.extend([(257 - repeats) as u8, row[at]]);
            at += repeats;
            literal = at..at;
            continue;
        }
        at += 1;
        literal.end = at;
        if literal.len() == MAX_RUN {
            push_literal(&row[literal], packed);
            literal = at..at;
        }
    }
    push_literal(&row[literal], packed);
}

fn push_literal(bytes: &[u8], packed: &mut Vec<u8>) {
    if !bytes.is_empty() {
        packed.push((bytes.len() - 1) as u8);
        packed.extend_from_slice(bytes);
    }
}

fn damaged(reason: &str) -> Error {
    Error::Codec { codec: "RLE", reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Shape = Shape { rows: 1, columns: 2, samples: 1 };

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut offset = RLE_HEADER_BYTES as u32;
        let mut header = (segments.len() as u32).to_le_bytes().to_vec();
        for segment in segments {
            header.extend(offset.to_le_bytes());
            offset += segment.len() as u32;
        }
        header.resize(RLE_HEADER_BYTES, 0);
        [header, segments.concat()].concat()
    }

    #[test]
    fn the_first_segment_holds_the_most_significant_bytes() {
        let frame = frame(&[&[255, 0x12], &[1, 0x34, 0x56]]);
        assert_eq!(decode(&frame, PAIR, 2).unwrap(), [0x1234, 0x1256]);
    }

    #[test]
    fn rows_are_packed_each_on_its_own() {
        let long = [[7; 130].as_slice(), &[1, 2]].concat();
        let distinct: Vec<u8> = (0..=129).collect();
        let run_of_128 = [&[127], &distinct[..128], &[1], &distinct[128..]].concat();
        for (row, expected) in [
            (&[][..], &[][..]),
            (&[5], &[0, 5]),
            (&[5, 5], &[255, 5]),
            (&[5, 5, 5, 6], &[254, 5, 0, 6]),
            (&[1, 5, 5, 6], &[3, 1, 5, 5, 6]),
            (&[1, 5, 5, 5], &[0, 1, 254, 5]),
            (&long, &[129, 7, 255, 7, 1, 1, 2]),
            (&distinct, &run_of_128),
        ] {
            let mut packed = Vec::new();
            pack(row, &mut packed);
            assert_eq!(packed, expected, "{row:?}");
            assert_eq!(unpack(&packed, row.len()).unwrap(), row);
        }
    }

    #[test]
    fn damaged_frames_are_errors() {
        for (frame, what) in [
            (vec![], "no header"),
            (frame(&[&[1, 2, 3], &[1, 2, 3]]), "too many segments"),
            (frame(&[&[0, 1]]), "too few bytes"),
            (frame(&[&[255]]), "a run without its byte"),
            ([frame(&[&[]])[..4].to_vec(), vec![0xFF; 60]].concat(), "a segment outside"),
        ] {
            assert!(decode(&frame, PAIR, 1).is_err(), "{what}");
        }
    }
}
