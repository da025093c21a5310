//! The attributes of a slice that was cut out: those of its source, but what the cut changes (PS3.3
//! §C.7.6.1, §C.7.6.2, §C.7.6.3, §C.12.4). Frames of multi-frame images become single-frame images: their
//! functional groups (PS3.3 §C.7.6.16) become attributes of the image.

use serde_json::{Map, Value as Json, json};

use crate::archive::Error;
use crate::archive::derived::preview::geometry::Geometry;
use crate::dicom::attributes::Tag;
use crate::dicom::json_values::JsonValues;
use crate::dicom::metadata::Metadata;
use crate::dicom::uids::{
    CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE, ENHANCED_MR_IMAGE_STORAGE,
    LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE, LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE, MR_IMAGE_STORAGE,
    SECONDARY_CAPTURE_IMAGE_STORAGE,
};

/// A data set in the DICOM JSON model.
pub(super) type DataSetJson = Map<String, Json>;

/// The attributes of an instance.
pub(super) struct SourceAttributes {
    plain: DataSetJson,
    shared: Json,
    per_frame: Vec<Json>,
}

/// The attributes in which a slice differs from its source.
pub(super) struct CutAttributes<'a> {
    pub(super) series: &'a str,
    pub(super) instance: &'a str,
    /// Instance Number, from 1.
    pub(super) number: usize,
    /// The geometry of the slice.
    pub(super) geometry: &'a Geometry,
    /// The slices, rows and columns that became one.
    pub(super) side: u32,
    /// The distance between the slices of the cut-out, in mm.
    pub(super) distance: Option<f64>,
    /// The distance between the slices of the source, in mm, if several became one.
    pub(super) source_distance: Option<f64>,
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// Bits Allocated, Bits Stored.
    pub(super) bits: [u16; 2],
    pub(super) is_signed: bool,
    pub(super) is_lossy: bool,
    pub(super) description: &'a str,
    pub(super) sources: &'a [SourceReference],
}

/// A frame that a slice is made of.
pub(super) struct SourceReference {
    pub(super) sop_class: String,
    pub(super) instance: String,
    /// The frame, from 1, of an image with several.
    pub(super) frame: Option<u32>,
}

const SOP_CLASS_UID: &str = "00080016";
const IMAGE_TYPE: &str = "00080008";
const MODALITY: &str = "00080060";
const SERIES_DESCRIPTION: &str = "0008103E";
const SLICE_THICKNESS: &str = "00180050";
const LOSSY_IMAGE_COMPRESSION: &str = "00282110";
/// The longest value of LO (PS3.5 §6.2).
const MAX_LO_CHARACTERS: usize = 64;

/// The attributes of functional groups that a single-frame image has as its own: the sequence, then the
/// attributes in its item.
const LIFTED: [(&str, &[&str]); 5] = [
    ("00209113", &["00200032"]),
    ("00209116", &["00200037"]),
    ("00289110", &["00280030", SLICE_THICKNESS, "00180088"]),
    ("00289145", &["00281052", "00281053", "00281054"]),
    ("00289132", &["00281050", "00281051", "00281055", "00281056"]),
];

/// Attributes that are not true of the slice, or that only a multi-frame image has: creation of the instance,
/// Alternate Representation, frames, concatenations, dimensions, smallest and largest values, the detector's
/// spacing, icon, functional groups, digital signatures.
#[rustfmt::skip]
const LEFT_OUT: [&str; 30] = [
    "00080012", "00080013", "00080014", "00083001", "00181063", "00181065",
    "00200242", "00209161", "00209162", "00209163", "00209167", "00209221", "00209222", "00209228", "00209311",
    "00280008", "00280009", "0028000A", "00280106", "00280107", "00280108", "00280109", "00280110", "00280111",
    "00287FE0", "00880200", "52009229", "52009230", "FFFAFFFA", "4FFE0001",
];
/// Attributes that averages make untrue as well: Slice Location, Imager Pixel Spacing.
const LEFT_OUT_OF_AVERAGES: [&str; 2] = ["00201041", "00181164"];
/// The groups of curves, overlays, waveforms and pixel data.
const LEFT_OUT_GROUPS: [&str; 5] = ["50", "54", "60", "7F", "0002"];

