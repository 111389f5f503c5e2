//! Connections that a snapshot caught.
//!
//! After a restore their other ends are gone, or talk to another fork of this guest: every fork would go on with the same TCP
//! sequence numbers. So they are noted at the end of a prepare and destroyed at the restore, before user processes run on: those
//! get an error at once and do not wait for ever. Connections within the guest were restored with both their ends and stay.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use dormouse_agent_proto::control::ConnectionPolicy;

use super::sock_diag::SockDiag;
use super::socket::Socket;

/// States in which there is another end: established, syn_sent, fin_wait1, fin_wait2, close_wait, last_ack, closing
/// (include/net/tcp_states.h).
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// The connections of the prepare under way.
#[derive(Debug, Default)]
pub(crate) struct Captured(Mutex<Vec<Socket>>);

/// Which connections a restore ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<'a> {
    /// The guest's addresses.
    pub(super) guest: &'a [IpAddr],
    /// The agent's port.
    pub(super) own_port: Option<u16>,
    /// For connections of user processes.
    pub(super) policy: ConnectionPolicy,
}

impl Rule<'_> {
    /// Only connections of the guest's own addresses are ever touched.
    fn ends(&self, socket: &Socket) -> bool {
        let of_the_agent = self.own_port == Some(socket.local.port());
        self.guest.contains(&socket.local.ip().to_canonical())
            && !socket.is_internal()
            && (of_the_agent || self.policy == ConnectionPolicy::Cut)
    }
}

impl Captured {
    fn swap(&self, sockets: Vec<Socket>) -> Vec<Socket> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), sockets)
    }

    /// Notes the connections that are open now and that `rule` ends. Earlier notes are forgotten.
    pub(super) fn note(&self, rule: Rule<'_>) {
        let mut sockets = SockDiag::open().and_then(|diag| diag.list(CONNECTED)).unwrap_or_default();
        sockets.retain(|socket| rule.ends(socket));
        self.swap(sockets);
    }

    pub(super) fn forget(&self) {
        self.swap(Vec::new());
    }

    /// Destroys what was noted, except the connection with `kept`. Returns how many there were and how many of them could not be
    /// destroyed: those that had gone by themselves, or all where the kernel cannot do it.
    pub(super) fn destroy_but(&self, kept: Option<SocketAddr>) -> (usize, usize) {
        let mut sockets = self.swap(Vec::new());
        sockets.retain(|socket| Some(socket.remote) != kept);
        let Ok(diag) = SockDiag::open() else { return (sockets.len(), sockets.len()) };
        let failed = sockets.iter().filter(|socket| diag.destroy(socket).is_err()).count();
        (sockets.len(), failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::socket::listening;
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn only_connections_to_outside_are_ended_and_of_users_only_by_policy() {
        let ends = |policy, local: &str, remote: &str| {
            let guest = ["10.0.2.15".parse().unwrap()];
            let socket = Socket { remote: remote.parse().unwrap(), ..listening(local) };
            Rule { guest: &guest, own_port: Some(49983), policy }.ends(&socket)
        };
        for (local, remote, cut, keep) in [
            ("10.0.2.15:49983", "10.0.2.2:5000", true, true),
            ("[::ffff:10.0.2.15]:49983", "[::ffff:10.0.2.2]:5000", true, true),
            ("10.0.2.15:4000", "1.1.1.1:443", true, false),
            ("10.0.2.15:4000", "10.0.2.15:80", false, false),
            ("127.0.0.1:4000", "127.0.0.1:80", false, false),
            ("192.168.0.1:4000", "1.1.1.1:443", false, false),
        ] {
            let found = [ConnectionPolicy::Cut, ConnectionPolicy::Keep].map(|policy| ends(policy, local, remote));
            assert_eq!(found, [cut, keep], "{local} {remote}");
        }
    }

    #[test]
    fn noted_connections_end_with_an_error_and_the_kept_one_lives() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root may destroy sockets");
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let [mut cut, kept] = [(); 2].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let peers = [(); 2].map(|()| listener.accept().unwrap().0);
        for stream in [&cut, &kept] {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let own: Vec<_> = peers.iter().map(|peer| peer.peer_addr().unwrap()).collect();
        let mut sockets = SockDiag::open().unwrap().list(CONNECTED).unwrap();
        sockets.retain(|socket| own.contains(&socket.remote));
        assert_eq!(sockets.len(), 2);
        let captured = Captured::default();
        captured.swap(sockets);
        let (noted, failed) = captured.destroy_but(Some(kept.local_addr().unwrap()));
        if (noted, failed) == (1, 1) {
            println!("skipped: this kernel has no SOCK_DESTROY");
            return;
        }
        assert_eq!((noted, failed), (1, 0));
        assert_eq!(cut.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        kept.set_nonblocking(true).unwrap();
        assert_eq!((&kept).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock, "it lives");
        assert_eq!(captured.destroy_but(None), (0, 0), "once is enough");
    }
}
