//! The format of the fast stream: an index, then a codestream for each slice (docs/fast-stream.md); and the
//! order of slices in a series.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::archive::derived::preview::geometry::{Geometry, dot};
use crate::dicom::uid::InstanceUid;
use crate::index::records::InstanceRecord;
use crate::pixel::preview::PreviewImage;

/// The first bytes of a stream.
const MAGIC: [u8; 8] = *b"CUSPIDST";
/// The version of the format: raised when a reader of the previous version would misread the stream.
const VERSION: u32 = 1;
/// Bytes of magic, version and length of the index.
pub(in crate::archive) const HEADER_BYTES: usize = 16;

/// The index of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::archive) struct Index {
    /// The number of slices in the series; the stream may hold a part of them.
    pub(in crate::archive) number_of_slices: u32,
    /// The criterion that the slices are ordered by.
    pub(in crate::archive) order: Order,
    /// The median distance from slice to slice in mm, if the slices are in order of space.
    pub(in crate::archive) slice_spacing: Option<f64>,
    /// The SOP Instance UIDs that the slices refer to.
    pub(in crate::archive) instances: Vec<InstanceUid>,
    /// The descriptions that the slices refer to.
    pub(in crate::archive) images: Vec<Description>,
    /// The slices in order.
    pub(in crate::archive) slices: Vec<Slice>,
}

/// The criterion that slices are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::archive) enum Order {
    /// Positions along the normal of the common plane, ascending.
    Space,
    /// Instance Number, SOP Instance UID, frame number.
    Number,
}

/// The properties that many slices have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::archive) struct Description {
    pub(in crate::archive) rows: u32,
    pub(in crate::archive) columns: u32,
    pub(in crate::archive) samples: u16,
    pub(in crate::archive) precision: u32,
    pub(in crate::archive) signed: bool,
    pub(in crate::archive) photometric: String,
    /// Pixels of the original that each side of a pixel covers.
    pub(in crate::archive) binning: u32,
    pub(in crate::archive) orientation: Option<[f64; 6]>,
    pub(in crate::archive) spacing: Option<[f64; 2]>,
    pub(in crate::archive) rescale: Option<[f64; 2]>,
    pub(in crate::archive) window: Option<[f64; 2]>,
}

/// A slice: one frame of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::archive) struct Slice {
    /// The place of the slice in the series, from 0.
    pub(in crate::archive) number: u32,
    /// The instance of the slice, from 0 in [`Index::instances`].
    pub(in crate::archive) instance: u32,
    /// The frame of the slice in its instance, from 1.
    pub(in crate::archive) frame: u32,
    /// The description of the slice, from 0 in [`Index::images`]; none if the slice could not be encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::archive) image: Option<u32>,
    /// The centre of the slice's first pixel in the patient, in mm.
    pub(in crate::archive) position: Option<[f64; 3]>,
    /// The start of the slice's codestream, in bytes from the end of the index.
    pub(in crate::archive) offset: u64,
    /// Bytes of the slice's codestream; 0 if the slice could not be encoded.
    pub(in crate::archive) length: u32,
    /// The end of each resolution of the codestream, the coarsest first, in bytes from the start of the
    /// codestream.
    pub(in crate::archive) resolutions: Vec<u32>,
    /// The reason why the slice could not be encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::archive) failure: Option<String>,
}

impl Index {
    /// The bytes of header and index at the start of a stream.
    pub(in crate::archive) fn head(&self) -> Vec<u8> {
        let text = self.text();
        [&header(text.len())[..], &text].concat()
    }

    /// The bytes of index and header at the end of a stored preview, after the codestreams.
    pub(in crate::archive) fn tail(&self) -> Vec<u8> {
        let text = self.text();
        [&text[..], &header(text.len())].concat()
    }

    /// The index of a part of the slices, and the range of their codestreams; `None` if there are fewer
    /// slices.
    pub(in crate::archive) fn part(mut self, slices: Range<u32>) -> Option<(Self, Range<u64>)> {
        self.slices = self.slices.get(slices.start as usize..slices.end as usize)?.to_vec();
        let start = self.slices.first()?.offset;
        let end = self.slices.last().map(|last| last.offset + u64::from(last.length))?;
        self.slices.iter_mut().for_each(|slice| slice.offset -= start);
        Some((self, start..end))
    }

    fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the index has no map with keys that are not text")
    }
}

fn header(index_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..].copy_from_slice(&(index_bytes as u32).to_le_bytes());
    header
}

