//! Sends the reports of storage commitment that wait to peers with an address in `dimse.peers`, each on an
//! association that the server requests, until the peer takes it.
//!
//! The requests are durable, so that their reports are sent over restarts. Each peer has one sender in one
//! process, the one with the lease, so that a peer that cannot be reached holds up no other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::archive::access::Caller;
use crate::archive::commitments::{
    CommitmentLimits, CommitmentReference, ReportOutcome, ReportState, VersionedCommitment, WaitingCommitment,
};
use crate::archive::lease::{Lease, LeaseEnd};
use crate::archive::{Archive, Error};
use crate::backoff::Backoff;
use crate::budget::{Budget, share_of};
use crate::clock::now_millis;
use crate::config::{DimseSettings, PeerAddress, Tenant};
use crate::dicom::uids::STORAGE_COMMITMENT_PUSH_MODEL;
use crate::dimse::callers::Callers;
use crate::dimse::report::Report;
use crate::dimse::requestor::{ProposedContext, Requestor, Target};
use crate::telemetry;

/// The waits after failed attempts to reach a peer.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(900));
/// The pause between two looks at the requests of all processes. A process sees its own at once.
const POLL: Duration = Duration::from_secs(60);
/// The time for which a process has a peer for itself.
const LEASE: Duration = Duration::from_secs(30);
const SECONDS_OF_HOUR: u64 = 60 * 60;

/// The senders of reports, one for each peer whose reports wait.
pub struct ReportSender {
    archive: Arc<Archive>,
    settings: Arc<DimseSettings>,
    callers: Arc<Callers>,
    outgoing: Budget,
    stop: CancellationToken,
    senders: Mutex<HashMap<(Tenant, String), RunningSender>>,
}

/// The sender of a peer's reports.
#[derive(Default)]
struct RunningSender {
    /// Notified of each further request: a peer that requests something may be reachable again.
    has_more: Arc<Notify>,
    /// Whether there was a further request since the sender has looked for one.
    is_awaited: bool,
}

/// The limits on the requests that wait, from the settings.
pub fn commitment_limits(settings: &DimseSettings) -> CommitmentLimits {
    let all = settings.max_waiting_reports;
    CommitmentLimits { all, of_peer: share_of(all, settings.max_waiting_reports_per_peer) }
}

impl ReportSender {
    /// A sender with these settings, in places of `outgoing`, until `stop`.
    pub fn new(
        archive: Arc<Archive>,
        settings: Arc<DimseSettings>,
        callers: Arc<Callers>,
        outgoing: Budget,
        stop: CancellationToken,
    ) -> Self {
        Self { archive, settings, callers, outgoing, stop, senders: Mutex::default() }
    }

    /// Has the reports to a peer sent, now that there is a further one.
    pub fn wake(self: &Arc<Self>, tenant: &Tenant, title: &str) {
        match self.senders().entry((tenant.clone(), title.to_owned())) {
            Entry::Occupied(mut running) => {
                running.get_mut().is_awaited = true;
                running.get().has_more.notify_one();
            }
            Entry::Vacant(vacant) => self.start(vacant.insert(RunningSender::default()), tenant, title),
        }
    }

    /// Looks for requests again and again, until the stop: those that waited when the process started, and
    /// those that other processes have accepted and cannot report.
    pub async fn run(self: Arc<Self>) {
        loop {
            if let Err(error) = self.look().await {
                let error = telemetry::chain(&error);
                warn!(error, "cannot read the requests for storage commitment; trying again");
            }
            if self.stop.run_until_cancelled(sleep(POLL)).await.is_none() {
                return;
            }
        }
    }

