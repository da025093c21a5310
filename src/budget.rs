//! Budgets: amounts that all clients share, and of which one client gets no more than its share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The number of known clients from which those without a grant are forgotten.
const MANY_CLIENTS: usize = 64;

/// An amount of places or of memory, for all clients together.
///
/// A client is whatever the caller names: an address, or a tenant. Clients that wait are served first come,
/// first served.
pub struct Budget {
    /// The size of a unit: grants are in whole units.
    unit: usize,
    /// The units for all clients.
    total: usize,
    /// The units for one client.
    share: usize,
    all: Arc<Semaphore>,
    of_clients: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A part of a budget, until it is dropped.
#[derive(Debug)]
pub struct Grant {
    unit: usize,
    of_client: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of places, of which one client gets at most `share`; 0 stands for half of them.
    pub fn of_places(total: usize, share: usize) -> Self {
        Self::in_units(1, total, share)
    }

    /// A budget of bytes, of which one client gets at most half.
    pub fn of_bytes(total: usize) -> Self {
        Self::in_units(1024, total, 0)
    }

    fn in_units(unit: usize, total: usize, share: usize) -> Self {
        let total = total.div_ceil(unit).clamp(1, Semaphore::MAX_PERMITS);
        let share = share_of(total, share.div_ceil(unit));
        Self { unit, total, share, all: Arc::new(Semaphore::new(total)), of_clients: Mutex::default() }
    }

    /// Waits for a grant. An amount larger than the client's share takes all of the share, and one larger
    /// than the budget all of the budget, so that each amount can be granted to a client that waits.
    pub async fn take(&self, client: &str, amount: usize) -> Grant {
        let (of_client, of_all) = self.units(amount);
        let of_client = acquire(self.of_client(client), of_client).await;
        let of_all = acquire(self.all.clone(), of_all).await;
        Grant { unit: self.unit, of_client, of_all }
    }

    /// A grant without a wait; `None` if the client's share or the budget is used up.
    pub fn try_take(&self, client: &str, amount: usize) -> Option<Grant> {
        let (of_client, of_all) = self.units(amount);
        let of_client = self.of_client(client).try_acquire_many_owned(of_client).ok()?;
        let of_all = self.all.clone().try_acquire_many_owned(of_all).ok()?;
        Some(Grant { unit: self.unit, of_client, of_all })
    }

    fn units(&self, amount: usize) -> (u32, u32) {
        let units = amount.div_ceil(self.unit);
        let limited = |limit: usize| u32::try_from(units.min(limit)).unwrap_or(u32::MAX);
        (limited(self.share), limited(self.total))
    }

    fn of_client(&self, client: &str) -> Arc<Semaphore> {
        let mut clients = self.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MANY_CLIENTS {
            // Grants and waiting clients hold the semaphore.
            clients.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        match clients.get(client) {
            Some(semaphore) => semaphore.clone(),
            None => clients.entry(client.to_owned()).or_insert(Arc::new(Semaphore::new(self.share))).clone(),
        }
    }
}

/// The share of one client in a total: the setting, where 0 stands for half.
pub fn share_of(total: usize, setting: usize) -> usize {
    if setting == 0 { total.div_ceil(2) } else { setting.min(total) }
}

async fn acquire(semaphore: Arc<Semaphore>, units: u32) -> OwnedSemaphorePermit {
    semaphore.acquire_many_owned(units).await.expect("the semaphore is never closed")
}

impl Grant {
    /// Gives back what is more than `amount`.
    pub fn shrink_to(&mut self, amount: usize) {
        let units = amount.div_ceil(self.unit);
        for permit in [&mut self.of_client, &mut self.of_all] {
            // Dropping the rest gives it back.
            drop(permit.split(permit.num_permits().saturating_sub(units)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn no_client_gets_more_than_its_share_and_all_no_more_than_the_total() {
        let budget = Budget::of_places(5, 2);
        let take = |client| budget.try_take(client, 1);
        let _a = [take("a").unwrap(), take("a").unwrap()];
        assert!(take("a").is_none());
        let b = [take("b").unwrap(), take("b").unwrap()];
        let _c = take("c").unwrap();
        assert!(take("c").is_none(), "five places are in use");
        drop(b);
        assert!(take("c").is_some());
        assert!(take("a").is_none());
    }

    #[test]
    fn half_is_the_default_share() {
        for (total, half) in [(1, 1), (2, 1), (5, 3), (64, 32)] {
            let budget = Budget::of_places(total, 0);
            let grants: Vec<_> = std::iter::from_fn(|| budget.try_take("a", 1)).collect();
            assert_eq!(grants.len(), half, "{total}");
        }
    }

    #[test]
    fn an_amount_beyond_the_share_takes_all_of_the_share() {
        let budget = Budget::of_bytes(1 << 20);
        let mut large = budget.try_take("a", 1 << 30).unwrap();
        assert!(budget.try_take("b", 1).is_none());
        large.shrink_to(1000);
        assert!(budget.try_take("a", (1 << 19) - 2048).is_some());
        assert!(budget.try_take("b", 1 << 19).is_some());
        drop(large);
    }

    #[tokio::test]
    async fn a_client_that_waits_is_served_when_a_grant_is_given_back() {
        let budget = Budget::of_places(2, 1);
        let first = budget.take("a", 1).await;
        assert!(timeout(Duration::from_millis(20), budget.take("a", 1)).await.is_err());
        drop(budget.take("b", 1).await);
        drop(first);
        budget.take("a", 1).await;
    }

    #[test]
    fn clients_without_a_grant_take_no_memory() {
        let budget = Budget::of_places(10, 0);
        let held = budget.try_take("held", 1);
        for number in 0..10 * MANY_CLIENTS {
            drop(budget.try_take(&number.to_string(), 1));
        }
        let clients = budget.of_clients.lock().unwrap();
        assert!(clients.len() <= MANY_CLIENTS && clients.contains_key("held"));
        drop(held);
    }
}
