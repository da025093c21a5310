//! Sorting of matches in the order that a query requests.

use crate::dicom::attributes::Attributes;
use crate::index::{Error, ResultSink};
use crate::query::Query;
use crate::query::order::{self, SortKey};

/// The maximum bytes of matches in memory.
const MAX_BYTES: usize = 64 << 20;

/// The first matches of a search with their sort keys. Matches are encoded in MessagePack, which takes less
/// memory.
#[derive(Default)]
pub(crate) struct OrderedMatches {
    matches: Vec<(SortKey, Vec<u8>)>,
    bytes: usize,
}

impl OrderedMatches {
    /// The number of matches.
    pub(crate) fn len(&self) -> usize {
        self.matches.len()
    }

    /// The bytes of the matches and their sort keys.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is memory for one more match, and `limit` is not reached.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        self.matches.len() < limit && self.bytes < MAX_BYTES
    }

    /// Adds a match. `result` holds the attributes to return.
    pub(crate) fn push(&mut self, sort_key: SortKey, result: &Attributes) -> Result<(), Error> {
        let bytes = rmp_serde::to_vec(result).map_err(encoding_error)?;
        self.bytes += bytes.len() + sort_key.iter().map(order::SortValue::length_bytes).sum::<usize>();
        self.matches.push((sort_key, bytes));
        Ok(())
    }

    /// Passes one page of the sorted matches to `sink`. Returns their number, and whether there are more
    /// after them.
    pub(crate) fn page(mut self, query: &Query, sink: &mut ResultSink<'_>) -> Result<(usize, bool), Error> {
        self.matches.sort_by(|(one, _), (other, _)| order::compare(&query.order, one, other));
        let after = self.matches.len().saturating_sub(query.offset);
        let mut count = 0;
        for (_, bytes) in self.matches.into_iter().skip(query.offset).take(query.limit) {
            count += 1;
            if !sink(rmp_serde::from_slice(&bytes).map_err(encoding_error)?) {
                break;
            }
        }
        Ok((count, after > count))
    }
}

fn encoding_error(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Record { what: "a match to be sorted".into(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::{Attribute, Tag};

    #[test]
    fn large_matches_fill_the_memory_limit() {
        let mut ordered = OrderedMatches::default();
        let large = Attributes::from([(Tag(0x0040_A730), Attribute::text(b"UT", "x".repeat(MAX_BYTES / 4)))]);
        for _ in 0..4 {
            assert!(ordered.has_room(10));
            ordered.push(SortKey::default(), &large).unwrap();
        }
        assert!(!ordered.has_room(10));
        assert!(!OrderedMatches::default().has_room(0));
        let mut long_keys = OrderedMatches::default();
        for _ in 0..4 {
            let sort_key = vec![order::SortValue::Text("x".repeat(MAX_BYTES / 4))];
            long_keys.push(sort_key, &Attributes::new()).unwrap();
        }
        assert!(!long_keys.has_room(10));
    }
}
