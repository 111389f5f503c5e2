//! Whether a client may still be sending what nobody will read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct State {
    came: AtomicBool,
    given_up: Notify,
}

/// Of one connection: whether something has come that belongs to no request which was read to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(Arc<State>);

impl Unread {
    /// Something has come.
    pub(super) fn came(&self) {
        self.0.came.store(true, Ordering::Relaxed);
    }

    /// Everything that has come was a request's, and that was read to its end.
    pub(super) fn settled(&self) {
        self.0.came.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.came.load(Ordering::Relaxed)
    }

    /// Nobody reads the request's body any longer. A connection that waits for more of it sees that only when it is looked at again.
    pub(super) fn give_up(&self) {
        self.0.given_up.notify_one();
    }

    /// Waits until a body is given up.
    pub(super) async fn given_up(&self) {
        self.0.given_up.notified().await;
    }
}
