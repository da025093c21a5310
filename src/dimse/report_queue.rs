//! Reports of storage commitment that wait to be sent on associations of the server's own. Each destination
//! has a share of them and one sender, so that a destination that cannot be reached holds up no other.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::budget::{Budget, Grant};
use crate::config::{DimseSettings, PeerAddress};
use crate::dimse::report::Report;

/// The most reports that wait, and those for one destination.
const MAX_REPORTS: usize = 256;
const MAX_REPORTS_OF_DESTINATION: usize = 16;
/// The memory for reports that wait, and for those for one destination: one of the longest fits.
const MAX_BYTES: usize = 64 << 20;
const MAX_BYTES_OF_DESTINATION: usize = 4 << 20;
/// The time in which attempts to send a report are made.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The waits after failed attempts to reach a destination.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(900));

/// The reports that wait, by their destinations.
pub struct ReportQueue {
    places: Budget,
    memory: Budget,
    outgoing: Budget,
    settings: Arc<DimseSettings>,
    /// Each destination here has a task that sends its reports.
    destinations: Mutex<HashMap<String, DestinationReports>>,
}

#[derive(Default)]
struct DestinationReports {
    waiting: VecDeque<WaitingReport>,
    /// Notified of each further report: a peer that requests something may be reachable again.
    has_more: Arc<Notify>,
}

struct WaitingReport {
    report: Arc<Report>,
    until: Instant,
    _place: ReportPlace,
}

/// The right to let a report wait.
pub struct ReportPlace {
    _place: Grant,
    _memory: Grant,
}

impl ReportQueue {
    /// An empty queue, whose reports are sent with these settings, in places of `outgoing`.
    pub fn new(settings: Arc<DimseSettings>, outgoing: Budget) -> Self {
        Self {
            places: Budget::of_places(MAX_REPORTS, MAX_REPORTS_OF_DESTINATION),
            memory: Budget::of_bytes_with_share(MAX_BYTES, MAX_BYTES_OF_DESTINATION),
            outgoing,
            settings,
            destinations: Mutex::default(),
        }
    }

    /// A place for a report of this size; `None` if too many reports wait, for this destination or for all.
    pub fn reserve(&self, title: &str, bytes: usize) -> Option<ReportPlace> {
        let place = self.places.try_take(title, 1)?;
        Some(ReportPlace { _place: place, _memory: self.memory.try_take(title, bytes)? })
    }

    /// Adds a report, which is sent when those before it are.
    pub fn push(self: &Arc<Self>, title: &str, address: &PeerAddress, report: Report, place: ReportPlace) {
        let waiting = WaitingReport { report: Arc::new(report), until: Instant::now() + KEPT, _place: place };
        match self.destinations().entry(title.to_owned()) {
            Entry::Occupied(mut destination) => {
                destination.get_mut().waiting.push_back(waiting);
                destination.get().has_more.notify_one();
            }
            Entry::Vacant(destination) => {
                destination.insert(DestinationReports::default()).waiting.push_back(waiting);
                tokio::spawn(self.clone().send_all(title.to_owned(), address.clone()));
            }
        }
    }

    /// Sends the reports for a destination until none is left.
    async fn send_all(self: Arc<Self>, title: String, address: PeerAddress) {
        let mut failed = 0;
        while let Some((report, has_more)) = self.first(&title) {
            let place = self.outgoing.take(&title, 1).await;
            let sent = report.attempt(&title, &address, &self.settings).await;
            drop(place);
            match sent {
                Ok(()) => {
                    failed = 0;
                    self.remove_first(&title);
                }
                Err(error) => {
                    failed += 1;
                    info!(dimse.called = title, "a commitment will be reported later: {error}");
                    self.postpone_first(&title);
                    tokio::select! {
                        () = sleep(RETRY.wait(failed)) => {}
                        () = has_more.notified() => {}
                    }
                }
            }
        }
    }

    /// The first report for a destination; `None` if there is none: then its sender must end.
    fn first(&self, title: &str) -> Option<(Arc<Report>, Arc<Notify>)> {
        let mut destinations = self.destinations();
        let destination = destinations.get(title)?;
        match destination.waiting.front() {
            Some(first) => Some((first.report.clone(), destination.has_more.clone())),
            None => {
                destinations.remove(title);
                None
            }
        }
    }

    fn remove_first(&self, title: &str) {
        if let Some(destination) = self.destinations().get_mut(title) {
            destination.waiting.pop_front();
        }
    }

    /// Puts the first report behind the others, for the case that the peer only fails to take this one, and
    /// drops reports that have waited for too long.
    fn postpone_first(&self, title: &str) {
        let mut destinations = self.destinations();
        let Some(destination) = destinations.get_mut(title) else { return };
        if let Some(first) = destination.waiting.pop_front() {
            destination.waiting.push_back(first);
        }
        let now = Instant::now();
        destination.waiting.retain(|waiting| {
            let is_kept = now < waiting.until;
            if !is_kept {
                let transaction = &waiting.report.transaction;
                warn!(
                    dimse.called = title,
                    transaction.uid = transaction,
                    "a commitment could not be reported"
                );
            }
            is_kept
        });
    }

    fn destinations(&self) -> MutexGuard<'_, HashMap<String, DestinationReports>> {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn queue() -> Arc<ReportQueue> {
        Arc::new(ReportQueue::new(Arc::new(Config::defaults().dimse), Budget::of_places(32, 4)))
    }

    #[test]
    fn a_destination_has_a_share_of_the_places_and_of_the_memory() {
        let queue = queue();
        let held: Vec<_> = std::iter::from_fn(|| queue.reserve("DEAD", 1000)).collect();
        assert_eq!(held.len(), MAX_REPORTS_OF_DESTINATION);
        assert!(queue.reserve("OTHER", 3 << 20).is_some());
        let _large = queue.reserve("LARGE", 3 << 20).unwrap();
        assert!(queue.reserve("LARGE", 3 << 20).is_none());
        drop(held);
        assert!(queue.reserve("DEAD", 1000).is_some());
    }

    #[test]
    fn a_report_that_has_waited_for_too_long_is_dropped_and_its_place_is_free() {
        let queue = queue();
        let report = |transaction: &str, until| WaitingReport {
            report: Arc::new(Report {
                transaction: transaction.to_owned(),
                committed: Vec::new(),
                failed: Vec::new(),
                called: "CUSPID".into(),
            }),
            until,
            _place: queue.reserve("DEAD", 1000).unwrap(),
        };
        let now = Instant::now();
        let mut waiting = VecDeque::from([report("1.1", now + KEPT), report("1.2", now + KEPT)]);
        waiting.extend((2..MAX_REPORTS_OF_DESTINATION).map(|_| report("1.3", now)));
        let has_more = Arc::default();
        queue.destinations().insert("DEAD".to_owned(), DestinationReports { waiting, has_more });
        assert!(queue.reserve("DEAD", 1).is_none());
        queue.postpone_first("DEAD");
        assert!(queue.reserve("DEAD", 1).is_some());
        for transaction in ["1.2", "1.1"] {
            let (first, _) = queue.first("DEAD").unwrap();
            assert_eq!(first.transaction, transaction, "the first is tried last");
            queue.remove_first("DEAD");
        }
        assert!(queue.first("DEAD").is_none());
        assert!(queue.destinations().is_empty());
    }
}
