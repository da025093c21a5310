//! Matching against the records and the metadata of instances.

use tracing::error;

use crate::dicom::attributes::Attributes;
use crate::dicom::json;
use crate::dicom::metadata::Metadata;
use crate::index::{Error, rows};
use crate::query::Condition;
use crate::query::matching::matches;
use crate::table::ItemKey;

/// Whether a data set meets all conditions. Adds the work to `work`, in bytes, and stops when that is more
/// than `max_work`; the result is then false.
pub(crate) fn meets(
    conditions: &[Condition],
    attributes: &Attributes,
    max_work: u64,
    work: &mut u64,
) -> bool {
    conditions.iter().all(|condition| matches(condition, attributes, work) && *work <= max_work)
}

/// Adds the attributes of `others` that are missing from `attributes`.
pub(crate) fn with_others(mut attributes: Attributes, others: Attributes) -> Attributes {
    for (tag, attribute) in others {
        attributes.entry(tag).or_insert(attribute);
    }
    attributes
}

/// The part of an instance's record that a search needs.
#[derive(serde::Deserialize)]
pub(crate) struct SearchedRecord {
    pub(crate) attributes: Attributes,
    pub(crate) transfer_syntax: String,
}

/// The attributes of an instance, matched against conditions.
pub(crate) struct ReadMetadata {
    /// The attributes without bulk values; `None` if the metadata are damaged, which must not hide other
    /// instances.
    pub(crate) attributes: Option<Attributes>,
    pub(crate) is_met: bool,
    /// The work of matching, in bytes.
    pub(crate) work: u64,
}

/// Parses all attributes of an instance from its metadata, and matches them.
pub(crate) fn read_metadata(
    key: &ItemKey,
    metadata: &Metadata,
    conditions: &[Condition],
    max_work: u64,
) -> ReadMetadata {
    let read = || {
        let mut text = Vec::new();
        metadata.write_text("", &mut text).map_err(|source| rows::record_error(key, source))?;
        json::read(&text).map_err(|source| rows::record_error(key, source))
    };
    let read: Result<Attributes, Error> = read();
    let attributes = read.inspect_err(|error| error!(%error, "cannot read the metadata of an instance")).ok();
    let mut work = 0;
    let is_met =
        attributes.as_ref().is_some_and(|attributes| meets(conditions, attributes, max_work, &mut work));
    ReadMetadata { attributes, is_met, work }
}
