//! Whether a value matches: the last word, whatever an index may have thought (PS3.4 §C.2.2.2).

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::query::Condition;
use crate::query::attributes::{DATE_AND_TIME, TIMEZONE_OFFSET};
use crate::query::creators;
use crate::query::temporal::{self, Span};
use crate::query::text::Pattern;

pub use crate::query::names::NameMatcher;
pub use crate::query::temporal::{normal_date, normal_time};
pub use crate::query::text::fold;

/// What a value must be. Of an attribute with several values, one must match.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// Anything, also nothing: universal matching.
    Universal,
    /// Nothing: no value, or no such attribute (PS3.4 §C.2.2.2.7).
    Empty,
    /// Each of these, by one value or another (PS3.4 §C.2.2.2.8).
    Each(Vec<Matcher>),
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

/// Why a value cannot be matched against an attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not {0}")]
pub struct NotAValue(pub &'static str);

/// The manner of matching that a query asks for, or an association has negotiated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether names need only be alike.
    pub is_fuzzy: bool,
    /// Whether `""` asks for what has no value.
    pub knows_empty: bool,
    /// Whether all values of a list must be there, and not one.
    pub knows_multiple: bool,
    /// The offset from UTC, in minutes, of the dates and times asked for.
    pub timezone: Option<i32>,
}

impl Matcher {
    /// Reads the value of a matching key for an attribute of a VR.
    ///
    /// # Errors
    /// If the value is no date, time or number where one is needed, or the VR cannot be matched.
    pub fn new(vr: Vr, value: &str, manner: Manner) -> Result<Self, NotAValue> {
        let value = value.trim();
        if value.chars().all(|character| character == '*') {
            return Ok(Self::Universal);
        }
        if manner.knows_empty && value == "\"\"" {
            return Ok(Self::Empty);
        }
        if manner.knows_multiple && value.contains('\\') && has_lists(vr) {
            let manner = Manner { knows_multiple: false, ..manner };
            let all = value.split('\\').map(|one| Self::new(vr, one, manner));
            return all.collect::<Result<_, _>>().map(Self::Each);
        }
        match &vr.0 {
            b"PN" => Ok(Self::Name(NameMatcher::new(value, manner.is_fuzzy))),
            b"UI" => Ok(Self::Uid(list(value).map(str::to_owned).collect())),
            b"CS" => Ok(Self::Code(list(value).map(|code| Pattern::new(fold(code))).collect())),
            b"DA" => {
                temporal::date_span(value).map(Self::Date).ok_or(NotAValue("a date or a range of dates"))
            }
            b"TM" => {
                temporal::time_span(value).map(Self::Time).ok_or(NotAValue("a time or a range of times"))
            }
            b"DT" => temporal::date_time_span(value, manner.timezone.unwrap_or(0))
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
        self.accepts_text(text, &Place { tag: Tag(0), data_set: &Attributes::new(), zones: Zones::default() })
    }

    fn accepts(&self, value: &Value, place: &Place<'_>) -> bool {
        match (self, value) {
            (Self::Universal, _) => true,
            (Self::Name(matcher), Value::Name(name)) => matcher.accepts(name),
            (Self::Name(matcher), Value::Text(text)) => {
                matcher.accepts(&PersonName { alphabetic: text.clone(), ..PersonName::default() })
            }
            (_, Value::Text(text) | Value::Number(text)) => self.accepts_text(text.trim(), place),
            (_, Value::Absent | Value::Item(_) | Value::Name(_)) => false,
        }
    }

    fn accepts_text(&self, text: &str, place: &Place<'_>) -> bool {
        match self {
            Self::Universal => true,
            _ if text.is_empty() => false,
            Self::Text(patterns) => patterns.iter().any(|pattern| pattern.matches(text)),
            Self::Code(patterns) => patterns.iter().any(|pattern| pattern.matches(&fold(text))),
            Self::Uid(uids) => uids.iter().any(|uid| uid == text),
            Self::Number(number) => text.parse::<f64>().is_ok_and(|found| found == *number),
            Self::Name(_) | Self::Empty | Self::Each(_) => false,
            Self::Date(span) => place.date(text).is_some_and(|date| span.contains(&date)),
            Self::Time(span) => place.time(text).is_some_and(|time| span.contains(&time)),
            Self::DateTime(span) => {
                let moment = temporal::normal_date_time(text, place.zones.stored);
                moment.is_some_and(|moment| span.contains(&moment))
            }
            Self::DateAndTime { time, span } => {
                let both = normal_date(text).zip(place.sibling(*time).and_then(normal_time));
                let both = both.and_then(|(date, time)| place.zones.moved(date, time));
                both.is_some_and(|(date, time)| span.contains(&(date + &time)))
            }
        }
    }
}

/// Whether values of this representation may be asked for in lists (PS3.4 §C.2.2.2.8).
fn has_lists(vr: Vr) -> bool {
    matches!(&vr.0, b"AE" | b"AS" | b"AT" | b"CS" | b"LO" | b"PN" | b"SH" | b"UC")
}

/// Where a value stands.
struct Place<'a> {
    tag: Tag,
    /// The data set or the item.
    data_set: &'a Attributes,
    zones: Zones,
}

