//! Whether an instance can be de-identified without a person who looks at it: text that is burned in, faces,
//! documents and reports cannot be (PS3.15 §E.3.1, §E.3.2, §E.3.4).

use crate::config::{BurnedInRule, PixelRegion};
use crate::dicom::attributes::{Attribute, Attributes, Tag, Value};
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
const PHOTOGRAPHS: [&str; 3] = ["77.1.4", "77.1.4.1", "77.1.7"];
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
    let may_be_recognized = said(attributes, tags::RECOGNIZABLE_VISUAL_FEATURES);
    if may_be_recognized == Some(true) || (PHOTOGRAPHS.contains(&leaf) && may_be_recognized.is_none()) {
        return Suitability::Unsuitable("the patient may be recognized in the image");
    }
    if let Some(rule) = rules.iter().find(|rule| fits(rule, text)) {
        return match rule.regions.is_empty() {
            true => Suitability::Plain,
            false => Suitability::Cleaned(rule.regions.clone()),
        };
    }
    // Nobody knows what is in the images of a class that is not of the standard.
    let is_often_with_text =
        OFTEN_WITH_TEXT.contains(&leaf) || (leaf.is_empty() && !text(tags::ROWS).is_empty());
    match said(attributes, tags::BURNED_IN_ANNOTATION) {
        Some(true) => Suitability::Unsuitable("there is text in the image"),
        None if is_often_with_text => Suitability::Unsuitable("there may be text in the image"),
        Some(false) | None => Suitability::Plain,
    }
}

/// What an attribute with the values YES and NO says: yes, if one of its values does, in capitals or not;
/// nothing if it has other values or none.
fn said(attributes: &Attributes, tag: Tag) -> Option<bool> {
    let values = attributes.get(&tag).map_or(&[][..], |attribute| &attribute.values);
    let words = values.iter().flat_map(|value| match value {
        Value::Text(text) => text.split('\\').collect(),
        _ => Vec::new(),
    });
    let words = words.map(|word| word.trim_matches(['\0', ' ']).to_ascii_uppercase());
    let words: Vec<String> = words.collect();
    match words.iter().any(|word| word == "YES") {
        true => Some(true),
        false => (!words.is_empty() && words.iter().all(|word| word == "NO")).then_some(false),
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
            ("2", "yes", "", false),
            ("2", "NO\\YES", "", false),
            ("2", "", "Yes", false),
            ("7", "no", "", true),
            ("7", "NO\\MAYBE", "", false),
            ("77.1.7", "NO", "", false),
            ("77.1.7", "NO", "NO", true),
            ("private", "", "NO", false),
            ("private", "NO", "NO", true),
        ] {
            let class = if leaf == "private" { "1.2.276.0.7230010.3.1".to_owned() } else { storage(leaf) };
            let attributes = image(&[
                (0x0008_0016, class.as_str()),
                (0x0028_0010, "4"),
                (0x0028_0301, burned_in),
                (0x0028_0302, face),
            ]);
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
}
