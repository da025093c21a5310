//! Blacking out regions of native frames while their bytes pass (PS3.15 §E.3.1).

use crate::config::PixelRegion;
use crate::dicom::frames::PixelLayout;

/// The places of bytes to overwrite in frames that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blanking {
    frame_bytes: u64,
    /// The ranges of bytes in a frame, in order, without overlap.
    ranges: Vec<(u64, u64)>,
}

impl Blanking {
    /// Finds the bytes of regions in native frames of a layout. `None` if the samples are no whole bytes or
    /// share bytes, or if the frames have no size.
    pub fn new(layout: &PixelLayout, regions: &[PixelRegion]) -> Option<Self> {
        let sample_bytes = u64::from(layout.bits_allocated / 8);
        let is_whole = layout.bits_allocated.is_multiple_of(8) && !layout.has_shared_chrominance();
        let frame_bytes = layout.frame_bytes();
        if !is_whole || sample_bytes == 0 || frame_bytes == 0 {
            return None;
        }
        let (rows, columns) = (u64::from(layout.rows), u64::from(layout.columns));
        let samples = u64::from(layout.samples);
        let (planes, pixel_bytes) =
            if layout.is_planar { (samples, sample_bytes) } else { (1, samples * sample_bytes) };
        let mut ranges = Vec::new();
        for region in regions {
            let (left, top) = (u64::from(region.left).min(columns), u64::from(region.top).min(rows));
            let right = (u64::from(region.left) + u64::from(region.width)).min(columns);
            let bottom = (u64::from(region.top) + u64::from(region.height)).min(rows);
            for (plane, row) in (0..planes).flat_map(|plane| (top..bottom).map(move |row| (plane, row))) {
                let start = ((plane * rows + row) * columns) * pixel_bytes;
                ranges.push((start + left * pixel_bytes, start + right * pixel_bytes));
            }
        }
        ranges.retain(|(start, end)| start < end);
        ranges.sort_unstable();
        ranges.dedup_by(|next, last| {
            let overlaps = next.0 <= last.1;
            if overlaps {
                last.1 = last.1.max(next.1);
            }
            overlaps
        });
        Some(Self { frame_bytes, ranges })
    }

    /// Overwrites the bytes that lie in the regions with zeros. `offset` is the place of the first byte in
    /// the value of Pixel Data.
    pub fn apply(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset + bytes.len() as u64;
        let mut frame_at = offset - offset % self.frame_bytes;
        while frame_at < end {
            let within = offset.max(frame_at) - frame_at;
            let first = self.ranges.partition_point(|range| range.1 <= within);
            for (start, stop) in &self.ranges[first..] {
                let (start, stop) = ((frame_at + start).max(offset), (frame_at + stop).min(end));
                if start >= end {
                    break;
                }
                bytes[(start - offset) as usize..(stop - offset) as usize].fill(0);
            }
            frame_at += self.frame_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(samples: u16, bits_allocated: u16, is_planar: bool) -> PixelLayout {
        PixelLayout {
            rows: 3,
            columns: 4,
            samples,
            bits_allocated,
            bits_stored: bits_allocated,
            high_bit: bits_allocated.saturating_sub(1),
            is_signed: false,
            photometric: "MONOCHROME2".into(),
            is_planar,
            number_of_frames: 2,
        }
    }

    #[test]
    fn pixels_of_the_regions_alone_are_black_however_the_bytes_are_cut() {
        let regions = [
            PixelRegion { left: 1, top: 1, width: 2, height: 1 },
            PixelRegion { left: 2, top: 1, width: 90, height: 90 },
        ];
        let is_black = |row: usize, column: usize| (row == 1 && column >= 1) || (row == 2 && column >= 2);
        for (samples, bits, is_planar) in
            [(1, 8, false), (1, 16, false), (3, 8, false), (3, 8, true), (3, 16, true)]
        {
            let layout = layout(samples, bits, is_planar);
            let blanking = Blanking::new(&layout, &regions).unwrap();
            let frame_bytes = layout.frame_bytes() as usize;
            let sample_bytes = usize::from(bits / 8);
            let pixel_bytes = if is_planar { sample_bytes } else { sample_bytes * usize::from(samples) };
            let expected: Vec<u8> = (0..2 * frame_bytes)
                .map(|place| {
                    let pixel = place % frame_bytes / pixel_bytes % 12;
                    u8::from(!is_black(pixel / 4, pixel % 4))
                })
                .collect();
            for piece in [1, 2, 5, 7, 1000] {
                let mut bytes = vec![1; 2 * frame_bytes];
                for (index, part) in bytes.chunks_mut(piece).enumerate() {
                    blanking.apply((index * piece) as u64, part);
                }
                assert_eq!(bytes, expected, "{samples} {bits} {is_planar} {piece}");
            }
        }
    }

    #[test]
    fn single_bits_and_shared_samples_are_refused() {
        let region = [PixelRegion { left: 0, top: 0, width: 1, height: 1 }];
        assert_eq!(Blanking::new(&layout(1, 1, false), &region), None);
        let shared = PixelLayout { photometric: "YBR_FULL_422".into(), ..layout(3, 8, false) };
        assert_eq!(Blanking::new(&shared, &region), None);
    }
}
