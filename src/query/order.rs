//! The order of results that a query asks for: `orderby`, an extension of this server.

use std::cmp::Ordering;

use crate::dicom::attributes::{Attribute, Attributes, Tag, Vr};
use crate::query::Level;
use crate::query::attributes;
use crate::query::temporal::{normal_date, normal_time};
use crate::query::text::fold;

/// Attributes that one query may order by.
const MAX_KEYS: usize = 8;

/// An attribute to order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The attribute.
    pub tag: Tag,
    /// Whether the largest value comes first.
    pub is_descending: bool,
}

/// A result's place: a value for each key.
pub type Place = Vec<Rank>;

/// A value as it is compared; what has none comes last, in either direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Rank {
    /// A number.
    Number(f64),
    /// A text: a name folded, a date or time in full.
    Text(String),
    /// No value.
    None,
}

/// Reads a list of attributes, by keyword or tag, with `-` before those whose largest value is to come first.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(list: &str, level: Level) -> Result<Vec<Key>, String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let keys = names.map(|name| {
        let (is_descending, name) = match name.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, name.trim_start_matches('+')),
        };
        let tag = attributes::tag(name).filter(|tag| {
            let entry = attributes::entry(*tag);
            entry.is_some_and(|entry| entry.level <= level) && attributes::vr(*tag) != Vr(*b"SQ")
        });
        let name: String = name.chars().filter(|character| !character.is_control()).take(80).collect();
        tag.map(|tag| Key { tag, is_descending })
            .ok_or_else(|| format!("names {name}, by which these results cannot be ordered"))
    });
    let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
    if keys.len() > MAX_KEYS { Err(format!("names more than {MAX_KEYS} attributes")) } else { Ok(keys) }
}

/// The place of a result.
pub fn place(keys: &[Key], result: &Attributes) -> Place {
    keys.iter().map(|key| result.get(&key.tag).map_or(Rank::None, rank)).collect()
}

/// Which of two results comes first.
pub fn compare(keys: &[Key], one: &Place, other: &Place) -> Ordering {
    let in_turn = keys.iter().zip(one.iter().zip(other)).map(|(key, (one, other))| match (one, other) {
        (Rank::None, Rank::None) => Ordering::Equal,
        (Rank::None, _) => Ordering::Greater,
        (_, Rank::None) => Ordering::Less,
        _ if key.is_descending => of_values(other, one),
        _ => of_values(one, other),
    });
    in_turn.fold(Ordering::Equal, Ordering::then)
}

fn of_values(one: &Rank, other: &Rank) -> Ordering {
    match (one, other) {
        (Rank::Number(one), Rank::Number(other)) => one.total_cmp(other),
        (Rank::Text(one), Rank::Text(other)) => one.cmp(other),
        // A number that is none stands among texts; numbers come before them.
        (Rank::Number(_), _) => Ordering::Less,
        (_, Rank::Number(_)) => Ordering::Greater,
        (Rank::None, _) | (_, Rank::None) => Ordering::Equal,
    }
}

fn rank(attribute: &Attribute) -> Rank {
    let Some(text) = attribute.first_text().map(str::trim).filter(|text| !text.is_empty()) else {
        return Rank::None;
    };
    let normal = match &attribute.vr.0 {
        b"DS" | b"IS" | b"US" | b"SS" | b"UL" | b"SL" | b"FL" | b"FD" | b"UV" | b"SV" => {
            return text.parse().map_or_else(|_| Rank::Text(text.to_owned()), Rank::Number);
        }
        b"DA" => normal_date(text),
        b"TM" => normal_time(text),
        b"PN" => Some(fold(text)),
        _ => None,
    };
    Rank::Text(normal.unwrap_or_else(|| text.to_owned()))
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
            let keys = read(list, Level::Series).unwrap();
            let places: Vec<Place> = results.iter().map(|result| place(&keys, result)).collect();
            let mut order = [0, 1, 2, 3];
            order.sort_by(|one, other| compare(&keys, &places[*one], &places[*other]));
            assert_eq!(order, expected, "{list}");
        }
    }

    #[test]
    fn what_is_not_kept_at_the_level_is_no_order() {
        for list in ["SeriesNumber", "Nothing", "ProcedureCodeSequence", "00091001", "StudyDate,,StudyTim"] {
            assert!(read(list, Level::Study).is_err(), "{list}");
        }
        assert!(read(&["StudyDate"; 9].join(","), Level::Study).is_err());
    }
}
