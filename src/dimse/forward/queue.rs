//! The instances that are to be sent to a destination next: those that are due again, then a page of the
//! feed of changes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tracing::warn;

use crate::archive::Error;
use crate::archive::changes::{ChangeKind, FeedCursor, FeedPage, FeedRead};
use crate::archive::forwarding::{ForwardLease, MAX_LATER, UnsentInstance};
use crate::clock::{has_come, now_millis};
use crate::dimse::forward::context::{ForwardContext, RETRY};
use crate::dimse::forward::route::ForwardRoute;

/// The entries of the feed that are read at a time.
const PAGE_ENTRIES: usize = 100;
/// The most instances that are tried again before a page of the feed.
const MAX_DUE: usize = 100;
/// The instances that are looked up at a time.
const LOOK_UPS: usize = 8;
/// The most SOP classes and transfer syntaxes of an association: each has at most two presentation contexts.
const MAX_KINDS: usize = 60;

/// An instance that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct QueuedInstance {
    pub(super) unsent: UnsentInstance,
    /// The SOP class, and the transfer syntax in which the instance is stored.
    pub(super) kind: (String, String),
    /// The place in the feed after the entry of the instance; `None` for one that is tried again.
    pub(super) after: Option<Arc<str>>,
}

/// The instances that are to be sent.
#[derive(Default)]
pub(super) struct ForwardQueue {
    pub(super) instances: VecDeque<QueuedInstance>,
    /// The place in the feed after all of them.
    pub(super) end: Option<String>,
    /// Instances whose attempts failed, and that are tried again, also those of `instances`.
    pub(super) later: Vec<UnsentInstance>,
    /// Whether the feed goes on.
    pub(super) has_more: bool,
}

impl ForwardQueue {
    /// The number of instances that wait, and the time at which the first of them was stored.
    pub(super) fn waiting(&self) -> (u64, Option<i64>) {
        let new = self.instances.iter().filter(|queued| queued.after.is_some()).map(|queued| &queued.unsent);
        let all = || new.clone().chain(&self.later);
        (all().count() as u64, all().map(|unsent| unsent.since).min())
    }

    /// The number of the first instances whose presentation contexts fit into one association, and the kinds
    /// of these instances.
    pub(super) fn next_association(&self) -> (usize, BTreeSet<(String, String)>) {
        let mut kinds = BTreeSet::new();
        for (count, queued) in self.instances.iter().enumerate() {
            if kinds.len() == MAX_KINDS && !kinds.contains(&queued.kind) {
                return (count, kinds);
            }
            kinds.insert(queued.kind.clone());
        }
        (self.instances.len(), kinds)
    }

    /// Fills the queue when it is empty.
    pub(super) async fn fill(
        &mut self,
        context: &ForwardContext,
        route: &ForwardRoute,
        lease: &mut ForwardLease,
    ) -> Result<(), Error> {
        self.add_due(context, route, lease).await?;
        self.has_more = false;
        if self.later.len() >= MAX_LATER {
            // The destination refuses too much: the rest waits in the feed.
            return Ok(());
        }
        let cursor = lease.cursor();
        let (page, mut place) = read_page(context, route, cursor).await?;
        if let Some(place) = &mut place {
            place.join(&page.next);
        }
        let mut found = Vec::new();
        for entry in page.entries {
            // A text that is no place makes a process that comes later begin with the oldest entry again.
            let after = place.as_mut().map_or_else(String::new, |place| {
                place.advance(entry.position);
                place.to_string()
            });
            let after: Arc<str> = after.into();
            for change in entry.changes {
                if !matches!(change.kind, ChangeKind::Stored | ChangeKind::Replaced) {
                    continue;
                }
                let (study, series) = (change.study, change.series);
                found.extend(change.instances.into_iter().map(|instance| {
                    let (study, series) = (study.clone(), series.clone());
                    (UnsentInstance::new(study, series, instance, entry.at), Some(after.clone()))
                }));
            }
        }
        let queued = matching(context, route, found).await?;
        self.instances.extend(queued.into_iter().filter_map(|(_, queued)| queued));
        self.end = Some(page.next.to_string());
        self.has_more = page.has_more;
        Ok(())
    }

