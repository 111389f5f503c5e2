//! A daemon's store with a remote behind it, and snapshots to put there.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dormouse_guest_mem::Bytes;
use dormouse_store::remote::{LocalSnapshot, Remote, RemoteLimits, RemoteOptions, RetryPolicy, Target};
use dormouse_store::{PackId, Packs, Steps};
use tempfile::TempDir;

use crate::support::{self, Hashed, content, name};
use dormouse_test_s3::{BUCKET, KEY_ID, SECRET, Server};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const INDEX: &str = "memory.idx";
pub(crate) const OVERLAY: &str = "overlay.ext4";

/// So patient that a loaded machine is no fault.
pub(crate) fn limits() -> RemoteLimits {
    let policy = |total| RetryPolicy {
        first: Duration::from_millis(5),
        most: Duration::from_millis(50),
        total: Duration::from_secs(total),
    };
    RemoteLimits {
        stall: Duration::from_secs(30),
        slowest: 1 << 20,
        fetch: policy(90),
        upload: policy(90),
        again: Duration::from_secs(3600),
        part: 5 << 20,
        parts_at_once: 2,
        packs_at_once: 4,
    }
}

/// A folder for a daemon's store. It survives the daemon.
pub(crate) struct Machine {
    dir: TempDir,
}

/// A daemon's store.
pub(crate) struct Daemon {
    pub(crate) packs: Packs,
    pub(crate) remote: Remote,
    dir: PathBuf,
}

pub(crate) fn s3(server: &Server, prefix: &str) -> Target {
    Target::of_test_server(server.address, BUCKET, prefix, (KEY_ID, SECRET))
}

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("snapshots")).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn start(&self, target: Target) -> Daemon {
        self.start_with(target, limits(), None)
    }

    pub(crate) fn start_with(&self, target: Target, limits: RemoteLimits, cache: Option<Bytes>) -> Daemon {
        start_at(self.path(), target, limits, cache, &Steps::default())
    }
}

pub(crate) fn start_at(
    dir: &Path,
    target: Target,
    limits: RemoteLimits,
    cache: Option<Bytes>,
    steps: &Steps,
) -> Daemon {
    let packs = Packs::open_with(&dir.join("packs"), Arc::new(Hashed), Steps::default()).unwrap();
    let remote = Remote::start(RemoteOptions {
        target,
        limits,
        packs: packs.clone(),
        ledger: dir.join("uploaded"),
        cache,
        steps: steps.clone(),
    });
    Daemon { packs, remote: remote.unwrap(), dir: dir.to_owned() }
}

impl Daemon {
    pub(crate) fn put(&self, bytes: &[u8]) -> PackId {
        support::put(&self.packs, bytes)
    }

    /// A published snapshot that needs `packs`.
    pub(crate) fn snapshot(&self, text: &str, packs: impl IntoIterator<Item = PackId>) -> LocalSnapshot {
        let dir = self.dir.join("snapshots").join(text);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(INDEX), format!("index of {text}")).unwrap();
        let overlay = std::fs::File::create(dir.join(OVERLAY)).unwrap();
        overlay.set_len(16 << 20).unwrap();
        overlay.write_all_at(&content(1, 10_000), 5 << 20).unwrap();
        std::fs::write(dir.join(MANIFEST), format!("manifest of {text}")).unwrap();
        self.described(text, packs)
    }

    pub(crate) fn described(&self, text: &str, packs: impl IntoIterator<Item = PackId>) -> LocalSnapshot {
        LocalSnapshot {
            name: name(text),
            dir: self.dir.join("snapshots").join(text),
            files: [INDEX, OVERLAY].map(|file| file.try_into().unwrap()).into(),
            packs: packs.into_iter().collect(),
        }
    }

    /// Lets a snapshot go up and waits until it is there.
    pub(crate) async fn upload(&self, snapshot: &LocalSnapshot) {
        self.remote.upload(snapshot.clone());
        assert_eq!(self.settled().await, Vec::<String>::new());
    }

    /// Waits until everything is done, and returns why what is not failed.
    pub(crate) async fn settled(&self) -> Vec<String> {
        let failed = bounded(self.remote.settled()).await;
        failed
            .into_iter()
            .map(|job| match job.state {
                dormouse_store::remote::JobState::Failed { reason } => format!("{}: {reason}", job.snapshot),
                state => format!("{}: {state:?}", job.snapshot),
            })
            .collect()
    }
}

/// Ends a test that would wait for ever.
pub(crate) async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), what).await.expect("it did not end in bounded time")
}

/// The key of a pack, below the prefix.
pub(crate) fn pack_key(id: &PackId) -> String {
    let text = id.to_string();
    format!("packs/{}/{text}.pack", &text[..2])
}

/// Whether two folders hold the same files with the same content.
pub(crate) fn same_files(one: &Path, other: &Path) -> bool {
    let names = support::files(one);
    names == support::files(other)
        && names.iter().all(|n| std::fs::read(one.join(n)).unwrap() == std::fs::read(other.join(n)).unwrap())
}
