//! The matching rules of attribute values (PS3.4 §C.2.2.2). They decide, whichever candidates an index finds.

use std::borrow::Cow;

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value, Vr};
use crate::dicom::tags;
use crate::query::indexed_attributes::DATE_AND_TIME;
use crate::query::temporal::{self, Span, normal_date, normal_time};
use crate::query::text::{MAX_SEARCHED_CHARACTERS, Pattern, fold};
use crate::query::{Condition, lengths, private_creators};

pub use crate::query::names::{NameForms, NameMatcher};

/// A rule for a value. An attribute with several values matches if one of them does.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// Any value or none: universal matching (PS3.4 §C.2.2.2.3).
    Universal,
    /// No value, or no such attribute: empty value matching (PS3.4 §C.2.2.2.7).
    Empty,
    /// All of these rules, each by any value: multiple value matching (PS3.4 §C.2.2.2.8).
    Each(Vec<Matcher>),
    /// One of these texts; case is significant.
    Text(Vec<Pattern>),
    /// One of these codes (CS); case is not significant.
    Code(Vec<Pattern>),
    /// One of these UIDs, in ascending order.
    Uid(Vec<String>),
    /// This number, in any notation.
    Number(f64),
    /// This person name.
    Name(NameMatcher),
    /// A date within this span, as `YYYYMMDD`.
    Date(Span<String>),
    /// A time within this span, as `HHMMSSFFFFFF`.
    Time(Span<String>),
    /// A moment within this span, in microseconds since 1970 UTC.
    DateTime(Span<i64>),
    /// A date that, combined with the time in another attribute, lies within this span (PS3.4 §C.2.2.2.5).
    DateAndTime {
        /// The attribute of the time.
        time: Tag,
        /// The span, as `YYYYMMDDHHMMSSFFFFFF`.
        span: Span<String>,
    },
    /// An item of a sequence that meets all of these conditions: sequence matching (PS3.4 §C.2.2.2.6).
    Item(Vec<Condition>),
}

/// The error for a value that cannot be matched against an attribute; holds what the value should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not {0}")]
pub struct InvalidValue(pub Cow<'static, str>);

/// The work of comparing a value with a rule, beside its length, in bytes.
const BYTES_PER_VALUE: u64 = 16;

/// The options of matching that a query requests (PS3.18 §8.3.4) or an association negotiates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MatchingOptions {
    /// Whether person names are matched fuzzily.
    pub is_fuzzy: bool,
    /// Whether `""` matches attributes without value (empty value matching).
    pub has_empty_value_matching: bool,
    /// Whether all values of a list must match, and not one (multiple value matching).
    pub has_multiple_value_matching: bool,
    /// The offset from UTC, in minutes, of dates and times in the query.
    pub timezone: Option<i32>,
}

impl Matcher {
    /// Parses the value of a matching key for an attribute of a VR.
    ///
    /// # Errors
    /// If the value is no date, time or number where one is needed, or the VR cannot be matched.
    pub fn new(vr: Vr, value: &str, options: MatchingOptions) -> Result<Self, InvalidValue> {
        let value = value.trim();
        if value.chars().all(|character| character == '*') {
            return Ok(Self::Universal);
        }
        lengths::check(vr, value).map_err(|expected| InvalidValue(expected.into()))?;
        if options.has_empty_value_matching && value == "\"\"" {
            return Ok(Self::Empty);
        }
        if options.has_multiple_value_matching && value.contains('\\') && has_lists(vr) {
            let options = MatchingOptions { has_multiple_value_matching: false, ..options };
            let all = value.split('\\').map(|one| Self::new(vr, one, options));
            return all.collect::<Result<_, _>>().map(Self::Each);
        }
        match &vr.0 {
            b"PN" => NameMatcher::new(value, options.is_fuzzy).map(Self::Name).ok_or_else(invalid_pattern),
            b"UI" => Ok(Self::Uid(uids(value))),
            b"CS" => {
                let patterns = list(value).map(|code| Pattern::new(fold(code)));
                patterns.collect::<Option<_>>().map(Self::Code).ok_or_else(invalid_pattern)
            }
            b"DA" => temporal::date_span(value).map(Self::Date).ok_or(invalid("a date or a range of dates")),
            b"TM" => temporal::time_span(value).map(Self::Time).ok_or(invalid("a time or a range of times")),
            b"DT" => temporal::date_time_span(value, options.timezone.unwrap_or(0))
                .map(Self::DateTime)
                .ok_or(invalid("a date and time or a range of them")),
            b"IS" | b"DS" | b"US" | b"SS" | b"UL" | b"SL" | b"FL" | b"FD" | b"UV" | b"SV" => {
                let number = value.parse().ok().filter(|number: &f64| number.is_finite());
                number.map(Self::Number).ok_or(invalid("a number"))
            }
            b"SQ" => Err(invalid("empty; a sequence is matched by the attributes of its items")),
            b"OB" | b"OW" | b"OF" | b"OD" | b"OL" | b"OV" => {
                Err(invalid("empty; binary values are not matched"))
            }
            _ => Pattern::new(value.to_owned())
                .map(|pattern| Self::Text(vec![pattern]))
                .ok_or_else(invalid_pattern),
        }
    }

