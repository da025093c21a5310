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
