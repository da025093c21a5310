//! One association on which instances are forwarded.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::archive::forwarding::UnsentInstance;
use crate::archive::lease::LeaseEnd;
use crate::archive::scope::Scope;
use crate::budget::Grant;
use crate::dimse::forward::flow::{Attempt, Flow, RoundEnd};
use crate::dimse::requestor::{ConnectError, Requestor, Target};
use crate::dimse::retrieve::audited::AuditedTransfer;
use crate::dimse::retrieve::proposed_contexts;
use crate::dimse::retrieve::retrieval::{Link, OpenedInstance, OpenedInstances, opened};
use crate::dimse::status;
use crate::telemetry;

/// The numbers of instances of an association.
#[derive(Default)]
struct Numbers {
    sent: u64,
    not_sent: u64,
}

impl Flow<'_> {
    /// Sends the first instances of the queue on an association.
    pub(super) async fn send_on_association(&mut self) -> Result<RoundEnd, LeaseEnd> {
        let (count, kinds) = self.queue.next_association();
        let (mut requestor, _place) = match self.connect(&kinds).await? {
            Ok(connected) => connected,
            Err(error) => {
                self.unreachable(&error.to_string()).await?;
                return Ok(RoundEnd::Unreachable(false));
            }
        };
        let (archive, caller) = (self.context.archive.clone(), self.route.caller.clone());
        let queued = || self.queue.instances.iter().take(count).map(|queued| &queued.unsent);
        let studies = queued().map(|unsent| unsent.study.clone()).collect();
        let scope = |unsent: &UnsentInstance| Scope {
            study: unsent.study.clone(),
            series: Some(unsent.series.clone()),
            instance: Some(unsent.instance.clone()),
        };
        let scopes = queued().map(scope).collect();
        let title = Some(self.route.title.as_str());
        let mut transfer = AuditedTransfer::begin(&archive, &caller, studies, title).await?;
        let lost = CancellationToken::new();
        let contexts = requestor.contexts.clone().into();
        let mut instances = opened(archive.clone(), caller.clone(), contexts, scopes, lost.clone());
        let mut numbers = Numbers::default();
        let ended = self.send_all(&mut requestor, &mut instances, count, (&mut transfer, &mut numbers)).await;
        // The objects that were opened ahead.
        lost.cancel();
        drop(instances);
        transfer.end(&archive, &caller).await;
        let Numbers { sent, not_sent } = numbers;
        info!(dimse.destination = title, sent, not_sent, "forwarded");
        match ended? {
            None => {
                requestor.release().await;
                self.save_progress().await?;
                Ok(RoundEnd::Empty)
            }
            Some(error) => {
                self.unreachable(&error).await?;
                Ok(RoundEnd::Unreachable(sent > 0))
            }
        }
    }

    /// Requests an association, when there is a place for one.
    async fn connect(
        &mut self,
        kinds: &BTreeSet<(String, String)>,
    ) -> Result<Result<(Requestor, Grant), ConnectError>, LeaseEnd> {
        let (context, route) = (self.context, self.route);
        let settings = &context.settings;
        let connecting = async {
            let place = context.outgoing.take(&route.title, 1).await;
            let target =
                Target { address: &route.address, called: &route.title, calling: settings.ae_title.trim() };
            let requestor = Requestor::connect(target, &proposed_contexts(kinds), false, settings).await?;
            Ok((requestor, place))
        };
        self.lease.during(connecting).await
    }

    /// Sends instances, which are the first `count` of the queue without those that were deleted. Returns the
    /// cause if the association was lost.
    async fn send_all(
        &mut self,
        requestor: &mut Requestor,
        instances: &mut OpenedInstances,
        count: usize,
        (transfer, numbers): (&mut AuditedTransfer, &mut Numbers),
    ) -> Result<Option<String>, LeaseEnd> {
        let end = self.queue.instances.len().saturating_sub(count);
        while let Some(opened) = self.lease.during(instances.try_next()).await?? {
            let is_before = |flow: &Self| {
                let front = flow.queue.instances.front();
                front.is_some_and(|front| front.unsent.instance != opened.record.instance)
            };
            while self.queue.instances.len() > end && is_before(self) {
                self.settle(Attempt::Gone).await?;
            }
            let study = opened.record.study.clone();
            let (attempt, is_lost) = self.attempt(requestor, opened).await?;
            if attempt != Attempt::Gone {
                let is_sent = attempt == Attempt::Sent;
                transfer.add(&study, is_sent);
                *if is_sent { &mut numbers.sent } else { &mut numbers.not_sent } += 1;
            }
            let lost = match &attempt {
                Attempt::Later(error) if is_lost => Some(error.clone()),
                _ => None,
            };
            self.settle(attempt).await?;
            if lost.is_some() {
                return Ok(lost);
            }
            self.lease.save_sometimes().await?;
        }
        while self.queue.instances.len() > end {
            self.settle(Attempt::Gone).await?;
        }
        Ok(None)
    }

    /// Sends an instance. Returns whether the association was lost, too.
    async fn attempt(
        &mut self,
        requestor: &mut Requestor,
        instance: OpenedInstance,
    ) -> Result<(Attempt, bool), LeaseEnd> {
        let OpenedInstance { record, opened } = instance;
        // The instance may have been replaced meanwhile.
        let Some(priority) = self.route.choose(&record) else { return Ok((Attempt::Gone, false)) };
        let (context, bytes) = match opened {
            Some(Ok(opened)) => opened,
            Some(Err(error)) if error.is_about_form() => {
                return Ok((Attempt::Failed(telemetry::chain(&error)), false));
            }
            Some(Err(error)) => return Ok((Attempt::Later(telemetry::chain(&error)), false)),
            // Only after the association was lost.
            None => return Ok((Attempt::Later("the association was lost".into()), true)),
        };
        let max_pdu_bytes = requestor.peer_max_pdu_bytes;
        let link = Link { max_pdu_bytes, context, originator: None, priority };
        let sent = self.lease.during(link.send(&record, bytes, requestor)).await?;
        Ok(match sent {
            Ok(code) => (of_status(code), false),
            Err(interruption) => (Attempt::Later(interruption.to_string()), true),
        })
    }
}

/// The outcome by the status of a C-STORE response.
fn of_status(code: u16) -> Attempt {
    let text = || format!("the destination responded {code:04X}H");
    match status::is_success(code) {
        (true, _) | (_, true) => Attempt::Sent,
        _ if status::is_transient(code) => Attempt::Later(text()),
        _ => Attempt::Failed(text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_whether_another_attempt_may_succeed() {
        for (code, expected) in [
            (0x0000, "sent"),
            (0xB000, "sent"),
            (0xB007, "sent"),
            (0x0001, "sent"),
            (0xA700, "later"),
            (0xA7FF, "later"),
            (0x0110, "later"),
            (0x0122, "failed"),
            (0x0124, "failed"),
            (0xA900, "failed"),
            (0xC000, "failed"),
            (0xFE00, "failed"),
        ] {
            let found = match of_status(code) {
                Attempt::Sent => "sent",
                Attempt::Gone => "gone",
                Attempt::Later(_) => "later",
                Attempt::Failed(_) => "failed",
            };
            assert_eq!(found, expected, "{code:04X}");
        }
    }
}
