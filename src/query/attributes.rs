//! The one table of attributes that are indexed: level, matching, returned by default, normalisation.

use crate::dicom::attributes::Tag;

/// The tags that [`crate::dicom::instance`] must read for the index, in ascending order.
pub fn indexed() -> &'static [Tag] {
    unimplemented!()
}