/// Attributes that a single-frame CT or MR image must have, for a frame whose image has none of them.
const NEEDED_IN_CT: [(&str, &str, Option<&str>); 5] = [
    (SLICE_THICKNESS, "DS", None),
    ("00180060", "DS", None),
    ("00200012", "IS", None),
    ("00281052", "DS", Some("0")),
    ("00281053", "DS", Some("1")),
];
const NEEDED_IN_MR: [(&str, &str, Option<&str>); 7] = [
    ("00180020", "CS", Some("RM")),
    ("00180021", "CS", Some("NONE")),
    ("00180022", "CS", None),
    ("00180023", "CS", None),
    (SLICE_THICKNESS, "DS", None),
    ("00180081", "DS", None),
    ("00180091", "IS", None),
];
const NEEDED_IN_SECONDARY_CAPTURE: [(&str, &str, Option<&str>); 1] = [("00080064", "CS", Some("WSD"))];

impl SourceAttributes {
    /// Reads the attributes, without private ones and bulk values.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the metadata cannot be read.
    pub(super) fn read(metadata: &Metadata) -> Result<Self, Error> {
        let damaged = || Error::Damaged("the metadata of an instance cannot be read".into());
        let mut text = Vec::new();
        metadata.write_text("", &mut text).map_err(|_| damaged())?;
        let plain = serde_json::from_slice(&text).map_err(|_| damaged())?;
        Ok(Self::of(plain))
    }

    fn of(mut plain: DataSetJson) -> Self {
        leave_out(&mut plain);
        let mut items = |tag: &str| match plain.remove(tag).as_mut().and_then(|found| found.get_mut("Value"))
        {
            Some(Json::Array(items)) => std::mem::take(items),
            _ => Vec::new(),
        };
        let (shared, per_frame) = (items("52009229"), items("52009230"));
        plain.retain(|tag, _| !LEFT_OUT.contains(&tag.as_str()));
        Self { plain, shared: shared.into_iter().next().unwrap_or_default(), per_frame }
    }

    /// Whether the image itself says that it was compressed with loss (PS3.3 §C.7.6.1.1.5).
    pub(super) fn is_lossy(&self) -> bool {
        text(&self.plain, LOSSY_IMAGE_COMPRESSION).is_some_and(|stated| stated == "01")
    }

    /// Pixel Padding Value and Pixel Padding Range Limit, which is the value itself if there is none.
    pub(super) fn padding(&self) -> Option<[i64; 2]> {
        let number = |tag: &str| values(&self.plain, tag).number().map(|number| number as i64);
        let value = number("00280120")?;
        Some([value, number("00280121").unwrap_or(value)])
    }

    /// The attributes of a frame (from 1) as a single-frame image.
    pub(super) fn of_frame(&self, frame: u32, number_of_frames: u32) -> DataSetJson {
        let mut image = self.plain.clone();
        let own = self.per_frame.get(frame as usize - 1).unwrap_or(&Json::Null);
        for (sequence, tags) in LIFTED {
            for tag in tags {
                let of = |groups: &Json| groups[sequence]["Value"][0].get(*tag).cloned();
                if let Some(attribute) = of(own).or_else(|| of(&self.shared)) {
                    image.insert((*tag).to_owned(), attribute);
                }
            }
        }
        if number_of_frames > 1 || !self.per_frame.is_empty() || !self.shared.is_null() {
            become_single_frame(&mut image);
        }
        image
    }
}

/// Removes private attributes, groups that are not true of a slice, and values that are elsewhere.
fn leave_out(data_set: &mut DataSetJson) {
    data_set.retain(|tag, attribute| {
        let is_left_out = LEFT_OUT_GROUPS.iter().any(|start| tag.starts_with(start));
        let is_private = tag.parse::<Tag>().is_ok_and(Tag::is_private);
        if is_private || is_left_out || attribute.get("BulkDataURI").is_some() {
            return false;
        }
        if let Some(Json::Array(items)) = attribute.get_mut("Value") {
            items.iter_mut().filter_map(Json::as_object_mut).for_each(|item| {
                // The groups of a name are no attributes.
                if item.keys().all(|key| key.parse::<Tag>().is_ok()) {
                    leave_out(item);
                }
            });
        }
        true
    });
}

