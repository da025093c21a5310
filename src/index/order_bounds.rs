//! The bounds of the places that a query needs, in the default order of results.

use std::ops::Bound;

use crate::dicom::attributes::Tag;
use crate::dicom::tags;
use crate::index::{keys, listing};
use crate::query::Query;
use crate::query::matching::Matcher;
use crate::query::temporal::add_days;
use crate::table::{Range, Secondary};

/// The bounds of places in the default order of results.
#[derive(Debug, Clone)]
pub(crate) struct OrderBounds {
    from: Bound<String>,
    to: Bound<String>,
}

impl OrderBounds {
    /// The places of the dates in a query, after the place from which the query continues.
    pub(crate) fn of(query: &Query) -> Self {
        let (has_dates, from, to) = match matcher(query, tags::STUDY_DATE) {
            Some(Matcher::Date(span)) | Some(Matcher::DateAndTime { span, .. }) => {
                (true, span.from.as_deref(), span.to.as_deref())
            }
            _ => (false, None, None),
        };
        // In the time zone of the query, a date may be a day earlier or later than in the index.
        let margin = i64::from(query.conditions.iter().any(|condition| condition.timezone.is_some()));
        let from = from.and_then(|from| add_days(from.get(..8)?, -margin));
        let to = to.and_then(|to| add_days(to.get(..8)?, margin)).map(|to| to + "~");
        // Studies without a date are before all digits.
        let from = from.or_else(|| has_dates.then(|| "0".to_owned()));
        let mut bounds = Self {
            from: from.map_or(Bound::Unbounded, Bound::Included),
            to: to.clone().map_or(Bound::Unbounded, Bound::Excluded),
        };
        if let Some(after) = query.after.as_ref().filter(|after| to.is_none_or(|to| after.order < to)) {
            let order = after.order.clone();
            bounds.to = if after.series.is_some() { Bound::Included(order) } else { Bound::Excluded(order) };
        }
        bounds
    }

    /// Whether a place is within the bounds.
    pub(crate) fn contain(&self, order: &str) -> bool {
        let is_after = match &self.from {
            Bound::Unbounded => true,
            Bound::Included(from) => order >= from.as_str(),
            Bound::Excluded(from) => order > from.as_str(),
        };
        is_after
            && match &self.to {
                Bound::Unbounded => true,
                Bound::Included(to) => order <= to.as_str(),
                Bound::Excluded(to) => order < to.as_str(),
            }
    }

    /// The places before one.
    pub(crate) fn before(&self, order: &str) -> Self {
        Self { from: self.from.clone(), to: Bound::Excluded(order.to_owned()) }
    }

    /// The range of a partition with the places as sort keys, the latest first.
    pub(crate) fn range(&self, index: Secondary, partition: String, limit: usize) -> Range {
        let (from, to) = (self.from.clone(), self.to.clone());
        Range { index: Some(index), partition, from, to, is_descending: true, limit }
    }

    /// The range of the list of all studies.
    pub(crate) fn of_list(&self, tenant: &str, limit: usize) -> Range {
        let mut range = self.range(Secondary::First, keys::studies(tenant), limit);
        if let Bound::Included(order) = &range.to {
            range.to = Bound::Excluded(listing::end_of(order));
        }
        range
    }
}

/// The rule for an attribute in a query, if it is at the top level.
pub(crate) fn matcher(query: &Query, tag: Tag) -> Option<&Matcher> {
    query.conditions.iter().find(|condition| condition.tag == tag).map(|condition| &condition.matcher)
}
