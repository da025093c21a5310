//! Recent uploads, by which ingest expects an instance to be new or to be a duplicate. A wrong expectation
//! costs requests; the commit decides what is stored.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};

use crate::archive::access::Tenant;
use crate::dicom::uid::{InstanceUid, SeriesUid};

/// The numbers of series and of instances that are remembered.
const MAX_SERIES: usize = 4096;
const MAX_INSTANCES: usize = 16_384;

/// The recent uploads of this process.
#[derive(Default)]
pub(in crate::archive) struct RecentUploads {
    hasher: RandomState,
    state: Mutex<RecentState>,
}

/// UIDs are held as their hashes: two with the same hash cost requests.
#[derive(Default)]
struct RecentState {
    /// Whether the last instance of a series was new.
    series: HashMap<u64, bool>,
    instances: HashSet<u64>,
    /// The same instances, the oldest first.
    order: VecDeque<u64>,
}

impl RecentUploads {
    /// Whether an instance is probably new: the last one of its series was, and this one was not stored a
    /// short time ago. The first instance of a series is not expected to be new, because a whole series may
    /// be sent again.
    pub(super) fn expects_new(&self, tenant: &Tenant, series: &SeriesUid, instance: &InstanceUid) -> bool {
        let (series, instance) = (self.hash(tenant, series), self.hash(tenant, instance));
        self.with(|state| state.series.get(&series) == Some(&true) && !state.instances.contains(&instance))
    }

    /// Records that an instance is stored, and whether it is new.
    pub(super) fn record(&self, tenant: &Tenant, series: &SeriesUid, instance: &InstanceUid, is_new: bool) {
        let (series, instance) = (self.hash(tenant, series), self.hash(tenant, instance));
        self.with(|state| {
            if state.series.len() >= MAX_SERIES && !state.series.contains_key(&series) {
                state.series.clear();
            }
            state.series.insert(series, is_new);
            if state.instances.insert(instance) {
                state.order.push_back(instance);
            }
            if state.order.len() > MAX_INSTANCES
                && let Some(oldest) = state.order.pop_front()
            {
                state.instances.remove(&oldest);
            }
        });
    }

    fn hash(&self, tenant: &Tenant, uid: impl Hash) -> u64 {
        self.hasher.hash_one((tenant.as_str(), uid))
    }

    fn with<T>(&self, work: impl FnOnce(&mut RecentState) -> T) -> T {
        // Each statement leaves the state valid, so that a lock that a panic poisoned may still be used.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_expected_to_be_new_after_a_new_one_of_its_series_and_not_twice() {
        let (recent, [one, other]) =
            (RecentUploads::default(), ["one", "other"].map(|it| it.parse().unwrap()));
        let [first, second]: [InstanceUid; 2] = ["1.2.1", "1.2.2"].map(|uid| uid.parse().unwrap());
        let [series, next]: [SeriesUid; 2] = ["1.2", "1.3"].map(|uid| uid.parse().unwrap());
        assert!(!recent.expects_new(&one, &series, &first), "the first of a series");
        recent.record(&one, &series, &first, true);
        assert!(recent.expects_new(&one, &series, &second));
        assert!(!recent.expects_new(&one, &series, &first), "sent again");
        assert!(!recent.expects_new(&one, &next, &second) && !recent.expects_new(&other, &series, &second));
        recent.record(&one, &series, &first, false);
        assert!(!recent.expects_new(&one, &series, &second), "after a duplicate");
    }

    #[test]
    fn the_memory_is_bounded() {
        let (recent, tenant) = (RecentUploads::default(), "one".parse().unwrap());
        for number in 0..2 * MAX_INSTANCES {
            let [series, instance] = [1, 2].map(|kind| format!("1.{kind}.{number}"));
            recent.record(&tenant, &series.parse().unwrap(), &instance.parse().unwrap(), true);
        }
        let sizes = recent.with(|state| (state.series.len(), state.instances.len(), state.order.len()));
        assert!(sizes.0 <= MAX_SERIES && sizes.1 == MAX_INSTANCES && sizes.2 == MAX_INSTANCES, "{sizes:?}");
    }
}
