//! Parsing of a URL's query parameters into a [`Query`] (PS3.18 §8.3.4).

use std::collections::BTreeSet;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::tags;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::query::indexed_attributes::{self, DATE_AND_TIME};
use crate::query::matching::{InvalidValue, Matcher, MatchingOptions};
use crate::query::order;
use crate::query::private_creators;
use crate::query::temporal::{self, Span};
use crate::query::{Condition, Creators, Include, Level, Query};

/// The resource that a search is for, from the path of the URL.
#[derive(Debug, Clone)]
pub struct SearchTarget {
    /// Whether the range of a date and that of its time are one range of moments: always in QIDO-RS (PS3.18
    /// §8.3.4.1.1), by negotiation in C-FIND (PS3.4 §C.5.1.1).
    pub joins_dates_and_times: bool,
    /// The level of the results.
    pub level: Level,
    /// The study named in the URL.
    pub study: Option<StudyUid>,
    /// The series named in the URL.
    pub series: Option<SeriesUid>,
}

/// The limits on the number of results.
#[derive(Debug, Clone, Copy)]
pub struct ResultLimits {
    /// The limit if the query names none.
    pub default: usize,
    /// The maximum, whichever limit the query names.
    pub max: usize,
}

/// An invalid parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter {name} {problem}")]
pub struct Error {
    /// The name of the parameter as it was sent, shortened.
    pub name: String,
    /// A description of the problem, without the value of the parameter, which may be patient data.
    pub problem: String,
}

/// The parameter with the times of arrival of studies, an extension of this server.
const ARRIVED: &str = "arrived";
/// The maximum number of tags in a path through sequences.
const MAX_PATH: usize = 8;
/// The maximum number of matching keys.
pub const MAX_CONDITIONS: usize = 256;
/// The maximum number of attributes to return besides those of the level.
pub const MAX_INCLUDED: usize = 1000;
/// The maximum number of ignored parameters that are named to the client.
const MAX_IGNORED: usize = 8;

/// Parses decoded parameters. The caller must have removed those that do not belong to the search, such as
/// `accept`. Unknown parameters are ignored (PS3.18 §8.3), because clients send parameters of their own.
///
/// # Errors
/// Names the first parameter that is repeated, whose value is not valid for its attribute, or that is one too
/// many.
pub fn read(
    parameters: &[(String, String)],
    target: SearchTarget,
    limits: ResultLimits,
) -> Result<Query, Error> {
    let SearchTarget { joins_dates_and_times, level, study, series } = target;
    let mut query = Query {
        level,
        study,
        series,
        conditions: Vec::new(),
        include: Include::Some(Vec::new()),
        creators: Creators::new(),
        order: Vec::new(),
        limit: limits.default.min(limits.max),
        offset: 0,
        arrived: None,
        after: None,
        ignored: Vec::new(),
    };
    let options = matching_options(parameters)?;
    let mut keys: Vec<MatchingKey> = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "limit" => query.limit = number(name, value)?.min(limits.max),
            "offset" => query.offset = number(name, value)?,
            ARRIVED => query.arrived = Some(arrived(name, value, options)?),
            "fuzzymatching" | "emptyvaluematching" | "multiplevaluematching" => {}
            "includefield" => include(&mut query.include, name, value)?,
            "orderby" => {
                query.order.extend(order::read(value, query.level).map_err(|problem| error(name, problem))?);
            }
            _ => {
                let Some(path) = path(name)? else {
                    query.ignored.push(shortened(name));
                    query.ignored.truncate(MAX_IGNORED);
                    continue;
                };
                let key = matching_key(path, value, options);
                let key = key.map_err(|problem| error(name, problem.to_string()))?;
                if keys.len() == MAX_CONDITIONS {
                    return Err(error(name, format!("is one matching key more than {MAX_CONDITIONS}")));
                }
                if keys.iter().any(|known| known.path == key.path) {
                    return Err(error(name, "names an attribute that another parameter names too"));
                }
                keys.push(key);
            }
        }
    }
    if order::is_default(&query.order) {
        query.order.clear();
    }
    query.creators = collect_creators(&mut keys, &query.include, parameters)?;
    if joins_dates_and_times {
        combine_dates_and_times(&mut keys);
    }
    for MatchingKey { path, matcher } in keys {
        add(&mut query.conditions, &path, matcher, &query.creators, options);
    }
    Ok(query)
}

