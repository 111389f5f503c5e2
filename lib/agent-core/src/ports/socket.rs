//! A TCP socket as the kernel lists it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_LISTEN` (include/net/tcp_states.h).
pub(super) const LISTEN: u8 = 10;

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) state: u8,
    pub(super) uid: u32,
    pub(super) inode: u32,
    /// Its number for as long as the kernel runs; zero where that is not known.
    pub(super) cookie: [u32; 2],
    /// Interface that it is bound to.
    pub(super) interface: u32,
    /// An IPv6 wildcard that takes no IPv4 connections. False where that is not known.
    pub(super) v6_only: bool,
}

impl Socket {
    /// Whether a connection to `address` on the same port would reach it, or a bind to it would collide with it.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        let own = self.local.ip();
        match own {
            IpAddr::V4(own) if own.is_unspecified() => address.is_ipv4(),
            IpAddr::V6(own) if own.is_unspecified() => address.is_ipv6() || !self.v6_only,
            _ => own.to_canonical() == address.to_canonical(),
        }
    }

    /// Reached on the loopback by the address that everybody means by "localhost". Other addresses of 127.0.0.0/8 are
    /// somebody's own choice and are left alone.
    pub(super) fn is_localhost(&self) -> bool {
        matches!(self.local.ip().to_canonical(), IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST))
    }

    /// Neither end is on another machine.
    pub(super) fn is_internal(&self) -> bool {
        let remote = self.remote.ip().to_canonical();
        remote.is_loopback() || remote.is_unspecified() || remote == self.local.ip().to_canonical()
    }
}

#[cfg(test)]
pub(super) fn listening(local: &str) -> Socket {
    let local: SocketAddr = local.parse().unwrap();
    let remote = SocketAddr::new(if local.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) }, 0);
    Socket { local, remote, state: LISTEN, uid: 0, inode: 1, cookie: [1, 0], interface: 0, v6_only: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_every_address_that_it_takes_connections_on() {
        let (v4, v6) = (IpAddr::from([10, 0, 2, 15]), IpAddr::V6("fec0::1".parse().unwrap()));
        assert!(listening("0.0.0.0:80").covers(v4) && !listening("0.0.0.0:80").covers(v6));
        assert!(listening("[::]:80").covers(v4) && listening("[::]:80").covers(v6));
        assert!(!Socket { v6_only: true, ..listening("[::]:80") }.covers(v4));
        assert!(listening("10.0.2.15:80").covers(v4) && listening("[::ffff:10.0.2.15]:80").covers(v4));
        assert!(!listening("127.0.0.1:80").covers(v4));
    }

    #[test]
    fn only_the_two_customary_addresses_are_localhost() {
        assert!(listening("127.0.0.1:80").is_localhost() && listening("[::1]:80").is_localhost());
        assert!(!listening("127.0.0.53:53").is_localhost() && !listening("0.0.0.0:80").is_localhost());
    }

    #[test]
    fn a_connection_within_the_guest_is_internal_by_whatever_address() {
        let with = |local: &str, remote: &str| Socket { remote: remote.parse().unwrap(), ..listening(local) };
        assert!(with("127.0.0.1:80", "127.0.0.1:4000").is_internal());
        assert!(with("10.0.2.15:80", "10.0.2.15:4000").is_internal());
        assert!(with("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:4000").is_internal());
        assert!(!with("10.0.2.15:4000", "1.1.1.1:443").is_internal());
    }
}
