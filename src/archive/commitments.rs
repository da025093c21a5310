//! Requests for storage commitment, from the durable acceptance to the report that the peer takes, which the
//! DIMSE layer sends (PS3.4 §J.3).

use std::time::Duration;

use tracing::{info, warn};

use crate::archive::access::Caller;
use crate::archive::lease::{Lease, LeaseEnd};
use crate::archive::{Archive, Error};
use crate::clock::{has_come, latest, millis, now_millis};
pub use crate::index::commitments::{CommitmentReference, ReportState, WaitingCommitment};
use crate::index::commitments::{CommitmentStep, WaitingCounts};
use crate::telemetry;

/// The attempts to write the outcome of a report while other processes write the same state.
const ATTEMPTS: usize = 8;
/// The most peers of a tenant that a report has.
const MAX_PEERS: usize = 200;

/// A request whose report waits, with its version.
pub type VersionedCommitment = (WaitingCommitment, u64);

/// The most requests whose reports wait. Requests that arrive at the same moment may exceed them by a few.
#[derive(Debug, Clone, Copy)]
pub struct CommitmentLimits {
    /// Those of all peers.
    pub all: usize,
    /// Those of one peer.
    pub of_peer: usize,
}

/// The outcome of an attempt to send a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportOutcome {
    /// The peer has taken the report.
    Taken,
    /// No further attempt is made, for this reason.
    GivenUp(String),
    /// A further attempt is made; this one failed for this reason.
    Later(String),
}

/// The state of storage commitment for a peer, for `/status`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommitmentReport {
    /// The AE title.
    pub peer: String,
    /// The number of reports that wait, and the time at which the first of their requests was received.
    pub waiting: usize,
    /// The time at which the first of their requests was received.
    pub waiting_since: Option<i64>,
    /// The state of the reports that were sent.
    pub state: ReportState,
}

impl Archive {
    /// Makes a request durable, so that its report is sent whatever happens. `None` if too many wait. With
    /// `replaces_oldest`, the report to the peer that has waited longest is given up instead where too many
    /// of this peer wait: for a peer that can be reached on associations of its own only.
    pub async fn accept_commitment(
        &self,
        caller: &Caller,
        (peer, called): (&str, &str),
        transaction: &str,
        references: &[CommitmentReference],
        (limits, replaces_oldest): (CommitmentLimits, bool),
    ) -> Result<Option<VersionedCommitment>, Error> {
        let tenant = caller.tenant.as_str();
        let WaitingCounts { all, of_peer } =
            self.index.count_commitments(tenant, peer, limits.all.saturating_add(1)).await?;
        if of_peer >= limits.of_peer && replaces_oldest {
            self.give_up_oldest(caller, peer, limits.of_peer).await?;
        } else if all >= limits.all || of_peer >= limits.of_peer {
            return Ok(None);
        }
        for _ in 0..ATTEMPTS {
            let mut request = WaitingCommitment::new(tenant, (peer, called), transaction, now_millis());
            if let Some(version) = self.index.add_commitment(&mut request, references).await? {
                return Ok(Some((request, version)));
            }
        }
        Err(Error::NotReady("other processes write the same requests for storage commitment".into()))
    }

    /// Gives the oldest reports to a peer up, so that fewer than `limit` wait.
    async fn give_up_oldest(&self, caller: &Caller, peer: &str, limit: usize) -> Result<(), Error> {
        let mut waiting = self.index.commitments(caller.tenant.as_str(), Some(peer)).await?;
        waiting.sort_by_key(|(request, _)| request.received_at);
        let reason = "the peer took it on no association, has no address in dimse.peers, and has made \
                      dimse.max_waiting_reports_per_peer later requests";
        let outcome = ReportOutcome::GivenUp(reason.into());
        let surplus = (waiting.len() + 1).saturating_sub(limit);
        for (request, version) in waiting.into_iter().take(surplus) {
            self.settle_commitment((&request, version), &outcome).await?;
        }
        Ok(())
    }

    /// All requests whose reports wait.
    pub async fn waiting_commitments(&self) -> Result<Vec<VersionedCommitment>, Error> {
        Ok(self.index.all_commitments().await?)
    }

