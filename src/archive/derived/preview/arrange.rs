//! The order of slices and instances in a series.

use serde::{Deserialize, Serialize};

use crate::archive::derived::preview::geometry::{Geometry, dot};
use crate::dicom::uid::InstanceUid;
use crate::index::records::InstanceRecord;

/// Positions nearer to each other than this along the normal count as one.
const SAME_POSITION_MM: f64 = 1e-3;

/// The criterion that slices are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::archive) enum Order {
    /// Positions along the normal of the common plane, ascending.
    Space,
    /// Instance Number, SOP Instance UID, frame number.
    Number,
}

/// A slice or an instance with the values that determine its place in the series.
pub(in crate::archive) trait Placed {
    /// The geometry, of the first frame if there are several.
    fn geometry(&self) -> &Geometry;

    /// Instance Number, SOP Instance UID, frame number.
    fn number(&self) -> (Option<i64>, &InstanceUid, u32);
}

/// An instance with the values that determine its place in the series.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::archive) struct Source {
    pub(in crate::archive) instance: InstanceUid,
    /// The name of the stored object.
    pub(in crate::archive) object: String,
    pub(in crate::archive) instance_number: Option<i64>,
    pub(in crate::archive) number_of_frames: u32,
    /// The geometry of the first frame.
    pub(in crate::archive) geometry: Geometry,
    /// The record, as long as those of the series are few enough to be held.
    pub(in crate::archive) record: Option<Box<InstanceRecord>>,
}

impl Placed for Source {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn number(&self) -> (Option<i64>, &InstanceUid, u32) {
        (self.instance_number, &self.instance, 1)
    }
}

/// Puts slices or instances in order. Returns the criterion of the order, and the distance between neighbours
/// in mm.
pub(in crate::archive) fn arrange<T: Placed>(slices: &mut [T]) -> (Order, Option<f64>) {
    let by_number = |a: &T, b: &T| {
        // Instances without a number come last.
        let rank = |slice: &T| slice.number().0.unwrap_or(i64::MAX);
        let ((_, a_uid, a_frame), (_, b_uid, b_frame)) = (a.number(), b.number());
        rank(a).cmp(&rank(b)).then_with(|| (a_uid, a_frame).cmp(&(b_uid, b_frame)))
    };
    if !are_parallel(slices) {
        slices.sort_by(by_number);
        return (Order::Number, None);
    }
    let along = |slice: &T| slice.geometry().along_normal().map_or(0.0, |(_, distance)| distance);
    slices.sort_by(|a, b| along(a).total_cmp(&along(b)));
    // Several instances may have one position (times, echoes), up to the precision of the digits that were
    // sent.
    slices
        .chunk_by_mut(|a, b| (along(a) - along(b)).abs() < SAME_POSITION_MM)
        .for_each(|run| run.sort_by(by_number));
    let mut gaps: Vec<f64> = slices.windows(2).map(|pair| along(&pair[1]) - along(&pair[0])).collect();
    gaps.retain(|gap| *gap >= SAME_POSITION_MM);
    gaps.sort_by(f64::total_cmp);
    (Order::Space, gaps.get(gaps.len() / 2).copied())
}

/// Whether all slices have a position in the patient, in parallel planes.
fn are_parallel<T: Placed>(slices: &[T]) -> bool {
    let normal = |slice: &T| slice.geometry().along_normal().map(|(normal, _)| normal);
    let Some(first) = slices.first().and_then(normal) else { return false };
    slices.iter().all(|slice| normal(slice).is_some_and(|normal| dot(first, normal) > 0.999))
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
        let (instance, object) = (uid.parse().unwrap(), String::new());
        Source { instance, object, instance_number: number, number_of_frames: 1, geometry, record: None }
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
        assert_eq!(arrange::<Source>(&mut []), (Order::Number, None));
    }
}
