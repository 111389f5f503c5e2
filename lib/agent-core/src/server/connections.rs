//! The agent's own server connections, tracked so that a snapshot catches none of them unawares.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// One accepted connection. In the extensions of each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

#[derive(Debug, Default)]
pub(crate) struct Connections {
    next: AtomicU64,
    open: Mutex<HashMap<ConnectionId, watch::Sender<Order>>>,
}

impl Connections {
    pub(super) fn register(&self) -> (ConnectionId, watch::Receiver<Order>) {
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = watch::channel(Order::Serve);
        self.with(|open| open.insert(id, sender));
        (id, receiver)
    }

    pub(super) fn forget(&self, id: ConnectionId) {
        self.with(|open| open.remove(&id));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<ConnectionId, watch::Sender<Order>>) -> T) -> T {
        f(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn order_all_but(&self, kept: Option<ConnectionId>, order: Order) {
        self.with(|open| {
            for (_, sender) in open.iter().filter(|(id, _)| Some(**id) != kept) {
                sender.send_replace(order);
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
