//! Images as pure functions on samples: no async, no files, no network.

use serde::{Deserialize, Serialize};

pub mod block_mean;
pub mod decode;
mod deflated;
pub mod ht;
pub mod j2k;
mod j2k_limits;
mod jpeg;
mod jpeg_header;
mod jpeg_lossless;
mod jpeg_ls;
mod jpeg_scans;
mod noise;
pub mod png_gif;
pub mod preview;
pub mod render;
mod rle;
pub mod single_bits;
pub mod transcode;
mod turbojpeg;
pub mod words;

/// The samples of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its size.
    pub shape: Shape,
    /// Bits that a sample's value needs, its sign included; 1 to 32.
    pub precision: u32,
    /// Whether values may be negative.
    pub is_signed: bool,
    /// rows × columns × samples values, by row, the samples of a pixel together. Unsigned values of 32 bits
    /// are kept by their bits.
    pub samples: Vec<i32>,
}

/// The size of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Pixels from top to bottom.
    pub rows: u32,
    /// Pixels from left to right.
    pub columns: u32,
    /// Samples of a pixel: 1 or 3.
    pub samples: u16,
}

/// The most samples that a frame may have to be decoded; the largest detectors make half as many.
pub const MAX_SAMPLES: usize = 1 << 26;

impl Shape {
    /// The number of samples of a frame.
    ///
    /// # Errors
    /// [`Error::Size`] if there are none, or more than [`MAX_SAMPLES`].
    pub fn number_of_samples(self) -> Result<usize, Error> {
        let pixels = u64::from(self.rows) * u64::from(self.columns);
        let samples =
            pixels.checked_mul(u64::from(self.samples)).and_then(|count| usize::try_from(count).ok());
        match samples {
            Some(samples @ 1..=MAX_SAMPLES) => Ok(samples),
            _ => Err(Error::Size(self)),
        }
    }
}

/// The reason why a frame cannot be decoded or encoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The frame has no pixels or too many.
    #[error("{} x {} pixels of {} samples cannot be decoded", .0.rows, .0.columns, .0.samples)]
    Size(Shape),
    /// The frame has fewer bytes than its size needs.
    #[error("the frame has {found} bytes and needs {needed}")]
    Short {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// The compressed frame is of another size than the attributes say.
    #[error("the codestream holds {found}, not {} x {} pixels of {} samples",
        .expected.rows, .expected.columns, .expected.samples)]
    Mismatch {
        /// The size in the attributes.
        expected: Shape,
        /// The size in the codestream, in words.
        found: String,
    },
    /// The encoding is not supported.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The codec failed.
    #[error("{codec}: {reason}")]
    Codec {
        /// The codec.
        codec: &'static str,
        /// The reason.
        reason: String,
    },
}