/// Gives a frame the class of a single-frame image, and what that class needs.
fn become_single_frame(image: &mut DataSetJson) {
    let class = text(image, SOP_CLASS_UID).unwrap_or_default();
    let modality = text(image, MODALITY).unwrap_or_default();
    let (class, kind, needed): (_, _, &[_]) = match class.as_str() {
        CT_IMAGE_STORAGE | MR_IMAGE_STORAGE => return,
        ENHANCED_CT_IMAGE_STORAGE | LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE => {
            (CT_IMAGE_STORAGE, "AXIAL", &NEEDED_IN_CT)
        }
        ENHANCED_MR_IMAGE_STORAGE | LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE => {
            (MR_IMAGE_STORAGE, "OTHER", &NEEDED_IN_MR)
        }
        _ if modality == "CT" => (CT_IMAGE_STORAGE, "AXIAL", &NEEDED_IN_CT),
        _ => (SECONDARY_CAPTURE_IMAGE_STORAGE, "", &NEEDED_IN_SECONDARY_CAPTURE),
    };
    set(image, SOP_CLASS_UID, "UI", vec![class.into()]);
    let kind = ["ORIGINAL", "PRIMARY", kind].into_iter().filter(|value| !value.is_empty());
    set(image, IMAGE_TYPE, "CS", kind.map(Json::from).collect());
    for (tag, vr, value) in needed {
        if image.get(*tag).is_none() {
            set(image, tag, vr, value.iter().map(|value| Json::from(*value)).collect());
        }
    }
}

/// Changes the attributes of a source to those of the slice.
pub(super) fn change(image: &mut DataSetJson, cut: &CutAttributes<'_>) {
    let one = |value: Json| vec![value];
    let derived = ["DERIVED".into(), "SECONDARY".into()];
    let kinds = image.get(IMAGE_TYPE).and_then(|kinds| kinds["Value"].as_array()).cloned();
    let kinds = derived.into_iter().chain(kinds.unwrap_or_default().into_iter().skip(2));
    set(image, IMAGE_TYPE, "CS", kinds.collect());
    set(image, "00080018", "UI", one(cut.instance.into()));
    set(image, "0020000E", "UI", one(cut.series.into()));
    set(image, "00200013", "IS", one(cut.number.into()));
    let description = text(image, SERIES_DESCRIPTION).unwrap_or_default();
    let description = format!("{description} (cut-out)");
    let description: String = description.trim_start().chars().take(MAX_LO_CHARACTERS).collect();
    set(image, SERIES_DESCRIPTION, "LO", one(description.into()));
    set(image, "00082111", "ST", one(cut.description.into()));
    set(image, "00082112", "SQ", cut.sources.iter().map(SourceReference::item).collect());
    set(image, "00089215", "SQ", derivation_codes(cut.side));
    change_geometry(image, cut);
    let [bits_allocated, bits_stored] = cut.bits;
    for (tag, number) in [
        ("00280002", 1),
        ("00280010", cut.rows),
        ("00280011", cut.columns),
        ("00280100", bits_allocated.into()),
        ("00280101", bits_stored.into()),
        ("00280102", u32::from(bits_stored) - 1),
        ("00280103", cut.is_signed.into()),
    ] {
        set(image, tag, "US", one(number.into()));
    }
    if cut.is_lossy {
        set(image, LOSSY_IMAGE_COMPRESSION, "CS", one("01".into()));
    }
}

fn change_geometry(image: &mut DataSetJson, cut: &CutAttributes<'_>) {
    let mut numbers = |tag: &str, numbers: Option<&[f64]>| {
        if let Some(numbers) = numbers {
            set(image, tag, "DS", numbers.iter().map(|number| Json::from(*number)).collect());
        }
    };
    numbers("00200032", cut.geometry.position.as_ref().map(<[f64; 3]>::as_slice));
    numbers("00200037", cut.geometry.orientation.as_ref().map(<[f64; 6]>::as_slice));
    numbers("00280030", cut.geometry.spacing.as_ref().map(<[f64; 2]>::as_slice));
    image.remove("00180088");
    if let Some(distance) = cut.distance {
        set(image, "00180088", "DS", vec![distance.into()]);
    }
    if let Some(distance) = cut.source_distance {
        // The slices of a block reach from the first one's edge to the last one's.
        let thickness = values(image, SLICE_THICKNESS).number().unwrap_or(distance);
        let thickness = thickness + f64::from(cut.side - 1) * distance;
        set(image, SLICE_THICKNESS, "DS", vec![thickness.into()]);
        LEFT_OUT_OF_AVERAGES.iter().for_each(|tag| drop(image.remove(*tag)));
    }
}

/// Codes for the derivation (PS3.16 CID 7203).
fn derivation_codes(side: u32) -> Vec<Json> {
    let cut = code("113091", "Spatially-related frames extracted from the volume");
    let averaged = (side > 1).then(|| code("113085", "Spatial resampling"));
    std::iter::once(cut).chain(averaged).collect()
}

