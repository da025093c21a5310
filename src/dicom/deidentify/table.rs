//! PS3.15 Table E.1-1, and the types of attributes on which its actions depend (PS3.3). The tables are made
//! by `tools/deidentification_tables.py`, but for the list of texts that stay, which is written by hand.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::config::ProfileOption;
use crate::dicom::attributes::{Tag, Vr};

const ATTRIBUTES: &str = include_str!("attributes.csv");
const TYPES: &str = include_str!("types.csv");
const IODS: &str = include_str!("iods.csv");
/// Attributes of text that Table E.1-1 does not name and that stay: codes, products, techniques of
/// acquisition and of reconstruction, which a device or a coding scheme gives, and nobody types for a
/// patient.
const KEPT_TEXT: &str = include_str!("kept_text.csv");
const SAFE_PRIVATE: &str = include_str!("safe_private.csv");

/// The options, in the order of the columns after the tag and the action of the profile.
const COLUMNS: [ProfileOption; 8] = [
    ProfileOption::RetainSafePrivate,
    ProfileOption::RetainUids,
    ProfileOption::RetainDeviceIdentity,
    ProfileOption::RetainInstitutionIdentity,
    ProfileOption::RetainPatientCharacteristics,
    ProfileOption::RetainFullDates,
    ProfileOption::RetainModifiedDates,
    ProfileOption::CleanDescriptors,
];

/// An action on an attribute (PS3.15 §E.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProfileAction {
    /// X: remove.
    Remove,
    /// Z: replace with a value of length zero.
    Empty,
    /// D: replace with a dummy value.
    Dummy,
    /// K: keep; of a sequence, apply the profile to its items.
    Keep,
    /// C: replace with a value of similar meaning.
    Clean,
    /// U: replace with another UID; of a sequence, apply the profile to its items.
    ReplaceUid,
}

/// The letters of an action in the table, of which the type of the attribute chooses one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ActionCode {
    /// The action on an attribute of type 3, or that is not of the IOD.
    optional: char,
    /// The action on an attribute of type 2.
    empty: char,
    /// The action on an attribute of type 1.
    required: char,
}

impl ActionCode {
    /// The action on attributes that are identifying by their VR, and not in the table.
    pub(super) const UNLISTED: Self = Self { optional: 'X', empty: 'Z', required: 'D' };

    fn read(text: &str) -> Option<Self> {
        let (optional, empty, required) = match text {
            "X/Z" => ('X', 'Z', 'Z'),
            "X/D" => ('X', 'D', 'D'),
            "Z/D" => ('Z', 'Z', 'D'),
            "X/Z/D" => ('X', 'Z', 'D'),
            "X/Z/U*" => ('X', 'Z', 'U'),
            "D" | "Z" | "X" | "U" => {
                let letter = text.chars().next()?;
                (letter, letter, letter)
            }
            _ => return None,
        };
        Some(Self { optional, empty, required })
    }

    /// The action on an attribute of this type.
    pub(super) fn of(self, attribute_type: AttributeType) -> ProfileAction {
        let letter = match attribute_type {
            AttributeType::Optional => self.optional,
            AttributeType::Empty => self.empty,
            AttributeType::Required => self.required,
        };
        match letter {
            'X' => ProfileAction::Remove,
            'Z' => ProfileAction::Empty,
            'U' => ProfileAction::ReplaceUid,
            _ => ProfileAction::Dummy,
        }
    }
}

/// The type of an attribute in an IOD (PS3.5 §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttributeType {
    /// Type 1 or 1C, or the IOD is not known.
    Required,
    /// Type 2 or 2C.
    Empty,
    /// Type 3, or not of the IOD.
    Optional,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableRow {
    /// The action of the profile.
    pub(super) basic: ActionCode,
    /// The options that keep the attribute, and those that clean it: a bit for each.
    kept_by: u8,
    cleaned_by: u8,
}

impl TableRow {
    /// Whether an option keeps the attribute.
    pub(super) fn is_kept_by(&self, option: ProfileOption) -> bool {
        self.kept_by & (1 << option as u8) != 0
    }

    /// Whether an option cleans the attribute.
    pub(super) fn is_cleaned_by(&self, option: ProfileOption) -> bool {
        self.cleaned_by & (1 << option as u8) != 0
    }
}

/// The tables.
struct Tables {
    rows: HashMap<Tag, TableRow>,
    /// Of a tag, nested or not, and a type of 1 or 2: the IODs.
    types: HashMap<(Tag, bool), HashMap<&'static str, AttributeType>>,
    iods: HashMap<&'static str, &'static str>,
    safe_private: HashMap<(u16, u8, &'static str), Vr>,
    kept_text: HashSet<Tag>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    rows: lines(ATTRIBUTES).filter_map(row).collect(),
    types: types(),
    iods: lines(IODS).filter_map(|line| line.split_once(',')).collect(),
    safe_private: lines(SAFE_PRIVATE).filter_map(private).collect(),
    kept_text: lines(KEPT_TEXT).filter_map(|line| line.split(',').next()?.parse().ok()).collect(),
});

fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().skip(1)
}

fn row(line: &str) -> Option<(Tag, TableRow)> {
    let mut cells = line.split(',');
    let tag = cells.next()?.parse().ok()?;
    let basic = ActionCode::read(cells.next()?)?;
    let mut row = TableRow { basic, kept_by: 0, cleaned_by: 0 };
    for (option, cell) in COLUMNS.into_iter().zip(cells) {
        match cell {
            "K" => row.kept_by |= 1 << option as u8,
            "C" => row.cleaned_by |= 1 << option as u8,
            _ => {}
        }
    }
    Some((tag, row))
}

fn types() -> HashMap<(Tag, bool), HashMap<&'static str, AttributeType>> {
    let mut types: HashMap<_, HashMap<_, _>> = HashMap::new();
    for line in lines(TYPES) {
        let mut cells = line.splitn(4, ',');
        let mut cell = || cells.next().unwrap_or_default();
        let (tag, level, number, iods) = (cell(), cell(), cell(), cell());
        let Ok(tag) = tag.parse() else { continue };
        let attribute_type = if number == "1" { AttributeType::Required } else { AttributeType::Empty };
        let of_tag = types.entry((tag, level == "nested")).or_default();
        of_tag.extend(iods.split(' ').map(|iod| (iod, attribute_type)));
    }
    types
}

fn private(line: &'static str) -> Option<((u16, u8, &'static str), Vr)> {
    let mut cells = line.splitn(4, ',');
    let group = u16::from_str_radix(cells.next()?, 16).ok()?;
    let element = u8::from_str_radix(cells.next()?, 16).ok()?;
    let vr = Vr(cells.next()?.as_bytes().try_into().ok()?);
    Some(((group, element, cells.next()?), vr))
}

/// The row of an attribute; `None` if the table does not name the attribute. Repeating groups have no row.
pub(super) fn row_of(tag: Tag) -> Option<&'static TableRow> {
    TABLES.rows.get(&tag)
}

/// The type of an attribute in instances of a SOP class, at the top or in the items of sequences: the
/// strictest, if the attribute is in several modules or items. Known for the attributes whose action depends
/// on the type.
pub(super) fn type_of(sop_class: &str, tag: Tag, is_nested: bool) -> AttributeType {
    let Some(iod) = TABLES.iods.get(sop_class) else { return AttributeType::Required };
    let types = TABLES.types.get(&(tag, is_nested));
    types.and_then(|iods| iods.get(iod)).copied().unwrap_or(AttributeType::Optional)
}

/// Whether an attribute of text stays that the table does not name.
pub(super) fn is_kept_text(tag: Tag) -> bool {
    TABLES.kept_text.contains(&tag)
}

/// The VR of a private attribute by PS3.15 Table E.3.10-1; `None` if the table does not name the attribute.
/// `element` is the last byte of the element number.
pub(super) fn safe_private_vr(group: u16, element: u8, creator: &str) -> Option<Vr> {
    TABLES.safe_private.get(&(group, element, creator)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_of_the_tables_are_read() {
        // Curves, overlays twice, and private attributes have rules of their own.
        assert_eq!(TABLES.rows.len(), lines(ATTRIBUTES).count() - 4);
        assert_eq!(TABLES.iods.len(), lines(IODS).count());
        assert_eq!(TABLES.kept_text.len(), lines(KEPT_TEXT).count());
        assert!(TABLES.kept_text.iter().all(|tag| row_of(*tag).is_none()));
        assert_eq!(TABLES.safe_private.len(), lines(SAFE_PRIVATE).count());
        assert!(TABLES.types.values().map(HashMap::len).sum::<usize>() > 1500);
    }

    #[test]
    fn the_type_in_the_iod_decides() {
        let ct = "1.2.840.10008.5.1.4.1.1.2";
        for (sop_class, tag, is_nested, expected) in [
            (ct, 0x0008_0020, false, AttributeType::Optional),
            (ct, 0x0008_0023, false, AttributeType::Empty),
            (ct, 0x0008_0080, false, AttributeType::Optional),
            (ct, 0x0008_0082, true, AttributeType::Required),
            ("1.2.840.10008.5.1.4.1.1.2.1", 0x0008_0023, false, AttributeType::Required),
            ("1.2.3", 0x0008_0023, false, AttributeType::Required),
        ] {
            assert_eq!(type_of(sop_class, Tag(tag), is_nested), expected, "{sop_class} {tag:08X}");
        }
    }
}
