//! The progress of a search: the place from which another search can go on.

use crate::dicom::uid::{InstanceUid, SeriesUid};
use crate::query::ResultPlace;

/// The progress of a search through the default order of results.
pub(crate) struct SearchProgress {
    /// The place from which the search began; `None` for the first study.
    begin: Option<ResultPlace>,
    /// The place after the last study, series or instance that was searched whole.
    place: Option<ResultPlace>,
    /// The place after the first that was not, because the budget was used up.
    unfinished: Option<ResultPlace>,
}

impl SearchProgress {
    /// The progress of a search that begins at a place.
    pub(crate) fn new(begin: Option<ResultPlace>) -> Self {
        Self { begin, place: None, unfinished: None }
    }

    /// Notes the end of a study, of a series in it, or of an instance. `is_whole` says whether everything up
    /// to there was searched.
    pub(crate) fn pass(
        &mut self,
        is_whole: bool,
        order: &str,
        series: Option<&SeriesUid>,
        instance: Option<&InstanceUid>,
    ) {
        let place = ResultPlace {
            order: order.to_owned(),
            series: series.cloned(),
            instance: instance.cloned(),
            number: 0,
        };
        if is_whole {
            self.place = Some(place);
        } else {
            self.unfinished.get_or_insert(place);
        }
    }

    /// Notes that everything up to the end of a study was searched, by its sort key alone.
    pub(crate) fn pass_by_key(&mut self, order: Option<&str>) {
        let place = self.place.as_ref().or(self.begin.as_ref());
        if let Some(order) = order.filter(|order| place.is_none_or(|place| *order < place.order.as_str())) {
            self.pass(true, order, None, None);
        }
    }

    /// Whether the search began within this study; then the series and the instance before.
    pub(crate) fn resumed(&self, order: &str) -> Option<(&SeriesUid, Option<&InstanceUid>)> {
        let begin = self.begin.as_ref().filter(|begin| begin.order == order)?;
        Some((begin.series.as_ref()?, begin.instance.as_ref()))
    }

    /// The place from which another search can go on, after `count` results; `None` if it would come no
    /// further than this one. A study, series or instance that takes more than the whole budget is passed
    /// over, so that every search comes further.
    pub(crate) fn next(self, count: usize) -> Option<ResultPlace> {
        let before = self.begin.map_or(0, |begin| begin.number);
        let next = self.place.or(self.unfinished)?;
        Some(ResultPlace { number: before.saturating_add(count), ..next })
    }
}