    /// The requests of a peer whose reports wait: those with the fewest failed attempts first, so that a
    /// report that the peer cannot take holds up no other; among those the oldest.
    pub async fn commitments_of(
        &self,
        caller: &Caller,
        peer: &str,
    ) -> Result<Vec<VersionedCommitment>, Error> {
        let mut found = self.index.commitments(caller.tenant.as_str(), Some(peer)).await?;
        found.sort_by_key(|(request, _)| (request.attempts, request.received_at));
        Ok(found)
    }

    /// The references of a request; `None` if its report waits no longer.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the references of a request that waits are missing.
    pub async fn commitment_references(
        &self,
        (request, version): (&WaitingCommitment, u64),
    ) -> Result<Option<Vec<CommitmentReference>>, Error> {
        let found = self.index.commitment_references(request).await?;
        if found.is_none() && self.index.commitment_version(request).await? == Some(version) {
            return Err(Error::Damaged("the references of a request for storage commitment".into()));
        }
        Ok(found)
    }

    /// Records the outcome of a report that was sent without the lease of its peer, unless the request was
    /// changed meanwhile.
    pub async fn settle_commitment(
        &self,
        (request, version): (&WaitingCommitment, u64),
        outcome: &ReportOutcome,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let found = self.index.leased::<ReportState>(&request.tenant, &request.peer).await?;
            let (state, state_version) = found.unwrap_or_default();
            let (state, step) = after(state, request, outcome, now_millis());
            let written =
                self.index.step_commitment((request, version), &step, (&state, state_version)).await?;
            if written {
                note(request, outcome);
                return Ok(());
            }
            if self.index.commitment_version(request).await? != Some(version) {
                return Ok(());
            }
        }
        Err(Error::NotReady("other processes write the same requests for storage commitment".into()))
    }

    /// The state of storage commitment for each peer of the caller's tenant, by AE title.
    pub async fn commitment_reports(&self, caller: &Caller) -> Result<Vec<CommitmentReport>, Error> {
        if caller.share.is_some() {
            return Ok(Vec::new());
        }
        let tenant = caller.tenant.as_str();
        let states = self.index.report_states(tenant, MAX_PEERS).await?;
        let of_state = |(peer, state)| CommitmentReport { peer, state, ..CommitmentReport::default() };
        let mut reports: Vec<_> = states.into_iter().map(of_state).collect();
        for (request, _) in self.index.commitments(tenant, None).await? {
            let index = match reports.iter().position(|report| report.peer == request.peer) {
                Some(index) => index,
                None if reports.len() >= MAX_PEERS => continue,
                None => {
                    reports
                        .push(CommitmentReport { peer: request.peer.clone(), ..CommitmentReport::default() });
                    reports.len() - 1
                }
            };
            let Some(report) = reports.get_mut(index) else { continue };
            report.waiting += 1;
            let since = report.waiting_since.unwrap_or(i64::MAX).min(request.received_at);
            report.waiting_since = Some(since);
        }
        reports.sort_by(|one, other| one.peer.cmp(&other.peer));
        Ok(reports)
    }
}

impl Lease<ReportState> {
    /// Records the outcome of an attempt, and renews the lease. Nothing is recorded if the request was
    /// replaced meanwhile.
    pub async fn settle(
        &mut self,
        (request, version): (&WaitingCommitment, u64),
        outcome: &ReportOutcome,
    ) -> Result<(), LeaseEnd> {
        self.renew();
        let (state, step) = after(self.state.clone(), request, outcome, now_millis());
        let index = &self.archive.index;
        let written = index.step_commitment((request, version), &step, (&state, self.version)).await;
        if written.map_err(Error::from)? {
            self.state = state;
            self.is_written();
            note(request, outcome);
            return Ok(());
        }
        // An error if the lease was lost.
        self.save().await
    }
}

impl WaitingCommitment {
    /// Whether attempts to send the report have been made for as long as `longest`, at the time `now`.
    pub fn is_over(&self, now: i64, longest: Duration) -> bool {
        now.saturating_sub(self.received_at) > millis(longest)
    }

