//! Reads the content tree of a structured report (PS3.3 §C.17.2, §C.17.3).

use std::collections::HashMap;

use crate::dicom::attributes::{Attributes, Tag};
use crate::dicom::report::words::{concept, item, items, numbers, raw, text, unit};
use crate::dicom::report::{Item, Reference, Report, Value};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

const STUDY_UID: Tag = Tag(0x0020_000D);
const SERIES_UID: Tag = Tag(0x0020_000E);
const REFERENCED_SERIES: Tag = Tag(0x0008_1115);
const REFERENCED_SOP: Tag = Tag(0x0008_1199);
const REFERENCED_INSTANCE: Tag = Tag(0x0008_1155);
const REFERENCED_FRAMES: Tag = Tag(0x0008_1160);
const CURRENT_EVIDENCE: Tag = Tag(0x0040_A375);
const OTHER_EVIDENCE: Tag = Tag(0x0040_A385);
const VALUE_TYPE: Tag = Tag(0x0040_A040);
const RELATIONSHIP: Tag = Tag(0x0040_A010);
const CONCEPT_NAME: Tag = Tag(0x0040_A043);
const OBSERVATION_DATE_TIME: Tag = Tag(0x0040_A032);
const CONTENT: Tag = Tag(0x0040_A730);
const REFERENCED_ITEM: Tag = Tag(0x0040_DB73);
const MEASURED_VALUE: Tag = Tag(0x0040_A300);
const NUMERIC_VALUE: Tag = Tag(0x0040_A30A);
const QUALIFIER: Tag = Tag(0x0040_A301);
const UNITS: Tag = Tag(0x0040_08EA);
const VERIFYING_OBSERVER: Tag = Tag(0x0040_A073);
const VERIFIER_NAME: Tag = Tag(0x0040_A075);
const VERIFIED_AT: Tag = Tag(0x0040_A030);

/// Coordinates that are written out; of a long outline only so many.
const SHOWN_COORDINATES: usize = 12;

/// Reads a report. What it lacks is left out; what is in it is never refused.
///
/// The recursion is as deep as the data set is nested, which its reader bounds.
pub fn read(set: &Attributes) -> Report {
    let places = Places::of(set);
    let title = concept(set, CONCEPT_NAME).map(|concept| concept.meaning);
    let fallback = || {
        let described = [0x0042_0010, 0x0008_103E].map(|tag| raw(set, Tag(tag)));
        described.into_iter().find(|text| !text.is_empty()).unwrap_or("Structured report").to_owned()
    };
    Report {
        title: title.unwrap_or_else(fallback),
        facts: facts(set),
        items: items(set, CONTENT).map(|item| content_item(item, &places)).collect(),
    }
}

/// Patient, study and state of the document.
fn facts(set: &Attributes) -> Vec<(&'static str, String)> {
    let of = |tags: &[u32], separator: &str| {
        let texts = tags.iter().map(|&tag| text(set, Tag(tag))).filter(|text| !text.is_empty());
        texts.collect::<Vec<_>>().join(separator)
    };
    let verified = items(set, VERIFYING_OBSERVER).map(|observer| {
        let texts = [text(observer, VERIFIER_NAME), text(observer, VERIFIED_AT)];
        texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
    });
    let facts = [
        ("Patient", of(&[0x0010_0010], "")),
        ("Patient ID", of(&[0x0010_0020], "")),
        ("Born", of(&[0x0010_0030], "")),
        ("Sex", of(&[0x0010_0040], "")),
        ("Study", of(&[0x0008_1030, 0x0008_0020, 0x0008_0030], ", ")),
        ("Accession number", of(&[0x0008_0050], "")),
        ("Series", of(&[0x0008_103E], "")),
        ("Referring physician", of(&[0x0008_0090], "")),
        ("Institution", of(&[0x0008_0080], "")),
        ("Written", of(&[0x0008_0023, 0x0008_0033], " ")),
        ("State", of(&[0x0040_A491, 0x0040_A492, 0x0040_A493], ", ")),
        ("Verified by", verified.collect::<Vec<_>>().join("; ")),
    ];
    facts.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

fn content_item(set: &Attributes, places: &Places) -> Item {
    let target = numbers(set, REFERENCED_ITEM);
    Item {
        relationship: relationship(raw(set, RELATIONSHIP)),
        concept: concept(set, CONCEPT_NAME),
        value: if target.is_empty() { value(set, places) } else { Value::Item(target) },
        observed: text(set, OBSERVATION_DATE_TIME),
        items: items(set, CONTENT).map(|item| content_item(item, places)).collect(),
    }
}

/// The relationships that do not speak for themselves (PS3.3 Table C.17.3-8).
fn relationship(term: &str) -> &'static str {
    match term {
        "INFERRED FROM" => "inferred from",
        "SELECTED FROM" => "selected from",
        "HAS ACQ CONTEXT" => "acquired with",
        _ => "",
    }
}

