//! Frames of Deflated Image Frame Compression (PS3.5 §8.2.16 and §A.4.13): native frames, each in a deflate
//! stream of its own (RFC 1951).

use flate2::{Decompress, FlushDecompress};

use crate::pixel::Error;

/// The most bytes that a byte of a deflate stream can stand for.
const MAX_RATIO: usize = 1032;

/// Inflates a frame of this number of bytes. Bytes that follow are padding, and are left out.
///
/// # Errors
/// [`Error::Short`] if the frame has fewer bytes, [`Error::Codec`] if the stream is damaged.
pub(super) fn inflate(frame: &[u8], needed: usize) -> Result<Vec<u8>, Error> {
    let most = frame.len().saturating_mul(MAX_RATIO);
    if most < needed {
        return Err(Error::Short { needed, found: most });
    }
    // Some writers add the header of zlib (RFC 1950).
    inflate_as(frame, needed, false).or_else(|error| inflate_as(frame, needed, true).map_err(|_| error))
}

fn inflate_as(frame: &[u8], needed: usize, has_zlib_header: bool) -> Result<Vec<u8>, Error> {
    let mut inflated = vec![0; needed];
    let mut state = Decompress::new(has_zlib_header);
    let outcome = state.decompress(frame, &mut inflated, FlushDecompress::Finish);
    outcome.map_err(|error| Error::Codec { codec: "deflate", reason: error.to_string() })?;
    match state.total_out() as usize {
        found if found == needed => Ok(inflated),
        found => Err(Error::Short { needed, found }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, ZlibEncoder};

    use super::*;

    fn bytes() -> Vec<u8> {
        (0..5000_u32).map(|at| ((at * at) >> 7) as u8).collect()
    }

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_frame_comes_back_whatever_follows_it() {
        let stream = deflated(&bytes());
        for padded in [stream.clone(), [&stream[..], &[0]].concat(), [&stream[..], b"garbage"].concat()] {
            assert!(inflate(&padded, 5000).unwrap() == bytes());
        }
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&bytes()).unwrap();
        assert!(inflate(&zlib.finish().unwrap(), 5000).unwrap() == bytes());
    }

    #[test]
    fn no_more_is_inflated_than_a_frame_needs() {
        let bomb = deflated(&vec![0; 1 << 24]);
        assert_eq!(inflate(&bomb, 100).unwrap(), [0; 100]);
    }

    #[test]
    fn a_frame_that_is_short_or_damaged_is_an_error() {
        let stream = deflated(&bytes());
        assert!(matches!(inflate(&stream, 5001), Err(Error::Short { needed: 5001, found: 5000 })));
        assert!(matches!(inflate(&stream[..stream.len() / 2], 5000), Err(Error::Short { .. })));
        assert!(matches!(inflate(&[0xFF; 100], 5000), Err(Error::Codec { .. })));
        // Nothing is allocated for a frame that its bytes cannot hold.
        assert!(matches!(inflate(&[3, 0], 1 << 60), Err(Error::Short { .. })));
    }
}
