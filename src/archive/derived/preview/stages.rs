//! The stages of a stream: the order in which the levels of slices come (docs/fast-stream.md).

use std::ops::Range;

use serde::Serialize;

/// A stage: after it, all slices of a stride are there in a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Stage {
    /// The halvings of the level.
    pub(super) level: u32,
    pub(super) stride: u32,
    /// The end of the last segment, in bytes from the end of the index.
    pub(super) end: u64,
}

/// A part of a slice's tile-parts, from the level after the last one sent up to that of the stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// The slice, from 0.
    pub(super) slice: usize,
    /// The bytes in the tile-parts of the slice.
    pub(super) bytes: Range<u32>,
    /// The stage, from 0.
    pub(super) stage: usize,
}

/// The stages and segments of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stages {
    pub(super) stages: Vec<Stage>,
    pub(super) segments: Vec<Segment>,
}

/// The strides of the levels of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Strides {
    /// The distance between pixels divided by that between slices; `None` if the slices have no place in
    /// space.
    pub(super) pixels_per_slice: Option<f64>,
}

impl Strides {
    /// The stride of a level: the power of two that is nearest to the distance of the level's pixels in
    /// slices.
    fn of(self, level: u32) -> u32 {
        let Some(ratio) = self.pixels_per_slice else { return 1 };
        let exponent = (f64::from(1_u32 << level) * ratio).log2().round();
        // A cast cuts numbers off at the limits, and makes 0 of what is no number.
        1 << (exponent as u32).min(16)
    }
}

impl Stages {
    /// The stages of slices whose levels end at `level_ends` in their tile-parts, the coarsest first; a slice
    /// without levels is not in the stream. `first_slice` is the place of the first slice in the series.
    pub(super) fn of(level_ends: &[&[u32]], first_slice: u32, strides: Strides) -> Self {
        let mut found = Self::default();
        let mut sent: Vec<Option<u32>> = vec![None; level_ends.len()];
        let levels = level_ends.iter().map(|ends| ends.len() as u32).max().unwrap_or(0);
        let mut end = 0;
        for level in (0..levels).rev() {
            let coarser = (level + 1 < levels).then(|| strides.of(level + 1));
            let mut stages: Vec<u32> = coarser.into_iter().chain([strides.of(level)]).collect();
            if level == 0 {
                // Whatever the distances are, all of each slice comes.
                stages.push(1);
            }
            for stride in stages {
                let before = found.segments.len();
                for (slice, ends) in level_ends.iter().enumerate() {
                    let place = u64::from(first_slice) + slice as u64;
                    if !place.is_multiple_of(stride.into()) || ends.is_empty() {
                        continue;
                    }
                    let target = level.min(ends.len() as u32 - 1);
                    if sent[slice].is_some_and(|sent| sent <= target) {
                        continue;
                    }
                    let end_of = |level: u32| ends[ends.len() - 1 - level as usize];
                    let bytes = sent[slice].map_or(0, end_of)..end_of(target);
                    end += u64::from(bytes.end - bytes.start);
                    sent[slice] = Some(target);
                    found.segments.push(Segment { slice, bytes, stage: found.stages.len() });
                }
                if found.segments.len() > before {
                    found.stages.push(Stage { level, stride, end });
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of docs/fast-stream.md for cubic voxels.
    #[test]
    fn cubic_voxels_come_as_a_pyramid() {
        let ends: Vec<u32> = vec![10, 30, 70, 150];
        let slices = vec![ends.as_slice(); 17];
        let stages = Stages::of(&slices, 0, Strides { pixels_per_slice: Some(1.0) });
        let found: Vec<_> = stages.stages.iter().map(|stage| (stage.level, stage.stride)).collect();
        assert_eq!(found, [(3, 8), (2, 8), (2, 4), (1, 4), (1, 2), (0, 2), (0, 1)]);
        assert_eq!(stages.stages[0].end, 30);
        assert_eq!(stages.stages.last().unwrap().end, 17 * 150);
        let of_slice = |slice| {
            let of = stages.segments.iter().filter(move |segment| segment.slice == slice);
            of.map(|segment| segment.bytes.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of_slice(8), [0..10, 10..30, 30..70, 70..150]);
        assert_eq!(of_slice(4), [0..30, 30..70, 70..150]);
        assert_eq!(of_slice(1), vec![0..150_u32; 1]);
    }

    #[test]
    fn strides_follow_the_distance_of_slices() {
        for (ratio, strides) in [
            (Some(1.0), [1, 2, 4, 8]),
            (Some(0.2), [1, 1, 1, 2]),
            (Some(0.1), [1, 1, 1, 1]),
            (Some(4.0), [4, 8, 16, 32]),
            (Some(f64::INFINITY), [1 << 16; 4]),
            (Some(f64::NAN), [1; 4]),
            (Some(-1.0), [1; 4]),
            (None, [1; 4]),
        ] {
            let found = [0, 1, 2, 3].map(|level| Strides { pixels_per_slice: ratio }.of(level));
            assert_eq!(found, strides, "{ratio:?}");
        }
    }

    #[test]
    fn everything_comes_whatever_the_slices_are() {
        let (small, large, none): (&[u32], &[u32], &[u32]) = (&[9], &[5, 7, 20], &[]);
        let slices = [large, none, small, large, small];
        for ratio in [None, Some(1.0), Some(16.0), Some(0.3)] {
            for first_slice in 0..4 {
                let stages = Stages::of(&slices, first_slice, Strides { pixels_per_slice: ratio });
                let mut there = [0; 5];
                let mut end = 0;
                for Segment { slice, bytes, stage } in &stages.segments {
                    assert_eq!(there[*slice], bytes.start);
                    there[*slice] = bytes.end;
                    end += u64::from(bytes.end - bytes.start);
                    assert!(end <= stages.stages[*stage].end);
                }
                assert_eq!(there, [20, 0, 9, 20, 9]);
                assert_eq!(stages.stages.last().unwrap().end, end);
            }
        }
        assert_eq!(Stages::of(&[none], 0, Strides { pixels_per_slice: None }), Stages::default());
    }

    /// The segments of a part are those of the series, so that a part is read from the stored stream.
    #[test]
    fn a_part_has_the_segments_of_the_whole() {
        let ends: Vec<u32> = vec![10, 30, 70, 150];
        let slices = vec![ends.as_slice(); 21];
        let strides = Strides { pixels_per_slice: Some(1.0) };
        let whole = Stages::of(&slices, 0, strides);
        for range in [3..9, 0..1, 20..21, 8..17] {
            let part = Stages::of(&slices[range.clone()], range.start as u32, strides);
            let of_whole = whole.segments.iter().filter(|segment| range.contains(&segment.slice));
            let expected: Vec<_> = of_whole.map(|of| (of.slice - range.start, of.bytes.clone())).collect();
            let found: Vec<_> = part.segments.iter().map(|of| (of.slice, of.bytes.clone())).collect();
            assert_eq!(found, expected);
        }
    }
}
