//! Whether a value matches: the last word, whatever an index may have thought (PS3.4 §C.2.2.2).

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {}