    /// Starts a sender for each peer with an address whose reports wait. Reports to others are given up after
    /// `dimse.report_retry_hours`.
    async fn look(self: &Arc<Self>) -> Result<(), Error> {
        let waiting = self.archive.waiting_commitments().await?;
        telemetry::commitments_waiting(waiting.len());
        let now = now_millis();
        for (request, version) in &waiting {
            let Ok(tenant) = request.tenant.parse::<Tenant>() else { continue };
            if self.callers.destination(&request.peer, &request.called, &tenant).is_some() {
                if let Entry::Vacant(vacant) = self.senders().entry((tenant.clone(), request.peer.clone())) {
                    self.start(vacant.insert(RunningSender::default()), &tenant, &request.peer);
                }
            } else if request.is_over(now, self.longest()) {
                let reason = "the peer has no address in dimse.peers, and did not take the report in time";
                let outcome = ReportOutcome::GivenUp(reason.into());
                self.archive.settle_commitment((request, *version), &outcome).await?;
            }
        }
        Ok(())
    }

    fn start(self: &Arc<Self>, running: &RunningSender, tenant: &Tenant, title: &str) {
        let (sender, has_more) = (Arc::clone(self), Arc::clone(&running.has_more));
        let (tenant, title) = (tenant.clone(), title.to_owned());
        tokio::spawn(async move {
            let key = (tenant, title);
            let stop = sender.stop.clone();
            loop {
                let sent = stop.run_until_cancelled(sender.send_all(&key, &has_more)).await;
                let is_over = match sent {
                    None => true,
                    Some(Ok(())) => false,
                    Some(Err(end)) => {
                        info!(dimse.called = key.1, "cannot send reports now: {}", telemetry::chain(&end));
                        true
                    }
                };
                // After an error, the next look starts a sender again.
                let mut senders = sender.senders();
                match senders.get_mut(&key) {
                    Some(running) if running.is_awaited && !is_over => running.is_awaited = false,
                    _ => {
                        senders.remove(&key);
                        return;
                    }
                }
            }
        });
    }

    /// Sends the reports to a peer until none is left. Returns at once if another process does.
    async fn send_all(&self, (tenant, title): &(Tenant, String), has_more: &Notify) -> Result<(), LeaseEnd> {
        // The look-ups count for the peer, and not as background work, which may be put off for long.
        let caller =
            Caller { is_background: false, client: title.as_str().into(), ..Caller::server(tenant.clone()) };
        let Some(mut lease) = self.archive.lease::<ReportState>(&caller, title, LEASE).await? else {
            return Ok(());
        };
        let mut failed = 0;
        loop {
            let waiting = self.archive.commitments_of(&caller, title).await?;
            if waiting.is_empty() {
                return lease.release().await;
            }
            let latest = waiting.iter().map(|(request, _)| request.received_at).max().unwrap_or(0);
            let (sent, has_failed) = self.send_each(&caller, &mut lease, waiting).await?;
            if sent > 0 {
                failed = 0;
            }
            if !has_failed {
                continue;
            }
            failed += 1;
            let pause = async {
                tokio::select! {
                    () = sleep(RETRY.wait(failed)) => {}
                    () = has_more.notified() => {}
                    () = self.has_further(&caller, title, latest) => {}
                }
            };
            lease.during(pause).await?;
        }
    }

    /// Waits until a process has accepted a request of a peer that is later than a time.
    async fn has_further(&self, caller: &Caller, title: &str, latest: i64) {
        loop {
            sleep(POLL).await;
            let found = self.archive.commitments_of(caller, title).await.unwrap_or_default();
            if found.iter().any(|(request, _)| request.received_at > latest) {
                return;
            }
        }
    }