    /// Adds the instances that are due again. Those that are deleted, or that no rule matches any more, are
    /// not tried again.
    async fn add_due(
        &mut self,
        context: &ForwardContext,
        route: &ForwardRoute,
        lease: &mut ForwardLease,
    ) -> Result<(), Error> {
        let now = now_millis();
        let is_due = |unsent: &&UnsentInstance| has_come(unsent.at, now, RETRY.limit(u32::MAX));
        let due: Vec<_> = self.later.iter().filter(is_due).take(MAX_DUE).cloned().collect();
        let due = due.into_iter().map(|unsent| (unsent, None)).collect();
        for (unsent, queued) in matching(context, route, due).await? {
            match queued {
                Some(queued) => self.instances.push_back(queued),
                None => {
                    lease.forget_later(&unsent).await?;
                    self.later.retain(|later| later.instance != unsent.instance);
                }
            }
        }
        Ok(())
    }
}

/// Reads a page of the feed after a place. Returns the place too; `None` if changes after the place are gone,
/// so that the page begins with the oldest entry.
async fn read_page(
    context: &ForwardContext,
    route: &ForwardRoute,
    cursor: Option<FeedCursor>,
) -> Result<(FeedPage, Option<FeedCursor>), Error> {
    let (archive, caller) = (&context.archive, &route.caller);
    match archive.changes(caller, cursor.as_ref(), PAGE_ENTRIES).await? {
        FeedRead::Page(page) => Ok((page, cursor)),
        FeedRead::Expired => {
            warn!(
                dimse.destination = route.title,
                "changes were deleted before they were forwarded (changes.retention_days), or the index was built again: \
                 some instances may not be forwarded"
            );
            match archive.changes(caller, None, PAGE_ENTRIES).await? {
                FeedRead::Page(page) => Ok((page, None)),
                FeedRead::Expired => Err(Error::NotReady("the feed of changes cannot be read".into())),
            }
        }
    }
}

type Candidate = (UnsentInstance, Option<Arc<str>>);

/// The instances with what is needed to send them; without it those that are deleted or match no rule.
async fn matching(
    context: &ForwardContext,
    route: &ForwardRoute,
    candidates: Vec<Candidate>,
) -> Result<Vec<(UnsentInstance, Option<QueuedInstance>)>, Error> {
    let look_up = |(unsent, after): Candidate| async move {
        let record = context.find(&route.caller, &unsent).await?;
        let record = record.filter(|record| route.choose(record).is_some());
        let queued = record.map(|record| {
            let kind = (record.sop_class, record.transfer_syntax);
            QueuedInstance { unsent: unsent.clone(), kind, after }
        });
        Ok((unsent, queued))
    };
    stream::iter(candidates).map(look_up).buffered(LOOK_UPS).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dimse::requestor::MAX_CONTEXTS;

    fn queued(number: usize, class: usize) -> QueuedInstance {
        let (study, series) = ("1.2".parse().unwrap(), "1.3".parse().unwrap());
        let unsent = UnsentInstance::new(study, series, format!("1.4.{number}").parse().unwrap(), 100);
        let kind = (format!("1.5.{class}"), "1.6".to_owned());
        QueuedInstance { unsent, kind, after: Some("1-0.1".into()) }
    }

    #[test]
    fn an_association_has_no_more_kinds_of_instances_than_presentation_contexts() {
        let of = |classes: &[usize]| ForwardQueue {
            instances: classes.iter().enumerate().map(|(number, class)| queued(number, *class)).collect(),
            ..ForwardQueue::default()
        };
        let (count, kinds) = of(&[1, 1, 2, 1]).next_association();
        assert_eq!((count, kinds.len()), (4, 2));
        let mut classes: Vec<usize> = (0..MAX_KINDS).collect();
        classes.extend([3, 4, MAX_KINDS, 5]);
        let (count, kinds) = of(&classes).next_association();
        assert_eq!((count, kinds.len()), (MAX_KINDS + 2, MAX_KINDS));
        const { assert!(2 * MAX_KINDS <= MAX_CONTEXTS) };
    }

    #[test]
    fn an_instance_that_is_tried_again_waits_once() {
        let mut queue = ForwardQueue::default();
        assert_eq!(queue.waiting(), (0, None));
        let again = queued(1, 1);
        queue.later.push(UnsentInstance { since: 50, ..again.unsent.clone() });
        queue.instances.extend([QueuedInstance { after: None, ..again }, queued(2, 1)]);
        assert_eq!(queue.waiting(), (2, Some(50)));
    }
}
