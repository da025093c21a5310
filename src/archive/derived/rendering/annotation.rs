//! Annotations in a rendered image: the patient, and the technique of acquisition (PS3.18 §8.3.5.1.1).

use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::dicom::tags;
use crate::index::records::InstanceRecord;
use crate::pixel::render::Canvas;
use crate::pixel::render::text_pen::Pen;
use crate::pixel::render::window::{Voi, Window};

/// The annotations to write into a rendered image (PS3.18 §8.3.5.1.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Whether to write the patient's name, birth date, sex and identifier.
    pub patient: bool,
    /// Whether to write the technique of acquisition.
    pub technique: bool,
}

/// The text lines of a rendered image: those of its upper left corner and those of its lower left one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) patient: Vec<String>,
    pub(super) technique: Vec<String>,
}

impl Lines {
    /// The lines for a rendered image of frame `number` (from 1) with the VOI transformation `voi`.
    pub(super) fn new(annotation: Annotation, record: &InstanceRecord, number: u32, voi: &Voi) -> Self {
        let attributes = &record.attributes;
        let frames = record.layout.pixels.as_ref().map_or(1, |pixels| pixels.number_of_frames);
        Self {
            patient: if annotation.patient { patient(attributes) } else { Vec::new() },
            technique: if annotation.technique {
                technique(attributes, (frames > 1).then_some(number), voi)
            } else {
                Vec::new()
            },
        }
    }

    /// Writes the lines into a rendered image.
    pub(super) fn write(&self, canvas: &mut Canvas) {
        let pen = Pen::of(canvas);
        let margin = pen.line_height() / 4;
        let below = pen.line_height() * self.technique.len() as i64 + margin;
        let starts = [margin, i64::from(canvas.height) - below];
        for (lines, start) in [&self.patient, &self.technique].into_iter().zip(starts) {
            for (line, place) in lines.iter().zip(0..) {
                pen.write(canvas, margin, start + place * pen.line_height(), line);
            }
        }
    }
}

fn patient(attributes: &Attributes) -> Vec<String> {
    let name = text(attributes, tags::PATIENT_NAME).map(|name| spoken(&name));
    let birth = text(attributes, tags::PATIENT_BIRTH_DATE).map(|date| format!("*{}", dashed(&date)));
    let person: Vec<String> = [birth, text(attributes, tags::PATIENT_SEX)].into_iter().flatten().collect();
    let lines = [name, text(attributes, tags::PATIENT_ID), Some(person.join(" "))];
    lines.into_iter().flatten().filter(|line| !line.is_empty()).collect()
}

fn technique(attributes: &Attributes, frame: Option<u32>, voi: &Voi) -> Vec<String> {
    let dates = [tags::ACQUISITION_DATE, tags::CONTENT_DATE, tags::SERIES_DATE, tags::STUDY_DATE];
    let date = dates.into_iter().find_map(|tag| text(attributes, tag)).map(|date| dashed(&date));
    let made: Vec<String> = [text(attributes, tags::MODALITY), date].into_iter().flatten().collect();
    let numbered = |name: &str, tag| text(attributes, tag).map(|number| format!("{name} {number}"));
    let frame = frame.map(|frame| format!("Frame {frame}"));
    let place = [numbered("Series", tags::SERIES_NUMBER), numbered("Image", tags::INSTANCE_NUMBER), frame];
    let place: Vec<String> = place.into_iter().flatten().collect();
    let window = match voi {
        Voi::Window(Window { center, width, .. }) => Some(format!("C {center} W {width}")),
        Voi::Full | Voi::Table(_) => None,
    };
    let description = text(attributes, tags::SERIES_DESCRIPTION);
    let lines = [Some(made.join(" ")), description, Some(place.join(" ")), window];
    lines.into_iter().flatten().filter(|line| !line.is_empty()).collect()
}

fn text(attributes: &Attributes, tag: Tag) -> Option<String> {
    let text = attributes.get(&tag).and_then(Attribute::first_text)?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A person name as people write it: the family name, then the other components.
fn spoken(name: &str) -> String {
    let mut parts = name.split('^').map(str::trim).filter(|part| !part.is_empty());
    let family = parts.next().unwrap_or_default();
    let others = parts.collect::<Vec<_>>().join(" ");
    if others.is_empty() { family.to_owned() } else { format!("{family}, {others}") }
}

/// A date with dashes, if the text is a date.
fn dashed(date: &str) -> String {
    match (date.get(..4), date.get(4..6), date.get(6..)) {
        (Some(year), Some(month), Some(day)) if day.len() == 2 => format!("{year}-{month}-{day}"),
        _ => date.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::render::window::VoiFunction;

    #[test]
    fn lines_tell_who_and_how() {
        let attributes = Attributes::from([
            (tags::STUDY_DATE, Attribute::text(b"DA", "20040119")),
            (tags::MODALITY, Attribute::text(b"CS", "CT")),
            (tags::PATIENT_NAME, Attribute::text(b"PN", "Müller^Anna^^Dr")),
            (tags::PATIENT_ID, Attribute::text(b"LO", "P 1")),
            (tags::PATIENT_BIRTH_DATE, Attribute::text(b"DA", "19600229")),
            (tags::PATIENT_SEX, Attribute::text(b"CS", "F")),
            (tags::SERIES_NUMBER, Attribute::number(b"IS", 3)),
        ]);
        assert_eq!(patient(&attributes), ["Müller, Anna Dr", "P 1", "*1960-02-29 F"]);
        let voi = Voi::Window(Window { center: 40.0, width: 400.5, function: VoiFunction::Linear });
        assert_eq!(
            technique(&attributes, Some(7), &voi),
            ["CT 2004-01-19", "Series 3 Frame 7", "C 40 W 400.5"]
        );
        assert!(
            patient(&Attributes::new()).is_empty()
                && technique(&Attributes::new(), None, &Voi::Full).is_empty()
        );
    }

    #[test]
    fn a_date_that_is_none_is_left_as_it_is() {
        for (date, expected) in [("19600229", "1960-02-29"), ("1960.02.29", "1960.02.29"), ("äöü", "äöü")]
        {
            assert_eq!(dashed(date), expected);
        }
    }
}
