//! Matches that wait to be put into the order that a query asks for.

use crate::dicom::attributes::Attributes;
use crate::index::{Error, Sink};
use crate::query::Query;
use crate::query::order::{self, Place};

/// The first matches of a search, each with its place. They are held as MessagePack, a fraction of their size.
#[derive(Default)]
pub(crate) struct Ordered {
    matches: Vec<(Place, Vec<u8>)>,
}

impl Ordered {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.matches.len()
    }

    /// Adds a match. `picked` is what is returned of it.
    pub(crate) fn push(&mut self, place: Place, picked: &Attributes) -> Result<(), Error> {
        let bytes = rmp_serde::to_vec(picked).map_err(damaged)?;
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
