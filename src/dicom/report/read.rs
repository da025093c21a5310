//! Reads the content tree of a structured report (PS3.3 §C.17.2, §C.17.3).

use std::collections::HashMap;

use crate::dicom::attributes::{Attributes, Tag};
use crate::dicom::report::item_values::{concept, item, items, numbers, raw, text, unit};
use crate::dicom::report::{Report, ReportItem, ReportReference, ReportValue};
use crate::dicom::tags;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// The maximum number of coordinates that are written out, as an outline may have thousands.
const SHOWN_COORDINATES: usize = 12;

/// Reads a report. Missing parts are left out, and nothing is refused.
///
/// The recursion is as deep as the data set is nested, which its reader bounds.
pub fn read(set: &Attributes) -> Report {
    let places = ReferencePaths::of(set);
    let title = concept(set, tags::CONCEPT_NAME_CODE_SEQUENCE).map(|concept| concept.meaning);
    let fallback = || {
        let described = [tags::DOCUMENT_TITLE, tags::SERIES_DESCRIPTION].map(|tag| raw(set, tag));
        described.into_iter().find(|text| !text.is_empty()).unwrap_or("Structured report").to_owned()
    };
    Report {
        title: title.unwrap_or_else(fallback),
        facts: facts(set),
        items: items(set, tags::CONTENT_SEQUENCE).map(|item| content_item(item, &places)).collect(),
    }
}

/// Patient, study and state of the document.
fn facts(set: &Attributes) -> Vec<(&'static str, String)> {
    let of = |tags: &[Tag], separator: &str| {
        let texts = tags.iter().map(|&tag| text(set, tag)).filter(|text| !text.is_empty());
        texts.collect::<Vec<_>>().join(separator)
    };
    let verified = items(set, tags::VERIFYING_OBSERVER_SEQUENCE).map(|observer| {
        let texts =
            [text(observer, tags::VERIFYING_OBSERVER_NAME), text(observer, tags::VERIFICATION_DATE_TIME)];
        texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
    });
    let facts = [
        ("Patient", of(&[tags::PATIENT_NAME], "")),
        ("Patient ID", of(&[tags::PATIENT_ID], "")),
        ("Born", of(&[tags::PATIENT_BIRTH_DATE], "")),
        ("Sex", of(&[tags::PATIENT_SEX], "")),
        ("Study", of(&[tags::STUDY_DESCRIPTION, tags::STUDY_DATE, tags::STUDY_TIME], ", ")),
        ("Accession number", of(&[tags::ACCESSION_NUMBER], "")),
        ("Series", of(&[tags::SERIES_DESCRIPTION], "")),
        ("Referring physician", of(&[tags::REFERRING_PHYSICIAN_NAME], "")),
        ("Institution", of(&[tags::INSTITUTION_NAME], "")),
        ("Written", of(&[tags::CONTENT_DATE, tags::CONTENT_TIME], " ")),
        (
            "State",
            of(&[tags::COMPLETION_FLAG, tags::COMPLETION_FLAG_DESCRIPTION, tags::VERIFICATION_FLAG], ", "),
        ),
        ("Verified by", verified.collect::<Vec<_>>().join("; ")),
    ];
    facts.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

fn content_item(set: &Attributes, places: &ReferencePaths) -> ReportItem {
    let target = numbers(set, tags::REFERENCED_CONTENT_ITEM_IDENTIFIER);
    ReportItem {
        relationship: relationship(raw(set, tags::RELATIONSHIP_TYPE)),
        concept: concept(set, tags::CONCEPT_NAME_CODE_SEQUENCE),
        value: if target.is_empty() { value(set, places) } else { ReportValue::Item(target) },
        observed: text(set, tags::OBSERVATION_DATE_TIME),
        items: items(set, tags::CONTENT_SEQUENCE).map(|item| content_item(item, places)).collect(),
    }
}

/// The words for a relationship; empty for those that need none (PS3.3 Table C.17.3-8).
fn relationship(term: &str) -> &'static str {
    match term {
        "INFERRED FROM" => "inferred from",
        "SELECTED FROM" => "selected from",
        "HAS ACQ CONTEXT" => "acquired with",
        _ => "",
    }
}

