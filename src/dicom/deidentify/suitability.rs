//! Whether an instance can be de-identified without a person who looks at it: text that is burned in, faces,
//! documents and reports cannot be (PS3.15 §E.3.1, §E.3.2, §E.3.4).

use crate::config::{BurnedInRule, PixelRegion};
use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::dicom::codestream;
use crate::dicom::marker_segments::{MarkerSegments, START_OF_SCAN};
use crate::dicom::tags;
use crate::dicom::uids;

/// The attributes by which is decided.
pub(super) const NEEDED: [Tag; 8] = [
    tags::SOP_CLASS_UID,
    tags::MODALITY,
    tags::MANUFACTURER,
    tags::MANUFACTURER_MODEL_NAME,
    tags::ROWS,
    tags::COLUMNS,
    tags::BURNED_IN_ANNOTATION,
    tags::RECOGNIZABLE_VISUAL_FEATURES,
];

/// SOP classes below [`uids::STORAGE_ROOT`] whose images often have text in the pixels: secondary capture and
/// ultrasound.
const OFTEN_WITH_TEXT: [&str; 10] = ["7", "7.1", "7.2", "7.3", "7.4", "3", "3.1", "6", "6.1", "6.2"];
/// SOP classes of photographs of the patient.
const PHOTOGRAPHS: [&str; 2] = ["77.1.4", "77.1.4.1"];
/// SOP classes of recorded speech.
const SPEECH: [&str; 2] = ["9.4.1", "9.4.2"];

/// The decision on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suitability {
    /// The instance can be de-identified by its attributes alone.
    Plain,
    /// The instance can be de-identified if these regions of each frame are blacked out.
    Cleaned(Vec<PixelRegion>),
    /// The instance cannot be de-identified, and the reason.
    Unsuitable(&'static str),
}

/// Decides on an instance by its attributes. The first of `rules` that fits tells the regions with text.
pub fn suitability(attributes: &Attributes, rules: &[BurnedInRule]) -> Suitability {
    let text = |tag| attributes.get(&tag).and_then(Attribute::first_text).unwrap_or("").trim();
    let sop_class = text(tags::SOP_CLASS_UID);
    let leaf = sop_class.strip_prefix(uids::STORAGE_ROOT).unwrap_or("");
    if uids::is_encapsulated_document(sop_class) {
        return Suitability::Unsuitable("a document may name the patient");
    }
    if uids::is_structured_report(sop_class) {
        return Suitability::Unsuitable("a report may name the patient");
    }
    if uids::is_presentation_state(sop_class) {
        return Suitability::Unsuitable("the annotations of a presentation state may name the patient");
    }
    if SPEECH.contains(&leaf) {
        return Suitability::Unsuitable("recorded speech may name the patient");
    }
    if text(tags::RECOGNIZABLE_VISUAL_FEATURES) == "YES"
        || (PHOTOGRAPHS.contains(&leaf) && text(tags::RECOGNIZABLE_VISUAL_FEATURES) != "NO")
    {
        return Suitability::Unsuitable("the patient may be recognized in the image");
    }
    if let Some(rule) = rules.iter().find(|rule| fits(rule, text)) {
        return match rule.regions.is_empty() {
            true => Suitability::Plain,
            false => Suitability::Cleaned(rule.regions.clone()),
        };
    }
    match text(tags::BURNED_IN_ANNOTATION) {
        "YES" => Suitability::Unsuitable("there is text in the image"),
        "NO" => Suitability::Plain,
        _ if OFTEN_WITH_TEXT.contains(&leaf) => Suitability::Unsuitable("there may be text in the image"),
        _ => Suitability::Plain,
    }
}

fn fits<'a>(rule: &BurnedInRule, text: impl Fn(Tag) -> &'a str) -> bool {
    let begins = |tag, start: &str| text(tag).to_lowercase().starts_with(start);
    let number = |tag| text(tag).parse::<u32>().ok();
    (rule.modality.is_empty() || text(tags::MODALITY) == rule.modality)
        && begins(tags::MANUFACTURER, &rule.manufacturer)
        && begins(tags::MANUFACTURER_MODEL_NAME, &rule.model)
        && rule.size.is_none_or(|(columns, rows)| {
            (number(tags::COLUMNS), number(tags::ROWS)) == (Some(columns), Some(rows))
        })
}

/// Whether the first frame has comments or data of applications among its headers, as cameras and programs
/// write them: they may name anything. `frame` is the beginning of the frame.
pub(super) fn has_notes(frame: &[u8]) -> bool {
    const COMMENT: u8 = 0xFE;
    const JPEG_2000_COMMENT: u8 = 0x64;
    if codestream::recognise(frame).is_none() {
        return false;
    }
    let is_jpeg_2000 = frame.starts_with(&[0xFF, 0x4F]);
    if !is_jpeg_2000 && !frame.starts_with(&[0xFF, 0xD8]) {
        // A file around a codestream can have boxes with anything in them.
        return true;
    }
    MarkerSegments::of(frame).take_while(|segment| segment.marker != START_OF_SCAN).any(|segment| {
        let starts = |names: &[&str]| names.iter().any(|name| segment.content.starts_with(name.as_bytes()));
        match segment.marker {
            JPEG_2000_COMMENT if is_jpeg_2000 => {
                !is_name_of_encoder(segment.content.get(2..).unwrap_or_default())
            }
            _ if is_jpeg_2000 => false,
            COMMENT => true,
            0xE0 => !starts(&["JFIF"]),
            0xE2 => !starts(&["ICC_PROFILE"]),
            0xE8 => !starts(&["mrfx"]),
            0xEE => !starts(&["Adobe"]),
            0xE1..=0xEF => true,
            _ => false,
        }
    })
}

