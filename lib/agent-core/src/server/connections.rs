//! The agent's own server connections, tracked so that a snapshot catches none of them unawares, and bounded.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// One accepted connection. In the extensions of each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u64);

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Serve,
    /// Close when idle; an answer that is under way is still given.
    Finish,
    /// Close now.
    Abort,
}

#[derive(Debug)]
struct Open {
    orders: watch::Sender<Order>,
    peer: SocketAddr,
    /// Requests under way.
    under_way: usize,
    /// When it last came to have none, on a clock of its own.
    since: u64,
}

impl Open {
    fn idle_since(&self) -> Option<u64> {
        (self.under_way == 0).then_some(self.since)
    }
}

#[derive(Debug)]
pub(crate) struct Connections {
    clock: AtomicU64,
    open: Mutex<HashMap<ConnectionId, Open>>,
    limit: usize,
}

impl Connections {
    /// At most `limit` connections at a time.
    pub(crate) fn new(limit: usize) -> Self {
        Self { clock: AtomicU64::default(), open: Mutex::default(), limit }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a new connection in. At the limit it takes the place of the one that has been idle for longest, where a client that
    /// has not sent a whole head yet is idle; `None` when none is.
    pub(super) fn register(&self, peer: SocketAddr) -> Option<(ConnectionId, watch::Receiver<Order>)> {
        let now = self.tick();
        let id = ConnectionId(now);
        let (orders, receiver) = watch::channel(Order::Serve);
        self.with(|open| {
            if open.len() >= self.limit {
                let (_, oldest) = open.iter().filter_map(|(id, one)| Some((one.idle_since()?, *id))).min()?;
                if let Some(evicted) = open.remove(&oldest) {
                    evicted.orders.send_replace(Order::Abort);
                }
            }
            open.insert(id, Open { orders, peer, under_way: 0, since: now });
            Some((id, receiver))
        })
    }

    pub(super) fn forget(&self, id: ConnectionId) {
        self.with(|open| open.remove(&id));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<ConnectionId, Open>) -> T) -> T {
        f(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Address of the other end.
    pub(crate) fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.with(|open| open.get(&id).map(|one| one.peer))
    }

    /// When it last became idle, on a clock that only tells earlier from later; `None` while a request is answered.
    pub(super) fn idle_since(&self, id: ConnectionId) -> Option<u64> {
        self.with(|open| open.get(&id)?.idle_since())
    }

    fn change(&self, id: ConnectionId, change: impl FnOnce(&mut Open)) {
        self.with(|open| open.get_mut(&id).map(change));
    }

    /// To be held from the head of a request to the end of its answer.
    pub(super) fn answering(self: &Arc<Self>, id: ConnectionId) -> Answering {
        self.change(id, |open| open.under_way = open.under_way.saturating_add(1));
        Answering { connections: Arc::clone(self), id }
    }

    fn order_all_but(&self, kept: Option<ConnectionId>, order: Order) {
        self.with(|open| {
            for (_, one) in open.iter().filter(|(id, _)| Some(**id) != kept) {
                one.orders.send_replace(order);
            }
        });
    }

    /// Asks all but `kept` to close as soon as they are idle.
    pub(crate) fn finish_all_but(&self, kept: Option<ConnectionId>) {
        self.order_all_but(kept, Order::Finish);
    }

    /// Closes all but `kept` at once: their other ends are gone.
    pub(crate) fn abort_all_but(&self, kept: Option<ConnectionId>) {
        self.order_all_but(kept, Order::Abort);
    }

    /// Open connections other than `kept`.
    pub(crate) fn count_but(&self, kept: Option<ConnectionId>) -> usize {
        self.with(|open| open.keys().filter(|id| Some(**id) != kept).count())
    }
}

/// A request under way, until it is dropped. A connection without one is idle.
#[derive(Debug)]
pub(super) struct Answering {
    connections: Arc<Connections>,
    id: ConnectionId,
}

impl Drop for Answering {
    fn drop(&mut self) {
        let now = self.connections.tick();
        self.connections.change(self.id, |open| {
            open.under_way = open.under_way.saturating_sub(1);
            open.since = now;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    #[test]
    fn at_the_limit_the_longest_idle_one_makes_room_and_busy_ones_stay() {
        let connections = Arc::new(Connections::new(3));
        let [(a, to_a), (b, to_b), (c, to_c)] = [(); 3].map(|()| connections.register(PEER).unwrap());
        drop(connections.answering(a));
        let busy = connections.answering(c);
        let (_, to_d) = connections.register(PEER).unwrap();
        assert_eq!(
            [&to_a, &to_b, &to_c, &to_d].map(|to| *to.borrow()),
            [Order::Serve, Order::Abort, Order::Serve, Order::Serve]
        );
        connections.forget(b);
        connections.register(PEER).unwrap();
        assert_eq!((*to_a.borrow(), *to_c.borrow()), (Order::Abort, Order::Serve), "a was used after d came");
        assert_eq!(connections.count_but(None), 3);
        drop(busy);
    }

    #[test]
    fn a_connection_with_several_requests_is_idle_when_all_have_ended() {
        let connections = Arc::new(Connections::new(1));
        let (id, _orders) = connections.register(PEER).unwrap();
        let [first, second] = [(); 2].map(|()| connections.answering(id));
        drop(first);
        assert!(connections.idle_since(id).is_none() && connections.register(PEER).is_none());
        drop(second);
        assert!(connections.idle_since(id).is_some());
    }

    #[test]
    fn when_all_are_busy_a_new_one_is_refused() {
        let connections = Arc::new(Connections::new(1));
        let (id, _orders) = connections.register(PEER).unwrap();
        let busy = connections.answering(id);
        assert!(connections.register(PEER).is_none());
        drop(busy);
        assert!(connections.register(PEER).is_some());
    }
}