    /// Whether the rule is met by every data set.
    pub fn is_universal(&self) -> bool {
        match self {
            Self::Universal => true,
            Self::Item(conditions) => conditions.iter().all(|condition| condition.matcher.is_universal()),
            _ => false,
        }
    }

    /// Whether an attribute without a value, or that is not there, meets the rule.
    fn accepts_absence(&self) -> bool {
        match self {
            Self::Universal | Self::Empty => true,
            Self::Item(conditions) => conditions.iter().all(|condition| condition.matcher.accepts_absence()),
            _ => false,
        }
    }

    /// The work of comparing a value with the rule, in bytes: it bounds the time of the comparison.
    fn work(&self, value: &Value) -> u64 {
        let length = match value {
            Value::Absent | Value::Item(_) => 0,
            Value::Text(text) | Value::Number(text) => text.len(),
            Value::Name(name) => name.alphabetic.len() + name.ideographic.len() + name.phonetic.len(),
        };
        let (comparisons, bytes) = match self {
            Self::Text(patterns) | Self::Code(patterns) => {
                (patterns.len(), patterns.iter().map(Pattern::length_bytes).sum())
            }
            // The forms of a name are three times as long as the name.
            Self::Name(matcher) => (matcher.groups.len() + 3 * matcher.words.len(), 0),
            _ => (1, 0),
        };
        BYTES_PER_VALUE + length as u64 * comparisons as u64 + bytes as u64
    }

    /// Whether a text outside any attribute meets the rule, such as a SOP class UID from the counts of a
    /// series.
    pub fn accepts_plain_text(&self, text: &str) -> bool {
        self.accepts_text(
            text,
            &ValueContext { tag: Tag(0), data_set: &Attributes::new(), zones: TimeZones::default() },
        )
    }

    fn accepts(&self, value: &Value, context: &ValueContext<'_>) -> bool {
        match (self, value) {
            (Self::Universal, _) => true,
            (Self::Name(matcher), Value::Name(name)) => matcher.accepts(name),
            (Self::Name(matcher), Value::Text(text)) => {
                matcher.accepts(&PersonName { alphabetic: text.clone(), ..PersonName::default() })
            }
            (_, Value::Text(text) | Value::Number(text)) => self.accepts_text(text.trim(), context),
            (_, Value::Absent | Value::Item(_) | Value::Name(_)) => false,
        }
    }

    fn accepts_text(&self, text: &str, context: &ValueContext<'_>) -> bool {
        match self {
            Self::Universal => true,
            _ if text.is_empty() => false,
            Self::Text(patterns) => patterns.iter().any(|pattern| pattern.matches(text)),
            Self::Code(patterns) => {
                let text = fold(text);
                patterns.iter().any(|pattern| pattern.matches(&text))
            }
            Self::Uid(uids) => uids.binary_search_by(|uid| uid.as_str().cmp(text)).is_ok(),
            Self::Number(number) => text.parse::<f64>().is_ok_and(|found| found == *number),
            Self::Name(_) | Self::Empty | Self::Each(_) | Self::Item(_) => false,
            Self::Date(span) => context.date(text).is_some_and(|date| span.contains(&date)),
            Self::Time(span) => context.time(text).is_some_and(|time| span.contains(&time)),
            Self::DateTime(span) => {
                let moment = temporal::normal_date_time(text, context.zones.stored);
                moment.is_some_and(|moment| span.contains(&moment))
            }
            Self::DateAndTime { time, span } => {
                let both = normal_date(text).zip(context.sibling(*time).and_then(normal_time));
                let both = both.and_then(|(date, time)| context.zones.convert(date, time));
                both.is_some_and(|(date, time)| span.contains(&(date + &time)))
            }
        }
    }
}

/// Whether a matching key of this VR may be a list of values (PS3.4 §C.2.2.2.8).
fn has_lists(vr: Vr) -> bool {
    matches!(&vr.0, b"AE" | b"AS" | b"AT" | b"CS" | b"LO" | b"PN" | b"SH" | b"UC")
}

