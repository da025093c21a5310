//! Budgets: amounts that all clients share fairly, and of which one client gets no more than its share.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The client of background work, which is served only while no other client waits.
pub const BACKGROUND: &str = "";

/// An amount of places or of memory, for all clients together.
///
/// A client is whatever the caller names: an address, or a tenant. Clients that wait are served in turn, so
/// that a client with many requests delays another by one of them at most. The requests of one client are
/// served first come, first served. Clones are of the same budget.
#[derive(Clone)]
pub struct Budget {
    ledger: Arc<Ledger>,
}

/// A part of a budget, until it is dropped.
#[derive(Debug)]
pub struct Grant {
    ledger: Arc<Ledger>,
    client: Arc<str>,
    units: Units,
}

/// The limits of a budget, and the grants of it.
#[derive(Debug)]
struct Ledger {
    /// The size of a unit: grants are in whole units.
    unit: usize,
    /// The units for all clients.
    total: usize,
    /// The units for one client.
    share: usize,
    state: Mutex<LedgerState>,
}

#[derive(Debug, Default)]
struct LedgerState {
    /// Units in use, of clients that use any.
    used: HashMap<Arc<str>, usize>,
    total_used: usize,
    /// Clients that wait, in the order in which they are served.
    waiting: VecDeque<(Arc<str>, VecDeque<GrantRequest>)>,
    next_id: u64,
}

/// The units of a grant, as they count for its client, and for all clients.
#[derive(Debug, Clone, Copy)]
struct Units {
    of_client: usize,
    of_all: usize,
}

#[derive(Debug)]
struct GrantRequest {
    id: u64,
    units: Units,
    sender: oneshot::Sender<Grant>,
}

/// A request in the queue. Dropping it takes the request out of the queue.
struct QueuedRequest<'a> {
    ledger: &'a Arc<Ledger>,
    client: &'a str,
    id: u64,
}

impl Budget {
    /// A budget of places, of which one client gets at most `share`; 0 stands for half of them.
    pub fn of_places(total: usize, share: usize) -> Self {
        Self::in_units(1, total, share)
    }

    /// A budget of places that has a share for each client, and no limit for all clients together.
    pub fn of_places_each(share: usize) -> Self {
        Self::in_units(1, usize::MAX, share)
    }

    /// A budget of bytes, of which one client gets at most half.
    pub fn of_bytes(total: usize) -> Self {
        Self::in_units(1024, total, 0)
    }

    /// A budget of bytes, of which one client gets at most `share`.
    pub fn of_bytes_with_share(total: usize, share: usize) -> Self {
        Self::in_units(1024, total, share)
    }

    fn in_units(unit: usize, total: usize, share: usize) -> Self {
        let total = total.div_ceil(unit).max(1);
        let share = share_of(total, share.div_ceil(unit));
        Self { ledger: Arc::new(Ledger { unit, total, share, state: Mutex::default() }) }
    }

    /// Waits for a grant. An amount larger than the client's share takes all of the share, and one larger
    /// than the budget all of the budget, so that each amount can be granted to a client that waits.
    ///
    /// Dropping the future takes the request out of the queue.
    pub async fn take(&self, client: &str, amount: usize) -> Grant {
        if let Some(grant) = self.try_take(client, amount) {
            return grant;
        }
        let (sender, receiver) = oneshot::channel();
        let id = self.ledger.enqueue(client, self.ledger.units(amount), sender);
        let queued = QueuedRequest { ledger: &self.ledger, client, id };
        self.ledger.serve();
        let grant = receiver.await.expect("a request leaves the queue with a grant, or with its future");
        drop(queued);
        grant
    }

    /// A grant without a wait; `None` if the client's share or the budget is used up, or if requests that are
    /// to be served earlier wait.
    pub fn try_take(&self, client: &str, amount: usize) -> Option<Grant> {
        let ledger = &self.ledger;
        let units = ledger.units(amount);
        let mut state = ledger.state();
        let is_free = ledger.has_share(&state, client, units)
            && ledger.has_room(&state, units)
            && !state.waiting.iter().any(|(waiting, _)| &**waiting == client)
            && ledger.next(&state).is_none_or(|place| *state.waiting[place].0 == *BACKGROUND);
        is_free.then(|| ledger.grant(&mut state, &Arc::from(client), units))
    }
}

