//! The sort keys of studies in the list of all studies ([`Secondary::First`]): the place of a study in the
//! default order of results, and the values that most searches are for. A search skips a study by its sort
//! key, without reading the record.
//!
//! A sort key is the place ([`keys::order`]) and, for each of [`LISTED`], `U+0001` and the value. A value
//! that the sort key cannot hold is `U+0002`: the record decides. A sort key of an older version is a place
//! alone.
//!
//! [`Secondary::First`]: crate::table::Secondary::First

use std::collections::BTreeMap;

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value};
use crate::dicom::tags;
use crate::index::conditions::Conditions;
use crate::index::keys;
use crate::index::records::StudyRecord;
use crate::query::indexed_attributes;
use crate::query::matching::{Matcher, NameForms, matches};
use crate::query::{Condition, Level, Query};

/// The attributes in a sort key, each with the maximum bytes of its value. With the place, a sort key has
/// fewer bytes than a table allows.
const LISTED: [(Tag, usize); 5] = [
    (tags::PATIENT_NAME, 400),
    (tags::PATIENT_ID, 64),
    (tags::ACCESSION_NUMBER, 64),
    (tags::MODALITIES_IN_STUDY, 64),
    (tags::STUDY_DESCRIPTION, 256),
];
/// The number of the patient name in [`LISTED`].
const NAME: usize = 0;
/// The character before each value.
const SEPARATOR: char = '\u{1}';
/// The value that says that the record decides.
const UNKNOWN: &str = "\u{2}";
/// The character between two modalities.
const BETWEEN_CODES: char = '\\';

/// The sort key of a study in the list of all studies.
pub(crate) fn sort_key(record: &StudyRecord) -> String {
    let mut sort = keys::order(record);
    for (tag, max_bytes) in LISTED {
        let value = match tag {
            tags::MODALITIES_IN_STUDY => codes(&record.modalities),
            _ => record.attributes.get(&tag).map_or(Some(String::new()), text),
        };
        let is_listable = |value: &String| value.len() <= max_bytes && !value.contains(char::is_control);
        sort.push(SEPARATOR);
        sort.push_str(value.filter(is_listable).as_deref().unwrap_or(UNKNOWN));
    }
    sort
}

/// The place of a study in the default order of results, from a sort key.
pub(crate) fn order(sort: &str) -> &str {
    sort.split(SEPARATOR).next().unwrap_or_default()
}

/// Whether a sort key has values besides the place: that of an older version has none.
pub(crate) fn has_values(sort: &str) -> bool {
    sort.contains(SEPARATOR)
}

/// The forms of the patient name in a sort key; `None` without a name, or if the record must decide.
pub(crate) fn name_forms(sort: &str) -> Option<NameForms> {
    let text = sort.split(SEPARATOR).nth(NAME + 1).filter(|text| !text.is_empty() && *text != UNKNOWN)?;
    Some(NameForms::of(&name(text)))
}

/// The upper bound of the sort keys of a study with this place.
pub(crate) fn end_of(order: &str) -> String {
    format!("{order}\u{2}")
}

/// An attribute as the text of a sort key: empty without a value; `None` if the record must decide.
fn text(attribute: &Attribute) -> Option<String> {
    match attribute.values.as_slice() {
        [] => Some(String::new()),
        [Value::Text(text)] if !text.trim().is_empty() => Some(text.clone()),
        [Value::Name(name)] if *name != PersonName::default() => {
            let groups = [&name.alphabetic, &name.ideographic, &name.phonetic];
            let is_plain = groups.iter().all(|group| !group.contains('='));
            let joined = groups.map(String::as_str).join("=");
            is_plain.then(|| joined.trim_end_matches('=').to_owned())
        }
        _ => None,
    }
}

fn codes(counts: &BTreeMap<String, u64>) -> Option<String> {
    let codes: Vec<&str> = counts.keys().map(String::as_str).collect();
    let is_plain = codes.iter().all(|code| !code.trim().is_empty() && !code.contains(BETWEEN_CODES));
    is_plain.then(|| codes.join("\\"))
}