/// Parses the parameters that select options of matching.
fn matching_options(parameters: &[(String, String)]) -> Result<MatchingOptions, Error> {
    let mut options = MatchingOptions::default();
    for (name, value) in parameters {
        match name.as_str() {
            "fuzzymatching" => options.is_fuzzy = boolean(name, value)?,
            "emptyvaluematching" => options.has_empty_value_matching = boolean(name, value)?,
            "multiplevaluematching" => options.has_multiple_value_matching = boolean(name, value)?,
            _ if indexed_attributes::tag(name) == Some(tags::TIMEZONE_OFFSET_FROM_UTC)
                && !["", "*"].contains(&value.trim()) =>
            {
                let minutes = temporal::offset_minutes(value);
                let minutes =
                    minutes.ok_or_else(|| error(name, "is not an offset from UTC, such as -0500"))?;
                options.timezone = Some(minutes);
            }
            _ => {}
        }
    }
    Ok(options)
}

/// A matching key as it is sent.
struct MatchingKey {
    /// The tag of the attribute, after the tags of the sequences that it is nested in.
    path: Vec<Tag>,
    matcher: Matcher,
}

/// Parses one matching key, of QIDO-RS or C-FIND.
fn matching_key(path: Vec<Tag>, value: &str, options: MatchingOptions) -> Result<MatchingKey, InvalidValue> {
    let vr = path.last().map_or(Vr(*b"UN"), |tag| indexed_attributes::vr(*tag));
    // These attributes say how the query is to be read, and are no matching keys.
    let is_of_query = path == [tags::TIMEZONE_OFFSET_FROM_UTC] || path == [tags::SPECIFIC_CHARACTER_SET];
    let matcher = if is_of_query { Matcher::Universal } else { Matcher::new(vr, value, options)? };
    Ok(MatchingKey { path, matcher })
}

/// Adds the condition of a matching key. Keys in the same sequence are one condition on an item of it.
fn add(
    conditions: &mut Vec<Condition>,
    path: &[Tag],
    matcher: Matcher,
    creators: &Creators,
    options: MatchingOptions,
) {
    let Some((tag, nested)) = path.split_first() else { return };
    let mut condition =
        Condition { tag: *tag, matcher, creators: creators.clone(), timezone: options.timezone };
    if nested.is_empty() {
        conditions.push(condition);
        return;
    }
    let known = conditions.iter_mut().find_map(|known| match &mut known.matcher {
        Matcher::Item(items) if known.tag == *tag => Some(items),
        _ => None,
    });
    match known {
        Some(items) => add(items, nested, condition.matcher, creators, options),
        None => {
            let mut items = Vec::new();
            add(&mut items, nested, condition.matcher, creators, options);
            condition.matcher = Matcher::Item(items);
            conditions.push(condition);
        }
    }
}

/// The condition of one matching key that names no private attribute.
///
/// # Errors
/// If the value is not valid for the attribute.
#[cfg(test)]
pub(super) fn condition(
    path: &[Tag],
    value: &str,
    options: MatchingOptions,
) -> Result<Condition, InvalidValue> {
    let MatchingKey { path, matcher } = matching_key(path.to_vec(), value, options)?;
    let mut conditions = Vec::new();
    add(&mut conditions, &path, matcher, &Creators::new(), options);
    Ok(conditions.remove(0))
}

/// The creators of the private blocks that attributes of the query use. Their own keys match everything then.
fn collect_creators(
    keys: &mut [MatchingKey],
    include: &Include,
    parameters: &[(String, String)],
) -> Result<Creators, Error> {
    let in_blocks = keys.iter().flat_map(|key| key.path.iter().copied());
    let mut used: BTreeSet<Tag> = in_blocks.filter_map(private_creators::creator_of).collect();
    if let Include::Some(tags) = include {
        used.extend(tags.iter().copied().filter_map(private_creators::creator_of));
    }
    let mut creators = Creators::new();
    for (name, value) in parameters {
        let tag = indexed_attributes::tag(name).filter(|tag| used.contains(tag));
        if let Some(tag) = tag.filter(|_| !value.trim().is_empty()) {
            creators.push((tag, value.trim().to_owned()));
        }
    }
    let is_named = |creator: &Tag| creators.iter().any(|(tag, _)| tag == creator);
    for key in keys {
        if let [creator] = key.path[..]
            && is_named(&creator)
        {
            key.matcher = Matcher::Universal;
        }
        let mut needed = key.path.iter().copied().filter_map(private_creators::creator_of);
        if let Some(missing) = needed.find(|creator| !is_named(creator)) {
            let sent =
                |(name, _): &&(String, String)| path(name).is_ok_and(|path| path.as_ref() == Some(&key.path));
            let name = parameters.iter().find(sent).map_or("", |(name, _)| name);
            return Err(error(name, format!("is private; the query must name its creator, by {missing}")));
        }
    }
    Ok(creators)
}

