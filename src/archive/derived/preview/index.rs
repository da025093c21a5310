//! The index at the start of a stream: JSON with a column for each property of the slices
//! (docs/fast-stream.md).

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::archive::derived::preview::arrange::Order;
use crate::archive::derived::preview::encoded::EncodedSlice;
use crate::archive::derived::preview::geometry::Geometry;
use crate::archive::derived::preview::stages::{Stage, Stages, Strides};
use crate::dicom::uid::InstanceUid;
use crate::pixel::preview::{ImageDescription, PreviewCodec};

/// The first bytes of a stream.
const MAGIC: [u8; 8] = *b"CUSPIDST";
/// The version of the format: raised when a reader of the previous version would misread the stream.
const VERSION: u32 = 2;
/// Bytes of magic, version and length of the index.
pub(super) const HEADER_BYTES: usize = 16;
/// The most by which a position may differ from one in equal steps, in mm.
const MAX_POSITION_ERROR_MM: f64 = 5e-4;

/// The slices of a stream, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents<'a> {
    /// Whether all slices of the series are encoded.
    pub(super) is_complete: bool,
    /// The slices of the series.
    pub(super) number_of_slices: u32,
    /// The place of the first slice of the stream in the series.
    pub(super) first_slice: u32,
    pub(super) order: Order,
    pub(super) slice_spacing: Option<f64>,
    pub(super) slices: &'a [EncodedSlice],
}

/// The first bytes of a stream, and the stages whose segments follow.
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    pub(super) stages: Stages,
}

impl<'a> Contents<'a> {
    /// A stream of all slices of a series.
    pub(super) fn whole(slices: &'a [EncodedSlice], order: Order, slice_spacing: Option<f64>) -> Self {
        let number_of_slices = slices.len() as u32;
        Self { is_complete: true, number_of_slices, first_slice: 0, order, slice_spacing, slices }
    }

    /// The header and the index of the stream.
    pub(super) fn head(&self) -> Head {
        let stages = self.stages();
        let text = serde_json::to_vec(&self.index(&stages)).expect("the index has no map");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + text.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&text);
        Head { bytes, stages }
    }

    /// The stages of the stream.
    pub(super) fn stages(&self) -> Stages {
        let ends =
            |slice: &EncodedSlice| slice.image.as_ref().map_or(Vec::new(), |image| image.level_ends.clone());
        let ends: Vec<Vec<u32>> = self.slices.iter().map(ends).collect();
        let ends: Vec<&[u32]> = ends.iter().map(Vec::as_slice).collect();
        let pixel = self.slices.iter().find_map(|slice| slice.geometry.spacing);
        let pixels_per_slice = pixel.zip(self.slice_spacing).map(|([rows, _], slices)| rows / slices);
        Stages::of(&ends, self.first_slice, Strides { pixels_per_slice })
    }

    fn index<'b>(&'b self, stages: &'b Stages) -> Index<'b> {
        let slices = self.slices;
        let mut instances = Numbered::default();
        let instance = slices.iter().map(|slice| instances.number(&slice.key.instance)).collect::<Vec<_>>();
        let mut images = Numbered::default();
        let image_of = |slice: &'b EncodedSlice| {
            slice.image.as_ref().ok().map(|image| images.number(image.description.as_ref()))
        };
        let image = slices.iter().map(image_of).collect::<Vec<_>>();
        let failures = slices.iter().zip(0..).filter_map(|(slice, place)| {
            Some(FailedSlice { slice: place, reason: slice.image.as_ref().err()? })
        });
        Index {
            state: if self.is_complete { "complete" } else { "partial" },
            codec: codec_name(&images.values),
            number_of_slices: self.number_of_slices,
            first_slice: self.first_slice,
            count: slices.len() as u32,
            order: self.order,
            slice_spacing: self.slice_spacing,
            psnr: psnr(slices),
            instances: Uids::of(&instances.values),
            images: images.values.into_iter().map(ImageEntry::of).collect(),
            instance: Column::of_numbers(instance),
            frame: Column::of_numbers(slices.iter().map(|slice| slice.key.frame).collect()),
            image: Column::of(image),
            position: Column::of_positions(slices.iter().map(|slice| slice.geometry.position).collect()),
            orientation: column(slices, |geometry| geometry.orientation),
            spacing: column(slices, |geometry| geometry.spacing),
            rescale: column(slices, |geometry| geometry.rescale),
            window: column(slices, |geometry| geometry.window),
            failures: failures.collect(),
            stages: &stages.stages,
            lengths: stages.segments.iter().map(|segment| segment.bytes.end - segment.bytes.start).collect(),
        }
    }
}