/// The context of a value, for comparisons that need other attributes.
struct ValueContext<'a> {
    tag: Tag,
    /// The data set or sequence item that contains the value.
    data_set: &'a Attributes,
    zones: TimeZones,
}

impl ValueContext<'_> {
    fn sibling(&self, tag: Tag) -> Option<&str> {
        self.data_set.get(&tag).and_then(Attribute::first_text)
    }

    /// Converts a date to the time zone of the query. Without its time, a date is not converted.
    fn date(&self, text: &str) -> Option<String> {
        let date = normal_date(text)?;
        let time = DATE_AND_TIME.iter().find(|(date, _)| *date == self.tag).map(|(_, time)| *time);
        match time.and_then(|time| self.sibling(time)).and_then(normal_time) {
            Some(time) => self.zones.convert(date, time).map(|(date, _)| date),
            None => Some(date),
        }
    }

    /// Converts a time to the time zone of the query.
    fn time(&self, text: &str) -> Option<String> {
        let time = normal_time(text)?;
        let date = DATE_AND_TIME.iter().find(|(_, time)| *time == self.tag).map(|(date, _)| *date);
        let date = date.and_then(|date| self.sibling(date)).and_then(normal_date);
        self.zones.convert(date.unwrap_or_else(|| "20000101".into()), time).map(|(_, time)| time)
    }
}

/// The time zones of a data set and of a condition.
#[derive(Debug, Clone, Copy, Default)]
struct TimeZones {
    /// The offset from UTC, in minutes, of values of VR DT that name none.
    stored: i32,
    /// The offset of the query less that of the data set, in minutes.
    difference: i32,
}

impl TimeZones {
    /// The time zones to compare a data set with a condition. If either has none, dates and times are not
    /// converted.
    fn of(condition: &Condition, attributes: &Attributes) -> Self {
        let Some(requested) = condition.timezone else { return Self::default() };
        let offset = attributes.get(&tags::TIMEZONE_OFFSET_FROM_UTC).and_then(Attribute::first_text);
        let stored = offset.and_then(temporal::offset_minutes).unwrap_or(requested);
        Self { stored, difference: requested - stored }
    }

    /// Converts a date and time from the time zone of the data set to that of the query.
    fn convert(self, date: String, time: String) -> Option<(String, String)> {
        if self.difference == 0 {
            return Some((date, time));
        }
        temporal::add_minutes(&date, &time, self.difference)
    }
}

/// Splits a list at commas, the separator of PS3.18, and at backslashes, that of PS3.4.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', '\\']).map(str::trim).filter(|member| !member.is_empty())
}

/// The UIDs of a list, each once, in ascending order.
fn uids(value: &str) -> Vec<String> {
    let mut uids: Vec<String> = list(value).map(str::to_owned).collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}

fn invalid(expected: &'static str) -> InvalidValue {
    InvalidValue(expected.into())
}

fn invalid_pattern() -> InvalidValue {
    let text = format!(
        "a pattern with at most {MAX_SEARCHED_CHARACTERS} characters between two `*`, `?` among them"
    );
    InvalidValue(text.into())
}

/// Whether a data set meets a condition. Adds the work of finding out to `work`, in bytes that are compared.
pub fn matches(condition: &Condition, attributes: &Attributes, work: &mut u64) -> bool {
    meets(condition, attributes, TimeZones::of(condition, attributes), work)
}

/// Whether a data set, or an item in one, meets a condition.
fn meets(condition: &Condition, data_set: &Attributes, zones: TimeZones, work: &mut u64) -> bool {
    if let Matcher::Universal = condition.matcher {
        return true;
    }
    *work += BYTES_PER_VALUE;
    let tag = private_creators::tag_in_data_set(condition.tag, &condition.creators, data_set);
    let found = tag.and_then(|tag| data_set.get(&tag));
    let values = found.map_or(&[][..], |attribute| &attribute.values);
    if values.iter().all(is_empty) {
        return condition.matcher.accepts_absence();
    }
    let context = ValueContext { tag: tag.unwrap_or(Tag(0)), data_set, zones };
    match &condition.matcher {
        Matcher::Item(conditions) => values.iter().any(|value| match value {
            Value::Item(item) => conditions.iter().all(|condition| meets(condition, item, zones, work)),
            _ => false,
        }),
        Matcher::Each(matchers) => matchers.iter().all(|matcher| has_value(matcher, values, &context, work)),
        matcher => has_value(matcher, values, &context, work),
    }
}