fn value(set: &Attributes, places: &ReferencePaths) -> ReportValue {
    let words = match raw(set, tags::VALUE_TYPE) {
        "CONTAINER" => return ReportValue::Container,
        "CODE" => {
            return concept(set, tags::CONCEPT_CODE_SEQUENCE).map_or(ReportValue::None, ReportValue::Code);
        }
        kind @ ("IMAGE" | "COMPOSITE" | "WAVEFORM") => {
            let name = if kind == "COMPOSITE" { "object" } else { &kind.to_lowercase() };
            let references =
                items(set, tags::REFERENCED_SOP_SEQUENCE).map(|item| places.reference(name, item));
            return ReportValue::Instances(references.collect());
        }
        "TEXT" => raw(set, tags::TEXT_VALUE).to_owned(),
        "NUM" => number(set),
        "PNAME" => text(set, tags::PERSON_NAME),
        "DATETIME" => text(set, tags::DATE_TIME),
        "DATE" => text(set, tags::DATE),
        "TIME" => text(set, tags::TIME),
        "UIDREF" => text(set, tags::UID),
        "SCOORD" | "SCOORD3D" => {
            let kind = raw(set, tags::GRAPHIC_TYPE).to_lowercase();
            format!("{kind} {}", coordinates(set, tags::GRAPHIC_DATA))
        }
        "TCOORD" => {
            let kind = raw(set, tags::TEMPORAL_RANGE_TYPE).to_lowercase();
            let [samples, offsets] = [tags::REFERENCED_SAMPLE_POSITIONS, tags::REFERENCED_TIME_OFFSETS]
                .map(|tag| coordinates(set, tag));
            format!("{kind} {samples}{offsets}{}", text(set, tags::REFERENCED_DATE_TIME))
        }
        "" => String::new(),
        other => format!("({})", other.to_lowercase()),
    };
    if words.trim().is_empty() { ReportValue::None } else { ReportValue::Text(words.trim().to_owned()) }
}

/// A measurement with its unit, or why there is none.
fn number(set: &Attributes) -> String {
    let qualifier = concept(set, tags::NUMERIC_VALUE_QUALIFIER_CODE_SEQUENCE).map(|concept| concept.meaning);
    let measured = items(set, tags::MEASURED_VALUE_SEQUENCE).map(|measured| {
        let (number, unit) =
            (text(measured, tags::NUMERIC_VALUE), unit(measured, tags::MEASUREMENT_UNITS_CODE_SEQUENCE));
        format!("{number} {unit}").trim().to_owned()
    });
    let measured: Vec<String> = measured.filter(|text| !text.is_empty()).collect();
    match (measured.join(", "), qualifier) {
        (measured, None) => measured,
        (measured, Some(qualifier)) if measured.is_empty() => qualifier,
        (measured, Some(qualifier)) => format!("{measured} ({qualifier})"),
    }
}

fn coordinates(set: &Attributes, tag: Tag) -> String {
    let Some(attribute) = set.get(&tag) else { return String::new() };
    let count = attribute.values.len();
    let shown = attribute.values.iter().take(SHOWN_COORDINATES).filter_map(|value| match value {
        crate::dicom::attributes::Value::Number(number) => Some(number.as_str()),
        _ => None,
    });
    let mut list = shown.collect::<Vec<_>>().join(", ");
    if count > SHOWN_COORDINATES {
        list += &format!(", … ({count} numbers)");
    }
    if list.is_empty() { list } else { format!("({list})") }
}

/// The path of each instance that a report refers to, from the evidence sequences of the report (PS3.3
/// §C.17.2).
struct ReferencePaths(HashMap<String, String>);

