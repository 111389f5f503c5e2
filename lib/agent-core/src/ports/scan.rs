//! Where the list of listening sockets comes from.

use std::io;

use serde::Serialize;

use super::proc_net;
use super::sock_diag::SockDiag;
use super::socket::{LISTEN, Socket};

/// Most listening sockets that are looked at.
const MAX_LISTENERS: usize = 4096;

/// Which of the two ways is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    Netlink,
    Proc,
    /// Neither has worked so far.
    #[default]
    None,
}

impl Source {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Netlink => "netlink",
            Self::Proc => "/proc",
            Self::None => "nothing",
        }
    }
}

/// Finds listening sockets, by netlink as long as that works.
#[derive(Debug)]
pub(super) struct Scanner {
    netlink: Option<SockDiag>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self { netlink: SockDiag::open().ok() }
    }

    /// The listening sockets now.
    pub(super) fn scan(&mut self) -> io::Result<(Source, Vec<Socket>)> {
        let by_netlink = self.netlink.as_ref().map(|netlink| netlink.list(1 << LISTEN));
        let (source, mut sockets) = match by_netlink {
            Some(Ok(sockets)) => (Source::Netlink, sockets),
            other => {
                if other.is_some() {
                    // What is left of the answer must not be taken for the next one's.
                    self.netlink = None;
                }
                (Source::Proc, proc_net::listening()?)
            }
        };
        sockets.retain(|socket| socket.state == LISTEN && socket.local.port() != 0);
        sockets.truncate(MAX_LISTENERS);
        Ok((source, sockets))
    }
}