/// Whether one of the values of an attribute meets a rule.
fn has_value(matcher: &Matcher, values: &[Value], context: &ValueContext<'_>, work: &mut u64) -> bool {
    values.iter().any(|value| {
        *work += matcher.work(value);
        matcher.accepts(value, context)
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
    use crate::query::indexed_attributes;
    use crate::query::parameters::condition as read;

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
        for (name, value, expected) in table {
            let condition = condition(name, value, MatchingOptions::default()).unwrap();
            assert_eq!(matches(&condition, &record(), &mut 0), expected, "{condition:?} {value}");
        }
    }

    fn condition(name: &str, value: &str, options: MatchingOptions) -> Result<Condition, InvalidValue> {
        let path: Vec<Tag> = name.split('.').map(|name| indexed_attributes::tag(name).unwrap()).collect();
        read(&path, value, options)
    }

    fn matches_in(options: MatchingOptions, name: &str, value: &str, record: &Attributes) -> bool {
        matches(&condition(name, value, options).unwrap(), record, &mut 0)
    }

    #[test]
    fn fuzzy_matching_looks_at_all_groups_of_a_name() {
        let options = MatchingOptions { is_fuzzy: true, ..MatchingOptions::default() };
        for (value, expected) in [("zoe mul", true), ("*ulle*", true), ("zoe meier", false), ("太郎", true)]
        {
            assert_eq!(matches_in(options, "PatientName", value, &record()), expected, "{value}");
        }
    }

    #[test]
    fn two_quotation_marks_match_attributes_without_value_if_the_query_says_so() {
        let options = MatchingOptions { has_empty_value_matching: true, ..MatchingOptions::default() };
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
            assert_eq!(matches_in(options, name, "\"\"", &record()), expected, "{name}");
        }
        assert!(!matches_in(MatchingOptions::default(), "AccessionNumber", "\"\"", &record()));
    }

    #[test]
    fn all_values_of_a_list_must_match_if_the_query_says_so() {
        let options = MatchingOptions { has_multiple_value_matching: true, ..MatchingOptions::default() };
        for (name, value, expected) in [
            ("ModalitiesInStudy", "SR\\CT", true),
            ("ModalitiesInStudy", "CT\\MR", false),
            ("ModalitiesInStudy", "CT", true),
            ("PatientID", "PAT 007\\PAT*", true),
            ("PatientID", "PAT 007\\8", false),
            ("StudyInstanceUID", "1.2\\1.2.3", true),
        ] {
            assert_eq!(matches_in(options, name, value, &record()), expected, "{name}={value}");
        }
    }

    #[test]
    fn dates_and_times_are_matched_in_the_time_zone_of_the_query() {
        let mut stored = record();
        stored.insert(tags::TIMEZONE_OFFSET_FROM_UTC, Attribute::text(b"SH", "+0900"));
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
            let options = MatchingOptions { timezone, ..MatchingOptions::default() };
            assert_eq!(matches_in(options, name, value, &stored), expected, "{timezone:?} {name}={value}");
        }
        let options = MatchingOptions { timezone: Some(-300), ..MatchingOptions::default() };
        assert!(matches_in(options, "StudyDate", "20240229", &without_time));
        assert!(matches_in(options, "StudyDate", "20240229", &record()));
    }

    #[test]
    fn values_that_an_attribute_cannot_have_are_refused() {
        for (name, value) in [
            ("StudyDate", "2024-02-29"),
            ("StudyDate", "-"),
            ("StudyTime", "noon"),
            ("SeriesNumber", "seven"),
            ("SeriesNumber", "nan"),
            ("SeriesNumber", "-inf"),
            ("Rows", "1e999"),
            ("OtherPatientIDsSequence", "x"),
            ("PixelData", "x"),
        ] {
            assert!(condition(name, value, MatchingOptions::default()).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn work_grows_with_the_length_of_the_value_the_number_of_values_and_the_list() {
        let long = |values: usize, length: usize| {
            let values = vec![Value::Text("x".repeat(length)); values];
            Attributes::from([(Tag(0x0008_0061), Attribute { vr: Vr(*b"CS"), values })])
        };
        let work = |key: &str, record: &Attributes| {
            let mut work = 0;
            let condition = condition("ModalitiesInStudy", key, MatchingOptions::default()).unwrap();
            assert!(!matches(&condition, record, &mut work));
            work
        };
        let base = work("*a", &long(1, 1000));
        assert!((1000..1200).contains(&base), "{base}");
        assert!((10_000..11_000).contains(&work("*a", &long(1, 10_000))));
        assert!((10_000..11_000).contains(&work("*a", &long(10, 1000))));
        assert!((10_000..11_000).contains(&work(&["*a"; 10].join(","), &long(1, 1000))));
    }
}