/// Whether a comment is the name of an encoder, which nearly every JPEG 2000 codestream has.
fn is_name_of_encoder(comment: &[u8]) -> bool {
    const NAMES: [&str; 7] =
        ["Kakadu", "Kdu", "Created by OpenJPEG", "Creator: JasPer", "LEAD", "Aware", "J2K by"];
    const LONGEST: usize = 64;
    comment.len() <= LONGEST && NAMES.iter().any(|name| comment.starts_with(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pairs: &[(u32, &str)]) -> Attributes {
        pairs.iter().map(|(tag, text)| (Tag(*tag), Attribute::text(b"CS", *text))).collect()
    }

    fn storage(leaf: &str) -> String {
        format!("{}{leaf}", uids::STORAGE_ROOT)
    }

    #[test]
    fn what_nobody_looked_at_is_left_out() {
        for (leaf, burned_in, face, expected) in [
            ("2", "", "", true),
            ("2", "NO", "", true),
            ("2", "YES", "", false),
            ("2", "", "YES", false),
            ("7", "", "", false),
            ("7", "NO", "", true),
            ("7.2", "", "", false),
            ("6.1", "", "", false),
            ("3.1", "NO", "", true),
            ("77.1.4", "NO", "", false),
            ("77.1.4", "", "NO", true),
            ("104.1", "NO", "NO", false),
            ("88.11", "NO", "NO", false),
            ("88.59", "NO", "NO", false),
            ("11.1", "NO", "NO", false),
            ("9.4.1", "NO", "NO", false),
            ("1.3", "", "", true),
        ] {
            let class = storage(leaf);
            let attributes =
                image(&[(0x0008_0016, class.as_str()), (0x0028_0301, burned_in), (0x0028_0302, face)]);
            let found = suitability(&attributes, &[]);
            assert_eq!(found == Suitability::Plain, expected, "{leaf} {burned_in} {face}: {found:?}");
        }
    }

    #[test]
    fn rules_of_the_site_tell_where_text_is() {
        let rule = |text: &str| BurnedInRule::try_from(text.to_owned()).unwrap();
        let rules =
            [rule("US|ge|logiq|800x600=800x40+0+0"), rule("US|samsung||=none"), rule("|acme||=1x1+0+0")];
        let class = storage("6.1");
        for (manufacturer, model, columns, expected) in [
            ("GE Healthcare", "LOGIQ E9", "800", Suitability::Cleaned(rules[0].regions.clone())),
            ("GE Healthcare", "LOGIQ E9", "640", Suitability::Unsuitable("there may be text in the image")),
            ("GE Healthcare", "Vivid", "800", Suitability::Unsuitable("there may be text in the image")),
            ("SAMSUNG", "", "1", Suitability::Plain),
            ("Acme", "", "1", Suitability::Cleaned(rules[2].regions.clone())),
        ] {
            let attributes = image(&[
                (0x0008_0016, class.as_str()),
                (0x0008_0060, "US"),
                (0x0008_0070, manufacturer),
                (0x0008_1090, model),
                (0x0028_0010, "600"),
                (0x0028_0011, columns),
            ]);
            assert_eq!(suitability(&attributes, &rules), expected, "{manufacturer} {model} {columns}");
        }
    }

    #[test]
    fn notes_in_frames_are_found() {
        let sof = &[0xFF, 0xC0, 0, 11, 8, 0, 1, 0, 1, 1, 1, 0x11, 0][..];
        let sos = &[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0][..];
        let segment =
            |marker: u8, text: &str| [&[0xFF, marker, 0, text.len() as u8 + 2][..], text.as_bytes()].concat();
        let jpeg = |marker, text: &str| [&[0xFF, 0xD8][..], &segment(marker, text), sof, sos].concat();
        for (marker, text, expected) in [
            (0xE0, "JFIF\0\u{1}", false),
            (0xE1, "Exif\0\0", true),
            (0xE2, "ICC_PROFILE\0", false),
            (0xEE, "Adobe", false),
            (0xED, "Photoshop 3.0", true),
            (0xFE, "Hong^Gildong", true),
        ] {
            assert_eq!(has_notes(&jpeg(marker, text)), expected, "{marker:X}");
        }
        assert!(is_name_of_encoder(b"Kakadu-v7.9"));
        assert!(!is_name_of_encoder(b"Hong^Gildong"));
    }
}
