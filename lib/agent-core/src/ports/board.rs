//! The published set of ports, and the news about it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use super::owner::Owner;
use super::scan::Source;

/// News that wait for a slow reader; one that falls behind gets the whole set again.
const MAX_WAITING: usize = 64;

/// From where a server is reached without a forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// From within the guest only.
    Loopback,
    /// On every address.
    Any,
    /// On an address of the guest.
    Guest,
}

impl Scope {
    /// `guest` are the guest's addresses, which tests take from 127.0.0.0/8.
    pub(super) fn of(address: IpAddr, guest: &[IpAddr]) -> Self {
        let address = address.to_canonical();
        match address {
            _ if address.is_unspecified() => Self::Any,
            _ if address.is_loopback() && !guest.contains(&address) => Self::Loopback,
            _ => Self::Guest,
        }
    }
}

/// A server that listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Port {
    pub(super) port: u16,
    pub(super) family: &'static str,
    pub(super) address: IpAddr,
    pub(super) scope: Scope,
    /// Reachable on the guest's address by a forwarder.
    pub(super) forwarded: bool,
    pub(super) uid: u32,
    /// Tells a server from a later one at the same address.
    #[serde(skip)]
    pub(super) inode: u32,
    #[serde(flatten)]
    pub(super) owner: Option<Owner>,
}

/// The ports by the address that they are bound to.
pub(super) type Set = BTreeMap<SocketAddr, Port>;

/// One piece of news. A port that changed closes and opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum News {
    Open { port: Port },
    Close { port: Port },
}

#[derive(Debug)]
struct State {
    set: Set,
    source: Source,
}

/// Where the set stands.
#[derive(Debug)]
pub(super) struct Board {
    state: Mutex<State>,
    news: broadcast::Sender<News>,
}

impl Board {
    pub(super) fn new() -> Self {
        let state = State { set: Set::new(), source: Source::default() };
        Self { state: Mutex::new(state), news: broadcast::Sender::new(MAX_WAITING) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes a scan and the difference to the one before. Closes come before opens.
    pub(super) fn publish(&self, source: Source, set: Set) {
        self.with(|state| {
            let changed = |old: &Set, new: &Set| -> Vec<Port> {
                let differs = old.iter().filter(|(at, port)| new.get(at) != Some(port));
                differs.map(|(_, port)| port.clone()).collect()
            };
            // Without a reader nobody is told.
            for port in changed(&state.set, &set) {
                let _ = self.news.send(News::Close { port });
            }
            for port in changed(&set, &state.set) {
                let _ = self.news.send(News::Open { port });
            }
            *state = State { set, source };
        });
    }

    pub(super) fn read(&self) -> (Source, Vec<Port>) {
        self.with(|state| (state.source, state.set.values().cloned().collect()))
    }

    pub(super) fn known(&self, at: SocketAddr) -> Option<Port> {
        self.with(|state| state.set.get(&at).cloned())
    }

    /// The set, and all news from exactly then on.
    pub(super) fn subscribe(&self) -> (Vec<Port>, broadcast::Receiver<News>) {
        self.with(|state| (state.set.values().cloned().collect(), self.news.subscribe()))
    }
}

#[cfg(test)]
pub(super) fn port(address: &str, forwarded: bool) -> (SocketAddr, Port) {
    let at: SocketAddr = address.parse().unwrap();
    let family = if at.is_ipv4() { "ipv4" } else { "ipv6" };
    let scope = Scope::of(at.ip(), &[]);
    (at, Port { port: at.port(), family, address: at.ip(), scope, forwarded, uid: 0, inode: 0, owner: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_the_set_and_then_only_what_changes() {
        let board = Board::new();
        board.publish(Source::Netlink, [port("127.0.0.1:1", false)].into());
        let (set, mut news) = board.subscribe();
        assert_eq!(set.len(), 1);
        let now: Set = [port("127.0.0.1:1", true), port("0.0.0.0:2", false)].into();
        board.publish(Source::Netlink, now.clone());
        board.publish(Source::Netlink, now);
        let told: Vec<_> = std::iter::from_fn(|| news.try_recv().ok()).collect();
        let [one, one_forwarded, two] =
            [("127.0.0.1:1", false), ("127.0.0.1:1", true), ("0.0.0.0:2", false)].map(|(at, to)| port(at, to).1);
        let opens = [News::Open { port: two }, News::Open { port: one_forwarded }];
        assert_eq!(told[0], News::Close { port: one });
        assert!(told.len() == 3 && opens.iter().all(|open| told.contains(open)), "{told:?}");
    }

    #[test]
    fn scopes_tell_how_far_a_server_is_seen() {
        let guest = [IpAddr::from([127, 0, 0, 2])];
        let of = |address: &str| Scope::of(address.parse().unwrap(), &guest);
        assert_eq!([of("127.0.0.1"), of("::1"), of("127.0.0.53")], [Scope::Loopback; 3]);
        assert_eq!([of("0.0.0.0"), of("::")], [Scope::Any; 2]);
        assert_eq!([of("127.0.0.2"), of("10.0.2.15")], [Scope::Guest; 2]);
    }
}
