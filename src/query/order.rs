//! The order of results by attributes that a query names: the parameter `orderby`, an extension of this
//! server.

use std::cmp::Ordering;

use crate::dicom::attributes::{Attribute, Attributes, Tag, Vr};
use crate::dicom::tags;
use crate::query::Level;
use crate::query::indexed_attributes;
use crate::query::temporal::{normal_date, normal_time};
use crate::query::text::fold;

/// The maximum number of attributes that a query may order by.
const MAX_ATTRIBUTES: usize = 8;

/// An attribute to order results by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderAttribute {
    /// The attribute.
    pub tag: Tag,
    /// Whether the largest value comes first.
    pub is_descending: bool,
}

/// The sort key of a result: a value for each attribute to order by.
pub type SortKey = Vec<SortValue>;

/// A value in a sort key. Results without value, or with a date or time that is none, come last in either
/// direction.
#[derive(Debug, Clone, PartialEq)]
pub enum SortValue {
    /// A number.
    Number(f64),
    /// A text: names are folded, dates and times have full precision.
    Text(String),
    /// No value.
    None,
}

impl SortValue {
    /// The length of the text, in bytes.
    pub fn length_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Number(_) | Self::None => 0,
        }
    }
}

/// Reads a list of attributes by keyword or tag; `-` before an attribute makes the order descending.
///
/// # Errors
/// A description of the problem, for the client.
pub fn read(list: &str, level: Level) -> Result<Vec<OrderAttribute>, String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let order = names.map(|name| {
        let (is_descending, name) = match name.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, name.trim_start_matches('+')),
        };
        let tag = indexed_attributes::tag(name).filter(|tag| {
            let entry = indexed_attributes::entry(*tag);
            entry.is_some_and(|entry| entry.level <= level) && indexed_attributes::vr(*tag) != Vr(*b"SQ")
        });
        let name: String = name.chars().filter(|character| !character.is_control()).take(80).collect();
        tag.map(|tag| OrderAttribute { tag, is_descending })
            .ok_or_else(|| format!("names {name}, by which these results cannot be ordered"))
    });
    let order: Vec<OrderAttribute> = order.collect::<Result<_, _>>()?;
    if order.len() > MAX_ATTRIBUTES {
        return Err(format!("names more than {MAX_ATTRIBUTES} attributes"));
    }
    Ok(order)
}

/// Whether this is how results come without an order: the latest study first.
pub fn is_default(order: &[OrderAttribute]) -> bool {
    let mut default = [tags::STUDY_DATE, tags::STUDY_TIME].into_iter();
    order.iter().all(|order| order.is_descending && default.next() == Some(order.tag))
}

/// The sort key of a result.
pub fn sort_key(attributes: &[OrderAttribute], result: &Attributes) -> SortKey {
    attributes.iter().map(|order| result.get(&order.tag).map_or(SortValue::None, sort_value)).collect()
}

/// Compares two results by their sort keys.
pub fn compare(attributes: &[OrderAttribute], one: &SortKey, other: &SortKey) -> Ordering {
    let orderings =
        attributes.iter().zip(one.iter().zip(other)).map(|(order, (one, other))| match (one, other) {
            (SortValue::None, SortValue::None) => Ordering::Equal,
            (SortValue::None, _) => Ordering::Greater,
            (_, SortValue::None) => Ordering::Less,
            _ if order.is_descending => compare_values(other, one),
            _ => compare_values(one, other),
        });
    orderings.fold(Ordering::Equal, Ordering::then)
}

fn compare_values(one: &SortValue, other: &SortValue) -> Ordering {
    match (one, other) {
        (SortValue::Number(one), SortValue::Number(other)) => one.total_cmp(other),
        (SortValue::Text(one), SortValue::Text(other)) => one.cmp(other),
        // A value of a numeric attribute that is no number is compared as text; numbers come before texts.
        (SortValue::Number(_), _) => Ordering::Less,
        (_, SortValue::Number(_)) => Ordering::Greater,
        (SortValue::None, _) | (_, SortValue::None) => Ordering::Equal,
    }
}

fn sort_value(attribute: &Attribute) -> SortValue {
    let Some(text) = attribute.first_text().map(str::trim).filter(|text| !text.is_empty()) else {
        return SortValue::None;
    };
    let normal = match &attribute.vr.0 {
        b"DS" | b"IS" | b"US" | b"SS" | b"UL" | b"SL" | b"FL" | b"FD" | b"UV" | b"SV" => {
            return text.parse().map_or_else(|_| SortValue::Text(text.to_owned()), SortValue::Number);
        }
        b"DA" => return normal_date(text).map_or(SortValue::None, SortValue::Text),
        b"TM" => return normal_time(text).map_or(SortValue::None, SortValue::Text),
        b"PN" => Some(fold(text)),
        _ => None,
    };
    SortValue::Text(normal.unwrap_or_else(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_asked_for_and_those_without_value_last() {
        let name = Tag(0x0010_0010);
        let number = Tag(0x0020_0011);
        let result = |text: &str, value: Option<&str>| {
            let mut result = Attributes::from([(name, Attribute::text(b"PN", text))]);
            if let Some(value) = value {
                result.insert(number, Attribute::number(b"IS", value));
            }
            result
        };
        let results =
            [result("b", Some("10")), result("Á", Some("9")), result("", None), result("B", Some("2"))];
        for (list, expected) in [
            ("PatientName", [1, 0, 3, 2]),
            ("-PatientName", [0, 3, 1, 2]),
            ("PatientName,SeriesNumber", [1, 3, 0, 2]),
            ("-00200011", [0, 1, 3, 2]),
            (" SeriesNumber , ", [3, 1, 0, 2]),
        ] {
            let attributes = read(list, Level::Series).unwrap();
            let sort_keys: Vec<SortKey> =
                results.iter().map(|result| sort_key(&attributes, result)).collect();
            let mut order = [0, 1, 2, 3];
            order.sort_by(|one, other| compare(&attributes, &sort_keys[*one], &sort_keys[*other]));
            assert_eq!(order, expected, "{list}");
        }
    }

    #[test]
    fn attributes_not_indexed_at_the_level_cannot_order_results() {
        for list in ["SeriesNumber", "Nothing", "ProcedureCodeSequence", "00091001", "StudyDate,,StudyTim"] {
            assert!(read(list, Level::Study).is_err(), "{list}");
        }
        assert!(read(&["StudyDate"; 9].join(","), Level::Study).is_err());
    }
}
