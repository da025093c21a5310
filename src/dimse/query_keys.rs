//! The keys of a C-FIND as a query, by the same parser as those of QIDO-RS, and results as identifiers
//! (PS3.4 §C.2.2.2, §C.4.1.1.3).

use crate::dicom::attributes::{Attribute, Attributes, Tag, Value};
use crate::dicom::tags;
use crate::dimse::command::Status;
use crate::dimse::identifier::{Identifier, QueryLevel, text};
use crate::dimse::models::{ModelRoot, QueryOptions};
use crate::dimse::status::{self, WrongIdentifier};
use crate::query::matching::{Matcher, matches};
use crate::query::parameters::{self, MAX_CONDITIONS, MAX_INCLUDED, ResultLimits, SearchTarget};
use crate::query::{Condition, Level, Query, indexed_attributes};

/// Study attributes of group 0010: of the Patient Study Module (PS3.3 §C.7.2.2).
const OF_PATIENT_AND_STUDY: [Tag; 5] = [
    tags::PATIENT_AGE,
    tags::PATIENT_SIZE,
    tags::PATIENT_WEIGHT,
    tags::OCCUPATION,
    tags::ADDITIONAL_PATIENT_HISTORY,
];
/// Numbers of a patient's studies, series and instances, which are not counted.
const OF_PATIENT_COUNTS: [Tag; 3] = [
    tags::NUMBER_OF_PATIENT_RELATED_STUDIES,
    tags::NUMBER_OF_PATIENT_RELATED_SERIES,
    tags::NUMBER_OF_PATIENT_RELATED_INSTANCES,
];

/// The query of a C-FIND.
#[derive(Debug)]
pub struct FindQuery {
    /// The query of the index.
    pub query: Query,
    /// Whether a key is supported neither for matching nor as a return key.
    pub has_unsupported: bool,
    level: QueryLevel,
    keys: Attributes,
    retrieve_ae_title: String,
}

/// Makes the query of an identifier, with pages of `page` results.
///
/// # Errors
/// The status of the response, if a key is missing or its value is not valid.
pub fn read(
    identifier: Identifier,
    root: ModelRoot,
    options: QueryOptions,
    page: usize,
    retrieve_ae_title: &str,
) -> Result<FindQuery, Status> {
    // All keys count, also those that are not of the level.
    if identifier.keys.len() > MAX_INCLUDED || matching_keys(&identifier.keys) > MAX_CONDITIONS {
        return Err(status::of_identifier(WrongIdentifier::TooMany));
    }
    if !options.is_relational {
        identifier.check_hierarchy(root)?;
    }
    let level = identifier.level;
    let mut target = SearchTarget {
        joins_dates_and_times: options.joins_dates_and_times,
        level: match level {
            QueryLevel::Patient | QueryLevel::Study => Level::Study,
            QueryLevel::Series => Level::Series,
            QueryLevel::Image => Level::Instance,
        },
        study: None,
        series: None,
    };
    let mut keys = identifier.keys.clone();
    keys.retain(|tag, _| *tag != tags::RETRIEVE_AE_TITLE);
    let mut in_target = Vec::new();
    if level > QueryLevel::Study {
        target.study = uid(&identifier, tags::STUDY_INSTANCE_UID, &mut in_target)?;
    }
    if level > QueryLevel::Series && target.study.is_some() {
        target.series = uid(&identifier, tags::SERIES_INSTANCE_UID, &mut in_target)?;
    }
    let (mut pairs, mut has_unsupported) = (options_of(options), false);
    let mut included = match level {
        // Patients are told apart by these.
        QueryLevel::Patient => {
            vec![tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID, tags::PATIENT_NAME, tags::PATIENT_BIRTH_DATE]
        }
        _ => Vec::new(),
    };
    for (tag, attribute) in &keys {
        if !is_of_level(*tag, level) {
            has_unsupported = true;
        }
        // A key of a study below the level of a patient says nothing about the patient.
        if level == QueryLevel::Patient && !is_of_level(*tag, level) {
            continue;
        }
        included.push(*tag);
        if !in_target.contains(tag) {
            push_conditions(&tag.to_string(), attribute, &mut pairs);
        }
    }
    let names: Vec<String> = included.iter().map(Tag::to_string).collect();
    pairs.push(("includefield".to_owned(), names.join(",")));
    let query = parameters::read(&pairs, target, ResultLimits { default: page, max: page });
    let query = query.map_err(|error| status::of_key(&error))?;
    let retrieve_ae_title = retrieve_ae_title.to_owned();
    Ok(FindQuery { query, has_unsupported, level, keys, retrieve_ae_title })
}

/// The only value of a UID key of a level above, to search within.
fn uid<T: std::str::FromStr>(
    identifier: &Identifier,
    tag: Tag,
    in_target: &mut Vec<Tag>,
) -> Result<Option<T>, Status> {
    let text = identifier.text(tag);
    if text.is_empty() || text.contains(['\\', '*', '?']) {
        // A relational query may have a list.
        return Ok(None);
    }
    let uid = text.parse().map_err(|_| status::of_identifier(WrongIdentifier::NotSingle(tag)))?;
    in_target.push(tag);
    Ok(Some(uid))
}

