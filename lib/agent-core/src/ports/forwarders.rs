//! Which forwarders there are to be, and having exactly those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::forward::{forward, listen};
use super::socket::Socket;

/// Most connections that are forwarded at a time, and most forwarders: both cost descriptors.
const MAX_CONNECTIONS: usize = 256;
const MAX_FORWARDERS: usize = 128;

/// Address on which a forwarder listens, and the server that it leads to.
pub(super) type Plan = BTreeMap<SocketAddr, SocketAddr>;

/// The forwarders that `sockets` call for: one per guest address and port with a server on localhost, unless another server takes
/// connections there. A server of the address's own family goes before one of the other.
pub(super) fn plan(sockets: &[Socket], guest: &[IpAddr], own_port: Option<u16>) -> Plan {
    let mut plan = Plan::new();
    let ports: BTreeSet<u16> = sockets.iter().filter(|s| s.is_localhost()).map(|s| s.local.port()).collect();
    for port in ports.into_iter().filter(|port| Some(*port) != own_port) {
        let here = || sockets.iter().filter(move |socket| socket.local.port() == port);
        for address in guest.iter().filter(|address| !here().any(|socket| socket.covers(**address))) {
            let servers = here().filter(|socket| socket.is_localhost()).map(|socket| socket.local);
            let best = servers.min_by_key(|server| server.is_ipv4() != address.is_ipv4());
            if let Some(server) = best.filter(|_| plan.len() < MAX_FORWARDERS) {
                plan.insert(SocketAddr::new(*address, port), server);
            }
        }
    }
    plan
}

#[derive(Debug)]
struct Running {
    target: SocketAddr,
    task: JoinHandle<()>,
}

/// The forwarders that run. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Forwarders {
    running: BTreeMap<SocketAddr, Running>,
    room: Arc<Semaphore>,
}

impl Forwarders {
    pub(super) fn new() -> Self {
        Self { running: BTreeMap::new(), room: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// Whether a forwarder listens there.
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        self.running.contains_key(&address)
    }

    /// Whether a forwarder leads to this server.
    pub(super) fn leads_to(&self, server: SocketAddr) -> bool {
        self.running.values().any(|one| one.target == server)
    }

    /// Whether a server of this port has a forwarder.
    pub(super) fn serves(&self, port: u16) -> bool {
        self.running.keys().any(|at| at.port() == port)
    }

    /// Ends the forwarders that `plan` does not have, and starts those that are missing. One that cannot listen, since somebody else
    /// has taken the port in this moment, is tried again at the next call.
    pub(super) async fn follow(&mut self, plan: &Plan) {
        let unwanted = self.running.iter().filter(|(at, one)| plan.get(*at) != Some(&one.target));
        let unwanted: Vec<_> = unwanted.map(|(at, _)| *at).collect();
        for at in unwanted {
            self.end(at).await;
        }
        for (at, target) in plan {
            if !self.is_at(*at)
                && let Ok(listener) = listen(*at)
            {
                let task = tokio::spawn(forward(listener, *target, Arc::clone(&self.room)));
                self.running.insert(*at, Running { target: *target, task });
            }
        }
    }

    /// Ends one; its port is free when this returns.
    async fn end(&mut self, at: SocketAddr) {
        if let Some(one) = self.running.remove(&at) {
            one.task.abort();
            // An error says that it was ended.
            let _ = one.task.await;
        }
    }

    /// Ends all.
    pub(super) async fn clear(&mut self) {
        self.follow(&Plan::new()).await;
    }
}

impl Drop for Forwarders {
    fn drop(&mut self) {
        for one in self.running.values() {
            one.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::socket::listening;

    fn planned(sockets: &[&str]) -> Vec<(String, String)> {
        let sockets: Vec<_> = sockets.iter().map(|address| listening(address)).collect();
        let guest = ["10.0.2.15", "fec0::1"].map(|address| address.parse().unwrap());
        let plan = plan(&sockets, &guest, Some(49983));
        plan.iter().map(|(at, target)| (at.to_string(), target.to_string())).collect()
    }

    #[test]
    fn a_server_on_localhost_is_reached_on_every_guest_address() {
        let both =
            |target: &str| [("10.0.2.15:80".into(), target.into()), ("[fec0::1]:80".into(), target.into())].to_vec();
        assert_eq!(planned(&["127.0.0.1:80"]), both("127.0.0.1:80"));
        assert_eq!(planned(&["[::1]:80"]), both("[::1]:80"));
        assert_eq!(
            planned(&["[::1]:80", "127.0.0.1:80"]),
            [("10.0.2.15:80".into(), "127.0.0.1:80".into()), ("[fec0::1]:80".into(), "[::1]:80".into())]
        );
    }

    #[test]
    fn nothing_stands_in_the_way_of_a_server_that_is_reachable_itself() {
        assert!(planned(&["0.0.0.0:80", "[::]:80"]).is_empty());
        assert!(planned(&["[::]:80", "127.0.0.1:80"]).is_empty());
        assert_eq!(planned(&["10.0.2.15:80", "127.0.0.1:80"]).len(), 1, "only the other address");
    }

    #[test]
    fn the_agents_own_port_and_other_loopback_addresses_are_never_forwarded() {
        assert!(planned(&["127.0.0.1:49983", "127.0.0.53:53"]).is_empty());
    }

    #[test]
    fn a_thousand_servers_do_not_make_a_thousand_forwarders() {
        let many: Vec<_> = (1..=1000).map(|port| listening(&format!("127.0.0.1:{port}"))).collect();
        assert_eq!(plan(&many, &["10.0.2.15".parse().unwrap()], None).len(), MAX_FORWARDERS);
    }
}
