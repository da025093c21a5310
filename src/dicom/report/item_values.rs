//! Values of a data set as text for people: names, dates and codes (PS3.5 §6.2).

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value};
use crate::dicom::report::Concept;
use crate::dicom::tags;

/// The items of a sequence; none if there is no such sequence.
pub(super) fn items(set: &Attributes, tag: Tag) -> impl Iterator<Item = &Attributes> {
    set.get(&tag).into_iter().flat_map(|attribute| &attribute.values).filter_map(|value| match value {
        Value::Item(item) => Some(item),
        _ => None,
    })
}

/// The first item of a sequence.
pub(super) fn item(set: &Attributes, tag: Tag) -> Option<&Attributes> {
    items(set, tag).next()
}

/// The first value of an attribute as it stands, empty if there is none.
pub(super) fn raw(set: &Attributes, tag: Tag) -> &str {
    set.get(&tag).and_then(Attribute::first_text).unwrap_or_default().trim()
}

/// All values of an attribute, formatted for people.
pub(super) fn text(set: &Attributes, tag: Tag) -> String {
    let Some(attribute) = set.get(&tag) else { return String::new() };
    let written = attribute.values.iter().map(|value| match (value, attribute.vr.as_str()) {
        (Value::Text(text), "DA") => date(text),
        (Value::Text(text), "TM") => time(text),
        (Value::Text(text), "DT") => date_time(text),
        (Value::Text(text) | Value::Number(text), _) => text.clone(),
        (Value::Name(name), _) => person(name),
        (Value::Absent | Value::Item(_), _) => String::new(),
    });
    written.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The numbers of an attribute, of which there may be many.
pub(super) fn numbers(set: &Attributes, tag: Tag) -> Vec<u32> {
    let values = set.get(&tag).map(|attribute| attribute.values.as_slice()).unwrap_or_default();
    let numbers = values.iter().filter_map(|value| match value {
        Value::Number(number) | Value::Text(number) => number.parse().ok(),
        _ => None,
    });
    numbers.collect()
}

/// The concept in the first item of a code sequence.
pub(super) fn concept(set: &Attributes, tag: Tag) -> Option<Concept> {
    let item = item(set, tag)?;
    let code = [tags::CODE_VALUE, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE].map(|tag| raw(item, tag));
    let code = code.into_iter().find(|code| !code.is_empty()).unwrap_or_default();
    let code = [code, raw(item, tags::CODING_SCHEME_DESIGNATOR)].into_iter().filter(|text| !text.is_empty());
    let code = code.collect::<Vec<_>>().join(", ");
    let meaning = raw(item, tags::CODE_MEANING);
    let meaning = if meaning.is_empty() { code.clone() } else { meaning.to_owned() };
    (!meaning.is_empty()).then_some(Concept { meaning, code })
}

/// The unit of a measurement as it is written after the number: the code of UCUM where that is a unit.
pub(super) fn unit(set: &Attributes, tag: Tag) -> String {
    let Some(item) = item(set, tag) else { return String::new() };
    match (raw(item, tags::CODE_VALUE), raw(item, tags::CODING_SCHEME_DESIGNATOR)) {
        ("1", "UCUM") => String::new(),
        (code, "UCUM") if !code.is_empty() && !code.contains('{') => code.to_owned(),
        _ => raw(item, tags::CODE_MEANING).to_owned(),
    }
}

/// A person's name in the order in which it is spoken, with its ideographic form.
fn person(name: &PersonName) -> String {
    let mut parts = name.alphabetic.split('^').map(str::trim);
    let [family, given, middle, prefix, suffix] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let spoken = [prefix, given, middle, family, suffix];
    let spoken = spoken.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let ideographic = name.ideographic.replace('^', " ");
    match (spoken.as_str(), ideographic.trim()) {
        (_, "") => spoken,
        ("", _) => ideographic,
        (_, ideographic) => format!("{spoken} ({ideographic})"),
    }
}

fn date(text: &str) -> String {
    match (text.get(..4), text.get(4..6), text.get(6..8)) {
        (Some(year), Some(month), Some(day)) if text.len() == 8 && text.is_ascii() => {
            format!("{year}-{month}-{day}")
        }
        _ => text.to_owned(),
    }
}

/// A time without its fraction of a second.
fn time(text: &str) -> String {
    let whole = text.split('.').next().unwrap_or_default();
    match (whole.get(..2), whole.get(2..4), whole.get(4..6)) {
        (Some(hour), Some(minute), Some(second)) if whole.len() == 6 => format!("{hour}:{minute}:{second}"),
        (Some(hour), Some(minute), None) if whole.len() == 4 => format!("{hour}:{minute}"),
        _ => text.to_owned(),
    }
}

fn date_time(text: &str) -> String {
    let end = text.find(['+', '-']).unwrap_or(text.len());
    let (local, offset) = text.split_at(end);
    match (local.get(..8), local.get(8..)) {
        (Some(day), Some("")) => date(day),
        (Some(day), Some(rest)) => format!("{} {} {offset}", date(day), time(rest)).trim_end().to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_written_with_separators() {
        for (written, expected) in [
            (date("20010213"), "2001-02-13"),
            (date("2001.02.13"), "2001.02.13"),
            (date("2001é13"), "2001é13"),
            (time("184746.123"), "18:47:46"),
            (time("1847"), "18:47"),
            (time("18"), "18"),
            (date_time("20010213184746.5+0100"), "2001-02-13 18:47:46 +0100"),
            (date_time("20010213"), "2001-02-13"),
            (date_time("2001"), "2001"),
        ] {
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn names_are_written_as_they_are_spoken() {
        for (alphabetic, ideographic, expected) in [
            ("Doe^Jane^M.^Dr.^PhD", "", "Dr. Jane M. Doe PhD"),
            ("Doe", "", "Doe"),
            ("Yamada^Tarou", "山田^太郎", "Tarou Yamada (山田 太郎)"),
            ("", "山田^太郎", "山田 太郎"),
            ("^^^^^^^", "", ""),
        ] {
            let name = PersonName {
                alphabetic: alphabetic.into(),
                ideographic: ideographic.into(),
                ..PersonName::default()
            };
            assert_eq!(person(&name), expected);
        }
    }
}