fn options_of(options: QueryOptions) -> Vec<(String, String)> {
    let pair = |name: &str, is_on: bool| (name.to_owned(), is_on.to_string());
    vec![
        pair("fuzzymatching", options.is_fuzzy),
        pair("emptyvaluematching", options.has_empty_value_matching),
        pair("multiplevaluematching", options.has_multiple_value_matching),
    ]
}

/// Adds the matching keys of an attribute as parameters of QIDO-RS: of a sequence, those of its first item
/// (PS3.4 §C.2.2.2.6).
fn push_conditions(path: &str, attribute: &Attribute, pairs: &mut Vec<(String, String)>) {
    if &attribute.vr.0 == b"SQ" {
        let Some(Value::Item(item)) = attribute.values.first() else { return };
        for (tag, nested) in item {
            push_conditions(&format!("{path}.{tag}"), nested, pairs);
        }
        return;
    }
    let value = text(attribute);
    if !value.trim().is_empty() {
        pairs.push((path.to_owned(), value));
    }
}

/// The number of matching keys, as [`push_conditions`] adds them.
fn matching_keys(keys: &Attributes) -> usize {
    let of_key = |key: &Attribute| match key.values.first() {
        Some(Value::Item(item)) => matching_keys(item),
        _ => usize::from(!text(key).trim().is_empty()),
    };
    keys.values().map(of_key).sum()
}

/// Whether results of a level have an attribute: it is of the level or of one above.
fn is_of_level(tag: Tag, level: QueryLevel) -> bool {
    if OF_PATIENT_COUNTS.contains(&tag) {
        return false;
    }
    let of_index = indexed_attributes::entry(tag).map(|entry| entry.level);
    match level {
        QueryLevel::Patient => {
            let is_below = of_index.is_some_and(|level| level > Level::Study);
            tag.group() == 0x0010 && !OF_PATIENT_AND_STUDY.contains(&tag) && !is_below
                || tag == tags::INSTANCE_AVAILABILITY
                || tag == tags::TIMEZONE_OFFSET_FROM_UTC
        }
        QueryLevel::Study => of_index.is_none_or(|level| level == Level::Study),
        QueryLevel::Series => of_index.is_none_or(|level| level <= Level::Series),
        QueryLevel::Image => true,
    }
}

impl FindQuery {
    /// A result as an identifier: the requested keys, empty where the result has no value, and what the
    /// service adds.
    pub fn answer(&self, result: &Attributes) -> Attributes {
        let mut answer = values_of(&self.keys, &self.query.conditions, result);
        answer.insert(tags::QUERY_RETRIEVE_LEVEL, Attribute::text(b"CS", self.level.name()));
        answer.insert(tags::RETRIEVE_AE_TITLE, Attribute::text(b"AE", &self.retrieve_ae_title));
        answer.insert(tags::INSTANCE_AVAILABILITY, Attribute::text(b"CS", "ONLINE"));
        answer
    }
}

/// The values of a data set or item for keys, which led to the conditions.
fn values_of(keys: &Attributes, conditions: &[Condition], found: &Attributes) -> Attributes {
    let of_key = |tag: &Tag, key: &Attribute| {
        let condition = conditions.iter().find(|condition| condition.tag == *tag);
        value_of(key, condition.map(|condition| &condition.matcher), found.get(tag))
    };
    keys.iter().map(|(tag, key)| (*tag, of_key(tag, key))).collect()
}

