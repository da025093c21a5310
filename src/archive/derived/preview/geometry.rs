//! The place of a frame's pixels in the patient and the meaning of their values, read from an instance's
//! metadata: the Image Plane, Modality LUT and VOI LUT modules (PS3.3 §C.7.6.2, §C.11.1, §C.11.2) or the
//! functional groups of an enhanced multi-frame image (PS3.3 §C.7.6.16).

use serde::{Deserialize, Serialize};

use crate::dicom::json_values::{JsonSequence, JsonValues};
use crate::dicom::metadata::Metadata;

/// The geometry of a frame; a value that was not sent, or cannot be read, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::archive) struct Geometry {
    /// Image Position (Patient) (0020,0032): the centre of the first pixel, in mm.
    pub(in crate::archive) position: Option<[f64; 3]>,
    /// Image Orientation (Patient) (0020,0037): along a row, then along a column.
    pub(in crate::archive) orientation: Option<[f64; 6]>,
    /// Pixel Spacing (0028,0030), or without it Imager Pixel Spacing (0018,1164), which is at the detector of
    /// a projection image: between rows, then between columns, in mm.
    pub(in crate::archive) spacing: Option<[f64; 2]>,
    /// Rescale Slope (0028,1053) and Intercept (0028,1052).
    pub(in crate::archive) rescale: Option<[f64; 2]>,
    /// The first Window Center (0028,1050) and Width (0028,1051).
    pub(in crate::archive) window: Option<[f64; 2]>,
}

impl Geometry {
    /// The normal of the image plane, and the position's distance along it, in mm.
    pub(in crate::archive) fn along_normal(&self) -> Option<([f64; 3], f64)> {
        let ([ax, ay, az, bx, by, bz], position) = (self.orientation?, self.position?);
        let normal = [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx];
        Some((normal, dot(normal, position)))
    }

    /// The geometry when `binning` × `binning` pixels become one: the centre of the first pixel moves.
    pub(in crate::archive) fn binned(self, binning: u32) -> Self {
        let shift = f64::from(binning - 1) / 2.0;
        let mut binned = self.beginning_at(shift, shift);
        binned.spacing = binned.spacing.map(|spacing| spacing.map(|distance| distance * f64::from(binning)));
        binned
    }

    /// The geometry of the part of the image whose first pixel is so many columns to the right, and so many
    /// rows down.
    pub(in crate::archive) fn beginning_at(mut self, column: f64, row: f64) -> Self {
        if let (Some(position), Some([ax, ay, az, bx, by, bz]), Some([rows, columns])) =
            (&mut self.position, self.orientation, self.spacing)
        {
            for (place, (along_row, along_column)) in position.iter_mut().zip([(ax, bx), (ay, by), (az, bz)])
            {
                *place += column * columns * along_row + row * rows * along_column;
            }
        }
        self
    }
}

pub(in crate::archive) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The attributes that are read from an instance's metadata.
#[derive(Debug, Default)]
pub(in crate::archive) struct GeometryAttributes {
    plain: PlainGeometry,
    groups: Groups,
}

#[derive(Debug, Default, Deserialize)]
struct Groups {
    #[serde(rename = "52009229", default)]
    shared: JsonSequence<Group>,
    #[serde(rename = "52009230", default)]
    per_frame: JsonSequence<Group>,
}

#[derive(Debug, Default, Deserialize)]
struct PlainGeometry {
    #[serde(rename = "00200013", default)]
    instance_number: JsonValues,
    #[serde(rename = "00200032", default)]
    position: JsonValues,
    #[serde(rename = "00200037", default)]
    orientation: JsonValues,
    #[serde(rename = "00280030", default)]
    spacing: JsonValues,
    #[serde(rename = "00181164", default)]
    imager_spacing: JsonValues,
    #[serde(rename = "00281052", default)]
    intercept: JsonValues,
    #[serde(rename = "00281053", default)]
    slope: JsonValues,
    #[serde(rename = "00281050", default)]
    window_center: JsonValues,
    #[serde(rename = "00281051", default)]
    window_width: JsonValues,
}

/// A functional group: each attribute is in a sequence of its own.
#[derive(Debug, Default, Deserialize)]
struct Group {
    #[serde(rename = "00209113", default)]
    plane_position: JsonSequence<PlainGeometry>,
    #[serde(rename = "00209116", default)]
    plane_orientation: JsonSequence<PlainGeometry>,
    #[serde(rename = "00289110", default)]
    pixel_measures: JsonSequence<PlainGeometry>,
    #[serde(rename = "00289145", default)]
    pixel_value_transformation: JsonSequence<PlainGeometry>,
    #[serde(rename = "00289132", default)]
    frame_voi_lut: JsonSequence<PlainGeometry>,
}