impl ReferencePaths {
    fn of(set: &Attributes) -> Self {
        let mut places = HashMap::new();
        let studies =
            [tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE]
                .into_iter()
                .flat_map(|tag| items(set, tag));
        for study in studies {
            let Ok(study_uid) = raw(study, tags::STUDY_INSTANCE_UID).parse::<StudyUid>() else { continue };
            for series in items(study, tags::REFERENCED_SERIES_SEQUENCE) {
                let Ok(series_uid) = raw(series, tags::SERIES_INSTANCE_UID).parse::<SeriesUid>() else {
                    continue;
                };
                for instance in items(series, tags::REFERENCED_SOP_SEQUENCE) {
                    let Ok(uid) = raw(instance, tags::REFERENCED_SOP_INSTANCE_UID).parse::<InstanceUid>()
                    else {
                        continue;
                    };
                    let path = format!("/studies/{study_uid}/series/{series_uid}/instances/{uid}");
                    places.insert(uid.to_string(), path);
                }
            }
        }
        Self(places)
    }

    /// The reference in an item of a Referenced SOP Sequence (0008,1199).
    fn reference(&self, kind: &str, set: &Attributes) -> ReportReference {
        let uid = raw(set, tags::REFERENCED_SOP_INSTANCE_UID);
        let listed = |tag| numbers(set, tag).iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let (frames, segments) =
            (listed(tags::REFERENCED_FRAME_NUMBER), listed(tags::REFERENCED_SEGMENT_NUMBER));
        let mut words = format!("{kind} {uid}");
        for (name, list) in [("frame", &frames), ("segment", &segments)] {
            if !list.is_empty() {
                words += &format!(", {name} {list}");
            }
        }
        if let Some(state) = item(set, tags::REFERENCED_SOP_SEQUENCE)
            .map(|state| raw(state, tags::REFERENCED_SOP_INSTANCE_UID))
        {
            words += &format!(", as presented by {state}");
        }
        let path = self.0.get(uid).map(|path| match frames.as_str() {
            "" => format!("{path}/rendered"),
            frames => format!("{path}/frames/{frames}/rendered"),
        });
        ReportReference { text: words, path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::json;
    use crate::dicom::report::{Concept, plain_text};

    fn code(value: &str, scheme: &str, meaning: &str) -> String {
        format!(
            r#"{{"vr":"SQ","Value":[{{"00080100":{{"vr":"SH","Value":["{value}"]}},
                "00080102":{{"vr":"SH","Value":["{scheme}"]}},"00080104":{{"vr":"LO","Value":["{meaning}"]}}}}]}}"#
        )
    }

    /// A content item of a value type with a concept name and further attributes.
    fn content(value_type: &str, more: &str) -> String {
        let name = code("1", "TEST", &value_type.to_lowercase());
        format!(r#"{{"0040A040":{{"vr":"CS","Value":["{value_type}"]}},"0040A043":{name}{more}}}"#)
    }

    fn report(items: &[String], more: &str) -> Report {
        let root = format!(r#"{{"0040A730":{{"vr":"SQ","Value":[{}]}}{more}}}"#, items.join(","));
        read(&json::read(root.as_bytes()).unwrap())
    }

    #[test]
    fn every_value_type_is_put_in_words() {
        let unit = code("mm", "UCUM", "millimeter");
        let none = code("1", "UCUM", "no units");
        let measured = |number: &str, unit: &str| {
            format!(
                r#","0040A300":{{"vr":"SQ","Value":[{{"0040A30A":{{"vr":"DS","Value":[{number}]}},"004008EA":{unit}}}]}}"#
            )
        };
        let qualified = format!(r#","0040A301":{}"#, code("114000", "DCM", "Not a number"));
        let long = (1..=14).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        for (value_type, more, expected) in [
            ("TEXT", r#","0040A160":{"vr":"UT","Value":["a\nb"]}"#.to_owned(), "a\nb"),
            ("NUM", measured("12.5", &unit), "12.5 mm"),
            ("NUM", measured("3", &none), "3"),
            ("NUM", qualified, "Not a number"),
            (
                "PNAME",
                r#","0040A123":{"vr":"PN","Value":[{"Alphabetic":"Doe^Jane"}]}"#.to_owned(),
                "Jane Doe",
            ),
            ("DATE", r#","0040A121":{"vr":"DA","Value":["20240131"]}"#.to_owned(), "2024-01-31"),
            ("TIME", r#","0040A122":{"vr":"TM","Value":["101500"]}"#.to_owned(), "10:15:00"),
            (
                "DATETIME",
                r#","0040A120":{"vr":"DT","Value":["20240131101500"]}"#.to_owned(),
                "2024-01-31 10:15:00",
            ),
            ("UIDREF", r#","0040A124":{"vr":"UI","Value":["1.2.3"]}"#.to_owned(), "1.2.3"),
            (
                "SCOORD",
                format!(
                    r#","00700023":{{"vr":"CS","Value":["POLYLINE"]}},"00700022":{{"vr":"FL","Value":[{long}]}}"#
                ),
                "polyline (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, … (14 numbers))",
            ),
            (
                "TCOORD",
                r#","0040A130":{"vr":"CS","Value":["POINT"]},"0040A132":{"vr":"UL","Value":[5]}"#.to_owned(),
                "point (5)",
            ),
            ("TABLE", String::new(), "(table)"),
        ] {
            let report = report(&[content(value_type, &more)], "");
            assert_eq!(report.items[0].value, ReportValue::Text(expected.into()), "{value_type}");
            let name = Concept { meaning: value_type.to_lowercase(), code: "1, TEST".into() };
            assert_eq!(report.items[0].concept, Some(name));
        }
        let coded = report(&[content("CODE", &format!(r#","0040A168":{}"#, code("2", "T", "yes")))], "");
        assert_eq!(
            coded.items[0].value,
            ReportValue::Code(Concept { meaning: "yes".into(), code: "2, T".into() })
        );
        assert_eq!(report(&[content("NUM", "")], "").items[0].value, ReportValue::None);
    }

    #[test]
    fn references_lead_to_what_the_evidence_places() {
        let image = |uid: &str, more: &str| {
            let sop = format!(r#"{{"00081155":{{"vr":"UI","Value":["{uid}"]}}{more}}}"#);
            content("IMAGE", &format!(r#","00081199":{{"vr":"SQ","Value":[{sop}]}}"#))
        };
        let evidence = r#","0040A375":{"vr":"SQ","Value":[{"0020000D":{"vr":"UI","Value":["1.1"]},
            "00081115":{"vr":"SQ","Value":[{"0020000E":{"vr":"UI","Value":["1.2"]},
            "00081199":{"vr":"SQ","Value":[{"00081155":{"vr":"UI","Value":["1.3"]}}]}}]}}]}"#;
        let frames = r#","00081160":{"vr":"IS","Value":[2,5]}"#;
        let report = report(&[image("1.3", ""), image("1.3", frames), image("9.9", "")], evidence);
        let references: Vec<_> = report.items.iter().map(|item| item.value.clone()).collect();
        let instance = "/studies/1.1/series/1.2/instances/1.3";
        let expected = [
            ("image 1.3", Some(format!("{instance}/rendered"))),
            ("image 1.3, frame 2,5", Some(format!("{instance}/frames/2,5/rendered"))),
            ("image 9.9", None),
        ];
        let expected = expected
            .map(|(text, path)| ReportValue::Instances(vec![ReportReference { text: text.into(), path }]));
        assert_eq!(references, expected);
    }

    #[test]
    fn the_tree_is_written_as_text() {
        let inner = content("TEXT", r#","0040A160":{"vr":"UT","Value":["one\r\ntwo"]}"#);
        let nested = format!(r#","0040A730":{{"vr":"SQ","Value":[{inner}]}}"#);
        let by_reference =
            r#"{"0040A010":{"vr":"CS","Value":["INFERRED FROM"]},"0040DB73":{"vr":"UL","Value":[1,1]}}"#;
        let patient = r#","00100010":{"vr":"PN","Value":[{"Alphabetic":"Doe^Jane"}]},"0008103E":{"vr":"LO","Value":["Findings"]}"#;
        let report = report(&[content("CONTAINER", &nested), by_reference.to_owned()], patient);
        let expected = "Findings\n\nPatient: Jane Doe\nSeries: Findings\n\n\
                        container:\n  text: one\n    two\ninferred from item 1.1\n";
        assert_eq!(plain_text::write(&report, ""), expected);
    }
}
