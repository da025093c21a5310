//! Limits on what tenants store (docs/usage.md).
//!
//! A process holds for each tenant with a plan the amount that is stored, as it was read from the index a few
//! seconds ago, and adds what it stores itself. Before an instance is refused, the amount is read again, so
//! that what another process has deleted makes room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::archive::access::{Caller, Tenant};
use crate::archive::keyed_lock::KeyedLock;
use crate::archive::usage::Amount;
use crate::archive::{Archive, Error};
use crate::config::{Plan, QuotasSettings};
use crate::dicom::uid::StudyUid;
use crate::telemetry;

/// The age from which an amount is read again before an instance is refused.
const MAX_AGE_OF_REFUSAL: Duration = Duration::from_secs(1);
/// The time between two lines of the log about the use of one plan.
const LOG_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The plans of tenants, and the amounts that they have stored.
pub(in crate::archive) struct Quotas {
    settings: QuotasSettings,
    held: Mutex<HashMap<Tenant, HeldAmount>>,
    /// Held while the amount of a tenant is read: a second read would forget what was reserved after the
    /// first.
    reads: KeyedLock<Tenant>,
    /// Whether the log has a line about a tenant whose amount is not counted.
    has_logged_uncounted: AtomicBool,
}

/// The amount of a tenant, as far as this process has it.
struct HeldAmount {
    read_at: Instant,
    /// A number that each read increases.
    reading: u64,
    amount: Amount,
    /// The studies that instances were to be stored in since the read, and whether they are new.
    studies: HashMap<StudyUid, bool>,
    logged_at: Option<Instant>,
}

/// Room for an instance that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::archive) enum Room {
    /// The tenant has no limit, or what it stores is not counted.
    Unlimited,
    /// There is room, which is reserved.
    Reserved {
        /// The bytes.
        bytes: u64,
        /// The reading of the amount that they were added to.
        reading: u64,
    },
    /// There is none, for this reason.
    Full(String),
}

/// The use of a limit.
struct LimitUse {
    name: &'static str,
    used: u64,
    limit: u64,
}

