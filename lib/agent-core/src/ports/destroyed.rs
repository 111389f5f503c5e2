//! Being told at once when a listening socket goes away.
//!
//! The kernel tells its destroy groups of every TCP socket that it frees (`sock_diag_broadcast_destroy` in net/core/sock_diag.c). So
//! a forwarder lets go of its port within a moment of its server's end, and not at the next scan.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sock_diag;
use super::socket::Socket;

/// Bits of `SKNLGRP_INET_TCP_DESTROY` (1) and `SKNLGRP_INET6_TCP_DESTROY` (3).
const GROUPS: u32 = 1 | 1 << 2;
/// One message.
const MESSAGE: usize = 4096;

/// The kernel's news of freed TCP sockets.
#[derive(Debug)]
pub(super) struct Destroyed(AsyncFd<OwnedFd>);

impl Destroyed {
    #[expect(
        deprecated,
        reason = "unsound only for a descriptor that closes early; this one is owned, and the new way is unsafe"
    )]
    pub(super) fn open() -> io::Result<Self> {
        let (flags, protocol) = (SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(netlink::SOCK_DIAG));
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(AsyncFd::with_interest(socket, Interest::READABLE)?))
    }

    /// Waits until a socket is freed for which `matters` holds, or until news were lost.
    pub(super) async fn until(&self, matters: impl Fn(&Socket) -> bool) -> io::Result<()> {
        let mut buffer = [0; MESSAGE];
        loop {
            let mut ready = self.0.readable().await?;
            let received = ready.try_io(|socket| Ok(rustix::net::recv(socket, &mut buffer, RecvFlags::empty())?));
            match received {
                Ok(Ok((_, length))) => {
                    let told = sock_diag::sockets(buffer.get(..length).unwrap_or_default());
                    if told.iter().any(&matters) {
                        return Ok(());
                    }
                    // A guest with many short connections must not keep the agent from its other work.
                    tokio::task::yield_now().await;
                }
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}