impl PlainGeometry {
    fn geometry(&self) -> Geometry {
        let pair = |first: &JsonValues, second: &JsonValues| Some([first.number()?, second.number()?]);
        Geometry {
            position: self.position.numbers(),
            orientation: self.orientation.numbers(),
            spacing: self.spacing.numbers().or_else(|| self.imager_spacing.numbers()),
            rescale: pair(&self.slope, &self.intercept),
            window: pair(&self.window_center, &self.window_width),
        }
    }
}

impl Group {
    fn geometry(&self) -> Geometry {
        let first = |sequence: &JsonSequence<PlainGeometry>| {
            sequence.items.first().map(PlainGeometry::geometry).unwrap_or_default()
        };
        Geometry {
            position: first(&self.plane_position).position,
            orientation: first(&self.plane_orientation).orientation,
            spacing: first(&self.pixel_measures).spacing,
            rescale: first(&self.pixel_value_transformation).rescale,
            window: first(&self.frame_voi_lut).window,
        }
    }
}

impl GeometryAttributes {
    /// Reads the metadata. If the metadata cannot be read, every value is unknown: the pixels can be shown
    /// all the same.
    pub(in crate::archive) fn read(metadata: &Metadata) -> Self {
        let mut text = Vec::new();
        match metadata.write_text("", &mut text) {
            Ok(()) => Self::parse(&text),
            Err(_) => Self::default(),
        }
    }

    fn parse(text: &[u8]) -> Self {
        Self {
            plain: serde_json::from_slice(text).unwrap_or_default(),
            groups: serde_json::from_slice(text).unwrap_or_default(),
        }
    }

    /// Instance Number (0020,0013).
    pub(in crate::archive) fn instance_number(&self) -> Option<i64> {
        self.plain.instance_number.number().map(|number| number as i64)
    }

    /// The geometry of frame `index` (from 0): from its own functional groups, then the shared ones, then the
    /// image's modules.
    pub(in crate::archive) fn frame(&self, index: u32) -> Geometry {
        let own = self.groups.per_frame.items.get(index as usize).map(Group::geometry).unwrap_or_default();
        let shared = self.groups.shared.items.first().map(Group::geometry).unwrap_or_default();
        let plain = self.plain.geometry();
        Geometry {
            position: own.position.or(shared.position).or(plain.position),
            orientation: own.orientation.or(shared.orientation).or(plain.orientation),
            spacing: own.spacing.or(shared.spacing).or(plain.spacing),
            rescale: own.rescale.or(shared.rescale).or(plain.rescale),
            window: own.window.or(shared.window).or(plain.window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_own_groups_then_the_shared_ones_then_the_modules() {
        let text = serde_json::json!({
            "00200013": {"vr": "IS", "Value": ["7"]},
            "00280030": {"vr": "DS", "Value": [0.5, "0.25"]},
            "00281050": {"vr": "DS"},
            "00200032": {"vr": "DS", "Value": [1, null, 3]},
            "52009229": {"vr": "SQ", "Value": [
                {"00209116": {"vr": "SQ", "Value": [{"00200037": {"vr": "DS", "Value": [1, 0, 0, 0, 1, 0]}}]}}
            ]},
            "52009230": {"vr": "SQ", "Value": [
                {},
                {"00209113": {"vr": "SQ", "Value": [{"00200032": {"vr": "DS", "Value": [1, 2, 3]}}]}}
            ]}
        });
        let described = GeometryAttributes::parse(text.to_string().as_bytes());
        let frame = described.frame(1);
        assert_eq!(frame.position, Some([1.0, 2.0, 3.0]));
        assert_eq!(frame.along_normal(), Some(([0.0, 0.0, 1.0], 3.0)));
        assert_eq!((frame.spacing, frame.window), (Some([0.5, 0.25]), None));
        assert_eq!(described.frame(0).position, None);
        assert_eq!(described.instance_number(), Some(7));
        assert_eq!(frame.clone().binned(2).position, Some([1.125, 2.25, 3.0]));
        assert_eq!(frame.beginning_at(4.0, 2.0).position, Some([2.0, 3.0, 3.0]));
    }
}
