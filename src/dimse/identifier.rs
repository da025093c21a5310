//! The identifier of a C-FIND, C-MOVE or C-GET: its level and its keys (PS3.4 §C.4.1.1.3, §C.4.2.1.4).

use crate::dicom::attributes::{Attribute, Attributes, PersonName, Tag, Value};
use crate::dicom::data_set;
use crate::dicom::failure::Failure;
use crate::dicom::repertoire::Repertoire;
use crate::dicom::tags;
use crate::dimse::command::Status;
use crate::dimse::models::ModelRoot;
use crate::dimse::status::{self, WrongIdentifier};
use crate::query::parameters::{MAX_CONDITIONS, MAX_INCLUDED};

/// The longest identifier that is read: some thousand UIDs.
pub const MAX_IDENTIFIER_BYTES: usize = 1 << 20;
/// The most elements of an identifier, those in items included.
const MAX_ELEMENTS: usize = MAX_CONDITIONS + MAX_INCLUDED;
/// The most values of a data set beyond the first of each attribute, as UIDs to retrieve.
const MAX_FURTHER_VALUES: usize = 10_000;

/// The query/retrieve level (PS3.4 §C.6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueryLevel {
    /// Patients.
    Patient,
    /// Studies.
    Study,
    /// Series.
    Series,
    /// Composite object instances.
    Image,
}

impl QueryLevel {
    const NAMES: [(&'static str, Self); 4] = [
        ("PATIENT", Self::Patient),
        ("STUDY", Self::Study),
        ("SERIES", Self::Series),
        ("IMAGE", Self::Image),
    ];

    /// The value of Query/Retrieve Level (0008,0052).
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// The unique key of the level.
    pub fn unique_key(self) -> Tag {
        match self {
            Self::Patient => tags::PATIENT_ID,
            Self::Study => tags::STUDY_INSTANCE_UID,
            Self::Series => tags::SERIES_INSTANCE_UID,
            Self::Image => tags::SOP_INSTANCE_UID,
        }
    }

    /// The levels above this one in an information model, the highest first.
    pub fn above(self, root: ModelRoot) -> impl Iterator<Item = Self> {
        let levels = Self::NAMES.iter().map(|(_, level)| *level);
        levels.filter(move |level| *level < self && (*level != Self::Patient || root != ModelRoot::Study))
    }

    fn is_of(self, root: ModelRoot) -> bool {
        match root {
            ModelRoot::Patient => true,
            ModelRoot::Study => self != Self::Patient,
            ModelRoot::PatientStudyOnly => self <= Self::Study,
        }
    }
}

/// An identifier.
#[derive(Debug, Clone)]
pub struct Identifier {
    /// The level.
    pub level: QueryLevel,
    /// The keys, without the level and the character set.
    pub keys: Attributes,
    /// The character set of the peer.
    pub repertoire: Repertoire,
}

impl Identifier {
    /// Reads an identifier of a data set.
    ///
    /// # Errors
    /// The status of the response, if the data set cannot be read or has no level of the information model.
    pub fn read(bytes: &[u8], transfer_syntax: &str, root: ModelRoot) -> Result<Self, Status> {
        let mut keys = read_data_set(bytes, transfer_syntax, MAX_ELEMENTS).map_err(status::of_identifier)?;
        let character_set = keys.remove(&tags::SPECIFIC_CHARACTER_SET);
        let repertoire = character_set.map(|value| Repertoire::of_peer(&text(&value)));
        let level = keys.remove(&tags::QUERY_RETRIEVE_LEVEL).map(|value| text(&value)).unwrap_or_default();
        let level = QueryLevel::NAMES.iter().find(|(name, _)| level.trim().eq_ignore_ascii_case(name));
        let level = level.map(|(_, level)| *level).filter(|level| level.is_of(root));
        let level = level.ok_or_else(|| status::of_identifier(WrongIdentifier::Level))?;
        Ok(Self { level, keys, repertoire: repertoire.unwrap_or(Repertoire::UNICODE) })
    }

    /// The value of a key, with `\` between values; empty if the key is missing.
    pub fn text(&self, tag: Tag) -> String {
        self.keys.get(&tag).map(text).unwrap_or_default().trim().to_owned()
    }

    /// The Study Instance UID, if there is one, and the identifier as text: the level, and the keys that have
    /// values.
    pub fn describe(&self) -> (Option<String>, String) {
        let keys = self.keys.iter().map(|(tag, attribute)| (tag, text(attribute)));
        let keys = keys.filter(|(_, value)| !value.trim().is_empty());
        let keys: Vec<String> = keys.map(|(tag, value)| format!("{tag}={}", value.trim())).collect();
        let study = self.single(tags::STUDY_INSTANCE_UID).ok().flatten();
        (study, format!("{} {}", self.level.name(), keys.join("&")).trim_end().to_owned())
    }