    /// Sends reports one after the other, up to the first that cannot be sent; those that have waited for too
    /// long are then given up. Returns the number of those that were sent, and whether one could not be.
    async fn send_each(
        &self,
        caller: &Caller,
        lease: &mut Lease<ReportState>,
        waiting: Vec<VersionedCommitment>,
    ) -> Result<(usize, bool), LeaseEnd> {
        let (mut waiting, mut sent) = (waiting.into_iter(), 0);
        while let Some((request, version)) = waiting.next() {
            let outcome = lease.during(self.attempt(caller, (&request, version))).await??;
            let Some(outcome) = outcome else { continue };
            let ReportOutcome::Later(error) = outcome else {
                lease.settle((&request, version), &outcome).await?;
                sent += 1;
                continue;
            };
            let now = now_millis();
            let of_age = |is_over: bool| match is_over {
                true => ReportOutcome::GivenUp(error.clone()),
                false => ReportOutcome::Later(error.clone()),
            };
            let is_over = request.is_over(now, self.longest());
            lease.settle((&request, version), &of_age(is_over)).await?;
            for (old, version) in waiting.filter(|(old, _)| old.is_over(now, self.longest())) {
                lease.settle((&old, version), &of_age(true)).await?;
            }
            return Ok((sent, true));
        }
        Ok((sent, false))
    }

    /// Makes a report, and sends it on an association of its own; `None` if it waits no longer.
    async fn attempt(
        &self,
        caller: &Caller,
        (request, version): (&WaitingCommitment, u64),
    ) -> Result<Option<ReportOutcome>, Error> {
        let Some(address) = self.address(request, caller) else {
            return Ok(Some(ReportOutcome::Later("the peer has no address in dimse.peers".into())));
        };
        // With the place, the number of reports in memory is limited, too.
        let _place = self.outgoing.take(&request.peer, 1).await;
        let references = match self.archive.commitment_references((request, version)).await {
            Ok(Some(references)) => references,
            Ok(None) => return Ok(None),
            Err(error) if matches!(error, Error::Damaged(_)) || error.is_about_record() => {
                return Ok(Some(ReportOutcome::GivenUp(telemetry::chain(&error))));
            }
            Err(error) => return Err(error),
        };
        Ok(Some(self.report((caller, request), references, &address).await))
    }

    /// Requests an association, then makes the report and sends it: a peer that cannot be reached costs no
    /// look-ups.
    async fn report(
        &self,
        (caller, request): (&Caller, &WaitingCommitment),
        references: Vec<CommitmentReference>,
        address: &PeerAddress,
    ) -> ReportOutcome {
        let target = Target { address, called: &request.peer, calling: &request.called };
        let proposed = [ProposedContext::of_plain_data_sets(STORAGE_COMMITMENT_PUSH_MODEL)];
        let mut requestor = match Requestor::connect(target, &proposed, true, &self.settings).await {
            Ok(requestor) => requestor,
            Err(error) => return ReportOutcome::Later(error.to_string()),
        };
        let report = Report::of(&self.archive, caller, request, references).await;
        let outcome = match (requestor.contexts.first().cloned(), report) {
            (None, _) => ReportOutcome::Later("the peer takes no reports".into()),
            (_, Err(error)) => ReportOutcome::Later(telemetry::chain(&error)),
            (Some(context), Ok(report)) => {
                let max_pdu_bytes = requestor.peer_max_pdu_bytes;
                match report.send(&mut requestor, &context, max_pdu_bytes).await {
                    Ok(outcome) => outcome,
                    Err(interruption) => return ReportOutcome::Later(interruption.to_string()),
                }
            }
        };
        requestor.release().await;
        outcome
    }

    fn address(&self, request: &WaitingCommitment, caller: &Caller) -> Option<PeerAddress> {
        self.callers.destination(&request.peer, &request.called, &caller.tenant).cloned()
    }

