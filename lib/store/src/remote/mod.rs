//! A remote behind the folder of packs: an S3 bucket, or a folder elsewhere.
//!
//! - **Up**, in the background: packs, then a snapshot's files, then its record. What is still to go up is derived from the
//!   snapshots on this machine and a ledger of what the remote confirmed, so a daemon that dies goes on where it was. A
//!   record on the remote names only what is there.
//! - **Down**, on demand: a pack is fetched once however many ask for it, compared with its id, and only then visible.
//! - **The folder as a cache**: with a bound, packs that the remote has go when they were not used for long.
//!
//! Every call ends in success or a clear error in bounded time ([`RemoteLimits`]). What lies there is described in
//! `docs/formats/remote.md`. Nothing is encrypted here; whoever can read the remote can read what guests had in memory.

mod big;
mod collect;
mod connect;
mod down;
mod download;
mod error;
mod handle;
mod keys;
mod ledger;
mod limits;
mod objects;
mod queue;
mod record;
mod retry;
mod room;
mod snapshot;
mod sparse;
mod target;
mod up;
mod worker;

use std::collections::BTreeMap;
use std::sync::Mutex;

use dormouse_guest_mem::Bytes;
use tokio::sync::{Semaphore, watch};

pub use collect::RemoteCollected;
pub use error::RemoteError;
pub use handle::{Remote, RemoteOptions, UploadState};
pub use limits::{RemoteLimits, RetryPolicy};
pub use queue::{JobState, JobStatus};
pub use record::{Encoding, RemoteFile, RemoteSnapshot};
pub use snapshot::LocalSnapshot;
pub use target::{Credentials, S3Target, Target, TargetUrl};

use crate::{PackId, Packs, SnapshotName, Steps};

/// What handles, worker and fetches share.
#[derive(Debug)]
struct Shared {
    objects: objects::Objects,
    keys: keys::Keys,
    packs: Packs,
    ledger: ledger::Ledger,
    cache: Option<Bytes>,
    steps: Steps,
    /// The snapshots on this machine.
    known: Mutex<BTreeMap<SnapshotName, LocalSnapshot>>,
    queue: Mutex<queue::Queue>,
    /// Counts changes of the queue.
    changed: watch::Sender<u64>,
    fetches: Mutex<BTreeMap<PackId, handle::Fetch>>,
    fetching: Semaphore,
    /// Held by whoever changes the remote: what is about to be named must not be collected meanwhile.
    writing: tokio::sync::Mutex<()>,
}
