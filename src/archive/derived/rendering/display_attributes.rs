//! The display of an instance's frames, read from its metadata: the Modality LUT, VOI LUT, Palette Color
//! Lookup Table and General Image modules (PS3.3 §C.11.1, §C.11.2, §C.7.9, §C.7.6.1), or the functional
//! groups of an enhanced multi-frame image (PS3.3 §C.7.6.16).

use std::time::Duration;

use serde::Deserialize;

use crate::dicom::frames::PixelLayout;
use crate::dicom::json_values::{JsonSequence, JsonValues};
use crate::dicom::metadata::Metadata;
use crate::pixel::render::lut::{self, Lut, Palette};
use crate::pixel::render::window::{Voi, VoiFunction, Window};
use crate::pixel::render::{Display, ModalityTransform};

/// The frame time where the metadata has no rate.
const USUAL_FRAME_TIME: Duration = Duration::from_millis(100);
/// The shortest frame time: browsers show frames with a shorter one for a tenth of a second.
const LEAST_FRAME_TIME: Duration = Duration::from_millis(20);

/// The attributes that are read from an instance's metadata.
#[derive(Debug, Default)]
pub(super) struct DisplayAttributes {
    plain: ImageModules,
    image: Image,
}

/// The attributes in the modules of an image, or in items of its functional groups.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ImageModules {
    #[serde(rename = "00281050", default)]
    window_center: JsonValues,
    #[serde(rename = "00281051", default)]
    window_width: JsonValues,
    #[serde(rename = "00281056", default)]
    voi_function: JsonValues,
    #[serde(rename = "00283010", default)]
    voi_luts: JsonSequence<Table>,
    #[serde(rename = "00281052", default)]
    intercept: JsonValues,
    #[serde(rename = "00281053", default)]
    slope: JsonValues,
    #[serde(rename = "00283000", default)]
    modality_luts: JsonSequence<Table>,
}

#[derive(Debug, Default, Deserialize)]
struct Image {
    #[serde(rename = "52009229", default)]
    shared: JsonSequence<Group>,
    #[serde(rename = "52009230", default)]
    per_frame: JsonSequence<Group>,
    #[serde(rename = "00280120", default)]
    padding: JsonValues,
    #[serde(rename = "00280121", default)]
    padding_limit: JsonValues,
    #[serde(rename = "20500020", default)]
    presentation_shape: JsonValues,
    #[serde(rename = "00281101", default)]
    red_descriptor: JsonValues,
    #[serde(rename = "00281102", default)]
    green_descriptor: JsonValues,
    #[serde(rename = "00281103", default)]
    blue_descriptor: JsonValues,
    #[serde(rename = "00281201", default)]
    red: JsonValues,
    #[serde(rename = "00281202", default)]
    green: JsonValues,
    #[serde(rename = "00281203", default)]
    blue: JsonValues,
    #[serde(rename = "00281221", default)]
    red_segments: JsonValues,
    #[serde(rename = "00281222", default)]
    green_segments: JsonValues,
    #[serde(rename = "00281223", default)]
    blue_segments: JsonValues,
    #[serde(rename = "00282000", default)]
    icc_profile: JsonValues,
    #[serde(rename = "00480105", default)]
    optical_paths: JsonSequence<OpticalPath>,
    #[serde(rename = "00181063", default)]
    frame_time: JsonValues,
    #[serde(rename = "00180040", default)]
    cine_rate: JsonValues,
    #[serde(rename = "00082144", default)]
    display_rate: JsonValues,
}

/// A functional group: the attributes that are read are in sequences of their own.
#[derive(Debug, Default, Deserialize)]
struct Group {
    #[serde(rename = "00289145", default)]
    pixel_value_transformation: JsonSequence<ImageModules>,
    #[serde(rename = "00289132", default)]
    frame_voi_lut: JsonSequence<ImageModules>,
}

#[derive(Debug, Default, Deserialize)]
struct OpticalPath {
    #[serde(rename = "00282000", default)]
    icc_profile: JsonValues,
}

/// An item of a sequence of look-up tables.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Table {
    #[serde(rename = "00283002", default)]
    descriptor: JsonValues,
    #[serde(rename = "00283006", default)]
    data: JsonValues,
}