impl Quotas {
    pub(in crate::archive) fn new(settings: &QuotasSettings) -> Self {
        Self {
            settings: settings.clone(),
            held: Mutex::default(),
            reads: KeyedLock::default(),
            has_logged_uncounted: AtomicBool::new(false),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Tenant, HeldAmount>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the amount of a tenant, which has become less.
    pub(in crate::archive) fn forget(&self, tenant: &Tenant) {
        self.held().remove(tenant);
    }

    /// Gives back the room of an instance that was not stored.
    pub(in crate::archive) fn give_back(&self, tenant: &Tenant, room: &Room) {
        let Room::Reserved { bytes, reading } = room else { return };
        if let Some(held) = self.held().get_mut(tenant).filter(|held| held.reading == *reading) {
            held.amount.subtract(Amount { studies: 0, instances: 1, bytes: *bytes });
        }
    }

    fn log_uncounted(&self, tenant: &Tenant) {
        if !self.has_logged_uncounted.swap(true, Ordering::Relaxed) {
            let tenant = tenant.as_str();
            warn!(tenant, "no limits for what is not counted: run `cuspid check --repair`");
        }
    }

    /// Whether the amount was read in the last `age`.
    fn is_fresh(&self, tenant: &Tenant, age: Duration) -> bool {
        self.held().get(tenant).is_some_and(|held| held.read_at.elapsed() < age)
    }

    /// Takes over an amount that was read. What is being stored now is not in it: so much may be stored
    /// beyond a limit.
    fn set(&self, tenant: &Tenant, amount: Amount) {
        let mut held = self.held();
        let before = held.get(tenant);
        let (reading, logged_at) =
            (before.map_or(1, |held| held.reading + 1), before.and_then(|held| held.logged_at));
        let studies = HashMap::new();
        held.insert(
            tenant.clone(),
            HeldAmount { read_at: Instant::now(), reading, amount, studies, logged_at },
        );
    }

    /// Whether a study is new, if that was found out since the last read.
    fn is_new_study(&self, tenant: &Tenant, study: &StudyUid) -> Option<bool> {
        self.held().get(tenant)?.studies.get(study).copied()
    }

    /// Reserves room for an instance. `is_new_study`: there was no instance of the study a moment ago.
    fn reserve(
        &self,
        tenant: &Tenant,
        plan: &Plan,
        study: &StudyUid,
        is_new_study: bool,
        bytes: u64,
    ) -> Room {
        let mut held = self.held();
        // Forgotten meanwhile: the next instance reads the amount.
        let Some(held) = held.get_mut(tenant) else { return Room::Unlimited };
        let is_counted = held.studies.contains_key(study);
        let mut after = held.amount;
        after.add(Amount { studies: u64::from(is_new_study && !is_counted), instances: 1, bytes });
        // In a study that is there, the number of studies is no reason.
        let is_full =
            |limit: &LimitUse| limit.used > limit.limit && (limit.name != "studies" || is_new_study);
        if let Some(LimitUse { name, limit, .. }) = uses(plan, after).find(is_full) {
            return Room::Full(format!("the plan's limit of {limit} {name} is reached"));
        }
        held.amount = after;
        if plan.studies.is_some() {
            held.studies.insert(study.clone(), is_new_study);
        }
        Room::Reserved { bytes, reading: held.reading }
    }

    /// A text for people if a plan is almost used up.
    fn notice(&self, tenant: &Tenant, plan: &Plan) -> Option<String> {
        let mut held = self.held();
        let held = held.get_mut(tenant)?;
        let share = |limit: &LimitUse| percent(limit.used, limit.limit);
        let most = uses(plan, held.amount)
            .max_by_key(share)
            .filter(|most| share(most) >= self.settings.warn_percent)?;
        let LimitUse { name, used, limit } = most;
        let text = format!(
            "{used} of {limit} {name} of the plan {} are used ({} %)",
            plan.name,
            percent(used, limit)
        );
        if held.logged_at.is_none_or(|at| at.elapsed() > LOG_INTERVAL) {
            held.logged_at = Some(Instant::now());
            warn!(tenant = tenant.as_str(), "{text}");
        }
        Some(text)
    }
}

/// The use of each limit of a plan.
fn uses(plan: &Plan, amount: Amount) -> impl Iterator<Item = LimitUse> {
    let Amount { studies, instances, bytes } = amount;
    let limits = [
        ("bytes", bytes, plan.bytes),
        ("studies", studies, plan.studies),
        ("instances", instances, plan.instances),
    ];
    limits.into_iter().filter_map(|(name, used, limit)| Some(LimitUse { name, used, limit: limit? }))
}

/// The use of a limit in percent, rounded down.
fn percent(used: u64, limit: u64) -> u64 {
    let percent = u128::from(used) * 100 / u128::from(limit.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

impl Archive {
    /// Reserves room for an instance that is to be stored. What is not stored must be given back.
    pub(in crate::archive) async fn reserve_room(
        &self,
        tenant: &Tenant,
        study: &StudyUid,
        bytes: u64,
    ) -> Result<Room, Error> {
        let Some(plan) = self.quotas.settings.plan_of(tenant) else { return Ok(Room::Unlimited) };
        let refresh = Duration::from_secs(self.quotas.settings.refresh_seconds);
        let mut room = Room::Unlimited;
        for age in [refresh, MAX_AGE_OF_REFUSAL.min(refresh)] {
            if !self.has_amount(tenant, age).await? {
                return Ok(Room::Unlimited);
            }
            let is_new_study = match self.quotas.is_new_study(tenant, study) {
                Some(is_new) => is_new,
                None if plan.studies.is_none() => false,
                None => self.index.study(tenant.as_str(), study).await?.is_none(),
            };
            room = self.quotas.reserve(tenant, plan, study, is_new_study, bytes);
            if !matches!(room, Room::Full(_)) {
                return Ok(room);
            }
        }
        telemetry::quota_refused();
        Ok(room)
    }

    /// Reads the amount of a tenant, unless it was read in the last `age`. Returns whether the amount is
    /// counted.
    async fn has_amount(&self, tenant: &Tenant, age: Duration) -> Result<bool, Error> {
        if self.quotas.is_fresh(tenant, age) {
            return Ok(true);
        }
        let _read = self.quotas.reads.lock(tenant.clone()).await;
        // Another instance may have waited for the same.
        if self.quotas.is_fresh(tenant, age) {
            return Ok(true);
        }
        match self.index.stored_amount(tenant.as_str()).await? {
            Some(amount) => {
                self.quotas.set(tenant, amount);
                Ok(true)
            }
            None => {
                self.quotas.log_uncounted(tenant);
                Ok(false)
            }
        }
    }

    /// A text for the caller if the plan of its tenant is almost used up; `None` before anything was stored
    /// by this process.
    pub fn quota_notice(&self, caller: &Caller) -> Option<String> {
        let plan = self.quotas.settings.plan_of(&caller.tenant)?;
        self.quotas.notice(&caller.tenant, plan)
    }

    /// The plan of the caller's tenant, if it has one.
    pub fn plan(&self, caller: &Caller) -> Option<&Plan> {
        self.quotas.settings.plan_of(&caller.tenant)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::ingest::Refusal;
    use crate::archive::maintenance::delete::delete;
    use crate::archive::scope::Scope;
    use crate::archive::testing;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::Config;
    use crate::index::Index;
    use crate::table::redb::Redb;

    /// Servers over one index, with a limit of three instances.
    fn servers(number: usize) -> Vec<Arc<Archive>> {
        let mut config = Config::defaults();
        config.quotas.plans = vec!["small instances=3".to_owned().try_into().unwrap()];
        config.quotas.tenants = vec!["*=small".to_owned().try_into().unwrap()];
        config.quotas.refresh_seconds = 3600;
        let (blobs, table) = (Arc::new(MemoryBlobs::new()), Arc::new(Redb::in_memory().unwrap()));
        let index = || Arc::new(Index::new(table.clone()));
        (0..number).map(|_| Archive::new(blobs.clone(), index(), &config)).collect()
    }

    /// Whether an instance is stored; false if the limit refuses it.
    async fn store(archive: &Arc<Archive>, number: usize) -> bool {
        match testing::store(archive, testing::numbered(number)).await {
            Ok(_) => true,
            Err(Refusal::Quota(_)) => false,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }

    async fn remove(archive: &Arc<Archive>, number: usize) {
        let instance = Some(format!("1.2.3.{number}").parse().unwrap());
        let scope = Scope { study: "1.2".parse().unwrap(), series: Some("1.2.3".parse().unwrap()), instance };
        delete(archive, &Caller::anonymous(), scope).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_sent_again_takes_no_room_and_what_is_deleted_gives_it_back() {
        let archive = servers(1).remove(0);
        assert_eq!(archive.quota_notice(&Caller::anonymous()), None);
        for number in [1, 1, 1, 2, 2, 3, 1] {
            assert!(store(&archive, number).await, "{number}");
        }
        let notice = archive.quota_notice(&Caller::anonymous()).unwrap();
        assert_eq!(notice, "3 of 3 instances of the plan small are used (100 %)");
        assert!(!store(&archive, 4).await && store(&archive, 1).await);
        remove(&archive, 2).await;
        assert!(store(&archive, 4).await);
        assert!(!store(&archive, 2).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_server_passes_the_limit_until_it_reads_the_amount_again() {
        let servers = servers(2);
        assert!(store(&servers[0], 1).await && store(&servers[1], 2).await);
        // By the amount that this server has read, there is room for both.
        assert!(store(&servers[0], 3).await && store(&servers[0], 4).await);
        let age = |server: &Arc<Archive>| {
            let mut held = server.quotas.held();
            held.values_mut().for_each(|held| held.read_at -= MAX_AGE_OF_REFUSAL);
        };
        assert!(!store(&servers[0], 5).await && store(&servers[1], 5).await);
        servers.iter().for_each(age);
        assert!(!store(&servers[0], 6).await && !store(&servers[1], 6).await);
        // What one deletes is room for the other.
        for number in [1, 2, 3] {
            remove(&servers[0], number).await;
        }
        servers.iter().for_each(age);
        assert!(store(&servers[1], 6).await);
    }
}
