//! Matches that wait to be put into the order that a query asks for.

use crate::dicom::attributes::Attributes;
use crate::index::{Error, Sink};
use crate::query::Query;
use crate::query::order::{self, Place};

/// Bytes of matches that are held: a report may have as many as a thousand images.
const MAX_BYTES: usize = 64 << 20;

/// The first matches of a search, each with its place. They are held as MessagePack, a fraction of their size.
#[derive(Default)]
pub(crate) struct Ordered {
    matches: Vec<(Place, Vec<u8>)>,
    bytes: usize,
}

impl Ordered {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.matches.len()
    }

    /// Whether there is room for one more within `limit`.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        self.matches.len() < limit && self.bytes < MAX_BYTES
    }

    /// Adds a match. `picked` is what is returned of it.
    pub(crate) fn push(&mut self, place: Place, picked: &Attributes) -> Result<(), Error> {
        let bytes = rmp_serde::to_vec(picked).map_err(damaged)?;
        self.bytes += bytes.len();
        self.matches.push((place, bytes));
        Ok(())
    }

    /// Hands over a page of them, in order. Tells how many they are, and whether there are more after them.
    pub(crate) fn page(mut self, query: &Query, sink: &mut Sink<'_>) -> Result<(usize, bool), Error> {
        self.matches.sort_by(|(one, _), (other, _)| order::compare(&query.order, one, other));
        let has_more = self.matches.len() > query.offset.saturating_add(query.limit);
        let mut count = 0;
        for (_, bytes) in self.matches.into_iter().skip(query.offset).take(query.limit) {
            sink(rmp_serde::from_slice(&bytes).map_err(damaged)?);
            count += 1;
        }
        Ok((count, has_more))
    }
}

fn damaged(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Record { what: "a result that is put in order".into(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::{Attribute, Tag};

    #[test]
    fn large_matches_take_more_room() {
        let mut ordered = Ordered::default();
        let large = Attributes::from([(Tag(0x0040_A730), Attribute::text(b"UT", "x".repeat(MAX_BYTES / 4)))]);
        for _ in 0..4 {
            assert!(ordered.has_room(10));
            ordered.push(Place::default(), &large).unwrap();
        }
        assert!(!ordered.has_room(10));
        assert!(!Ordered::default().has_room(0));
    }
}
