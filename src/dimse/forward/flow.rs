//! Forwarding to one destination: rounds of filling the queue and sending it, with pauses between.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::archive::Error;
use crate::archive::forwarding::{ForwardLease, UnsentInstance};
use crate::archive::lease::LeaseEnd;
use crate::clock::{millis, now_millis};
use crate::dimse::forward::context::{ForwardContext, RETRY};
use crate::dimse::forward::queue::ForwardQueue;
use crate::dimse::forward::route::ForwardRoute;
use crate::telemetry;

/// The pause before a look for changes of other processes.
const POLL: Duration = Duration::from_secs(10);
/// The time in which further instances may come that are sent on the same association.
const GATHER: Duration = Duration::from_secs(1);

/// Forwarding to a destination, by the process that has the lease.
pub(super) struct Flow<'a> {
    pub(super) context: &'a ForwardContext,
    pub(super) route: &'a ForwardRoute,
    pub(super) lease: ForwardLease,
    pub(super) queue: ForwardQueue,
}

/// The outcome of a round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RoundEnd {
    /// All that was in the queue is dealt with.
    Empty,
    /// The destination cannot be reached, or the association was lost; `true` if something was sent before.
    Unreachable(bool),
}

/// The outcome of an attempt to send an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The destination has stored the instance.
    Sent,
    /// The instance was deleted, or no rule matches it any more.
    Gone,
    /// A further attempt may succeed.
    Later(String),
    /// No further attempt can succeed.
    Failed(String),
}

impl<'a> Flow<'a> {
    pub(super) async fn open(
        context: &'a ForwardContext,
        route: &'a ForwardRoute,
        lease: ForwardLease,
    ) -> Result<Self, Error> {
        let queue = ForwardQueue { later: lease.later().await?, ..ForwardQueue::default() };
        Ok(Self { context, route, lease, queue })
    }

    /// Forwards until the lease is lost or the archive fails.
    pub(super) async fn run(&mut self) -> Result<(), LeaseEnd> {
        let mut bell = self.context.archive.change_bell(&self.route.caller.tenant);
        let mut failed = 0;
        loop {
            // Before the read: what is stored during the read rings again.
            bell.mark_unchanged();
            match self.round().await? {
                RoundEnd::Unreachable(has_sent) => {
                    failed = if has_sent { 1 } else { failed + 1 };
                    self.lease.during(sleep(RETRY.wait(failed))).await?;
                }
                RoundEnd::Empty if self.queue.has_more => failed = 0,
                RoundEnd::Empty => {
                    failed = 0;
                    let patience = self.next_due().min(POLL);
                    let wait = async {
                        // The bell is never closed.
                        if timeout(patience, bell.changed()).await.is_ok() {
                            sleep(GATHER).await;
                        }
                    };
                    self.lease.during(wait).await?;
                }
            }
        }
    }

    async fn round(&mut self) -> Result<RoundEnd, LeaseEnd> {
        if self.queue.instances.is_empty() {
            self.queue.fill(self.context, self.route, &mut self.lease).await?;
        }
        self.update_waiting();
        let mut end = RoundEnd::Empty;
        while end == RoundEnd::Empty && !self.queue.instances.is_empty() {
            end = self.send_on_association().await?;
        }
        self.move_on();
        self.update_waiting();
        self.lease.save_sometimes().await?;
        Ok(end)
    }

    /// The time until the next instance is tried again.
    fn next_due(&self) -> Duration {
        let next = self.queue.later.iter().map(|unsent| unsent.at).min();
        let millis = next.map_or(i64::MAX, |at| at.saturating_sub(now_millis()));
        Duration::from_millis(u64::try_from(millis).unwrap_or(0)).max(Duration::from_millis(100))
    }

    fn update_waiting(&mut self) {
        (self.lease.state.waiting, self.lease.state.waiting_since) = self.queue.waiting();
        let tenant = self.route.caller.tenant.as_str();
        telemetry::forward_waiting(tenant, &self.route.title, self.lease.state.waiting);
    }

    /// Moves the place in the feed on, if all instances of the page are dealt with.
    fn move_on(&mut self) {
        if self.queue.instances.is_empty()
            && let Some(end) = self.queue.end.take()
        {
            self.lease.state.cursor = end;
        }
    }

    /// Takes the first instance out of the queue, after an attempt. What is to be tried again is durable
    /// before the place in the feed moves on.
    pub(super) async fn settle(&mut self, attempt: Attempt) -> Result<(), LeaseEnd> {
        let Some(queued) = self.queue.instances.front().cloned() else { return Ok(()) };
        let unsent = UnsentInstance { attempts: queued.unsent.attempts + 1, ..queued.unsent };
        let outcome = self.record(unsent, attempt).await?;
        if let Some(outcome) = outcome {
            telemetry::forwarded(self.route.caller.tenant.as_str(), &self.route.title, outcome);
        }
        self.queue.instances.pop_front();
        let next = self.queue.instances.front().map(|next| &next.after);
        if let Some(after) = queued.after
            && next.is_some_and(|next| next.as_ref() != Some(&after))
        {
            self.lease.state.cursor = after.to_string();
        }
        Ok(())
    }