/// Combines the range of a date and the range of its time, if both are of the same form, to one range of
/// moments (PS3.18 §8.3.4.1.1).
fn combine_dates_and_times(keys: &mut [MatchingKey]) {
    for (date, time) in DATE_AND_TIME {
        let find = |tag: &Tag| keys.iter().position(|key| key.path == [*tag]);
        let (Some(date_at), Some(time_at)) = (find(date), find(time)) else { continue };
        let (Matcher::Date(dates), Matcher::Time(times)) = (&keys[date_at].matcher, &keys[time_at].matcher)
        else {
            continue;
        };
        let is_same_form =
            dates.from.is_some() == times.from.is_some() && dates.to.is_some() == times.to.is_some();
        if !(dates.is_range && times.is_range && is_same_form) {
            continue;
        }
        let join = |date: &Option<String>, time: &Option<String>| {
            date.as_ref().zip(time.as_ref()).map(|(date, time)| format!("{date}{time}"))
        };
        let span =
            Span { from: join(&dates.from, &times.from), to: join(&dates.to, &times.to), is_range: true };
        keys[date_at].matcher = Matcher::DateAndTime { time: *time, span };
        keys[time_at].matcher = Matcher::Universal;
    }
}

/// Parses the name of a parameter as a path of tags; `None` if the name is that of no attribute.
fn path(name: &str) -> Result<Option<Vec<Tag>>, Error> {
    let tags: Option<Vec<Tag>> = name.split('.').take(MAX_PATH + 1).map(indexed_attributes::tag).collect();
    match tags {
        Some(tags) if tags.len() > MAX_PATH => {
            Err(error(name, format!("goes through more than {MAX_PATH} sequences")))
        }
        tags => Ok(tags),
    }
}

/// Parses the times of arrival. Times without an offset from UTC are in the time zone of the query.
fn arrived(name: &str, value: &str, options: MatchingOptions) -> Result<Span<i64>, Error> {
    let span = temporal::date_time_span(value.trim(), options.timezone.unwrap_or(0));
    span.ok_or_else(|| error(name, "is not a date and time or a range of them"))
}

fn include(included: &mut Include, name: &str, value: &str) -> Result<(), Error> {
    for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
        if field.eq_ignore_ascii_case("all") {
            *included = Include::All;
            continue;
        }
        // A path into a sequence includes the sequence.
        let first = field.split('.').next().unwrap_or(field);
        let tag = indexed_attributes::tag(first)
            .ok_or_else(|| error(name, format!("names {}, which is no attribute", shortened(field))))?;
        if let Include::Some(tags) = included
            && !tags.contains(&tag)
        {
            if tags.len() == MAX_INCLUDED {
                return Err(error(name, format!("names more than {MAX_INCLUDED} attributes")));
            }
            tags.push(tag);
        }
    }
    Ok(())
}

fn number(name: &str, value: &str) -> Result<usize, Error> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| value.parse().unwrap_or(usize::MAX));
    number.ok_or_else(|| error(name, "is not a whole number"))
}

fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(error(name, "is neither true nor false")),
    }
}