    /// Whether the request is older than `hold`, or its time was written by a wrong clock.
    pub fn is_older_than(&self, hold: Duration) -> bool {
        has_come(self.received_at.saturating_add(millis(hold)), now_millis(), hold)
    }
}

/// The state of the reports to a peer, and the next state of a request, after an attempt.
fn after(
    mut state: ReportState,
    request: &WaitingCommitment,
    outcome: &ReportOutcome,
    now: i64,
) -> (ReportState, CommitmentStep) {
    match outcome {
        ReportOutcome::Taken => {
            state.reported += 1;
            state.reported_at = Some(now);
            (state, CommitmentStep::Remove)
        }
        ReportOutcome::GivenUp(error) => {
            state.given_up += 1;
            state.given_up_at = Some(now);
            state.error = Some((error.clone(), now));
            (state, CommitmentStep::Remove)
        }
        ReportOutcome::Later(error) => {
            state.error = Some((error.clone(), now));
            // A time in the future was written by a wrong clock: the report would never be given up.
            let is_wrong = request.received_at > latest(now, Duration::ZERO);
            let received_at = if is_wrong { now } else { request.received_at };
            let attempts = request.attempts.saturating_add(1);
            (state, CommitmentStep::Keep(WaitingCommitment { attempts, received_at, ..request.clone() }))
        }
    }
}