impl DisplayAttributes {
    /// Reads the metadata. If the metadata cannot be read, every value is unknown: the pixels can be shown
    /// all the same.
    pub(super) fn read(metadata: &Metadata) -> Self {
        let mut text = Vec::new();
        match metadata.write_text("", &mut text) {
            Ok(()) => Self::parse(&text),
            Err(_) => Self::default(),
        }
    }

    pub(super) fn parse(text: &[u8]) -> Self {
        Self {
            plain: serde_json::from_slice(text).unwrap_or_default(),
            image: serde_json::from_slice(text).unwrap_or_default(),
        }
    }

    /// The display of frame `index` (from 0): from its own functional groups, then the shared ones, then the
    /// image's modules.
    pub(super) fn display(&self, layout: &PixelLayout, index: u32) -> Display {
        let groups = [self.image.per_frame.items.get(index as usize), self.image.shared.items.first()];
        let groups = || groups.into_iter().flatten();
        let transformations = groups().flat_map(|group| &group.pixel_value_transformation.items);
        let voi_luts = groups().flat_map(|group| &group.frame_voi_lut.items);
        let mut modalities = transformations.chain([&self.plain]).filter_map(|plain| plain.modality(layout));
        let modality = modalities.next().unwrap_or(ModalityTransform::Linear { slope: 1.0, intercept: 0.0 });
        let is_signed = has_negative_values(&modality, layout);
        let voi = voi_luts.chain([&self.plain]).find_map(|plain| plain.voi(is_signed));
        let is_inverse = self.image.presentation_shape.text() == Some("INVERSE");
        Display {
            modality,
            voi: voi.unwrap_or(Voi::Full),
            presentation: None,
            is_inverted: layout.photometric == "MONOCHROME1" || is_inverse,
            padding: self.image.padding(layout),
            palette: self.image.palette(layout),
        }
    }

    /// The ICC profile of the image, if the profile is in the metadata.
    pub(super) fn icc_profile(&self) -> Option<Vec<u8>> {
        let of_paths = self.image.optical_paths.items.iter().map(|path| &path.icc_profile);
        [&self.image.icc_profile].into_iter().chain(of_paths).find_map(JsonValues::bytes)
    }

    /// The time for which each frame is shown.
    pub(super) fn frame_time(&self) -> Duration {
        let Image { frame_time, cine_rate, display_rate, .. } = &self.image;
        let by_rate = [cine_rate, display_rate].map(|rate| rate.number().map(|rate| 1.0 / rate));
        let seconds = [frame_time.number().map(|time| time / 1000.0)].into_iter().chain(by_rate);
        let mut times = seconds.flatten().filter(|&seconds| seconds > 0.0);
        let time = times.find_map(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.unwrap_or(USUAL_FRAME_TIME).max(LEAST_FRAME_TIME)
    }
}

impl ImageModules {
    /// The modality LUT, if there is one.
    pub(super) fn modality(&self, layout: &PixelLayout) -> Option<ModalityTransform> {
        if let Some(table) = self.modality_luts.items.first().and_then(|item| item.read(layout.is_signed)) {
            return Some(ModalityTransform::Table(table));
        }
        let (slope, intercept) = (self.slope.number()?, self.intercept.number()?);
        (slope != 0.0).then_some(ModalityTransform::Linear { slope, intercept })
    }

    /// The first VOI LUT, or else the first window that can be used. The LUT goes first because it is more
    /// precise.
    pub(super) fn voi(&self, is_signed: bool) -> Option<Voi> {
        if let Some(table) = self.voi_luts.items.first().and_then(|item| item.read(is_signed)) {
            return Some(Voi::Table(table));
        }
        let function = match self.voi_function.text() {
            Some("LINEAR_EXACT") => VoiFunction::LinearExact,
            Some("SIGMOID") => VoiFunction::Sigmoid,
            _ => VoiFunction::Linear,
        };
        let (center, width) = (self.window_center.number()?, self.window_width.number()?);
        let window = Window { center, width, function };
        window.is_usable().then_some(Voi::Window(window))
    }
}

impl Table {
    pub(super) fn read(&self, is_signed: bool) -> Option<Lut> {
        Lut::read(descriptor(&self.descriptor)?, &self.data.bytes()?, is_signed).map(lut::scaled)
    }
}

impl Image {
    fn palette(&self, layout: &PixelLayout) -> Option<Palette> {
        let table = |described: &JsonValues, data: &JsonValues, segments: &JsonValues| {
            let descriptor = descriptor(described)?;
            match data.bytes() {
                Some(data) => Lut::read(descriptor, &data, layout.is_signed),
                None => Lut::read_segments(descriptor, &segments.bytes()?, layout.is_signed),
            }
        };
        Some(lut::palette([
            table(&self.red_descriptor, &self.red, &self.red_segments)?,
            table(&self.green_descriptor, &self.green, &self.green_segments)?,
            table(&self.blue_descriptor, &self.blue, &self.blue_segments)?,
        ]))
    }