    /// The only value of a unique key of a level above; `None` if there is none.
    ///
    /// # Errors
    /// If the key has several values or wild cards (PS3.4 §C.4.1.3.1).
    pub fn single(&self, tag: Tag) -> Result<Option<String>, Status> {
        let text = self.text(tag);
        if text.contains(['\\', '*', '?']) {
            return Err(status::of_identifier(WrongIdentifier::NotSingle(tag)));
        }
        Ok((!text.is_empty()).then_some(text))
    }

    /// Checks that the unique key of every level above has one value.
    ///
    /// # Errors
    /// The status that names the first key that has not.
    pub fn check_hierarchy(&self, root: ModelRoot) -> Result<(), Status> {
        for level in self.level.above(root) {
            let tag = level.unique_key();
            if self.single(tag)?.is_none() {
                return Err(status::of_identifier(WrongIdentifier::Missing(tag)));
            }
        }
        Ok(())
    }
}

/// Reads the data set of a request. The limits are checked before anything is made of the bytes.
///
/// # Errors
/// If the data set cannot be read, or has too many elements or values.
pub fn read_data_set(
    bytes: &[u8],
    transfer_syntax: &str,
    max_elements: usize,
) -> Result<Attributes, WrongIdentifier> {
    if bytes.iter().filter(|byte| **byte == b'\\').count() > MAX_FURTHER_VALUES {
        return Err(WrongIdentifier::TooMany);
    }
    data_set::read(bytes, transfer_syntax, max_elements).map_err(|failure| match failure {
        Failure::TooManyElements { .. } => WrongIdentifier::TooMany,
        _ => WrongIdentifier::Unreadable,
    })
}

/// The values of an attribute as text, in the form of a matching key: `\` between values, `=` between the
/// groups of a name.
pub fn text(attribute: &Attribute) -> String {
    let value = |value: &Value| match value {
        Value::Absent | Value::Item(_) => String::new(),
        Value::Text(text) | Value::Number(text) => text.clone(),
        Value::Name(PersonName { alphabetic, ideographic, phonetic }) => {
            let groups = [alphabetic.as_str(), ideographic, phonetic].join("=");
            groups.trim_end_matches('=').to_owned()
        }
    };
    attribute.values.iter().map(value).collect::<Vec<_>>().join("\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::data_set::{DataSetEncoding, write};
    use crate::dicom::transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN;

    fn identifier(level: &str, keys: &[(Tag, &str)], root: ModelRoot) -> Result<Identifier, Status> {
        let mut all = Attributes::from([(tags::QUERY_RETRIEVE_LEVEL, Attribute::text(b"CS", level))]);
        all.extend(keys.iter().map(|(tag, text)| (*tag, Attribute::text(b"UI", *text))));
        let bytes = write(&all, DataSetEncoding::Implicit, Repertoire::UNICODE);
        Identifier::read(&bytes, IMPLICIT_VR_LITTLE_ENDIAN, root)
    }

    #[test]
    fn a_level_is_of_its_information_model() {
        for (level, root, is_valid) in [
            ("PATIENT", ModelRoot::Patient, true),
            ("PATIENT", ModelRoot::Study, false),
            ("PATIENT", ModelRoot::PatientStudyOnly, true),
            ("SERIES", ModelRoot::PatientStudyOnly, false),
            ("study ", ModelRoot::Study, true),
            ("IMAGE", ModelRoot::Study, true),
            ("", ModelRoot::Study, false),
            ("FRAME", ModelRoot::Patient, false),
        ] {
            assert_eq!(identifier(level, &[], root).is_ok(), is_valid, "{level} {root:?}");
        }
        assert!(Identifier::read(b"garbage!", IMPLICIT_VR_LITTLE_ENDIAN, ModelRoot::Study).is_err());
    }

    #[test]
    fn too_many_elements_or_values_are_refused() {
        let uids = |count: usize| vec!["1.2"; count].join("\\");
        for (count, code) in [(10_000, None), (10_002, Some(0xC000))] {
            let keys = [(tags::STUDY_INSTANCE_UID, &*uids(count))];
            let found = identifier("STUDY", &keys, ModelRoot::Study);
            assert_eq!(found.err().map(|status| status.code), code, "{count} UIDs");
        }
        for (count, code) in [(1200, None), (1300, Some(0xC000))] {
            let keys: Vec<_> = (0..count).map(|number| (Tag(0x0021_1000 + number), "")).collect();
            let found = identifier("STUDY", &keys, ModelRoot::Study);
            assert_eq!(found.err().map(|status| status.code), code, "{count} keys");
        }
    }

    #[test]
    fn the_levels_above_need_one_value_each() {
        let (study, series) = (tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID);
        for (keys, offending) in [
            (&[(study, "1.2"), (series, "1.3")][..], None),
            (&[(study, "1.2")], Some(series)),
            (&[(series, "1.3")], Some(study)),
            (&[(study, "1.2\\1.4"), (series, "1.3")], Some(study)),
        ] {
            let checked =
                identifier("IMAGE", keys, ModelRoot::Study).unwrap().check_hierarchy(ModelRoot::Study);
            assert_eq!(
                checked.err().map(|status| (status.code, status.offending)),
                offending.map(|tag| (0xA900, Some(tag)))
            );
        }
    }
}