/// The values of a result for a key. Of a sequence, the items that match, each with the attributes that the
/// key's item names (PS3.4 §C.2.2.2.6).
fn value_of(key: &Attribute, matcher: Option<&Matcher>, found: Option<&Attribute>) -> Attribute {
    let Some(found) = found else { return Attribute { vr: key.vr, values: Vec::new() } };
    let Some(Value::Item(wanted)) = key.values.first().filter(|_| &key.vr.0 == b"SQ") else {
        return found.clone();
    };
    if wanted.is_empty() {
        return found.clone();
    }
    let conditions = match matcher {
        Some(Matcher::Item(conditions)) => &conditions[..],
        _ => &[],
    };
    let is_match = |item: &Attributes| conditions.iter().all(|condition| matches(condition, item, &mut 0));
    let items = found.values.iter().filter_map(|value| match value {
        Value::Item(item) => is_match(item).then(|| Value::Item(values_of(wanted, conditions, item))),
        other => Some(other.clone()),
    });
    Attribute { vr: found.vr, values: items.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::Vr;
    use crate::dicom::repertoire::Repertoire;

    fn identifier(level: QueryLevel, keys: &[(Tag, &[u8; 2], &str)]) -> Identifier {
        let keys = keys.iter().map(|(tag, vr, text)| (*tag, Attribute::text(vr, *text))).collect();
        Identifier { level, keys, repertoire: Repertoire::UNICODE }
    }

    fn query(identifier: Identifier, root: ModelRoot) -> Result<FindQuery, Status> {
        read(identifier, root, QueryOptions::default(), 100, "CUSPID")
    }

    #[test]
    fn keys_below_the_level_are_not_supported() {
        for (level, tag, vr, is_supported) in [
            (QueryLevel::Study, tags::PATIENT_NAME, b"PN", true),
            (QueryLevel::Study, tags::SERIES_NUMBER, b"IS", false),
            (QueryLevel::Study, tags::MODALITIES_IN_STUDY, b"CS", true),
            (QueryLevel::Patient, tags::PATIENT_SEX, b"CS", true),
            (QueryLevel::Patient, tags::STUDY_DATE, b"DA", false),
            (QueryLevel::Patient, Tag(0x0020_1200), b"IS", false),
        ] {
            let found = query(identifier(level, &[(tag, vr, "")]), ModelRoot::Study).unwrap();
            assert_eq!(!found.has_unsupported, is_supported, "{level:?} {tag:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_valid_names_its_key() {
        let wrong = identifier(QueryLevel::Study, &[(tags::STUDY_DATE, b"DA", "yesterday")]);
        let status = query(wrong, ModelRoot::Study).unwrap_err();
        assert_eq!((status.code, status.offending), (0xA900, Some(tags::STUDY_DATE)));
        assert!(!status.comment.contains("yesterday"));
    }

    #[test]
    fn the_limits_of_keys_hold_at_each_level_also_for_keys_of_another() {
        for level in [QueryLevel::Patient, QueryLevel::Study, QueryLevel::Series, QueryLevel::Image] {
            for (count, text, code) in
                [(256, "1", None), (257, "1", Some(0xC000)), (990, "", None), (1001, "", Some(0xC000))]
            {
                let mut asked = identifier(level, &[]);
                let key = |number: u32| (Tag(0x4002_0000 + number), Attribute::text(b"LO", text));
                asked.keys.extend((0..count).map(key));
                let options = QueryOptions { is_relational: true, ..QueryOptions::default() };
                let found = read(asked, ModelRoot::Patient, options, 100, "CUSPID");
                assert_eq!(found.err().map(|status| status.code), code, "{level:?} {count} {text}");
            }
        }
    }

    #[test]
    fn an_answer_has_the_keys_and_no_more() {
        let code = Attributes::from([(Tag(0x0008_0100), Attribute::text(b"SH", ""))]);
        let mut asked =
            identifier(QueryLevel::Study, &[(tags::PATIENT_NAME, b"PN", ""), (tags::STUDY_ID, b"SH", "")]);
        let sequence = |item| Attribute { vr: Vr(*b"SQ"), values: vec![Value::Item(item)] };
        asked.keys.insert(tags::PROCEDURE_CODE_SEQUENCE, sequence(code));
        let found = Attributes::from([
            (tags::STUDY_ID, Attribute::text(b"SH", "7")),
            (tags::PATIENT_ID, Attribute::text(b"LO", "P")),
            (
                tags::PROCEDURE_CODE_SEQUENCE,
                sequence(Attributes::from([
                    (Tag(0x0008_0100), Attribute::text(b"SH", "A")),
                    (Tag(0x0008_0104), Attribute::text(b"LO", "meaning")),
                ])),
            ),
        ]);
        let answer = query(asked, ModelRoot::Study).unwrap().answer(&found);
        let tags: Vec<Tag> = answer.keys().copied().collect();
        assert_eq!(
            tags,
            [
                tags::QUERY_RETRIEVE_LEVEL,
                tags::RETRIEVE_AE_TITLE,
                tags::INSTANCE_AVAILABILITY,
                tags::PROCEDURE_CODE_SEQUENCE,
                tags::PATIENT_NAME,
                tags::STUDY_ID
            ]
        );
        let item = Attributes::from([(Tag(0x0008_0100), Attribute::text(b"SH", "A"))]);
        assert_eq!(answer[&tags::PROCEDURE_CODE_SEQUENCE], sequence(item));
        assert!(answer[&tags::PATIENT_NAME].values.is_empty());
        // Of several items, those that match.
        let coded = |code: &str| Attributes::from([(Tag(0x0008_0100), Attribute::text(b"SH", code))]);
        let items = |codes: &[&str]| Attribute {
            vr: Vr(*b"SQ"),
            values: codes.iter().map(|code| Value::Item(coded(code))).collect(),
        };
        for (asked_code, expected) in [("B", &["B"][..]), ("*", &["A", "B", "BC"]), ("B*", &["B", "BC"])] {
            let mut asked = identifier(QueryLevel::Study, &[]);
            asked.keys.insert(tags::PROCEDURE_CODE_SEQUENCE, sequence(coded(asked_code)));
            let found = Attributes::from([(tags::PROCEDURE_CODE_SEQUENCE, items(&["A", "B", "BC"]))]);
            let answer = query(asked, ModelRoot::Study).unwrap().answer(&found);
            assert_eq!(answer[&tags::PROCEDURE_CODE_SEQUENCE], items(expected), "{asked_code}");
        }
    }
}