    /// The range of padding (PS3.3 §C.7.5.1.1.2). Its sign is that of the pixels, whatever VR the value was
    /// sent with.
    fn padding(&self, layout: &PixelLayout) -> Option<[i64; 2]> {
        let number = |values: &JsonValues| {
            let number = values.number()? as i64;
            Some(match (layout.bits_allocated, layout.is_signed) {
                (..=16, true) => i64::from(number as i16),
                (..=16, false) => i64::from(number as u16),
                _ => number,
            })
        };
        let value = number(&self.padding)?;
        let limit = number(&self.padding_limit).unwrap_or(value);
        Some([value.min(limit), value.max(limit)])
    }
}

/// A descriptor of three values. Some senders leave out the last, the bits of an entry.
fn descriptor(values: &JsonValues) -> Option<[i64; 3]> {
    let bits = values.numbers().map(|[.., bits]: [f64; 3]| bits).unwrap_or(16.0);
    let [count, first] = values.numbers()?;
    Some([count, first, bits].map(|number| number as i64))
}

/// Whether values after the modality LUT may be negative.
pub(super) fn has_negative_values(modality: &ModalityTransform, layout: &PixelLayout) -> bool {
    let ModalityTransform::Linear { slope, intercept } = modality else { return false };
    let count = 2_f64.powi(layout.bits_stored.into());
    let ends = if layout.is_signed { [-count / 2.0, count / 2.0 - 1.0] } else { [0.0, count - 1.0] };
    ends.iter().any(|end| end * slope + intercept < 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn layout(bits_stored: u16, is_signed: bool, photometric: &str) -> PixelLayout {
        PixelLayout {
            rows: 1,
            columns: 1,
            samples: 1,
            bits_allocated: bits_stored.next_multiple_of(8),
            bits_stored,
            high_bit: bits_stored - 1,
            is_signed,
            photometric: photometric.into(),
            is_planar: false,
            number_of_frames: 1,
        }
    }

    fn described(text: &Value) -> DisplayAttributes {
        DisplayAttributes::parse(text.to_string().as_bytes())
    }

    fn window(center: f64, width: f64, function: VoiFunction) -> Voi {
        Voi::Window(Window { center, width, function })
    }

    #[test]
    fn a_frame_has_its_own_groups_then_the_shared_ones_then_the_modules() {
        let voi = |center: f64| {
            json!({"vr": "SQ", "Value": [{
                "00281050": {"vr": "DS", "Value": [center]}, "00281051": {"vr": "DS", "Value": [10]}
            }]})
        };
        let rescale = json!({"vr": "SQ", "Value": [{
            "00281052": {"vr": "DS", "Value": ["-1024"]}, "00281053": {"vr": "DS", "Value": [2]}
        }]});
        let text = json!({
            "00281050": {"vr": "DS", "Value": [1, 99]}, "00281051": {"vr": "DS", "Value": [10, 99]},
            "00281056": {"vr": "CS", "Value": ["SIGMOID"]},
            "52009229": {"vr": "SQ", "Value": [{"00289132": voi(2.0), "00289145": rescale}]},
            "52009230": {"vr": "SQ", "Value": [{}, {"00289132": voi(3.0)}]}
        });
        let described = described(&text);
        for (frame, center) in [(0, 2.0), (1, 3.0), (2, 2.0)] {
            let display = described.display(&layout(12, false, "MONOCHROME2"), frame);
            assert_eq!(display.voi, window(center, 10.0, VoiFunction::Linear));
            assert_eq!(display.modality, ModalityTransform::Linear { slope: 2.0, intercept: -1024.0 });
        }
        let mut plain = text;
        plain.as_object_mut().unwrap().remove("52009229");
        let display = self::described(&plain).display(&layout(12, false, "MONOCHROME2"), 0);
        assert_eq!(display.voi, window(1.0, 10.0, VoiFunction::Sigmoid));
    }

    #[test]
    fn what_cannot_be_used_is_not_there() {
        let zero = json!({
            "00281050": {"vr": "DS", "Value": [5]}, "00281051": {"vr": "DS", "Value": [0]},
            "00281052": {"vr": "DS", "Value": [5]}, "00281053": {"vr": "DS", "Value": [0]},
            "00283010": {"vr": "SQ", "Value": [{"00283002": {"vr": "US", "Value": [2, 0, 16]}}]}
        });
        for text in [json!({}), zero, json!({"00283010": {"vr": "SQ", "Value": 7}})] {
            assert_eq!(described(&text).display(&layout(12, true, "MONOCHROME2"), 0), Display::default());
        }
    }

    #[test]
    fn tables_know_whether_their_first_value_is_negative() {
        let text = json!({
            "00281052": {"vr": "DS", "Value": [-1024]}, "00281053": {"vr": "DS", "Value": [1]},
            "00281050": {"vr": "DS", "Value": [5]}, "00281051": {"vr": "DS", "Value": [10]},
            "00283010": {"vr": "SQ", "Value": [{
                "00283002": {"vr": "US", "Value": [2, 65535, 8]}, "00283006": {"vr": "OW", "InlineBinary": "AQI="}
            }]}
        });
        let display = described(&text).display(&layout(12, false, "MONOCHROME2"), 0);
        let Voi::Table(lut) = display.voi else { panic!("no table") };
        assert_eq!((lut.entry(-1), lut.entry(0)), (1, 2));
    }

    #[test]
    fn inversion_and_padding_are_read() {
        let text = json!({
            "20500020": {"vr": "CS", "Value": ["INVERSE"]},
            "00280120": {"vr": "US", "Value": [63536]}, "00280121": {"vr": "SS", "Value": [-2010]}
        });
        for (text, photometric, is_inverted) in [
            (&text, "MONOCHROME2", true),
            (&text, "MONOCHROME1", true),
            (&json!({}), "MONOCHROME1", true),
            (&json!({}), "MONOCHROME2", false),
        ] {
            let display = described(text).display(&layout(16, true, photometric), 0);
            assert_eq!(display.is_inverted, is_inverted);
        }
        let padding = |is_signed| described(&text).display(&layout(16, is_signed, "MONOCHROME2"), 0).padding;
        assert_eq!((padding(true), padding(false)), (Some([-2010, -2000]), Some([63526, 63536])));
    }

    #[test]
    fn a_palette_is_whole_or_none() {
        let mut text = json!({});
        for channel in 1..=3 {
            text[format!("0028110{channel}")] = json!({"vr": "US", "Value": [2, 0, 8]});
            let (tag, data) = if channel == 2 { ("0028122", "AAIBAg==") } else { ("0028120", "AQI=") };
            text[format!("{tag}{channel}")] = json!({"vr": "OW", "InlineBinary": data});
        }
        let layout = layout(8, false, "PALETTE COLOR");
        let palette = described(&text).display(&layout, 0).palette.unwrap();
        assert_eq!(palette.map(|table| table.entry(1)), [2, 2, 2]);
        text.as_object_mut().unwrap().remove("00281203");
        assert_eq!(described(&text).display(&layout, 0).palette, None);
    }

    #[test]
    fn frames_are_seen_for_as_long_as_is_told() {
        for (text, milliseconds) in [
            (json!({"00181063": {"vr": "DS", "Value": ["33.3"]}}), 33),
            (json!({"00180040": {"vr": "IS", "Value": [25]}, "00181063": {"vr": "DS"}}), 40),
            (json!({"00082144": {"vr": "IS", "Value": [1000]}}), 20),
            (json!({"00180040": {"vr": "IS", "Value": [0]}}), 100),
            (json!({"00181063": {"vr": "DS", "Value": [1e300]}}), 100),
            (json!({}), 100),
        ] {
            assert_eq!(described(&text).frame_time().as_millis(), milliseconds, "{text}");
        }
    }
}
