//! References of a presentation state to images (PS3.3 §10.3, Image SOP Instance Reference Macro).

use serde::Deserialize;

use crate::dicom::json_values::{JsonSequence, JsonValues};

/// The images that an item applies to: all, if the item names none.
pub(super) type References = JsonSequence<ImageReference>;

/// One image, or some of its frames.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ImageReference {
    #[serde(rename = "00081155", default)]
    instance: JsonValues,
    #[serde(rename = "00081160", default)]
    frames: JsonValues,
}

/// The frame that is to be presented.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) instance: &'a str,
    /// From 1.
    pub(super) frame: u32,
}

impl ImageReference {
    fn is_of(&self, subject: Subject<'_>) -> bool {
        let frames = self.frames.all_numbers();
        self.instance.text() == Some(subject.instance)
            && (frames.is_empty() || frames.contains(&f64::from(subject.frame)))
    }
}

/// Whether an item that names these images applies to the subject.
pub(super) fn is_for(images: &References, subject: Subject<'_>) -> bool {
    images.items.is_empty() || images.items.iter().any(|image| image.is_of(subject))
}
