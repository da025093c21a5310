//! The fair queue in front of decoder processes: clients that wait are served in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A limited number of places, shared fairly by clients.
///
/// A client has at most `per_client` places. All clients together have twice as many, so that a client with
/// long work cannot keep another from beginning.
pub(super) struct FairQueue {
    per_client: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Places in use, by client.
    used: HashMap<Arc<str>, usize>,
    total: usize,
    /// Clients that wait, in the order in which they are served.
    waiting: VecDeque<(Arc<str>, VecDeque<oneshot::Sender<Turn>>)>,
}

/// A place in use, until it is dropped.
pub(super) struct Turn {
    /// Nothing if the place was given back already.
    queue: Option<Arc<FairQueue>>,
    client: Arc<str>,
}

impl FairQueue {
    /// A queue with this number of places for each client.
    pub(super) fn new(per_client: usize) -> Arc<Self> {
        Arc::new(Self { per_client, state: Mutex::default() })
    }

    /// Waits for a place.
    pub(super) async fn turn(self: &Arc<Self>, client: &str) -> Turn {
        let receiver = {
            let mut state = self.state();
            let (sender, receiver) = oneshot::channel();
            match state.waiting.iter_mut().find(|(waiting, _)| &**waiting == client) {
                Some((_, senders)) => senders.push_back(sender),
                None => state.waiting.push_back((client.into(), VecDeque::from([sender]))),
            }
            receiver
        };
        self.serve();
        receiver.await.expect("the queue answers all who wait, and lives as long as they do")
    }

    /// Gives free places to those that wait.
    fn serve(self: &Arc<Self>) {
        let mut state = self.state();
        while let Some((client, sender)) = state.next(self.per_client) {
            state.take(&client);
            if let Err(mut turn) = sender.send(Turn { queue: Some(self.clone()), client }) {
                // The waiting future was dropped. Without its queue the turn does nothing when dropped, which
                // would lock the state again.
                turn.queue = None;
                state.give_back(&turn.client);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the next one that waits and may have a place out of the queue. Its client goes to the end.
    fn next(&mut self, per_client: usize) -> Option<(Arc<str>, oneshot::Sender<Turn>)> {
        if self.total >= 2 * per_client {
            return None;
        }
        let used = &self.used;
        let may_have = |client: &Arc<str>| used.get(client).is_none_or(|&count| count < per_client);
        let place = self.waiting.iter().position(|(client, _)| may_have(client))?;
        let (client, mut senders) = self.waiting.remove(place)?;
        let sender = senders.pop_front()?;
        if !senders.is_empty() {
            self.waiting.push_back((client.clone(), senders));
        }
        Some((client, sender))
    }

    fn take(&mut self, client: &Arc<str>) {
        *self.used.entry(client.clone()).or_default() += 1;
        self.total += 1;
    }

    fn give_back(&mut self, client: &Arc<str>) {
        self.total -= 1;
        if let Some(count) = self.used.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                self.used.remove(client);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.state().give_back(&self.client);
            queue.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Whether a client gets a place without waiting.
    async fn is_served(queue: &Arc<FairQueue>, client: &str) -> Option<Turn> {
        timeout(Duration::from_millis(1), queue.turn(client)).await.ok()
    }

    #[tokio::test]
    async fn a_client_has_its_places_and_leaves_as_many_to_others() {
        let queue = FairQueue::new(2);
        let first = queue.turn("a").await;
        let _second = queue.turn("a").await;
        assert!(is_served(&queue, "a").await.is_none());
        let _other = is_served(&queue, "b").await.unwrap();
        let _third = is_served(&queue, "c").await.unwrap();
        assert!(is_served(&queue, "d").await.is_none(), "all are in use");
        drop(first);
        assert!(is_served(&queue, "d").await.is_some());
    }

    #[tokio::test]
    async fn clients_that_wait_are_served_in_turn() {
        let queue = FairQueue::new(1);
        let (first, second) = (queue.turn("a").await, queue.turn("b").await);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for client in ["c", "c", "c", "d", "e", "d"] {
            let (queue, order) = (queue.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let turn = queue.turn(client).await;
                order.lock().unwrap().push(client);
                tokio::task::yield_now().await;
                drop(turn);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["c", "d", "e", "c", "d", "c"]);
        drop(second);
        let state = queue.state();
        assert_eq!((state.total, state.used.len(), state.waiting.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn who_stops_waiting_takes_no_place() {
        let queue = FairQueue::new(1);
        let first = queue.turn("a").await;
        assert!(is_served(&queue, "a").await.is_none());
        drop(first);
        let state = queue.state();
        assert_eq!((state.total, state.waiting.len()), (0, 0));
    }
}
