//! Attributes with their values in memory, in the model of DICOM JSON (PS3.18 §F.2).

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An attribute tag: the group in the upper 16 bits, the element in the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub u32);

impl Tag {
    /// The group number.
    pub const fn group(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The element number.
    pub const fn element(self) -> u16 {
        self.0 as u16
    }

    /// Whether the group is odd (PS3.5 §7.8).
    pub const fn is_private(self) -> bool {
        self.group() % 2 == 1
    }
}

/// Writes a tag as `ggggeeee`, in upper case, as DICOM JSON does.
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:04X},{:04X})", self.group(), self.element())
    }
}

/// Reads `ggggeeee`, eight hexadecimal digits of either case.
impl FromStr for Tag {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        u32::from_str_radix(text, 16).map(Tag).map_err(|_| ())
    }
}

/// A value representation: its two upper case letters (PS3.5 §6.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vr(pub [u8; 2]);

impl Vr {
    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("UN")
    }
}

impl fmt::Debug for Vr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Attributes by tag, in ascending order of tags.
pub type Attributes = BTreeMap<Tag, Attribute>;

/// One attribute: its value representation and its values; none if it is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// The value representation.
    pub vr: Vr,
    /// The values in order; an empty list for an attribute that is present without value.
    pub values: Vec<Value>,
}

/// One value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// An empty value among others: `null` in JSON.
    Absent,
    /// A string in Unicode, padding removed.
    Text(String),
    /// A number, as the text of a JSON number with all digits that were sent (IS, DS, US, FD…).
    Number(String),
    /// A person name in its three representations (PN).
    Name(PersonName),
    /// An item of a sequence (SQ).
    Item(Attributes),
}

/// A person name's component groups; a group that was not sent is empty (PS3.5 §6.2.1.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonName {
    /// The alphabetic group: family, given, middle, prefix, suffix, with `^` between.
    pub alphabetic: String,
    /// The ideographic group.
    pub ideographic: String,
    /// The phonetic group.
    pub phonetic: String,
}

impl Attribute {
    /// An attribute with one string, or none if `text` is empty.
    pub fn text(vr: &[u8; 2], text: impl Into<String>) -> Self {
        let text = text.into();
        let values = if text.is_empty() { Vec::new() } else { vec![Value::Text(text)] };
        Self { vr: Vr(*vr), values }
    }

    /// An attribute with one number.
    pub fn number(vr: &[u8; 2], number: impl fmt::Display) -> Self {
        Self { vr: Vr(*vr), values: vec![Value::Number(number.to_string())] }
    }

    /// The first value, if it is a string or a number; a person name's alphabetic group.
    pub fn first_text(&self) -> Option<&str> {
        match self.values.first()? {
            Value::Text(text) | Value::Number(text) => Some(text),
            Value::Name(name) => Some(&name.alphabetic),
            Value::Absent | Value::Item(_) => None,
        }
    }
}