/// The name that the text of a sort key stands for.
fn name(text: &str) -> PersonName {
    let mut groups = text.split('=').map(str::to_owned);
    let mut next = || groups.next().unwrap_or_default();
    PersonName { alphabetic: next(), ideographic: next(), phonetic: next() }
}

/// The attribute that the text of a sort key stands for.
fn attribute(tag: Tag, text: &str) -> Attribute {
    let values = match tag {
        _ if text.is_empty() => Vec::new(),
        tags::PATIENT_NAME => vec![Value::Name(name(text))],
        tags::MODALITIES_IN_STUDY => {
            text.split(BETWEEN_CODES).map(|code| Value::Text(code.to_owned())).collect()
        }
        _ => vec![Value::Text(text.to_owned())],
    };
    Attribute { vr: indexed_attributes::vr(tag), values }
}

/// A decision about a study by its sort key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyVerdict {
    /// The study is a match.
    Match,
    /// The record decides.
    Unknown,
    /// The study is no match, and has none in it.
    NoMatch,
}

/// The conditions of a query that sort keys decide.
pub(crate) struct KeyFilter {
    /// The conditions, each with its number in [`LISTED`]; `None` for the date, which is in the place.
    conditions: Vec<(Option<usize>, Condition)>,
    /// Whether there are no others: a study that meets these is a match.
    is_complete: bool,
}

impl KeyFilter {
    /// The filter of a query with these conditions.
    pub(crate) fn new(query: &Query, conditions: &Conditions) -> Self {
        let mut decided = Vec::new();
        for condition in &conditions.study {
            let tag = condition.tag;
            let is_date = tag == tags::STUDY_DATE && condition.timezone.is_none();
            if is_date && matches!(condition.matcher, Matcher::Date(_)) {
                decided.push((None, condition.clone()));
            } else if let Some(number) = LISTED.iter().position(|(listed, _)| *listed == tag) {
                decided.push((Some(number), condition.clone()));
            }
        }
        let others = [&conditions.series, &conditions.instance, &*conditions.metadata];
        let is_complete = query.level == Level::Study
            && query.arrived.is_none()
            && decided.len() == conditions.study.len()
            && others.iter().all(|others| others.is_empty());
        Self { conditions: decided, is_complete }
    }

    /// Whether the filter decides nothing but the date, which the bounds of a range decide as well.
    pub(crate) fn is_by_date_alone(&self) -> bool {
        self.conditions.iter().all(|(number, _)| number.is_none())
    }

    /// Whether the conditions in the filter are all of the query, so that a match need not be read to be
    /// skipped.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Decides about a study by its sort key. `forms` are those of the name in the sort key, if they are
    /// known. Adds the work to `work`, in bytes.
    pub(crate) fn decide(&self, sort: &str, forms: Option<&NameForms>, work: &mut u64) -> KeyVerdict {
        let mut verdict = if self.is_complete { KeyVerdict::Match } else { KeyVerdict::Unknown };
        for (number, condition) in &self.conditions {
            if let (Some(NAME), Matcher::Name(matcher), Some(forms)) = (number, &condition.matcher, forms) {
                *work += forms.length_bytes() as u64 * (1 + matcher.words.len()) as u64;
                if !matcher.accepts_forms(forms) {
                    return KeyVerdict::NoMatch;
                }
                continue;
            }
            let (tag, value) = match number {
                Some(number) => (LISTED[*number].0, sort.split(SEPARATOR).nth(number + 1)),
                None => (tags::STUDY_DATE, sort.split('#').next()),
            };
            let Some(value) = value.filter(|value| *value != UNKNOWN) else {
                verdict = KeyVerdict::Unknown;
                continue;
            };
            let attributes = Attributes::from([(tag, attribute(tag, value))]);
            if !matches(condition, &attributes, work) {
                return KeyVerdict::NoMatch;
            }
        }
        verdict
    }
}
