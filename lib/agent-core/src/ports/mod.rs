//! TCP ports of the guest: which ones have a server, and how a server that listens on the loopback only is reached from outside.
//!
//! A scan (netlink, else /proc) gives the listening sockets; the difference to the scan before is published and decides which
//! forwarders are wanted. Everything stops for a snapshot and starts anew after it, so that no forwarder of an earlier life is left.

mod alarm;
mod board;
mod captured;
mod destroyed;
mod forward;
mod forwarders;
mod owner;
mod proc_net;
mod routes;
mod scan;
mod search;
mod sock_diag;
mod socket;
mod subsystem;

/// Reads `text` and `bytes` as what the kernel says of sockets and their owners.
#[cfg(feature = "testing")]
pub(crate) fn read_any(text: &str, bytes: &[u8]) {
    proc_net::parse(text).for_each(drop);
    owner::inode(text);
    owner::unified_cgroup(text);
    sock_diag::parse(bytes);
}

pub(crate) use routes::{events, list};
pub(crate) use subsystem::Ports;