fn code(value: &str, meaning: &str) -> Json {
    json!({
        "00080100": {"vr": "SH", "Value": [value]},
        "00080102": {"vr": "SH", "Value": ["DCM"]},
        "00080104": {"vr": "LO", "Value": [meaning]},
    })
}

impl SourceReference {
    /// An item of Source Image Sequence, with its purpose (PS3.16 CID 7202).
    fn item(&self) -> Json {
        let purpose = code("121322", "Source image for image processing operation");
        let mut item = json!({
            "00081150": {"vr": "UI", "Value": [self.sop_class]},
            "00081155": {"vr": "UI", "Value": [self.instance]},
            "0040A170": {"vr": "SQ", "Value": [purpose]},
        });
        if let Some(frame) = self.frame {
            item["00081160"] = json!({"vr": "IS", "Value": [frame]});
        }
        item
    }
}

fn set(image: &mut DataSetJson, tag: &str, vr: &str, values: Vec<Json>) {
    let attribute = if values.is_empty() { json!({"vr": vr}) } else { json!({"vr": vr, "Value": values}) };
    image.insert(tag.to_owned(), attribute);
}

fn values(image: &DataSetJson, tag: &str) -> JsonValues {
    let attribute = image.get(tag).cloned().unwrap_or_default();
    serde_json::from_value(attribute).unwrap_or_default()
}

/// The first value of an attribute, if it is a text.
pub(super) fn text(image: &DataSetJson, tag: &str) -> Option<String> {
    Some(image.get(tag)?["Value"].get(0)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: Json) -> SourceAttributes {
        let Json::Object(plain) = text else { panic!("it is no object") };
        SourceAttributes::of(plain)
    }

    #[test]
    fn a_frame_gets_its_groups_as_attributes_and_a_class_of_its_own() {
        let group =
            |tag: &str, value: Json| json!({"vr": "SQ", "Value": [{tag: {"vr": "DS", "Value": value}}]});
        let source = |class: &str| {
            read(json!({
                "00080016": {"vr": "UI", "Value": [class]},
                "00280008": {"vr": "IS", "Value": [2]},
                "00281050": {"vr": "DS", "Value": [1]},
                "52009229": {"vr": "SQ", "Value": [{
                    "00289145": group("00281053", json!([2])),
                    "00289132": group("00281050", json!([40])),
                }]},
                "52009230": {"vr": "SQ", "Value": [{}, {"00289132": group("00281050", json!([50]))}]},
            }))
        };
        for (class, expected) in [
            ("1.2.840.10008.5.1.4.1.1.2.1", CT_IMAGE_STORAGE),
            ("1.2.840.10008.5.1.4.1.1.4.1", MR_IMAGE_STORAGE),
            ("1.2.840.10008.5.1.4.1.1.7.3", SECONDARY_CAPTURE_IMAGE_STORAGE),
        ] {
            let source = source(class);
            for (frame, window) in [(1, 40), (2, 50)] {
                let image = source.of_frame(frame, 2);
                assert_eq!(text(&image, SOP_CLASS_UID).as_deref(), Some(expected));
                assert_eq!(image["00281050"]["Value"], json!([window]));
                assert_eq!(image["00281053"]["Value"], json!([2]));
                assert!(!image.contains_key("00280008") && !image.contains_key("52009230"));
            }
        }
        let plain = read(json!({"00080016": {"vr": "UI", "Value": ["1.2"]}}));
        assert_eq!(text(&plain.of_frame(1, 1), SOP_CLASS_UID).as_deref(), Some("1.2"));
    }

    #[test]
    fn names_stay_and_private_and_bulk_values_go() {
        let source = read(json!({
            "00100010": {"vr": "PN", "Value": [{"Phonetic": "a"}]},
            "00090010": {"vr": "LO", "Value": ["x"]},
            "60003000": {"vr": "OW", "InlineBinary": "AAA="},
            "00281201": {"vr": "OW", "BulkDataURI": "/studies/1"},
            "00081140": {"vr": "SQ", "Value": [{
                "00081150": {"vr": "UI", "Value": ["1.2"]},
                "00090010": {"vr": "LO", "Value": ["x"]},
            }]},
            "00280120": {"vr": "SS", "Value": [-2000]},
        }));
        assert_eq!(source.padding(), Some([-2000, -2000]));
        let image = source.of_frame(1, 1);
        let mut kept: Vec<&str> = image.keys().map(String::as_str).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["00081140", "00100010", "00280120"]);
        assert_eq!(image["00100010"]["Value"][0]["Phonetic"], "a");
        assert_eq!(image["00081140"]["Value"][0].as_object().unwrap().len(), 1);
    }
}