    /// Records the outcome of an attempt; returns the name of the outcome in metrics.
    async fn record(
        &mut self,
        mut unsent: UnsentInstance,
        attempt: Attempt,
    ) -> Result<Option<&'static str>, LeaseEnd> {
        let (now, title) = (now_millis(), &self.route.title);
        let is_again = self.queue.later.iter().any(|later| later.instance == unsent.instance);
        let is_over = now.saturating_sub(unsent.since) > self.route.retry_millis;
        let (error, is_final) = match attempt {
            Attempt::Sent | Attempt::Gone => {
                if is_again {
                    self.lease.forget_later(&unsent).await?;
                    self.queue.later.retain(|later| later.instance != unsent.instance);
                }
                let is_sent = attempt == Attempt::Sent;
                if is_sent {
                    self.lease.state.sent += 1;
                    self.lease.state.sent_at = Some(now);
                }
                return Ok(is_sent.then_some("sent"));
            }
            Attempt::Later(error) => (error, is_over),
            Attempt::Failed(error) => (error, true),
        };
        self.lease.state.error = Some((format!("{}: {error}", unsent.instance), now));
        unsent.error.clone_from(&error);
        self.queue.later.retain(|later| later.instance != unsent.instance);
        if is_final {
            warn!(dimse.destination = title, instance.uid = %unsent.instance, "an instance cannot be forwarded: {error}");
            unsent.at = now;
            self.lease.fail(&unsent).await?;
            return Ok(Some("failed"));
        }
        info!(dimse.destination = title, instance.uid = %unsent.instance, "an instance will be forwarded later: {error}");
        let wait = RETRY.limit(unsent.attempts);
        unsent.at = now.saturating_add(millis(wait));
        self.lease.postpone(&unsent).await?;
        self.queue.later.push(unsent);
        Ok(Some("later"))
    }

    /// Records that the destination cannot be reached. The instances at the front that have waited for
    /// `forward.retry_hours` are not tried any more.
    pub(super) async fn unreachable(&mut self, error: &str) -> Result<(), LeaseEnd> {
        let (waiting, title) = (self.lease.state.waiting, &self.route.title);
        warn!(dimse.destination = title, waiting, "cannot forward, and will try again: {error}");
        let limit = now_millis().saturating_sub(self.route.retry_millis);
        while self.queue.instances.front().is_some_and(|queued| queued.unsent.since < limit) {
            self.settle(Attempt::Failed(error.to_owned())).await?;
        }
        self.lease.state.error = Some((error.to_owned(), now_millis()));
        self.save_progress().await
    }

    /// Makes the progress durable.
    pub(super) async fn save_progress(&mut self) -> Result<(), LeaseEnd> {
        self.move_on();
        self.update_waiting();
        self.lease.save().await
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use super::*;
    use crate::archive::forwarding::{ForwardReport, ForwardState};
    use crate::archive::{Archive, testing};
    use crate::blobs::memory::MemoryBlobs;
    use crate::budget::Budget;
    use crate::config::Config;
    use crate::dimse::forward::route::routes;
    use crate::index::Index;

    /// An archive that begins to forward.
    async fn begun() -> (ForwardContext, ForwardRoute) {
        let set =
            |section: &str, name: &str, text: &str| (section.to_owned(), name.to_owned(), text.to_owned());
        let settings = [set("dimse", "peers", "A@h:1="), set("forward", "rules", "-> A")];
        let config = Config::load(None, &settings).unwrap();
        let archive = Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &config);
        let route = routes(&config).unwrap().remove(0);
        store(&archive, 100..103).await;
        archive.begin_forwarding(&route.caller, &route.title).await.unwrap();
        let (settings, outgoing) = (config.dimse.clone(), Budget::of_places(4, 4));
        (ForwardContext { archive, settings, outgoing, lease: Duration::from_secs(30) }, route)
    }

    async fn store(archive: &Arc<Archive>, numbers: Range<usize>) {
        for number in numbers {
            testing::store(archive, testing::numbered(number)).await.unwrap();
        }
    }

    /// A flow as a process begins it, with its queue filled.
    async fn filled<'a>(context: &'a ForwardContext, route: &'a ForwardRoute) -> Flow<'a> {
        let lease = context.archive.lease(&route.caller, &route.title, context.lease).await;
        let mut flow = Flow::open(context, route, lease.unwrap().unwrap()).await.unwrap();
        flow.queue.fill(context, route, &mut flow.lease).await.unwrap();
        flow
    }

    fn queued(flow: &Flow<'_>) -> Vec<String> {
        flow.queue.instances.iter().map(|queued| queued.unsent.instance.to_string()).collect()
    }

    #[tokio::test]
    async fn what_was_not_attempted_is_attempted_by_the_next_process() {
        let (context, route) = begun().await;
        store(&context.archive, 0..4).await;
        let mut flow = filled(&context, &route).await;
        assert_eq!(queued(&flow), ["1.2.3.0", "1.2.3.1", "1.2.3.2", "1.2.3.3"], "stored after the beginning");
        flow.settle(Attempt::Sent).await.unwrap();
        flow.settle(Attempt::Later("A700H".into())).await.unwrap();
        flow.settle(Attempt::Failed("A900H".into())).await.unwrap();
        flow.lease.save().await.unwrap();
        let mut next = filled(&context, &route).await;
        assert_eq!(queued(&next), ["1.2.3.3"]);
        let [later] = next.queue.later.as_slice() else { panic!("{:?}", next.queue.later) };
        assert_eq!((later.instance.as_str(), later.attempts, later.error.as_str()), ("1.2.3.1", 1, "A700H"));
        assert!((1..=2000).contains(&next.next_due().as_millis()));
        next.settle(Attempt::Sent).await.unwrap();
        next.save_progress().await.unwrap();
        assert!(matches!(flow.lease.save().await, Err(LeaseEnd::Lost)), "another process has the lease");
        let [report]: [ForwardReport; 1] =
            context.archive.forwarding(&route.caller).await.unwrap().try_into().unwrap();
        let ForwardState { sent, failed, waiting, .. } = report.state;
        assert_eq!((sent, failed, waiting), (2, 1, 1));
        assert_eq!(report.failures[0].instance.as_str(), "1.2.3.2");
        assert_eq!(queued(&filled(&context, &route).await), [""; 0]);
    }

    #[tokio::test]
    async fn what_has_failed_is_attempted_anew_on_request() {
        let (context, route) = begun().await;
        store(&context.archive, 0..3).await;
        let mut flow = filled(&context, &route).await;
        for attempt in [Attempt::Failed("A900H".into()), Attempt::Sent, Attempt::Failed("A900H".into())] {
            flow.settle(attempt).await.unwrap();
        }
        flow.save_progress().await.unwrap();
        let retry = async |title: &str| context.archive.retry_forwarding(&route.caller, title).await;
        assert!(matches!(retry("NOBODY").await, Err(Error::NotFound(_))));
        assert_eq!(retry("A").await.unwrap(), 2);
        assert_eq!(retry("A").await.unwrap(), 0, "they wait already");
        assert!(matches!(flow.lease.save().await, Err(LeaseEnd::Lost)), "the next lease finds them");
        let mut next = filled(&context, &route).await;
        assert_eq!(
            (next.lease.state.failed, next.lease.state.kept_failures, next.lease.state.sent),
            (0, 0, 1)
        );
        let mut again = queued(&next);
        again.sort_unstable();
        assert_eq!(again, ["1.2.3.0", "1.2.3.2"]);
        next.settle(Attempt::Sent).await.unwrap();
        next.settle(Attempt::Later("A700H".into())).await.unwrap();
        assert_eq!(next.queue.later[0].attempts, 1);
    }

    #[tokio::test]
    async fn attempts_end_after_a_time_and_not_before() {
        let (context, mut route) = begun().await;
        store(&context.archive, 0..3).await;
        let mut flow = filled(&context, &route).await;
        flow.unreachable("away").await.unwrap();
        assert_eq!((queued(&flow).len(), flow.lease.state.failed, flow.lease.state.waiting), (3, 0, 3));
        drop(flow);
        route.retry_millis = -1;
        let mut flow = filled(&context, &route).await;
        flow.settle(Attempt::Later("A700H".into())).await.unwrap();
        flow.unreachable("away").await.unwrap();
        assert_eq!((queued(&flow).len(), flow.queue.later.len(), flow.lease.state.failed), (0, 0, 3));
        assert_eq!(flow.lease.state.error.as_ref().unwrap().0, "away");
        let [report]: [ForwardReport; 1] =
            context.archive.forwarding(&route.caller).await.unwrap().try_into().unwrap();
        let mut errors: Vec<_> = report.failures.iter().map(|failed| failed.error.as_str()).collect();
        errors.sort_unstable();
        assert_eq!(errors, ["A700H", "away", "away"]);
        assert_eq!(queued(&filled(&context, &route).await), [""; 0]);
    }
}
