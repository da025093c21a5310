//! Whether a value matches: the last word, whatever an index may have thought (PS3.4 §C.2.2.2).

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::query::Condition;
use crate::query::temporal::{self, Span};
use crate::query::text::Pattern;

pub use crate::query::temporal::{normal_date, normal_time};
pub use crate::query::text::fold;

/// What a value must be. Of an attribute with several values, one must match.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// Anything, also nothing: universal matching.
    Universal,
    /// One of these texts, in the case in which they were written.
    Text(Vec<Pattern>),
    /// One of these codes (CS), in any case.
    Code(Vec<Pattern>),
    /// One of these UIDs.
    Uid(Vec<String>),
    /// This number, however it is written.
    Number(f64),
    /// This person name.
    Name(NameMatcher),
    /// A date within this span, as `YYYYMMDD`.
    Date(Span<String>),
    /// A time within this span, as `HHMMSSFFFFFF`.
    Time(Span<String>),
    /// A moment within this span, in microseconds.
    DateTime(Span<i64>),
    /// A date that together with the time under another tag lies within this span: combined date-time matching.
    DateAndTime {
        /// The attribute of the time.
        time: Tag,
        /// The span, as `YYYYMMDDHHMMSSFFFFFF`.
        span: Span<String>,
    },
}

/// What a person name must be, without regard to case and accents.
#[derive(Debug, Clone, PartialEq)]
pub struct NameMatcher {
    /// One pattern for any of the component groups, or one for each.
    pub groups: Vec<Pattern>,
    /// For fuzzy matching: each of these must begin a word of the name. Empty without it.
    pub words: Vec<String>,
}

/// Why a value cannot be matched against an attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not {0}")]
pub struct NotAValue(pub &'static str);

impl Matcher {
    /// Reads the value of a matching key for an attribute of a VR.
    ///
    /// # Errors
    /// If the value is no date, time or number where one is needed, or the VR cannot be matched.
    pub fn new(vr: Vr, value: &str, is_fuzzy: bool) -> Result<Self, NotAValue> {
        let value = value.trim();
        if value.chars().all(|character| character == '*') {
            return Ok(Self::Universal);
        }
        match &vr.0 {
            b"PN" => Ok(Self::Name(NameMatcher::new(value, is_fuzzy))),
            b"UI" => Ok(Self::Uid(list(value).map(str::to_owned).collect())),
            b"CS" => Ok(Self::Code(list(value).map(|code| Pattern::new(fold(code))).collect())),
            b"DA" => {
                temporal::date_span(value).map(Self::Date).ok_or(NotAValue("a date or a range of dates"))
            }
            b"TM" => {
                temporal::time_span(value).map(Self::Time).ok_or(NotAValue("a time or a range of times"))
            }
            b"DT" => temporal::date_time_span(value)
                .map(Self::DateTime)
                .ok_or(NotAValue("a date and time or a range of them")),
            b"IS" | b"DS" | b"US" | b"SS" | b"UL" | b"SL" | b"FL" | b"FD" | b"UV" | b"SV" => {
                value.parse().map(Self::Number).map_err(|_| NotAValue("a number"))
            }
            b"SQ" => Err(NotAValue("empty; a sequence is matched by the attributes of its items")),
            b"OB" | b"OW" | b"OF" | b"OD" | b"OL" | b"OV" => {
                Err(NotAValue("empty; binary values are not matched"))
            }
            _ => Ok(Self::Text(vec![Pattern::new(value.to_owned())])),
        }
    }

    /// Whether it accepts a text by itself, such as a code or UID that the index keeps outside attributes.
    pub fn accepts_plain(&self, text: &str) -> bool {
        self.accepts_text(text, &Attributes::new())
    }

    fn accepts(&self, value: &Value, siblings: &Attributes) -> bool {
        match (self, value) {
            (Self::Universal, _) => true,
            (Self::Name(matcher), Value::Name(name)) => matcher.accepts(name),
            (Self::Name(matcher), Value::Text(text)) => {
                matcher.accepts(&PersonName { alphabetic: text.clone(), ..PersonName::default() })
            }
            (_, Value::Text(text) | Value::Number(text)) => self.accepts_text(text.trim(), siblings),
            (_, Value::Absent | Value::Item(_) | Value::Name(_)) => false,
        }
    }

    fn accepts_text(&self, text: &str, siblings: &Attributes) -> bool {
        match self {
            Self::Universal => true,
            _ if text.is_empty() => false,
            Self::Text(patterns) => patterns.iter().any(|pattern| pattern.matches(text)),
            Self::Code(patterns) => patterns.iter().any(|pattern| pattern.matches(&fold(text))),
            Self::Uid(uids) => uids.iter().any(|uid| uid == text),
            Self::Number(number) => text.parse::<f64>().is_ok_and(|found| found == *number),
            Self::Name(_) => false,
            Self::Date(span) => normal_date(text).is_some_and(|date| span.contains(&date)),
            Self::Time(span) => normal_time(text).is_some_and(|time| span.contains(&time)),
            Self::DateTime(span) => {
                temporal::normal_date_time(text).is_some_and(|moment| span.contains(&moment))
            }
            Self::DateAndTime { time, span } => {
                let time = siblings.get(time).and_then(Attribute::first_text).and_then(normal_time);
                let both = normal_date(text).zip(time).map(|(date, time)| date + &time);
                both.is_some_and(|moment| span.contains(&moment))
            }
        }
    }
}

impl NameMatcher {
    fn new(value: &str, is_fuzzy: bool) -> Self {
        let groups = value.split('=').map(|group| Pattern::new(normal_name(group))).collect();
        let words = if is_fuzzy { words(&fold(value)).map(str::to_owned).collect() } else { Vec::new() };
        Self { groups, words }
    }

    fn accepts(&self, name: &PersonName) -> bool {
        let found = [&name.alphabetic, &name.ideographic, &name.phonetic].map(|group| normal_name(group));
        self.accepts_groups(&found) || (!self.words.is_empty() && self.accepts_words(&found))
    }

    fn accepts_groups(&self, found: &[String; 3]) -> bool {
        match self.groups.as_slice() {
            [pattern] => found.iter().any(|group| !group.is_empty() && pattern.matches(group)),
            patterns => patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| pattern.literal() != Some(""))
                .all(|(index, pattern)| found.get(index).is_some_and(|group| pattern.matches(group))),
        }
    }

    fn accepts_words(&self, found: &[String; 3]) -> bool {
        let begins_one = |wanted: &String| {
            found.iter().any(|group| words(group).any(|word| word.starts_with(wanted.as_str())))
        };
        self.words.iter().all(begins_one)
    }
}

