//! The chain of this process in the log of a tenant: records that wait are written together, each batch in
//! one transaction.

use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::audit::event::AuditEntry;
use crate::audit::keys;
use crate::audit::record::{AuditRecord, ChainBeginning, ChainHead, ChainLink};
use crate::audit::seal::{SealHash, Sealer};
use crate::clock::now_millis;
use crate::table::{self, Expect, Item, ItemKey, Range, Table, Write};

/// The most records of one transaction. Its other writes are the head, the tenant and marks of days.
const MAX_BATCH: usize = 48;
/// The most older chains that a new one names: the last to be written.
const MAX_LINKS: usize = 16;
/// The heads and marks that are read at a time.
const PAGE_ITEMS: usize = 500;

/// The parts that all chains share.
pub(super) struct ChainContext {
    pub(super) table: Arc<dyn Table>,
    pub(super) sealer: Sealer,
    /// The name of this server.
    pub(super) source: String,
}

/// The chain of a tenant.
pub(super) struct Chain {
    tenant: String,
    queue: Mutex<ChainQueue>,
    /// The head and its version; `None` if a new chain must begin.
    head: tokio::sync::Mutex<Option<(ChainHead, u64)>>,
}

#[derive(Default)]
struct ChainQueue {
    waiting: Vec<WaitingEntry>,
    /// Whether a task writes.
    is_running: bool,
}

struct WaitingEntry {
    entry: AuditEntry,
    written: oneshot::Sender<Written>,
}

impl Chain {
    pub(super) fn new(tenant: &str) -> Arc<Self> {
        Arc::new(Self {
            tenant: tenant.to_owned(),
            queue: Mutex::default(),
            head: tokio::sync::Mutex::default(),
        })
    }