fn value(set: &Attributes, places: &Places) -> Value {
    let words = match raw(set, VALUE_TYPE) {
        "CONTAINER" => return Value::Container,
        "CODE" => return concept(set, Tag(0x0040_A168)).map_or(Value::None, Value::Code),
        kind @ ("IMAGE" | "COMPOSITE" | "WAVEFORM") => {
            let name = if kind == "COMPOSITE" { "object" } else { &kind.to_lowercase() };
            let references = items(set, REFERENCED_SOP).map(|item| places.reference(name, item));
            return Value::Instances(references.collect());
        }
        "TEXT" => raw(set, Tag(0x0040_A160)).to_owned(),
        "NUM" => number(set),
        "PNAME" => text(set, Tag(0x0040_A123)),
        "DATETIME" => text(set, Tag(0x0040_A120)),
        "DATE" => text(set, Tag(0x0040_A121)),
        "TIME" => text(set, Tag(0x0040_A122)),
        "UIDREF" => text(set, Tag(0x0040_A124)),
        "SCOORD" | "SCOORD3D" => {
            let kind = raw(set, Tag(0x0070_0023)).to_lowercase();
            format!("{kind} {}", coordinates(set, Tag(0x0070_0022)))
        }
        "TCOORD" => {
            let kind = raw(set, Tag(0x0040_A130)).to_lowercase();
            let [samples, offsets] = [0x0040_A132, 0x0040_A138].map(|tag| coordinates(set, Tag(tag)));
            format!("{kind} {samples}{offsets}{}", text(set, Tag(0x0040_A13A)))
        }
        "" => String::new(),
        other => format!("({})", other.to_lowercase()),
    };
    if words.trim().is_empty() { Value::None } else { Value::Text(words.trim().to_owned()) }
}

/// A measurement with its unit, or why there is none.
fn number(set: &Attributes) -> String {
    let qualifier = concept(set, QUALIFIER).map(|concept| concept.meaning);
    let measured = items(set, MEASURED_VALUE).map(|measured| {
        let (number, unit) = (text(measured, NUMERIC_VALUE), unit(measured, UNITS));
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

/// Which study and series each instance is in that a report refers to, by its evidence (PS3.3 §C.17.2).
struct Places(HashMap<String, String>);

impl Places {
    fn of(set: &Attributes) -> Self {
        let mut places = HashMap::new();
        let studies = [CURRENT_EVIDENCE, OTHER_EVIDENCE].into_iter().flat_map(|tag| items(set, tag));
        for study in studies {
            let Ok(study_uid) = raw(study, STUDY_UID).parse::<StudyUid>() else { continue };
            for series in items(study, REFERENCED_SERIES) {
                let Ok(series_uid) = raw(series, SERIES_UID).parse::<SeriesUid>() else { continue };
                for instance in items(series, REFERENCED_SOP) {
                    let Ok(uid) = raw(instance, REFERENCED_INSTANCE).parse::<InstanceUid>() else { continue };
                    let path = format!("/studies/{study_uid}/series/{series_uid}/instances/{uid}");
                    places.insert(uid.to_string(), path);
                }
            }
        }
        Self(places)
    }

    /// What an item of a Referenced SOP Sequence (0008,1199) refers to.
    fn reference(&self, kind: &str, set: &Attributes) -> Reference {
        let uid = raw(set, REFERENCED_INSTANCE);
        let listed = |tag| numbers(set, tag).iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let (frames, segments) = (listed(REFERENCED_FRAMES), listed(Tag(0x0062_000B)));
        let mut words = format!("{kind} {uid}");
        for (name, list) in [("frame", &frames), ("segment", &segments)] {
            if !list.is_empty() {
                words += &format!(", {name} {list}");
            }
        }
        if let Some(state) = item(set, REFERENCED_SOP).map(|state| raw(state, REFERENCED_INSTANCE)) {
            words += &format!(", as presented by {state}");
        }
        let path = self.0.get(uid).map(|path| match frames.as_str() {
            "" => format!("{path}/rendered"),
            frames => format!("{path}/frames/{frames}/rendered"),
        });
        Reference { text: words, path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::json;
    use crate::dicom::report::{Concept, text};

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
            assert_eq!(report.items[0].value, Value::Text(expected.into()), "{value_type}");
            let name = Concept { meaning: value_type.to_lowercase(), code: "1, TEST".into() };
            assert_eq!(report.items[0].concept, Some(name));
        }
        let coded = report(&[content("CODE", &format!(r#","0040A168":{}"#, code("2", "T", "yes")))], "");
        assert_eq!(coded.items[0].value, Value::Code(Concept { meaning: "yes".into(), code: "2, T".into() }));
        assert_eq!(report(&[content("NUM", "")], "").items[0].value, Value::None);
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
        let expected =
            expected.map(|(text, path)| Value::Instances(vec![Reference { text: text.into(), path }]));
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
        assert_eq!(text::write(&report, ""), expected);
    }
}