impl Place<'_> {
    fn sibling(&self, tag: Tag) -> Option<&str> {
        self.data_set.get(&tag).and_then(Attribute::first_text)
    }

    /// A date where the query is. It needs the time, without which it stays as it is.
    fn date(&self, text: &str) -> Option<String> {
        let date = normal_date(text)?;
        let time = DATE_AND_TIME.iter().find(|(date, _)| *date == self.tag).map(|(_, time)| *time);
        match time.and_then(|time| self.sibling(time)).and_then(normal_time) {
            Some(time) => self.zones.moved(date, time).map(|(date, _)| date),
            None => Some(date),
        }
    }

    /// A time where the query is.
    fn time(&self, text: &str) -> Option<String> {
        let time = normal_time(text)?;
        let date = DATE_AND_TIME.iter().find(|(_, time)| *time == self.tag).map(|(date, _)| *date);
        let date = date.and_then(|date| self.sibling(date)).and_then(normal_date);
        self.zones.moved(date.unwrap_or_else(|| "20000101".into()), time).map(|(_, time)| time)
    }
}

/// Time zones, in minutes.
#[derive(Debug, Clone, Copy, Default)]
struct Zones {
    /// The offset from UTC of dates and times with their own (DT) that do not tell it.
    stored: i32,
    /// How much later it is where the query is than where the data set was made.
    difference: i32,
}

impl Zones {
    /// Those of a data set for a condition. Without a time zone in either, dates and times are compared as they stand.
    fn of(condition: &Condition, attributes: &Attributes) -> Self {
        let Some(asked) = condition.timezone else { return Self::default() };
        let offset = attributes.get(&TIMEZONE_OFFSET).and_then(Attribute::first_text);
        let stored = offset.and_then(temporal::offset_minutes).unwrap_or(asked);
        Self { stored, difference: asked - stored }
    }

    fn moved(self, date: String, time: String) -> Option<(String, String)> {
        if self.difference == 0 { Some((date, time)) } else { temporal::later(&date, &time, self.difference) }
    }
}

/// The members of a list: by comma, as PS3.18 writes it, or backslash, as PS3.4 does.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', '\\']).map(str::trim).filter(|member| !member.is_empty())
}

/// Whether a data set meets a condition.
pub fn matches(condition: &Condition, attributes: &Attributes) -> bool {
    let zones = Zones::of(condition, attributes);
    match &condition.matcher {
        Matcher::Universal => true,
        Matcher::Each(matchers) => matchers
            .iter()
            .all(|matcher| matches_path(condition, &condition.path, matcher, attributes, zones)),
        matcher => matches_path(condition, &condition.path, matcher, attributes, zones),
    }
}

