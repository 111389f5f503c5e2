//! The agent as a whole: its options and the subsystems that requests share.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::cgroups::Cgroups;
use crate::identity::UserDatabase;
use crate::init::Settings;
use crate::kernel::GuestKernel;
use crate::metrics::Metrics;
use crate::ports::Ports;
use crate::process::{Children, Registry};
use crate::reclaim::Reclaimer;
use crate::server::Connections;
use crate::snapshot::Snapshot;
use crate::watch::Watchers;

/// Most connections that are served at a time: each idle one costs about 12 KiB.
const MAX_CONNECTIONS: usize = 1024;

/// Times that tests shorten.
#[derive(Clone, Copy, Debug)]
pub struct Durations {
    /// A prepare that no snapshot follows is undone after this.
    pub watchdog: Duration,
    /// A freeze that nothing ends is undone after this.
    pub frozen: Duration,
    /// A restored agent that is asked for its health and gets no `/init` restores itself after this.
    pub init_grace: Duration,
    /// An ended process can still be attached to for this long.
    pub late_connect: Duration,
    /// A client that takes longer for the head of a request is cut off, as is an idle connection.
    pub request_head: Duration,
    /// A client that sends nothing of a request's body for this long is cut off.
    pub request_body: Duration,
    /// A client that was answered already and sends nothing of the rest of its request for this long is cut off.
    pub linger: Duration,
    /// A watcher that nobody polls for this long goes away.
    pub watcher_idle: Duration,
    /// Between looks at the guest's memory.
    pub reclaim_look: Duration,
    /// How long a guest must have been calm before memory is reclaimed.
    pub reclaim_calm: Duration,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            watchdog: Duration::from_secs(30),
            frozen: Duration::from_secs(600),
            init_grace: Duration::from_secs(10),
            late_connect: Duration::from_secs(30),
            request_head: Duration::from_secs(75),
            request_body: Duration::from_secs(60),
            linger: Duration::from_secs(2),
            watcher_idle: Duration::from_secs(3600),
            reclaim_look: Duration::from_secs(5),
            reclaim_calm: Duration::from_secs(60),
        }
    }
}

/// What an agent that owns a whole guest may do to it. A plain process has none of this.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Mount point of the overlay disk: what prepare flushes and trims.
    pub overlay: PathBuf,
    /// Where user processes live, and what prepare freezes.
    pub cgroups: Cgroups,
    /// The root of its file system, `/` but in tests: below it lie the files that `/init` changes.
    pub root: PathBuf,
    /// Its kernel.
    pub kernel: Arc<dyn GuestKernel>,
}

/// Options of an agent.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// User for requests that name none, until `/init` says otherwise.
    pub default_user: String,
    /// `None` runs as a plain process: no clock, host name, random pool, cgroup or disk is touched.
    pub guest: Option<Guest>,
    /// Addresses on which servers of the loopback are made reachable: the guest's own. None means that nothing is forwarded.
    pub guest_addresses: Vec<IpAddr>,
    /// User database.
    pub passwd: PathBuf,
    /// Group database.
    pub group: PathBuf,
    /// Descriptors that a started process may open, until it raises its own limit; `None` is the agent's own limit.
    pub open_files: Option<u64>,
    /// Times.
    pub durations: Durations,
}

impl AgentOptions {
    /// Options of a plain process on this system's own user database.
    pub fn plain(default_user: impl Into<String>) -> Self {
        Self {
            default_user: default_user.into(),
            guest: None,
            guest_addresses: Vec::new(),
            passwd: "/etc/passwd".into(),
            group: "/etc/group".into(),
            open_files: None,
            durations: Durations::default(),
        }
    }
}

/// A running agent. All requests share one.
#[derive(Debug)]
pub struct Agent {
    pub(crate) guest: Option<Guest>,
    pub(crate) open_files: Option<u64>,
    pub(crate) access: Access,
    pub(crate) settings: Settings,
    pub(crate) users: UserDatabase,
    pub(crate) processes: Registry,
    pub(crate) watchers: Watchers,
    pub(crate) snapshot: Snapshot,
    pub(crate) connections: Arc<Connections>,
    pub(crate) ports: Arc<Ports>,
    pub(crate) reclaimer: Reclaimer,
    pub(crate) metrics: Metrics,
    pub(crate) durations: Durations,
}

/// Connections at a time: few enough for the agent to stay small, and half of its descriptors for everything else.
fn connection_limit() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 2).unwrap_or(MAX_CONNECTIONS).min(MAX_CONNECTIONS)
}

impl Agent {
    /// Creates an agent. Nothing is touched or listened on yet.
    pub fn new(options: AgentOptions) -> Arc<Self> {
        let users = UserDatabase::new(options.passwd, options.group);
        Arc::new(Self {
            access: Access::default(),
            settings: Settings::new(options.default_user),
            watchers: Watchers::new(users.clone(), options.durations.watcher_idle),
            users,
            processes: Registry::new(Children::default(), options.durations.late_connect),
            snapshot: Snapshot::default(),
            connections: Arc::new(Connections::new(connection_limit())),
            ports: Arc::new(Ports::new(options.guest_addresses)),
            reclaimer: Reclaimer::default(),
            metrics: Metrics::default(),
            durations: options.durations,
            guest: options.guest,
            open_files: options.open_files,
        })
    }

    /// Name of the user that this process runs as, or its number where it has no name.
    pub fn own_user() -> String {
        let users = UserDatabase::new("/etc/passwd".into(), "/etc/group".into());
        users.names().user(rustix::process::geteuid().as_raw())
    }

    /// Reaps orphans that the kernel gives to PID 1, for ever. Children of the agent itself are left to their owners.
    pub async fn reap_orphans(&self) -> std::io::Result<()> {
        self.processes.children().reap_orphans().await
    }
}