/// A component group, folded, without the spaces and empty components that do not count (PS3.5 §6.2.1).
fn normal_name(group: &str) -> String {
    let components: Vec<&str> = group.split('^').map(str::trim).collect();
    fold(components.join("^").trim_end_matches('^'))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '^', '=', ',', '*', '?', '-', '\u{3000}']).filter(|word| !word.is_empty())
}

/// The members of a list: by comma, as PS3.18 writes it, or backslash, as PS3.4 does.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', '\\']).map(str::trim).filter(|member| !member.is_empty())
}

/// Whether a data set meets a condition.
pub fn matches(condition: &Condition, attributes: &Attributes) -> bool {
    matches_path(&condition.path, &condition.matcher, attributes)
}

fn matches_path(path: &[Tag], matcher: &Matcher, attributes: &Attributes) -> bool {
    if *matcher == Matcher::Universal {
        return true;
    }
    let Some((tag, rest)) = path.split_first() else { return false };
    let Some(attribute) = attributes.get(tag) else { return false };
    attribute.values.iter().any(|value| match value {
        Value::Item(item) if !rest.is_empty() => matches_path(rest, matcher, item),
        _ => rest.is_empty() && matcher.accepts(value, attributes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::attributes;
    use crate::query::parameters::condition;

    fn record() -> Attributes {
        let text = |vr: &[u8; 2], values: &[&str]| Attribute {
            vr: Vr(*vr),
            values: values.iter().map(|value| Value::Text((*value).to_owned())).collect(),
        };
        let name = |alphabetic: &str, ideographic: &str, phonetic: &str| Attribute {
            vr: Vr(*b"PN"),
            values: vec![Value::Name(PersonName {
                alphabetic: alphabetic.into(),
                ideographic: ideographic.into(),
                phonetic: phonetic.into(),
            })],
        };
        let item = Attributes::from([(Tag(0x0010_0020), text(b"LO", &["OTHER-7"]))]);
        let items = vec![Value::Item(Attributes::new()), Value::Item(item)];
        Attributes::from([
            (Tag(0x0008_0020), text(b"DA", &["20240229"])),
            (Tag(0x0008_0030), text(b"TM", &["1030"])),
            (Tag(0x0008_0050), text(b"SH", &[])),
            (Tag(0x0008_002A), text(b"DT", &["20240229103000+0100"])),
            (Tag(0x0008_0060), text(b"CS", &["CT"])),
            (Tag(0x0008_0061), text(b"CS", &["CT", "SR"])),
            (Tag(0x0008_1030), text(b"LO", &["Schädel [nativ]"])),
            (Tag(0x0010_0010), name("Müller^Zoë^^Dr.", "山田^太郎", "やまだ^たろう")),
            (Tag(0x0010_0020), text(b"LO", &["PAT 007"])),
            (Tag(0x0010_1002), Attribute { vr: Vr(*b"SQ"), values: items }),
            (Tag(0x0020_000D), text(b"UI", &["1.2.3"])),
            (Tag(0x0020_0011), Attribute::number(b"IS", "007")),
        ])
    }

    #[test]
    fn values_match_as_the_standard_says() {
        let table = [
            // Universal; a missing or empty value matches nothing else.
            ("PatientID", "", true),
            ("PatientID", "*", true),
            ("AccessionNumber", "", true),
            ("AccessionNumber", "?", false),
            ("StudyID", "", true),
            ("StudyID", "1", false),
            // Single values; case counts but in codes and names.
            ("PatientID", "PAT 007", true),
            ("PatientID", " PAT 007 ", true),
            ("PatientID", "pat 007", false),
            ("Modality", "ct", true),
            ("Modality", "CT,MR", true),
            ("Modality", "MR\\US", false),
            ("ModalitiesInStudy", "SR", true),
            ("ModalitiesInStudy", "C*", true),
            ("SeriesNumber", "7", true),
            ("SeriesNumber", "7.0", true),
            ("SeriesNumber", "70", false),
            // Wildcards.
            ("PatientID", "PAT*", true),
            ("PatientID", "PAT ??7", true),
            ("PatientID", "*08", false),
            ("StudyDescription", "*[nativ]", true),
            // UIDs.
            ("StudyInstanceUID", "1.2", false),
            ("StudyInstanceUID", "1.2,1.2.3", true),
            ("StudyInstanceUID", "1.2\\1.2.3", true),
            // Dates and times.
            ("StudyDate", "20240229", true),
            ("StudyDate", "2024.02.29", true),
            ("StudyDate", "20240229-", true),
            ("StudyDate", "-20240228", false),
            ("StudyDate", "20240201-20240301", true),
            ("StudyTime", "10", true),
            ("StudyTime", "103000", true),
            ("StudyTime", "1031-", false),
            ("StudyTime", "09-10", true),
            ("AcquisitionDateTime", "20240229093000+0000", true),
            ("AcquisitionDateTime", "20240229-20240301", true),
            ("AcquisitionDateTime", "20240301-", false),
            // Names.
            ("PatientName", "MULLER^ZOE^^DR.", true),
            ("PatientName", "müller^zoë^^dr.^", true),
            ("PatientName", "Müller", false),
            ("PatientName", "Müller*", true),
            ("PatientName", "山田*", true),
            ("PatientName", "やまだ^たろう", true),
            ("PatientName", "mul*=山田*", true),
            ("PatientName", "mul*=鈴木*", false),
            ("PatientName", "=山田*", true),
            // Sequences.
            ("OtherPatientIDsSequence.PatientID", "OTHER-7", true),
            ("OtherPatientIDsSequence.PatientID", "OTHER-8", false),
            ("OtherPatientIDsSequence", "", true),
        ];
        for (path, value, expected) in table {
            let path = path.split('.').map(|name| attributes::tag(name).unwrap()).collect();
            let condition = condition(path, value, false).unwrap();
            assert_eq!(matches(&condition, &record()), expected, "{condition:?} {value}");
        }
    }

    #[test]
    fn fuzzy_names_match_words_by_their_beginnings_in_any_order() {
        for (value, expected) in
            [("zoe mul", true), ("Zoë Müller", true), ("*ulle*", true), ("zoe meier", false), ("太郎", true)]
        {
            let condition = condition(vec![attributes::PATIENT_NAME], value, true).unwrap();
            assert_eq!(matches(&condition, &record()), expected, "{value}");
        }
    }

    #[test]
    fn values_that_an_attribute_cannot_have_are_refused() {
        for (name, value) in [
            ("StudyDate", "2024-02-29"),
            ("StudyDate", "-"),
            ("StudyTime", "noon"),
            ("SeriesNumber", "seven"),
            ("OtherPatientIDsSequence", "x"),
            ("PixelData", "x"),
        ] {
            assert!(condition(vec![attributes::tag(name).unwrap()], value, false).is_err(), "{name}={value}");
        }
    }
}
