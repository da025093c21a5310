//! Search, for QIDO-RS and C-FIND.

use std::collections::BTreeMap;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::dicom::attributes::{Attribute, Attributes, Tag, Value, Vr};
use crate::dicom::tags;
use crate::dicom::uid::SeriesUid;
use crate::index::shares::SharedObjects;
use crate::index::{ResultSink, SearchLimits};
use crate::query::matching::Matcher;
use crate::query::{Condition, Level, Query, SearchSummary};

impl Archive {
    /// Searches the objects of the caller's tenant that the caller may see, at a bounded cost. Each result is
    /// given to `sink` when it is found, as long as `sink` takes more.
    pub async fn search(
        &self,
        caller: &Caller,
        query: &Query,
        sink: &mut ResultSink<'_>,
    ) -> Result<SearchSummary, Error> {
        let limits =
            SearchLimits { max_rows_read: self.search.max_rows_read, max_ordered: self.search.max_ordered };
        let tenant = caller.tenant.as_str();
        let Some(share) = caller.share.as_deref() else {
            return Ok(self.index.search(tenant, query, limits, sink).await?);
        };
        let objects = &share.objects;
        let Some(query) = narrowed(query, objects) else { return Ok(SearchSummary::default()) };
        if objects.series.is_none() && !objects.is_list() {
            return Ok(self.index.search(tenant, &query, limits, sink).await?);
        }
        let counts = self.shared_counts(tenant, objects).await?;
        let mut counted = |mut result: Attributes| {
            counts.replace_in(&mut result);
            sink(result)
        };
        Ok(self.index.search(tenant, &query, limits, &mut counted).await?)
    }

    /// The counts of what a share of a part of a study holds.
    async fn shared_counts(&self, tenant: &str, objects: &SharedObjects) -> Result<SharedCounts, Error> {
        let mut counts = SharedCounts::default();
        let listed = objects.instances.keys();
        for series in objects.series.iter().chain(listed) {
            let Some(record) = self.index.series(tenant, &objects.study, series).await? else { continue };
            let modality = record.attributes.get(&tags::MODALITY).and_then(Attribute::first_text);
            counts.modalities.extend(modality.map(str::to_owned));
            let instances = match objects.instances.get(series) {
                Some(listed) => listed.len() as u64,
                None => record.number_of_instances,
            };
            counts.of_series.insert(series.clone(), instances);
        }
        counts.modalities.sort_unstable();
        counts.modalities.dedup();
        Ok(counts)
    }
}

/// A query for the objects of a share alone; `None` if the query is for others.
fn narrowed(query: &Query, objects: &SharedObjects) -> Option<Query> {
    let is_other_study = query.study.as_ref().is_some_and(|study| *study != objects.study);
    let is_other_series =
        query.series.as_ref().zip(objects.series.as_ref()).is_some_and(|(one, other)| one != other);
    if is_other_study || is_other_series {
        return None;
    }
    let mut narrowed = Query { study: Some(objects.study.clone()), ..query.clone() };
    let mut only = |tag: Tag, mut uids: Vec<String>| {
        uids.sort_unstable();
        let matcher = Matcher::Uid(uids);
        narrowed.conditions.push(Condition { tag, matcher, creators: Vec::new(), timezone: None });
    };
    let series = objects.series.iter().chain(objects.instances.keys()).map(SeriesUid::to_string);
    let series: Vec<String> = series.collect();
    if query.level >= Level::Series && !series.is_empty() {
        only(tags::SERIES_INSTANCE_UID, series);
    }
    if query.level >= Level::Instance && objects.is_list() {
        let instances = objects.instances.values().flatten().map(ToString::to_string);
        only(tags::SOP_INSTANCE_UID, instances.collect());
    }
    Some(narrowed)
}

/// The computed attributes of a part of a study.
#[derive(Default)]
struct SharedCounts {
    /// The number of instances of each series.
    of_series: BTreeMap<SeriesUid, u64>,
    modalities: Vec<String>,
}

impl SharedCounts {
    /// Replaces the attributes of a result that count objects outside of the share.
    fn replace_in(&self, result: &mut Attributes) {
        let series = result.get(&tags::SERIES_INSTANCE_UID).and_then(Attribute::first_text);
        let of_series = series.and_then(|uid| self.of_series.get(&uid.parse::<SeriesUid>().ok()?)).copied();
        let instances: u64 = self.of_series.values().sum();
        for (tag, count) in [
            (tags::NUMBER_OF_STUDY_RELATED_SERIES, self.of_series.len() as u64),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, instances),
            (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, of_series.unwrap_or_default()),
        ] {
            if let Some(attribute) = result.get_mut(&tag) {
                *attribute = Attribute::number(b"IS", count);
            }
        }
        if let Some(attribute) = result.get_mut(&tags::MODALITIES_IN_STUDY) {
            let values = self.modalities.iter().cloned().map(Value::Text).collect();
            *attribute = Attribute { vr: Vr(*b"CS"), values };
        }
        result.remove(&tags::SOP_CLASSES_IN_STUDY);
    }
}