/// The name of the codec that a reader of all images needs. One for high-throughput images reads the others,
/// too.
fn codec_name(images: &[&ImageDescription]) -> &'static str {
    if images.iter().any(|image| image.codec() == PreviewCodec::HighThroughput) { "htj2k" } else { "j2k" }
}

fn column<T: PartialEq>(slices: &[EncodedSlice], value: impl Fn(&Geometry) -> T) -> Column<T> {
    Column::of(slices.iter().map(|slice| value(&slice.geometry)).collect())
}

#[derive(Serialize)]
struct Index<'a> {
    state: &'static str,
    codec: &'static str,
    number_of_slices: u32,
    first_slice: u32,
    count: u32,
    order: Order,
    slice_spacing: Option<f64>,
    psnr: Option<Psnr>,
    instances: Uids<'a>,
    images: Vec<ImageEntry<'a>>,
    instance: Column<u32>,
    frame: Column<u32>,
    image: Column<Option<u32>>,
    position: Column<Option<[f64; 3]>>,
    orientation: Column<Option<[f64; 6]>>,
    spacing: Column<Option<[f64; 2]>>,
    rescale: Column<Option<[f64; 2]>>,
    window: Column<Option<[f64; 2]>>,
    failures: Vec<FailedSlice<'a>>,
    stages: &'a [Stage],
    lengths: Vec<u32>,
}

/// A value for each slice.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Column<T> {
    /// The same for all.
    All { all: T },
    /// The first and then equal steps.
    Steps { first: T, step: T },
    /// One by one.
    Each { each: Vec<T> },
}

impl<T: PartialEq> Column<T> {
    fn of(mut values: Vec<T>) -> Self {
        if values.windows(2).all(|pair| pair[0] == pair[1])
            && let Some(all) = values.pop()
        {
            return Self::All { all };
        }
        Self::Each { each: values }
    }
}

impl Column<u32> {
    fn of_numbers(values: Vec<u32>) -> Self {
        let is_counting = values.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
        match values.first() {
            Some(&first) if values.len() > 1 && is_counting => Self::Steps { first, step: 1 },
            _ => Self::of(values),
        }
    }
}

impl Column<Option<[f64; 3]>> {
    fn of_positions(values: Vec<Option<[f64; 3]>>) -> Self {
        let steps = values.len().saturating_sub(1) as f64;
        if steps >= 2.0
            && let (Some(Some(first)), Some(Some(last))) = (values.first(), values.last())
        {
            let step: [f64; 3] = std::array::from_fn(|axis| (last[axis] - first[axis]) / steps);
            let is_near = |place: usize, position: &[f64; 3]| {
                (0..3).all(|axis| {
                    let expected = first[axis] + place as f64 * step[axis];
                    (position[axis] - expected).abs() <= MAX_POSITION_ERROR_MM
                })
            };
            if step != [0.0; 3]
                && values
                    .iter()
                    .enumerate()
                    .all(|(place, of)| of.is_some_and(|position| is_near(place, &position)))
            {
                return Self::Steps { first: Some(*first), step: Some(step) };
            }
        }
        Self::of(values)
    }
}

/// Values by the numbers that they get when they occur first.
struct Numbered<'a, T> {
    values: Vec<&'a T>,
    numbers: HashMap<&'a T, u32>,
}

impl<T> Default for Numbered<'_, T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<'a, T: Eq + std::hash::Hash> Numbered<'a, T> {
    fn number(&mut self, value: &'a T) -> u32 {
        *self.numbers.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() as u32 - 1
        })
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Uids<'a> {
    prefix: &'a str,
    rest: Vec<&'a str>,
}

