//! Inflates a deflated data set while it is scanned (PS3.5 §A.5), within bounds.

use flate2::{Decompress, FlushDecompress, Status};

use crate::dicom::failure::Failure;
use crate::dicom::scan::ScanLimits;
use crate::dicom::scan::state::ScanState;

/// The inflated size up to which the ratio is not limited, as small data sets may be repetitive.
const FREE_OF_RATIO_BYTES: u64 = 1 << 20;

/// An inflater with constant memory: a buffer and the window of deflate.
pub(super) struct Inflater {
    stream: Decompress,
    buffer: Box<[u8]>,
    is_done: bool,
    max_bytes: u64,
    max_ratio: u64,
}

impl Inflater {
    /// An inflater for a deflated data set whose first bytes are `start`. Some writers add the header of zlib
    /// (RFC 1950), which raw deflate never begins with.
    pub(super) fn new(limits: &ScanLimits, start: [u8; 2]) -> Self {
        let is_zlib = start[0] & 0x0F == 8 && u16::from_be_bytes(start).is_multiple_of(31);
        Self {
            stream: Decompress::new(is_zlib),
            buffer: vec![0; 32 * 1024].into(),
            is_done: false,
            max_bytes: limits.max_inflated_bytes,
            max_ratio: limits.max_deflate_ratio,
        }
    }

    /// Inflates the next bytes and scans the result.
    pub(super) fn push(&mut self, mut bytes: &[u8], state: &mut ScanState) -> Result<(), Failure> {
        while !self.is_done {
            let (taken, made) = (self.stream.total_in(), self.stream.total_out());
            let outcome = self.stream.decompress(bytes, &mut self.buffer, FlushDecompress::None);
            let within_limit = self.max_bytes.saturating_sub(made);
            let (taken, made) = (self.stream.total_in() - taken, self.stream.total_out() - made);
            bytes = &bytes[taken as usize..];
            // Bytes before a fault or the limit are scanned first: then the failure does not depend on the
            // pieces.
            state.push(&self.buffer[..made.min(within_limit) as usize])?;
            self.check_limits()?;
            let status = outcome.map_err(|_| Failure::NotDeflate)?;
            self.is_done = status == Status::StreamEnd;
            if taken == 0 && made == 0 {
                return Ok(());
            }
        }
        if bytes.iter().any(|&byte| byte != 0) {
            state.warn("bytes follow the deflated data set");
        }
        Ok(())
    }

    /// Checks that the deflated data set has come to its end.
    pub(super) fn finish(&self, state: &ScanState) -> Result<(), Failure> {
        if self.is_done { Ok(()) } else { Err(state.truncated()) }
    }

    fn check_limits(&self) -> Result<(), Failure> {
        let (taken, made) = (self.stream.total_in(), self.stream.total_out());
        if made > self.max_bytes {
            return Err(Failure::InflatesTooMuch {
                limit: self.max_bytes,
                setting: "ingest.max_inflated_bytes",
            });
        }
        if made > FREE_OF_RATIO_BYTES && made > taken.saturating_mul(self.max_ratio) {
            return Err(Failure::InflatesTooMuch {
                limit: self.max_ratio,
                setting: "ingest.max_deflate_ratio",
            });
        }
        Ok(())
    }
}