/// The length of the index according to a header; `None` if the header is not one of this version.
pub(in crate::archive) fn index_bytes(header: &[u8]) -> Option<u64> {
    let header: &[u8; HEADER_BYTES] = header.try_into().ok()?;
    let (start, length) = header.split_at(12);
    let is_known = start[..8] == MAGIC && start[8..] == VERSION.to_le_bytes();
    is_known.then(|| length.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

impl Description {
    pub(in crate::archive) fn new(picture: &PreviewImage, geometry: &Geometry) -> Self {
        Self {
            rows: picture.shape.rows,
            columns: picture.shape.columns,
            samples: picture.shape.samples,
            precision: picture.precision,
            signed: picture.is_signed,
            photometric: picture.photometric.clone(),
            binning: picture.binning,
            orientation: geometry.orientation,
            spacing: geometry.spacing,
            rescale: geometry.rescale,
            window: geometry.window,
        }
    }
}

/// An instance with the values that determine its place in the series.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::archive) struct Source {
    pub(in crate::archive) instance: InstanceUid,
    pub(in crate::archive) instance_number: Option<i64>,
    pub(in crate::archive) number_of_frames: u32,
    /// The geometry of the first frame.
    pub(in crate::archive) geometry: Geometry,
    /// The record, as long as those of the series are few enough to be held.
    pub(in crate::archive) record: Option<Box<InstanceRecord>>,
}

/// Puts instances in order. Returns the criterion of the order, and the distance between instances in mm.
pub(in crate::archive) fn arrange(sources: &mut [Source]) -> (Order, Option<f64>) {
    let by_number = |a: &Source, b: &Source| {
        // Instances without a number come last.
        let number = |source: &Source| source.instance_number.unwrap_or(i64::MAX);
        number(a).cmp(&number(b)).then_with(|| a.instance.cmp(&b.instance))
    };
    if !are_parallel(sources) {
        sources.sort_by(by_number);
        return (Order::Number, None);
    }
    let along = |source: &Source| source.geometry.along_normal().map_or(0.0, |(_, distance)| distance);
    sources.sort_by(|a, b| along(a).total_cmp(&along(b)));
    // Several instances may have one position (times, echoes), up to the precision of the digits that were
    // sent.
    sources
        .chunk_by_mut(|a, b| (along(a) - along(b)).abs() < SAME_POSITION_MM)
        .for_each(|run| run.sort_by(by_number));
    let mut gaps: Vec<f64> = sources.windows(2).map(|pair| along(&pair[1]) - along(&pair[0])).collect();
    gaps.retain(|gap| *gap >= SAME_POSITION_MM);
    gaps.sort_by(f64::total_cmp);
    (Order::Space, gaps.get(gaps.len() / 2).copied())
}

/// Positions nearer to each other than this along the normal count as one.
const SAME_POSITION_MM: f64 = 1e-3;

/// Whether all instances are single frames with a position in the patient, in parallel planes.
fn are_parallel(sources: &[Source]) -> bool {
    let normal = |source: &Source| source.geometry.along_normal().map(|(normal, _)| normal);
    let Some(first) = sources.first().and_then(normal) else { return false };
    sources.iter().all(|source| {
        source.number_of_frames == 1 && normal(source).is_some_and(|normal| dot(first, normal) > 0.999)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uid: &str, number: Option<i64>, z: Option<f64>) -> Source {
        let geometry = Geometry {
            position: z.map(|z| [5.0, 6.0, z]),
            orientation: Some([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
            ..Geometry::default()
        };
        let instance = uid.parse().unwrap();
        Source { instance, instance_number: number, number_of_frames: 1, geometry, record: None }
    }

    fn order(sources: &[Source]) -> Vec<&str> {
        sources.iter().map(|source| source.instance.as_str()).collect()
    }

    #[test]
    fn slices_go_by_space_and_then_by_number() {
        let mut sources = [
            source("1.1", Some(1), Some(4.5)),
            source("1.2", Some(9), Some(-1.5)),
            source("1.3", Some(8), Some(-1.5)),
            source("1.4", None, Some(1.5)),
        ];
        assert_eq!(arrange(&mut sources), (Order::Space, Some(3.0)));
        assert_eq!(order(&sources), ["1.3", "1.2", "1.4", "1.1"]);
    }

    #[test]
    fn without_common_planes_slices_go_by_number_and_then_by_uid() {
        let mut sources = [
            source("1.4", None, Some(1.0)),
            source("1.3", Some(2), Some(2.0)),
            source("1.2", Some(2), None),
            source("1.1", Some(3), Some(3.0)),
        ];
        assert_eq!(arrange(&mut sources), (Order::Number, None));
        assert_eq!(order(&sources), ["1.2", "1.3", "1.1", "1.4"]);
        sources[1].geometry.orientation = Some([0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(arrange(&mut sources).0, Order::Number);
        assert_eq!(arrange(&mut []), (Order::Number, None));
    }

    fn index(lengths: &[u32]) -> Index {
        let mut offset = 0;
        let slices = lengths.iter().zip(0..).map(|(&length, number)| {
            offset += u64::from(length);
            Slice {
                number,
                instance: 0,
                frame: number + 1,
                image: Some(0),
                position: None,
                offset: offset - u64::from(length),
                length,
                resolutions: vec![length],
                failure: None,
            }
        });
        Index {
            number_of_slices: lengths.len() as u32,
            order: Order::Number,
            slice_spacing: None,
            instances: vec!["1.2".parse().unwrap()],
            images: Vec::new(),
            slices: slices.collect(),
        }
    }

    #[test]
    fn a_part_has_its_own_offsets_and_the_series_numbers() {
        let (part, bytes) = index(&[10, 20, 30]).part(1..3).unwrap();
        assert_eq!(bytes, 10..60);
        let slices: Vec<_> = part.slices.iter().map(|slice| (slice.number, slice.offset)).collect();
        assert_eq!(slices, [(1, 0), (2, 20)]);
        for slices in [3..4, 2..5, 1..1] {
            assert_eq!(index(&[10, 20, 30]).part(slices), None);
        }
    }

    #[test]
    fn head_and_tail_tell_the_length_of_the_index() {
        let index = index(&[1]);
        let (head, tail) = (index.head(), index.tail());
        let length = (head.len() - HEADER_BYTES) as u64;
        assert_eq!(index_bytes(&head[..HEADER_BYTES]), Some(length));
        assert_eq!(index_bytes(&tail[tail.len() - HEADER_BYTES..]), Some(length));
        assert_eq!(serde_json::from_slice::<Index>(&head[HEADER_BYTES..]).unwrap(), index);
        assert_eq!(index_bytes(&[0; HEADER_BYTES]), None);
    }
}