impl<'a> Uids<'a> {
    fn of(uids: &[&'a InstanceUid]) -> Self {
        let first = uids.first().map_or("", |uid| uid.as_str());
        let common = |uid: &str| first.bytes().zip(uid.bytes()).take_while(|(a, b)| a == b).count();
        let shared = uids.iter().skip(1).map(|uid| common(uid.as_str())).min().unwrap_or(0);
        Self { prefix: &first[..shared], rest: uids.iter().map(|uid| &uid.as_str()[shared..]).collect() }
    }
}

#[derive(Serialize)]
struct ImageEntry<'a> {
    rows: u32,
    columns: u32,
    samples: u16,
    precision: u32,
    drop: u32,
    signed: bool,
    photometric: &'a str,
    binning: u32,
    lossless: bool,
    levels: u32,
    head: String,
}

impl<'a> ImageEntry<'a> {
    fn of(description: &'a ImageDescription) -> Self {
        let ImageDescription { shape, photometric, head, .. } = description;
        Self {
            rows: shape.rows,
            columns: shape.columns,
            samples: shape.samples,
            precision: description.precision,
            drop: description.dropped_bits,
            signed: description.is_signed,
            photometric,
            binning: description.binning,
            lossless: description.is_lossless,
            levels: description.levels,
            head: STANDARD.encode(head),
        }
    }
}

#[derive(Serialize)]
struct FailedSlice<'a> {
    slice: u32,
    reason: &'a str,
}

#[derive(Debug, PartialEq, Serialize)]
struct Psnr {
    db: f64,
    peak: u32,
    slices: u32,
}

/// The peak signal to noise ratio of the slices whose error was measured.
fn psnr(slices: &[EncodedSlice]) -> Option<Psnr> {
    let measured = slices.iter().filter_map(|slice| slice.image.as_ref().ok()?.error);
    let (mut squares, mut peak, mut count) = (0.0, 0, 0);
    for error in measured {
        squares += error.mean_square;
        peak = peak.max(error.peak);
        count += 1;
    }
    if count == 0 {
        return None;
    }
    let ratio = f64::from(peak).powi(2) / (squares / f64::from(count)).max(f64::MIN_POSITIVE);
    Some(Psnr { db: (1000.0 * ratio.log10()).round() / 100.0, peak, slices: count })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_short_as_they_can_be() {
        let text = |column: &dyn erased::Text| column.text();
        assert_eq!(text(&Column::of(vec![7, 7, 7])), json!({"all": 7}));
        assert_eq!(text(&Column::of(vec![None, Some(1)])), json!({"each": [null, 1]}));
        assert_eq!(text(&Column::<u32>::of(vec![])), json!({"each": []}));
        assert_eq!(text(&Column::of_numbers(vec![3, 4, 5])), json!({"first": 3, "step": 1}));
        assert_eq!(text(&Column::of_numbers(vec![3])), json!({"all": 3}));
        assert_eq!(text(&Column::of_numbers(vec![3, 4, 4])), json!({"each": [3, 4, 4]}));
        let at = |z: f64| Some([1.0, 2.0, z]);
        let regular = vec![at(0.0), at(0.5), at(1.0003), at(1.5)];
        assert_eq!(
            text(&Column::of_positions(regular)),
            json!({"first": [1.0, 2.0, 0.0], "step": [0.0, 0.0, 0.5]})
        );
        let gap = Column::of_positions(vec![at(0.0), at(0.5), at(2.0)]);
        assert!(matches!(gap, Column::Each { .. }));
        assert!(matches!(Column::of_positions(vec![at(0.0), None, at(2.0)]), Column::Each { .. }));
        assert!(matches!(Column::of_positions(vec![at(1.0); 3]), Column::All { .. }));
    }

    #[test]
    fn uids_share_their_beginning() {
        let uids: Vec<InstanceUid> = ["1.2.30", "1.2.31", "1.2.3"].map(|uid| uid.parse().unwrap()).to_vec();
        let found = Uids::of(&uids.iter().collect::<Vec<_>>());
        assert_eq!(found, Uids { prefix: "1.2.3", rest: vec!["0", "1", ""] });
        assert_eq!(Uids::of(&[&uids[0]]), Uids { prefix: "", rest: vec!["1.2.30"] });
        assert_eq!(Uids::of(&[]), Uids { prefix: "", rest: vec![] });
    }

    mod erased {
        pub(super) trait Text {
            fn text(&self) -> serde_json::Value;
        }

        impl<T: serde::Serialize> Text for super::Column<T> {
            fn text(&self) -> serde_json::Value {
                serde_json::to_value(self).unwrap()
            }
        }
    }
}
