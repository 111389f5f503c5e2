//! Telling a caller how far a long operation is, and being told to stop.

use dormouse_guest_mem::Bytes;

/// The caller's view of a long operation. Called from worker threads, several times per second of work: must be quick.
pub trait Progress: Sync {
    /// `done` of `total` bytes are through. Never decreases within one thread's calls, except that parallel workers
    /// may report out of order.
    fn advance(&self, done: Bytes, total: Bytes);

    /// Whether the operation must stop. It then ends with its `Cancelled` error within some milliseconds.
    fn cancelled(&self) -> bool;
}

/// Nobody watches, nobody cancels.
impl Progress for () {
    fn advance(&self, _done: Bytes, _total: Bytes) {}

    fn cancelled(&self) -> bool {
        false
    }
}