/// Counts an outcome, and names in the log what the administrator should know.
fn note(request: &WaitingCommitment, outcome: &ReportOutcome) {
    let WaitingCommitment { peer, transaction, .. } = request;
    match outcome {
        ReportOutcome::Taken => telemetry::commitment_reported("taken"),
        ReportOutcome::GivenUp(error) => {
            telemetry::commitment_reported("given_up");
            warn!(
                dimse.called = peer,
                transaction.uid = transaction,
                "a commitment could not be reported: {error}"
            );
        }
        ReportOutcome::Later(error) => {
            telemetry::commitment_reported("later");
            info!(
                dimse.called = peer,
                transaction.uid = transaction,
                "a commitment will be reported later: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::testing;

    const LIMITS: CommitmentLimits = CommitmentLimits { all: 5, of_peer: 3 };

    async fn accept(archive: &Archive, peer: &str, transaction: &str) -> Option<VersionedCommitment> {
        let references = [("1.2".to_owned(), "1.3".to_owned())];
        let caller = Caller::anonymous();
        let peer = (peer, "X");
        archive.accept_commitment(&caller, peer, transaction, &references, (LIMITS, false)).await.unwrap()
    }

    async fn lease(archive: &Arc<Archive>) -> Lease<ReportState> {
        let minute = Duration::from_secs(60);
        archive.lease(&Caller::anonymous(), "CT", minute).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn only_so_many_requests_wait_of_a_peer_and_of_all() {
        let archive = testing::archive();
        for (peer, transaction, expected) in [
            ("CT", "1.1", true),
            ("CT", "1.2", true),
            ("CT", "1.3", true),
            ("CT", "1.4", false),
            ("MR", "1.1", true),
            ("MR", "1.2", true),
            ("MR", "1.3", false),
            ("US", "1.1", false),
        ] {
            assert_eq!(accept(&archive, peer, transaction).await.is_some(), expected, "{peer} {transaction}");
        }
        let caller = Caller::anonymous();
        let (first, version) = archive.commitments_of(&caller, "CT").await.unwrap().remove(0);
        archive.settle_commitment((&first, version), &ReportOutcome::Taken).await.unwrap();
        assert!(accept(&archive, "CT", "1.4").await.is_some());
    }

    #[tokio::test]
    async fn a_peer_without_an_address_loses_its_oldest_report_and_others_lose_none() {
        let archive = testing::archive();
        let caller = Caller::anonymous();
        let accept_instead = async |transaction: &str| {
            let accepted =
                archive.accept_commitment(&caller, ("CT", "X"), transaction, &[], (LIMITS, true)).await;
            accepted.unwrap().is_some()
        };
        accept(&archive, "MR", "1.1").await.unwrap();
        for transaction in ["1.1", "1.2", "1.3", "1.4", "1.5"] {
            assert!(accept_instead(transaction).await);
            // The time of a request has milliseconds.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let waiting = archive.commitments_of(&caller, "CT").await.unwrap();
        let transactions: Vec<_> = waiting.iter().map(|(request, _)| request.transaction.as_str()).collect();
        assert_eq!(transactions, ["1.3", "1.4", "1.5"]);
        let reports = archive.commitment_reports(&caller).await.unwrap();
        let counts: Vec<_> = reports.iter().map(|report| (report.waiting, report.state.given_up)).collect();
        assert_eq!(counts, [(3, 2), (1, 0)]);
    }

    #[tokio::test]
    async fn the_request_with_the_fewest_attempts_is_next_and_outcomes_are_counted() {
        let archive = testing::archive();
        let caller = Caller::anonymous();
        for transaction in ["1.1", "1.2"] {
            accept(&archive, "CT", transaction).await.unwrap();
        }
        let mut lease = lease(&archive).await;
        let next = async || archive.commitments_of(&caller, "CT").await.unwrap().remove(0);
        let (first, version) = next().await;
        lease.settle((&first, version), &ReportOutcome::Later("away".into())).await.unwrap();
        let (second, version) = next().await;
        assert_ne!(first.transaction, second.transaction);
        lease.settle((&second, version), &ReportOutcome::Taken).await.unwrap();
        let (first, version) = next().await;
        assert_eq!(first.attempts, 1);
        let [report] = archive.commitment_reports(&caller).await.unwrap().try_into().unwrap();
        let CommitmentReport { peer, waiting, waiting_since, state } = report;
        assert_eq!((peer.as_str(), waiting, waiting_since), ("CT", 1, Some(first.received_at)));
        assert_eq!((state.reported, state.given_up), (1, 0));
        // Of a stale version, nothing is recorded.
        lease.settle((&first, version + 1), &ReportOutcome::GivenUp("x".into())).await.unwrap();
        lease.settle((&first, version), &ReportOutcome::GivenUp("too long".into())).await.unwrap();
        lease.release().await.unwrap();
        let [report] = archive.commitment_reports(&caller).await.unwrap().try_into().unwrap();
        assert_eq!((report.waiting, report.state.given_up, report.state.leased_until > 0), (0, 1, true));
        assert_eq!(report.state.error.unwrap().0, "too long");
    }

    #[tokio::test]
    async fn a_lease_that_was_lost_records_nothing() {
        let archive = testing::archive();
        let (request, version) = accept(&archive, "CT", "1.1").await.unwrap();
        let mut lost = lease(&archive).await;
        let mut held = lease(&archive).await;
        let outcome = lost.settle((&request, version), &ReportOutcome::Taken).await;
        assert!(matches!(outcome, Err(LeaseEnd::Lost)));
        assert_eq!(archive.waiting_commitments().await.unwrap(), [(request.clone(), version)]);
        held.settle((&request, version), &ReportOutcome::Taken).await.unwrap();
        assert_eq!(archive.waiting_commitments().await.unwrap(), []);
    }

    #[test]
    fn a_wrong_clock_neither_keeps_a_report_for_ever_nor_gives_it_up_at_once() {
        let (now, day) = (1_800_000_000_000, Duration::from_secs(24 * 60 * 60));
        let year = 365 * 24 * 60 * 60 * 1000;
        for (received_at, expected) in [(now - 1000, now - 1000), (now + 1000, now + 1000), (now + year, now)]
        {
            let request = WaitingCommitment::new("a", ("CT", "X"), "1.1", received_at);
            assert!(!request.is_over(now, day), "{received_at}");
            let (_, step) =
                after(ReportState::default(), &request, &ReportOutcome::Later(String::new()), now);
            let CommitmentStep::Keep(next) = step else { panic!("{step:?}") };
            assert_eq!(next.received_at, expected);
            assert!(next.is_over(now + millis(day) + 2000, day), "{received_at}");
        }
    }
}
