//! The open connections of a listener: how many there may be, in all and of one address, and which one ends
//! to make room.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::budget::{client_of, share_of};

/// Connections beyond the limit: over HTTP for requests about the server itself alone.
pub(crate) const RESERVED: usize = 16;

/// The open connections of a listener.
pub(crate) struct Connections {
    max: usize,
    share: usize,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    next_id: u64,
    /// The ordinary connections and the reserved ones, by age.
    ordinary: BTreeMap<u64, Entry>,
    reserved: BTreeMap<u64, Entry>,
    /// The number of ordinary connections, by address.
    by_address: HashMap<IpAddr, usize>,
}

struct Entry {
    address: IpAddr,
    under_way: Arc<AtomicUsize>,
    end: CancellationToken,
}

/// An open connection, until it is dropped.
pub(crate) struct OpenConnection {
    id: u64,
    /// Whether the connection is for requests about the server itself alone.
    pub(crate) is_reserved: bool,
    /// The number of requests, or the association, that are under way; the connection is idle without one.
    pub(crate) under_way: Arc<AtomicUsize>,
    /// Cancelled when the connection must make room for another.
    pub(crate) end: CancellationToken,
    connections: Arc<Connections>,
}

impl Connections {
    /// At most `max` connections, and at most `share` of one address; 0 stands for half.
    pub(crate) fn new(max: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { max, share: share_of(max, share), open: Mutex::default() })
    }

    /// Reserved connections only.
    pub(crate) fn reserved_only() -> Arc<Self> {
        Self::new(0, 0)
    }

    /// Admits a connection of an address, or of its network (see [`client_of`]). Where there is no room, the
    /// oldest idle connection ends: of the same address if that has used up its share, else of the address
    /// with the most connections. If none is idle, the connection is a reserved one. `None` if also the
    /// reserved ones are all in use.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<OpenConnection> {
        let address = client_of(address);
        let mut open = self.lock();
        let has_share = open.by_address.get(&address).copied().unwrap_or_default() < self.share;
        let has_room = match (has_share, open.ordinary.len() < self.max) {
            (true, true) => true,
            (true, false) => open.end_idle_of_largest(),
            (false, _) => open.end_idle_of(address),
        };
        let is_reserved = !has_room;
        if is_reserved && open.reserved.len() >= RESERVED && !open.end_idle_reserved() {
            return None;
        }
        let id = open.next_id;
        open.next_id += 1;
        let (under_way, end) = (Arc::<AtomicUsize>::default(), CancellationToken::new());
        let entry = Entry { address, under_way: under_way.clone(), end: end.clone() };
        if is_reserved {
            open.reserved.insert(id, entry);
        } else {
            open.ordinary.insert(id, entry);
            *open.by_address.entry(address).or_default() += 1;
        }
        Some(OpenConnection { id, is_reserved, under_way, end, connections: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    fn end_idle_of(&mut self, address: IpAddr) -> bool {
        let mut of_address = self.ordinary.iter().filter(|(_, entry)| entry.address == address);
        let oldest = of_address.find(|(_, entry)| entry.is_idle()).map(|(id, _)| *id);
        self.end(oldest)
    }

    fn end_idle_of_largest(&mut self) -> bool {
        let idle = self.ordinary.iter().filter(|(_, entry)| entry.is_idle());
        // Of equals, the last in this order: the oldest.
        let oldest =
            idle.rev().max_by_key(|(_, entry)| self.by_address.get(&entry.address)).map(|(id, _)| *id);
        self.end(oldest)
    }

    fn end_idle_reserved(&mut self) -> bool {
        let oldest = self.reserved.iter().find(|(_, entry)| entry.is_idle()).map(|(id, _)| *id);
        self.end(oldest)
    }

    fn end(&mut self, id: Option<u64>) -> bool {
        id.and_then(|id| self.remove(id)).inspect(|entry| entry.end.cancel()).is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        if let Some(entry) = self.reserved.remove(&id) {
            return Some(entry);
        }
        let entry = self.ordinary.remove(&id)?;
        if let Some(count) = self.by_address.get_mut(&entry.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&entry.address);
            }
        }
        Some(entry)
    }
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn busy(connections: &Arc<Connections>, last: u8) -> OpenConnection {
        let connection = connections.admit(address(last)).unwrap();
        connection.under_way.store(1, Ordering::Relaxed);
        connection
    }

    #[test]
    fn an_address_takes_no_more_than_its_share_and_then_reserved_connections() {
        let connections = Connections::new(4, 0);
        let _first = [busy(&connections, 1), busy(&connections, 1)];
        let beyond = busy(&connections, 1);
        assert!(beyond.is_reserved && !beyond.end.is_cancelled());
        assert!(!busy(&connections, 2).is_reserved);
        assert_eq!(connections.lock().by_address.len(), 1, "an address without connections takes no memory");
    }

    #[test]
    fn idle_connections_make_room() {
        let connections = Connections::new(4, 3);
        let of_other = connections.admit(address(2)).unwrap();
        let first = busy(&connections, 1);
        let second = connections.admit(address(1)).unwrap();
        let third = connections.admit(address(1)).unwrap();
        // The share of the address is used up: its own oldest idle connection ends.
        let fourth = connections.admit(address(1)).unwrap();
        assert!(second.end.is_cancelled() && !first.end.is_cancelled() && !fourth.is_reserved);
        // All connections are in use: one of the address with the most ends, although another is older.
        let newcomer = connections.admit(address(3)).unwrap();
        assert!(third.end.is_cancelled() && !of_other.end.is_cancelled() && !newcomer.is_reserved);
    }

    #[test]
    fn reserved_connections_are_limited_and_make_room_among_themselves() {
        let connections = Connections::reserved_only();
        let mut open: Vec<_> = (0..RESERVED).map(|_| connections.admit(address(1)).unwrap()).collect();
        let next = connections.admit(address(1)).unwrap();
        assert!(open[0].end.is_cancelled() && next.is_reserved);
        open.push(next);
        open.iter().for_each(|connection| connection.under_way.store(1, Ordering::Relaxed));
        assert!(connections.admit(address(2)).is_none());
        drop(open);
        assert!(connections.admit(address(2)).is_some());
    }
}