/// The share of one client in a total: the setting, where 0 stands for half.
pub fn share_of(total: usize, setting: usize) -> usize {
    if setting == 0 { total.div_ceil(2) } else { setting.min(total) }
}

/// The client that an address stands for. An address of IPv6 stands for its network of 64 bits, as one
/// machine can have any address of that network.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn units(&self, amount: usize) -> Units {
        let units = amount.div_ceil(self.unit);
        Units { of_client: units.min(self.share), of_all: units.min(self.total) }
    }

    fn has_share(&self, state: &LedgerState, client: &str, units: Units) -> bool {
        state.used.get(client).copied().unwrap_or_default() + units.of_client <= self.share
    }

    fn has_room(&self, state: &LedgerState, units: Units) -> bool {
        units.of_all <= self.total - state.total_used.min(self.total)
    }

    /// The place in the queue of the client to be served next, which may have to wait for room: the first
    /// whose share is not used up, background work last.
    fn next(&self, state: &LedgerState) -> Option<usize> {
        let may_have = |(client, requests): &(Arc<str>, VecDeque<GrantRequest>)| {
            requests.front().is_some_and(|request| self.has_share(state, client, request.units))
        };
        let is_background = |(client, _): &(Arc<str>, _)| **client == *BACKGROUND;
        let of_clients = state.waiting.iter().position(|entry| !is_background(entry) && may_have(entry));
        of_clients.or_else(|| state.waiting.iter().position(|entry| is_background(entry) && may_have(entry)))
    }

    fn grant(self: &Arc<Self>, state: &mut LedgerState, client: &Arc<str>, units: Units) -> Grant {
        *state.used.entry(client.clone()).or_default() += units.of_client;
        state.total_used += units.of_all;
        Grant { ledger: self.clone(), client: client.clone(), units }
    }

    fn enqueue(&self, client: &str, units: Units, sender: oneshot::Sender<Grant>) -> u64 {
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        let request = GrantRequest { id, units, sender };
        match state.waiting.iter_mut().find(|(waiting, _)| &**waiting == client) {
            Some((_, requests)) => requests.push_back(request),
            None => state.waiting.push_back((client.into(), VecDeque::from([request]))),
        }
        id
    }

    /// Takes the next request that can be granted out of the queue. Its client goes to the end.
    fn take_next(self: &Arc<Self>) -> Option<(oneshot::Sender<Grant>, Grant)> {
        let mut state = self.state();
        let place = self.next(&state)?;
        let units = state.waiting.get(place)?.1.front()?.units;
        if !self.has_room(&state, units) {
            return None;
        }
        let (client, mut requests) = state.waiting.remove(place)?;
        let request = requests.pop_front()?;
        let grant = self.grant(&mut state, &client, units);
        if !requests.is_empty() {
            state.waiting.push_back((client, requests));
        }
        Some((request.sender, grant))
    }

    /// Grants all requests that can be granted now.
    fn serve(self: &Arc<Self>) {
        while let Some((sender, grant)) = self.take_next() {
            // A grant whose future was dropped meanwhile is given back here.
            drop(sender.send(grant));
        }
    }

    fn give_back(&self, client: &Arc<str>, units: Units) {
        let mut state = self.state();
        state.total_used -= units.of_all;
        if let Some(used) = state.used.get_mut(client) {
            *used -= units.of_client;
            if *used == 0 {
                state.used.remove(client);
            }
        }
    }
}

impl Grant {
    /// The amount that is granted.
    pub fn amount(&self) -> usize {
        self.units.of_all.saturating_mul(self.ledger.unit)
    }

    /// Gives back what is more than `amount`.
    pub fn shrink_to(&mut self, amount: usize) {
        let units = amount.div_ceil(self.ledger.unit);
        let Units { of_client, of_all } = self.units;
        self.units = Units { of_client: of_client.min(units), of_all: of_all.min(units) };
        let rest = Units { of_client: of_client - self.units.of_client, of_all: of_all - self.units.of_all };
        self.ledger.give_back(&self.client, rest);
        self.ledger.serve();
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.ledger.give_back(&self.client, self.units);
        self.ledger.serve();
    }
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        let mut state = self.ledger.state();
        let place = state.waiting.iter().position(|(client, _)| **client == *self.client);
        if let Some((place, (_, requests))) =
            place.and_then(|place| Some((place, state.waiting.get_mut(place)?)))
        {
            requests.retain(|request| request.id != self.id);
            if requests.is_empty() {
                state.waiting.remove(place);
            }
        }
        drop(state);
        // Requests behind this one may not have to wait any longer.
        self.ledger.serve();
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

