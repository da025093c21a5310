//! The images that a presentation state refers to (PS3.3 §C.11.11, Presentation State Relationship Macro).

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

use crate::archive::{Archive, Error};
use crate::dicom::uid::{InstanceUid, SeriesUid};
use crate::index::records::InstanceRecord;

/// What the UIDs of the SOP classes of softcopy presentation states begin with (PS3.4 §N.1).
const PRESENTATION_STATE: &str = "1.2.840.10008.5.1.4.1.1.11.";

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
    record.sop_class.starts_with(PRESENTATION_STATE)
}

impl Archive {
    /// The images that a presentation state refers to, in its order. References that cannot be read are left out.
    ///
    /// # Errors
    /// [`Error::NotAcceptable`] if there are none.
    pub async fn presented(&self, record: &InstanceRecord) -> Result<Vec<Reference>, Error> {
        let metadata = record.metadata.clone();
        let read = spawn_blocking(move || {
            let mut text = Vec::new();
            metadata.write_text("", &mut text).map(|()| references(&text)).unwrap_or_default()
        });
        let found = read.await.unwrap_or_default();
        if found.is_empty() {
            let instance = &record.instance;
            return Err(Error::NotAcceptable(format!("presentation state {instance} refers to no image")));
        }
        Ok(found)
    }
}

/// Reads the references from DICOM JSON; all else in it is passed over.
fn references(text: &[u8]) -> Vec<Reference> {
    let state: State = serde_json::from_slice(text).unwrap_or_default();
    let mut found = Vec::new();
    for series in state.referenced_series.value {
        let Some(uid) = first_uid::<SeriesUid>(&series.uid) else { continue };
        for image in series.referenced_images.value {
            let Some(instance) = first_uid(&image.uid) else { continue };
            let numbers = image.frames.value.iter().filter_map(serde_json::Value::as_u64);
            let frames = numbers.filter_map(|number| u32::try_from(number).ok()).collect();
            found.push(Reference { series: uid.clone(), instance, frames });
        }
    }
    found
}

fn first_uid<U: std::str::FromStr>(uids: &Values<serde_json::Value>) -> Option<U> {
    uids.value.first()?.as_str()?.parse().ok()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    #[serde(rename = "00081115")]
    referenced_series: Values<Series>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Series {
    #[serde(rename = "0020000E")]
    uid: Values<serde_json::Value>,
    #[serde(rename = "00081140")]
    referenced_images: Values<Image>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Image {
    #[serde(rename = "00081155")]
    uid: Values<serde_json::Value>,
    #[serde(rename = "00081160")]
    frames: Values<serde_json::Value>,
}

/// The values of an attribute.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Values<T> {
    #[serde(rename = "Value", default = "Vec::new")]
    value: Vec<T>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self { value: Vec::new() }
    }
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
