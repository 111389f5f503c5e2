//! Remotes for tests, and how patient to be with them.

use std::time::Duration;

use dormouse_guest_mem::Bytes;
use dormouse_test_s3::{BUCKET, KEY_ID, SECRET, Server};

use crate::{RemoteLimits, RemoteSetup, RetryPolicy, Target};

/// The bucket of a server in this process.
pub(crate) fn s3(server: &Server, prefix: &str) -> Target {
    Target::of_test_server(server.address, BUCKET, prefix, (KEY_ID, SECRET))
}

/// A remote that is given up soon, but not because the machine is loaded. `cache` is what packs may take here, in bytes.
pub(crate) fn setup(target: Target, cache: Option<u64>) -> RemoteSetup {
    let policy = |total| RetryPolicy {
        first: Duration::from_millis(5),
        most: Duration::from_millis(50),
        total: Duration::from_secs(total),
    };
    let limits =
        RemoteLimits { stall: Duration::from_secs(2), fetch: policy(4), upload: policy(20), ..RemoteLimits::default() };
    RemoteSetup { target, cache: cache.map(Bytes), limits }
}
