//! The task that scans, publishes and forwards, and stopping and starting it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use dormouse_agent_proto::control::ConnectionPolicy;

use super::alarm::Alarm;
use super::board::{Board, Port, Scope, Set};
use super::captured::{Captured, Rule};
use super::destroyed::Destroyed;
use super::forwarders::{Forwarders, plan};
use super::owner;
use super::scan::Scanner;
use super::search::Searches;
use super::socket::Socket;

/// Pause between scans while something changes, and after nothing has changed for long.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_millis(800);

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// How many ports have a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// By the name of the scope.
    pub(crate) by_scope: [(&'static str, usize); 3],
    pub(crate) forwarded: usize,
}

/// The subsystem.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(super) board: Board,
    captured: Captured,
    guest: Vec<IpAddr>,
    /// Port of the agent itself, zero before it serves.
    own: AtomicU16,
    running: Mutex<Option<Running>>,
}

impl Ports {
    /// `guest` are the addresses on which servers of the loopback are made reachable. Nothing runs yet.
    pub(crate) fn new(guest: Vec<IpAddr>) -> Self {
        Self {
            board: Board::new(),
            captured: Captured::default(),
            guest,
            own: AtomicU16::new(0),
            running: Mutex::default(),
        }
    }

    /// Names the agent's own port, which is neither published nor forwarded.
    pub(crate) fn set_own(&self, port: u16) {
        self.own.store(port, Ordering::Relaxed);
    }

    fn swap(&self, next: Option<Running>) -> Option<Running> {
        std::mem::replace(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner), next)
    }

    /// Scans and forwards from now on. Harmless when it does already.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_some_and(|one| !one.task.is_finished()) {
            return;
        }
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(Arc::clone(self), stopped));
        *running = Some(Running { stop, task });
    }

    /// Stops: when this returns no scan runs, no forwarder listens and no forwarded connection is open. The published set stays as it
    /// was, so that a restart tells only of what changed. Harmless when stopped.
    pub(crate) async fn stop(&self) {
        if let Some(running) = self.swap(None) {
            // An error says that it has ended by itself.
            let _ = running.stop.send(());
            let _ = running.task.await;
        }
    }

    /// Notes the connections that a snapshot taken now would catch and that `policy` does not keep.
    pub(crate) fn note_captured(&self, policy: ConnectionPolicy) {
        if !self.guest.is_empty() {
            self.captured.note(Rule { guest: &self.guest, own_port: self.own_port(), policy });
        }
    }

    /// Destroys the noted connections, except the one with `kept`; each once. Returns how many there were and how many of them could
    /// not be destroyed.
    pub(crate) fn destroy_captured(&self, kept: Option<SocketAddr>) -> (usize, usize) {
        self.captured.destroy_but(kept)
    }

    /// Forgets what was noted: no snapshot followed, or its connections are gone.
    pub(crate) fn forget_captured(&self) {
        self.captured.forget();
    }

    /// What is known, for people.
    pub(crate) fn summary(&self) -> String {
        let (source, ports) = self.board.read();
        let forwarded = ports.iter().filter(|port| port.forwarded).count();
        format!("{} ports known by {}, {forwarded} were forwarded", ports.len(), source.name())
    }

    /// How many there are.
    pub(crate) fn counts(&self) -> Counts {
        let (_, ports) = self.board.read();
        let of = |scope: Scope| ports.iter().filter(|port| port.scope == scope).count();
        let by_scope = [("loopback", of(Scope::Loopback)), ("any", of(Scope::Any)), ("guest", of(Scope::Guest))];
        Counts { by_scope, forwarded: ports.iter().filter(|port| port.forwarded).count() }
    }

    fn own_port(&self) -> Option<u16> {
        Some(self.own.load(Ordering::Relaxed)).filter(|port| *port != 0)
    }
}

async fn run(ports: Arc<Ports>, mut stopped: oneshot::Receiver<()>) {
    let mut forwarders = Forwarders::new();
    tokio::select! {
        _ = &mut stopped => {}
        () = keep_up(&ports, &mut forwarders) => {}
    }
    forwarders.clear().await;
}

async fn keep_up(ports: &Arc<Ports>, forwarders: &mut Forwarders) {
    let mut scanner = Scanner::new();
    let mut searches = Searches::default();
    let mut destroyed = Destroyed::open().ok();
    let alarm = Alarm::new();
    let mut before = Vec::new();
    let mut pause = SOON;
    loop {
        match round(ports, &mut scanner, &mut searches, forwarders).await {
            Ok(sockets) if sockets != before => (before, pause) = (sockets, SOON),
            // Neither way works: perhaps later.
            Ok(_) | Err(_) => pause = (pause * 2).min(LATE),
        }
        let matters = |socket: &Socket| socket.remote.port() == 0 && forwarders.serves(socket.local.port());
        let broken = match &destroyed {
            None => {
                alarm.after(pause).await;
                false
            }
            Some(news) => {
                tokio::select! {
                    () = alarm.after(pause) => false,
                    told = news.until(matters) => told.is_err(),
                }
            }
        };
        if broken {
            destroyed = None;
        }
    }
}

/// One scan and what follows from it. Returns the sockets that it saw.
async fn round(
    ports: &Arc<Ports>,
    scanner: &mut Scanner,
    searches: &mut Searches,
    forwarders: &mut Forwarders,
) -> io::Result<Vec<Socket>> {
    let (source, mut sockets) = scanner.scan()?;
    let own = ports.own_port();
    sockets.retain(|socket| !forwarders.is_at(socket.local) && Some(socket.local.port()) != own);
    sockets.sort_by_key(|socket| (socket.local, socket.inode));
    // Several may share an address.
    sockets.dedup_by_key(|socket| socket.local);
    forwarders.follow(&plan(&sockets, &ports.guest, own)).await;
    let set = describe(ports, &sockets, searches, forwarders).await;
    ports.board.publish(source, set);
    Ok(sockets)
}

async fn describe(ports: &Ports, sockets: &[Socket], searches: &mut Searches, forwarders: &Forwarders) -> Set {
    let mut set: Set = sockets.iter().map(|socket| (socket.local, port(ports, socket, forwarders))).collect();
    for (at, port) in &mut set {
        // The owner of a port that stays is not looked for again.
        port.owner = ports.board.known(*at).filter(|known| known.inode == port.inode).and_then(|known| known.owner);
    }
    let ownerless: Vec<_> =
        set.iter().filter(|(_, port)| port.owner.is_none()).map(|(at, port)| (*at, port.inode)).collect();
    let due = searches.due(&ownerless);
    let inodes: HashSet<u32> = due.iter().map(|(_, inode)| *inode).collect();
    if !inodes.is_empty() {
        let mut owners = tokio::task::spawn_blocking(move || owner::owners(&inodes)).await.unwrap_or_default();
        for (at, inode) in due {
            if let (Some(port), Some(owner)) = (set.get_mut(&at), owners.remove(&inode)) {
                port.owner = Some(owner);
            }
        }
    }
    set
}

fn port(ports: &Ports, socket: &Socket, forwarders: &Forwarders) -> Port {
    let at: SocketAddr = socket.local;
    Port {
        port: at.port(),
        family: if at.is_ipv4() { "ipv4" } else { "ipv6" },
        address: at.ip(),
        scope: Scope::of(at.ip(), &ports.guest),
        forwarded: forwarders.leads_to(at),
        uid: socket.uid,
        inode: socket.inode,
        owner: None,
    }
}

#[cfg(test)]
mod tests;