    #[tokio::test]
    async fn a_client_has_its_places_and_leaves_as_many_to_others() {
        let budget = Budget::of_places(4, 2);
        let first = budget.take("a", 1).await;
        let _second = budget.take("a", 1).await;
        assert!(is_served(&budget, "a").await.is_none());
        let _other = is_served(&budget, "b").await.unwrap();
        let _third = is_served(&budget, "c").await.unwrap();
        assert!(is_served(&budget, "d").await.is_none(), "all are in use");
        drop(first);
        assert!(is_served(&budget, "d").await.is_some());
    }

    #[tokio::test]
    async fn clients_that_wait_are_served_in_turn_and_background_work_last() {
        let budget = Arc::new(Budget::of_places(2, 1));
        let (first, second) = (budget.take("a", 1).await, budget.take("b", 1).await);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for client in [BACKGROUND, "c", "c", "c", "d", "e", BACKGROUND, "d"] {
            let (budget, order) = (budget.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let grant = budget.take(client, 1).await;
                order.lock().unwrap().push(client);
                tokio::task::yield_now().await;
                drop(grant);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["c", "d", "e", "c", "d", "c", BACKGROUND, BACKGROUND]);
        drop(second);
        assert_empty(&budget);
    }

    #[tokio::test]
    async fn a_request_whose_future_is_dropped_leaves_the_queue() {
        let budget = Budget::of_places(2, 0);
        let first = budget.take("a", 1).await;
        assert!(is_served(&budget, "a").await.is_none());
        assert!(budget.ledger.state().waiting.is_empty());
        let mut other = Box::pin(budget.take("a", 1));
        assert!(timeout(Duration::from_millis(1), &mut other).await.is_err());
        // The grant is sent, and the future is dropped without a look at it.
        drop(first);
        assert_eq!(budget.ledger.state().total_used, 1);
        drop(other);
        assert_empty(&budget);
    }

    #[tokio::test]
    async fn a_large_request_is_passed_by_no_small_one_until_its_future_is_dropped() {
        let budget = Budget::of_places(4, 4);
        let held = budget.take("a", 2).await;
        let mut large = Box::pin(budget.take("b", 3));
        assert!(timeout(Duration::from_millis(1), &mut large).await.is_err());
        assert!(budget.try_take("c", 1).is_none());
        let mut small = Box::pin(budget.take("c", 1));
        assert!(timeout(Duration::from_millis(1), &mut small).await.is_err());
        drop(large);
        let small = timeout(Duration::from_millis(1), &mut small).await.unwrap();
        drop((held, small));
        assert_empty(&budget);
    }

    #[test]
    fn a_client_has_no_more_than_its_own_places_where_there_is_no_limit_for_all() {
        let budget = Budget::of_places_each(2);
        let first = budget.try_take("a", 1).unwrap();
        let _second = budget.try_take("a", 1).unwrap();
        assert!(budget.try_take("a", 1).is_none());
        drop(budget.try_take("b", 1).unwrap());
        drop(first);
        assert!(budget.try_take("a", 1).is_some());
        assert_eq!(budget.ledger.state().used.len(), 1, "a client without a grant takes no memory");
    }

    #[test]
    fn an_address_of_ipv6_stands_for_its_network() {
        for (address, client) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::7", "2001:db8:1:2::"),
            ("2001:db8:1:3::7", "2001:db8:1:3::"),
            ("::1", "::"),
        ] {
            assert_eq!(client_of(address.parse().unwrap()).to_string(), client, "{address}");
        }
    }

    /// A place for a client that gets one without waiting.
    async fn is_served(budget: &Budget, client: &str) -> Option<Grant> {
        timeout(Duration::from_millis(1), budget.take(client, 1)).await.ok()
    }

    fn assert_empty(budget: &Budget) {
        let state = budget.ledger.state();
        assert_eq!((state.total_used, state.used.len(), state.waiting.len()), (0, 0, 0));
    }
}