fn error(name: &str, problem: impl Into<String>) -> Error {
    Error { name: shortened(name), problem: problem.into() }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::{Attribute, Attributes, Value};
    use crate::query::matching::matches;

    fn parse(text: &str) -> Result<Query, Error> {
        let pairs: Vec<(String, String)> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let target =
            SearchTarget { joins_dates_and_times: true, level: Level::Study, study: None, series: None };
        read(&pairs, target, ResultLimits { default: 100, max: 1000 })
    }

    #[test]
    fn parameters_are_read_or_the_one_at_fault_is_named() {
        for (text, at_fault) in [
            ("PatientName=A*&0020000d=1.2&limit=5&offset=10&fuzzymatching=true", None),
            ("00101002.00100020=1&includefield=00081030,Modality&includefield=all", None),
            ("PatientID=1&00100020=2", Some("00100020")),
            ("limit=-1", Some("limit")),
            ("offset=x", Some("offset")),
            ("fuzzymatching=maybe", Some("fuzzymatching")),
            ("includefield=Nothing", Some("includefield")),
            ("StudyDate=yesterday", Some("StudyDate")),
            ("StudyDate=20200101-2020", Some("StudyDate")),
            ("00100030=1980", Some("00100030")),
            ("emptyvaluematching=true&AccessionNumber=\"\"&multiplevaluematching=true", None),
            ("emptyvaluematching=maybe", Some("emptyvaluematching")),
            ("multiplevaluematching=", Some("multiplevaluematching")),
            ("TimezoneOffsetFromUTC=-0500&StudyDate=20240101", None),
            ("TimezoneOffsetFromUTC=", None),
            ("00080201=UTC", Some("00080201")),
            ("orderby=-StudyDate,PatientName", None),
            ("orderby=SeriesNumber", Some("orderby")),
            ("00090010=ACME&00091001=7&includefield=00091002", None),
            ("00091001=7", Some("00091001")),
            ("00090011=ACME&00091001=7", Some("00091001")),
            ("00090010=&00091001=7", Some("00091001")),
        ] {
            assert_eq!(parse(text).err().map(|error| error.name).as_deref(), at_fault, "{text}");
        }
    }

    #[test]
    fn a_query_has_a_maximum_of_keys_and_attributes_and_each_key_a_maximum_length() {
        let tags = |count: usize| (0..count).map(|number| format!("0019{:04X}", 0x0100 + number));
        let keys = |count: usize| tags(count).map(|tag| format!("{tag}=1")).collect::<Vec<_>>().join("&");
        let included = |count: usize| format!("includefield={}", tags(count).collect::<Vec<_>>().join(","));
        for (text, at_fault) in [
            (keys(MAX_CONDITIONS), None),
            (keys(MAX_CONDITIONS + 1), Some(format!("0019{:04X}", 0x0100 + MAX_CONDITIONS))),
            (included(MAX_INCLUDED), None),
            (included(MAX_INCLUDED + 1), Some("includefield".to_owned())),
            (format!("PatientID=*{}", "x".repeat(65)), Some("PatientID".to_owned())),
            (format!("PatientName={}", "x".repeat(65)), Some("PatientName".to_owned())),
            (format!("00204000=*{}*", "x".repeat(10_241)), Some("00204000".to_owned())),
            (format!("00204000=*?{}*", "x".repeat(64)), Some("00204000".to_owned())),
            (format!("StudyDate={}", "0".repeat(100)), Some("StudyDate".to_owned())),
        ] {
            assert_eq!(parse(&text).err().map(|error| error.name), at_fault, "{}", &text[..40]);
        }
    }

    #[test]
    fn unknown_parameters_are_ignored_and_named() {
        let query = parse("PatientNmae=A&_=1&PatientID=2&00081140.Nothing=3").unwrap();
        assert_eq!(query.ignored, ["PatientNmae", "_", "00081140.Nothing"]);
        assert_eq!(query.conditions.len(), 1);
    }

    #[test]
    fn a_creator_is_a_key_only_if_it_names_no_block() {
        for (text, is_key, creators) in [
            ("00090010=ACME&00091001=7", false, 1),
            ("00090010=ACME&includefield=00091001", false, 1),
            ("00090010=ACME", true, 0),
            ("00090010=ACME&00090011=B&00091101=7", true, 1),
        ] {
            let query = parse(text).unwrap();
            let creator = query.conditions.iter().find(|it| it.tag == Tag(0x0009_0010)).unwrap();
            assert_eq!(creator.matcher != Matcher::Universal, is_key, "{text}");
            assert_eq!(query.creators.len(), creators, "{text}");
        }
    }

    #[test]
    fn keys_in_one_sequence_are_one_condition_on_an_item() {
        let query = parse("00081032.CodeValue=C1&PatientID=1&00081032.CodingSchemeDesignator=X").unwrap();
        let [codes, patient] = &query.conditions[..] else { panic!("{:?}", query.conditions) };
        assert_eq!((codes.tag, patient.tag), (tags::PROCEDURE_CODE_SEQUENCE, tags::PATIENT_ID));
        let text = |value: &str| Attribute::text(b"SH", value);
        let item = |value, scheme| {
            let nested = [(Tag(0x0008_0100), text(value)), (Tag(0x0008_0102), text(scheme))];
            Value::Item(Attributes::from(nested))
        };
        for (items, expected) in [
            (vec![item("C1", "X")], true),
            (vec![item("C2", "Y"), item("C1", "X")], true),
            (vec![item("C1", "Y"), item("C2", "X")], false),
            (vec![], false),
        ] {
            let sequence = Attribute { vr: Vr(*b"SQ"), values: items };
            let data_set = Attributes::from([(tags::PROCEDURE_CODE_SEQUENCE, sequence)]);
            assert_eq!(matches(codes, &data_set, &mut 0), expected, "{data_set:?}");
        }
    }

    #[test]
    fn limits_are_the_defaults_and_bounded() {
        for (text, limit, offset) in
            [("a", 100, 0), ("limit=5&offset=3", 5, 3), ("limit=99999999999999999999999", 1000, 0)]
        {
            let query = parse(text).unwrap();
            assert_eq!((query.limit, query.offset), (limit, offset), "{text}");
        }
    }

    #[test]
    fn ranges_of_a_date_and_its_time_become_one_if_they_are_of_the_same_form() {
        for (text, is_combined) in [
            ("StudyDate=20200101-20200103&StudyTime=10-12", true),
            ("StudyDate=20200101-&StudyTime=10-", true),
            ("StudyDate=20200101-&StudyTime=-10", false),
            ("StudyDate=20200101&StudyTime=10-12", false),
        ] {
            let query = parse(text).unwrap();
            let is = query.conditions.iter().any(|it| matches!(it.matcher, Matcher::DateAndTime { .. }));
            assert_eq!(is, is_combined, "{text}");
        }
    }
}
