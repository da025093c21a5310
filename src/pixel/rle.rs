//! RLE Lossless frames (PS3.5 Annex G).

use crate::pixel::{Error, Shape};

/// Segments that an RLE header has room for.
const MAX_SEGMENTS: usize = 15;
const HEADER_BYTES: usize = 64;

/// Decodes a frame to its samples' raw bits: rows × columns × samples, the samples of a pixel together.
///
/// # Errors
/// [`Error::Unsupported`] if `bytes_per_sample` needs more segments than there may be, [`Error::Codec`] if the
/// frame is damaged, [`Error::Short`] if a segment ends early.
pub(super) fn decode(frame: &[u8], shape: Shape, bytes_per_sample: usize) -> Result<Vec<u32>, Error> {
    let count = shape.number_of_samples()?;
    let samples = usize::from(shape.samples);
    let segments = samples * bytes_per_sample;
    if segments > MAX_SEGMENTS {
        return Err(Error::Unsupported(format!("RLE of {segments} segments")));
    }
    let header = frame.get(..HEADER_BYTES).ok_or_else(|| damaged("the header is incomplete"))?;
    let words: Vec<u32> = header.chunks_exact(4).map(le32).collect();
    if words[0] as usize != segments {
        return Err(damaged(&format!("the frame has {} segments instead of {segments}", words[0])));
    }
    let mut raw = vec![0; count];
    for segment in 0..segments {
        let start = words[1 + segment] as usize;
        let end = if segment + 1 < segments { words[2 + segment] as usize } else { frame.len() };
        let packed = frame.get(start..end).ok_or_else(|| damaged("a segment lies outside of the frame"))?;
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

fn le32(word: &[u8]) -> u32 {
    word.first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

fn damaged(reason: &str) -> Error {
    Error::Codec { codec: "RLE", reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Shape = Shape { rows: 1, columns: 2, samples: 1 };

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut offset = HEADER_BYTES as u32;
        let mut header = (segments.len() as u32).to_le_bytes().to_vec();
        for segment in segments {
            header.extend(offset.to_le_bytes());
            offset += segment.len() as u32;
        }
        header.resize(HEADER_BYTES, 0);
        [header, segments.concat()].concat()
    }

    #[test]
    fn the_first_segment_holds_the_most_significant_bytes() {
        let frame = frame(&[&[255, 0x12], &[1, 0x34, 0x56]]);
        assert_eq!(decode(&frame, PAIR, 2).unwrap(), [0x1234, 0x1256]);
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