fn matches_path(
    condition: &Condition,
    path: &[Tag],
    matcher: &Matcher,
    data_set: &Attributes,
    zones: Zones,
) -> bool {
    let Some((tag, rest)) = path.split_first() else { return false };
    let tag = creators::placed(*tag, &condition.creators, data_set);
    let found = tag.and_then(|tag| Some((tag, data_set.get(&tag)?)));
    let values = found.map_or(&[][..], |(_, attribute)| &attribute.values);
    if *matcher == Matcher::Empty && (values.is_empty() || rest.is_empty()) {
        return values.iter().all(is_empty);
    }
    let place = Place { tag: tag.unwrap_or(Tag(0)), data_set, zones };
    values.iter().any(|value| match value {
        Value::Item(item) if !rest.is_empty() => matches_path(condition, rest, matcher, item, zones),
        _ => rest.is_empty() && matcher.accepts(value, &place),
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Absent => true,
        Value::Text(text) | Value::Number(text) => text.trim().is_empty(),
        Value::Name(name) => *name == PersonName::default(),
        Value::Item(_) => false,
    }
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
            let condition = condition(path, value, Manner::default()).unwrap();
            assert_eq!(matches(&condition, &record()), expected, "{condition:?} {value}");
        }
    }

    fn matches_in(manner: Manner, name: &str, value: &str, record: &Attributes) -> bool {
        let path = name.split('.').map(|name| attributes::tag(name).unwrap()).collect();
        matches(&condition(path, value, manner).unwrap(), record)
    }

    #[test]
    fn fuzzy_matching_looks_at_all_groups_of_a_name() {
        let manner = Manner { is_fuzzy: true, ..Manner::default() };
        for (value, expected) in [("zoe mul", true), ("*ulle*", true), ("zoe meier", false), ("太郎", true)]
        {
            assert_eq!(matches_in(manner, "PatientName", value, &record()), expected, "{value}");
        }
    }

    #[test]
    fn two_quotation_marks_ask_for_no_value_where_that_was_agreed() {
        let manner = Manner { knows_empty: true, ..Manner::default() };
        for (name, expected) in [
            ("AccessionNumber", true),
            ("StudyID", true),
            ("PatientID", false),
            ("PatientName", false),
            ("StudyDate", false),
            ("SeriesNumber", false),
            ("OtherPatientIDsSequence", false),
            ("ProcedureCodeSequence", true),
            ("OtherPatientIDsSequence.PatientID", true),
            ("OtherPatientIDsSequence.TypeOfPatientID", true),
            ("ProcedureCodeSequence.CodeValue", true),
        ] {
            assert_eq!(matches_in(manner, name, "\"\"", &record()), expected, "{name}");
        }
        assert!(!matches_in(Manner::default(), "AccessionNumber", "\"\"", &record()));
    }

    #[test]
    fn all_values_of_a_list_must_be_there_where_that_was_agreed() {
        let manner = Manner { knows_multiple: true, ..Manner::default() };
        for (name, value, expected) in [
            ("ModalitiesInStudy", "SR\\CT", true),
            ("ModalitiesInStudy", "CT\\MR", false),
            ("ModalitiesInStudy", "CT", true),
            ("PatientID", "PAT 007\\PAT*", true),
            ("PatientID", "PAT 007\\8", false),
            ("StudyInstanceUID", "1.2\\1.2.3", true),
        ] {
            assert_eq!(matches_in(manner, name, value, &record()), expected, "{name}={value}");
        }
    }

    #[test]
    fn dates_and_times_are_those_of_the_time_zone_asked_for() {
        let mut stored = record();
        stored.insert(TIMEZONE_OFFSET, Attribute::text(b"SH", "+0900"));
        let mut without_time = stored.clone();
        without_time.remove(&Tag(0x0008_0030));
        stored.insert(Tag(0x0040_A120), Attribute::text(b"DT", "20240229103000"));
        // 10:30 in Tokyo is 20:30 of the day before in New York.
        for (timezone, name, value, expected) in [
            (Some(-300), "StudyDate", "20240228", true),
            (Some(-300), "StudyDate", "20240229", false),
            (Some(-300), "StudyTime", "2030", true),
            (Some(-300), "StudyTime", "1030", false),
            (Some(540), "StudyTime", "1030", true),
            (None, "StudyDate", "20240229", true),
            (Some(-300), "DateTime", "202402282030", true),
            (Some(-300), "DateTime", "202402291030+0900", true),
            (Some(-300), "DateTime", "202402291030", false),
            (None, "DateTime", "202402291030", true),
        ] {
            let manner = Manner { timezone, ..Manner::default() };
            assert_eq!(matches_in(manner, name, value, &stored), expected, "{timezone:?} {name}={value}");
        }
        let manner = Manner { timezone: Some(-300), ..Manner::default() };
        assert!(matches_in(manner, "StudyDate", "20240229", &without_time));
        assert!(matches_in(manner, "StudyDate", "20240229", &record()));
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
            assert!(
                condition(vec![attributes::tag(name).unwrap()], value, Manner::default()).is_err(),
                "{name}={value}"
            );
        }
    }
}