    /// Writes a record of an entry. The record is durable when this returns `Ok`; it is written too if the
    /// future is dropped.
    ///
    /// # Errors
    /// The error of the transaction; `None` if the task of the transaction ended early.
    pub(super) async fn append(
        self: &Arc<Self>,
        context: &Arc<ChainContext>,
        entry: AuditEntry,
    ) -> Result<(), Option<Arc<table::Error>>> {
        let (written, done) = oneshot::channel();
        let must_start = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.waiting.push(WaitingEntry { entry: entry.bounded(), written });
            !std::mem::replace(&mut queue.is_running, true)
        };
        if must_start {
            let (chain, context) = (self.clone(), context.clone());
            tokio::spawn(async move { chain.run(context).await });
        }
        done.await.map_err(|_| None)?.map_err(Some)
    }

    /// Writes batches until no entry waits.
    async fn run(&self, context: Arc<ChainContext>) {
        /// Lets the next entry start a task, if this one panics. Entries that wait are answered: their
        /// senders are dropped.
        struct Stop<'a>(&'a Chain);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
                (queue.is_running, queue.waiting) = (false, Vec::new());
            }
        }
        let stop = Stop(self);
        loop {
            let batch = self.take();
            let (entries, senders): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.entry, waiting.written)).unzip();
            let outcome = self.write(&context, entries).await.map_err(Arc::new);
            let is_last = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.is_running = !queue.waiting.is_empty();
                !queue.is_running
            };
            if is_last {
                std::mem::forget(stop);
                // An archive that is closed after its last answer lets the table go.
                drop(context);
                return answer(senders, &outcome);
            }
            answer(senders, &outcome);
        }
    }

    /// Takes the entries of the next transaction.
    fn take(&self) -> Vec<WaitingEntry> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.waiting.len().min(MAX_BATCH);
        queue.waiting.drain(..count).collect()
    }

    /// Writes the records of entries in one transaction. After an error it is not known whether they were
    /// written, so that the next batch begins a new chain, which names the last record of this one.
    async fn write(&self, context: &ChainContext, entries: Vec<AuditEntry>) -> Result<(), table::Error> {
        let mut state = self.head.lock().await;
        if let Some((head, version)) = state.take() {
            let (writes, head) = self.writes(context, head, version, entries.clone());
            match context.table.transact(writes).await {
                Ok(()) => {
                    *state = Some((head, version + 1));
                    return Ok(());
                }
                // The chain was swept: nothing was written.
                Err(table::Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let head = begin(context, &self.tenant).await?;
        let (writes, head) = self.writes(context, head, 0, entries);
        context.table.transact(writes).await?;
        *state = Some((head, 1));
        Ok(())
    }

    /// The writes of entries after a head of a version (0: a new chain), and the head after them.
    fn writes(
        &self,
        context: &ChainContext,
        mut head: ChainHead,
        version: u64,
        entries: Vec<AuditEntry>,
    ) -> (Vec<Write>, ChainHead) {
        let mut writes = Vec::with_capacity(entries.len() + 4);
        if version == 0 {
            writes.push(Write::Put(empty(keys::tenant(&self.tenant)), Expect::Anything));
        }
        let mut last_day = (version > 0).then(|| keys::day(head.last_at));
        for entry in entries {
            let record = next_record(&head, &context.source, entry);
            let day = keys::day(record.time);
            if last_day.as_ref() != Some(&day) {
                writes.push(Write::Put(empty(keys::day_mark(&self.tenant, &day)), Expect::Anything));
                last_day = Some(day);
            }
            let (item, hash) = record.item(&context.sealer);
            (head.last, head.last_hash, head.last_at) = (record.number, hex(hash), record.time);
            writes.push(Write::Put(item, Expect::Absent));
        }
        let expect = if version == 0 { Expect::Absent } else { Expect::Version(version) };
        writes.push(Write::Put(head.item(&context.sealer, version + 1), expect));
        (writes, head)
    }
}

type Written = Result<(), Arc<table::Error>>;

fn answer(senders: Vec<oneshot::Sender<Written>>, outcome: &Written) {
    for sender in senders {
        // A request that has ended needs no answer.
        let _ = sender.send(outcome.clone());
    }
}

/// An item that is only a mark.
fn empty(key: ItemKey) -> Item {
    Item { key, version: 1, secondary: Vec::new(), body: Vec::new() }
}

/// The record of an entry that comes next in a chain.
fn next_record(head: &ChainHead, source: &str, entry: AuditEntry) -> AuditRecord {
    AuditRecord {
        chain: head.beginning.chain.clone(),
        number: head.last + 1,
        previous: head.last_hash.clone(),
        // The clock may have been set back.
        time: now_millis().max(head.last_at),
        tenant: head.beginning.tenant.clone(),
        source: source.to_owned(),
        entry,
    }
}

/// The head of a new chain, which names the last records of older ones.
async fn begin(context: &ChainContext, tenant: &str) -> Result<ChainHead, table::Error> {
    let mut links: Vec<ChainLink> = Vec::new();
    for item in heads(context.table.as_ref(), tenant).await? {
        // A head that was changed is found by a verification.
        let Ok(head) = ChainHead::of_item(&context.sealer, &item) else { continue };
        links.push(ChainLink {
            chain: head.beginning.chain,
            number: head.last,
            hash: head.last_hash,
            at: head.last_at,
        });
    }
    links.sort_by_key(|link| std::cmp::Reverse(link.at));
    links.truncate(MAX_LINKS);
    let started_at = now_millis();
    let beginning = ChainBeginning {
        tenant: tenant.to_owned(),
        chain: Uuid::new_v4().simple().to_string(),
        started_at,
        key_id: context.sealer.key_id().to_owned(),
        links,
    };
    let last_hash = hex(beginning.hash(&context.sealer));
    Ok(ChainHead { beginning, last: 0, last_hash, last_at: started_at })
}

/// The items of the heads of a tenant's chains.
pub(super) async fn heads(table: &dyn Table, tenant: &str) -> Result<Vec<Item>, table::Error> {
    with_prefix(table, keys::root(tenant), keys::HEAD_PREFIX).await
}

/// The items of a partition whose sort keys begin with a prefix.
pub(super) async fn with_prefix(
    table: &dyn Table,
    partition: String,
    prefix: &str,
) -> Result<Vec<Item>, table::Error> {
    let (from, to) = (Bound::Included(prefix.to_owned()), Bound::Included(format!("{prefix}~")));
    all(table, Range { index: None, partition, from, to, is_descending: false, limit: PAGE_ITEMS }).await
}

/// The items of a partition.
pub(super) async fn whole(table: &dyn Table, partition: String) -> Result<Vec<Item>, table::Error> {
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    all(table, Range { index: None, partition, from, to, is_descending: false, limit: PAGE_ITEMS }).await
}

async fn all(table: &dyn Table, mut range: Range) -> Result<Vec<Item>, table::Error> {
    let mut items = Vec::new();
    loop {
        let page = table.range(&range).await?;
        let last = page.items.last().map(|(sort, _)| sort.clone());
        items.extend(page.items.into_iter().map(|(_, item)| item));
        match last {
            Some(last) if page.has_more => range.from = Bound::Excluded(last),
            _ => return Ok(items),
        }
    }
}

/// A hash as text.
pub(super) fn hex(hash: SealHash) -> String {
    hash.to_hex().to_string()
}