    /// The time in which attempts to send a report are made.
    fn longest(&self) -> Duration {
        Duration::from_secs(self.settings.report_retry_hours.saturating_mul(SECONDS_OF_HOUR))
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<(Tenant, String), RunningSender>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::time::timeout;

    use super::*;
    use crate::archive::commitments::CommitmentReport;
    use crate::archive::testing;
    use crate::config::Config;

    /// A sender for the peer `AWAY`, whose address nobody listens on.
    fn sender(archive: &Arc<Archive>, change: impl FnOnce(&mut DimseSettings)) -> Arc<ReportSender> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = Config::defaults();
        config.dimse.peers = vec![format!("AWAY@127.0.0.1:{port}=commit").try_into().unwrap()];
        change(&mut config.dimse);
        let callers = Arc::new(Callers::of(&config));
        let (settings, places) = (Arc::new(config.dimse), Budget::of_places(4, 4));
        Arc::new(ReportSender::new(archive.clone(), settings, callers, places, CancellationToken::new()))
    }

    async fn accept(archive: &Archive, peer: &str, transaction: &str) {
        let references = [("1.2".to_owned(), "1.3".to_owned())];
        let limits = (commitment_limits(&Config::defaults().dimse), false);
        let caller = Caller::anonymous();
        let accepted =
            archive.accept_commitment(&caller, (peer, "X"), transaction, &references, limits).await;
        assert!(accepted.unwrap().is_some());
    }

    /// The state of a peer's reports, as soon as it meets a condition.
    async fn until(
        archive: &Archive,
        peer: &str,
        is_met: impl Fn(&CommitmentReport) -> bool,
    ) -> CommitmentReport {
        let look = async {
            loop {
                let reports = archive.commitment_reports(&Caller::anonymous()).await.unwrap();
                if let Some(report) = reports.into_iter().find(|report| report.peer == peer && is_met(report))
                {
                    return report;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), look).await.expect("this did not happen in time")
    }

    #[tokio::test]
    async fn a_report_that_cannot_be_sent_waits_and_the_next_process_goes_on() {
        let archive = testing::archive();
        accept(&archive, "AWAY", "1.1").await;
        accept(&archive, "AWAY", "1.2").await;
        let first = sender(&archive, |_| {});
        first.look().await.unwrap();
        let found = until(&archive, "AWAY", |report| report.state.error.is_some()).await;
        assert_eq!((found.waiting, found.state.reported, found.state.given_up), (2, 0, 0));
        first.stop.cancel();
        let second = sender(&archive, |settings| settings.report_retry_hours = 0);
        second.look().await.unwrap();
        let found = until(&archive, "AWAY", |report| report.state.given_up == 2).await;
        assert_eq!(found.waiting, 0);
        assert!(found.state.error.unwrap().0.contains("no connection"));
        assert!(until_idle(&second).await);
    }

    #[tokio::test]
    async fn one_process_of_a_fleet_sends_the_reports_to_a_peer() {
        let [one, other] = testing::fleet();
        accept(&one, "AWAY", "1.1").await;
        let (first, second) = (sender(&one, |_| {}), sender(&other, |_| {}));
        first.look().await.unwrap();
        let found = until(&one, "AWAY", |report| report.state.error.is_some()).await;
        second.look().await.unwrap();
        assert!(until_idle(&second).await, "the other process has the lease");
        assert!(!first.senders().is_empty());
        let later = until(&one, "AWAY", |_| true).await;
        assert_eq!(later.state.holder, found.state.holder);
        first.stop.cancel();
    }

    async fn until_idle(sender: &ReportSender) -> bool {
        let idle = async {
            while !sender.senders().is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), idle).await.is_ok()
    }

    #[tokio::test]
    async fn reports_to_a_peer_without_an_address_are_given_up_after_the_time() {
        let archive = testing::archive();
        accept(&archive, "NOWHERE", "1.1").await;
        sender(&archive, |_| {}).look().await.unwrap();
        assert_eq!(archive.waiting_commitments().await.unwrap().len(), 1);
        sleep(Duration::from_millis(5)).await;
        sender(&archive, |settings| settings.report_retry_hours = 0).look().await.unwrap();
        let found = until(&archive, "NOWHERE", |report| report.state.given_up == 1).await;
        assert_eq!((found.waiting, found.state.reported), (0, 0));
    }
}
