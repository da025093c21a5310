//! The images that a presentation state refers to (PS3.3 §C.11.11, Presentation State Relationship Macro).

use std::str::FromStr;

use serde::Deserialize;

use crate::archive::{Error, run_blocking};
use crate::dicom::json_values::{JsonSequence, JsonValues};
use crate::dicom::uid::{InstanceUid, SeriesUid};
use crate::dicom::uids;
use crate::index::records::InstanceRecord;

/// An image of the same study, or some of its frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its series.
    pub series: SeriesUid,
    /// Its UID.
    pub instance: InstanceUid,
    /// Frame numbers, from 1; none for all frames.
    pub frames: Vec<u32>,
}

/// Whether an instance is a presentation state, which is shown by showing what it refers to.
pub fn is_presentation_state(record: &InstanceRecord) -> bool {
    uids::is_presentation_state(&record.sop_class)
}

/// The images that a presentation state refers to, in its order. References that cannot be read are left out.
///
/// # Errors
/// [`Error::Unsupported`] if there are none.
pub async fn referenced_images(record: &InstanceRecord) -> Result<Vec<Reference>, Error> {
    let metadata = record.metadata.clone();
    let read = run_blocking(None, move || {
        let mut text = Vec::new();
        metadata.write_text("", &mut text).map(|()| references(&text)).unwrap_or_default()
    });
    let found = read.await?;
    if found.is_empty() {
        let instance = &record.instance;
        return Err(Error::Unsupported(format!("presentation state {instance} refers to no image")));
    }
    Ok(found)
}

/// Reads the references from DICOM JSON; all else in it is passed over.
fn references(text: &[u8]) -> Vec<Reference> {
    let state: State = serde_json::from_slice(text).unwrap_or_default();
    let mut found = Vec::new();
    for series in state.referenced_series.items {
        let Some(uid) = uid::<SeriesUid>(&series.uid) else { continue };
        for image in series.referenced_images.items {
            let Some(instance) = self::uid(&image.uid) else { continue };
            let numbers = image.frames.all_numbers();
            let frames = numbers.into_iter().filter(|number| number.fract() == 0.0 && *number >= 1.0);
            let frames = frames.map(|number| number as u32).collect();
            found.push(Reference { series: uid.clone(), instance, frames });
        }
    }
    found
}

fn uid<U: FromStr>(values: &JsonValues) -> Option<U> {
    values.text()?.parse().ok()
}

#[derive(Default, Deserialize)]
struct State {
    #[serde(rename = "00081115", default)]
    referenced_series: JsonSequence<Series>,
}

#[derive(Default, Deserialize)]
struct Series {
    #[serde(rename = "0020000E", default)]
    uid: JsonValues,
    #[serde(rename = "00081140", default)]
    referenced_images: JsonSequence<Image>,
}

#[derive(Default, Deserialize)]
struct Image {
    #[serde(rename = "00081155", default)]
    uid: JsonValues,
    #[serde(rename = "00081160", default)]
    frames: JsonValues,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_in_their_order() {
        let text = br#"{"00080016": {"vr": "UI", "Value": ["1.2"]}, "00081115": {"vr": "SQ", "Value": [
            {"0020000E": {"vr": "UI", "Value": ["1.2"]}, "00081140": {"vr": "SQ", "Value": [
                {"00081155": {"vr": "UI", "Value": ["1.9"]}, "00081160": {"vr": "IS", "Value": [2, 1]}},
                {"00081155": {"vr": "UI", "Value": ["1.3"]}},
                {"00081155": {"vr": "UI", "Value": ["x"]}},
                {"00081155": {"vr": "UI"}},
                {}]}},
            {"0020000E": {"vr": "UI", "Value": ["1.4"]}},
            {}]}}"#;
        let reference = |instance: &str, frames: &[u32]| Reference {
            series: "1.2".parse().unwrap(),
            instance: instance.parse().unwrap(),
            frames: frames.to_vec(),
        };
        assert_eq!(references(text), [reference("1.9", &[2, 1]), reference("1.3", &[])]);
    }

    #[test]
    fn what_holds_no_references_has_none() {
        for text in
            ["{}", "", "{\"00081115\": {\"vr\": \"SQ\"}}", "{\"00081115\": {\"vr\": \"SQ\", \"Value\": [1]}}"]
        {
            assert_eq!(references(text.as_bytes()), [], "{text}");
        }
    }
}
