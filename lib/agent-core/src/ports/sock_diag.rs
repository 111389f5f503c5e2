//! The few sock_diag messages that listing and destroying TCP sockets needs (sock_diag(7), include/uapi/linux/inet_diag.h).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::socket::Socket;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// `struct nlmsghdr`, `struct inet_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 72;
/// Largest piece of a dump (`netlink_recvmsg`).
const PIECE: usize = 32 * 1024;
/// The kernel answers at once; this guards against one that does not.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most sockets that are read of one family.
const MAX_SOCKETS: usize = 16_384;

/// A connection to the kernel's list of sockets.
#[derive(Debug)]
pub(super) struct SockDiag(OwnedFd);

/// What one piece of a dump says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    sockets: Vec<Socket>,
    done: bool,
    error: Option<i32>,
}

impl SockDiag {
    pub(super) fn open() -> io::Result<Self> {
        let (flags, protocol) = (SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG));
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// The TCP sockets of both families in those states whose bit is set in `states`.
    pub(super) fn list(&self, states: u32) -> io::Result<Vec<Socket>> {
        let mut sockets = self.dump(AF_INET, states)?;
        // Without IPv6 only IPv4 is listed.
        sockets.extend(self.dump(AF_INET6, states).unwrap_or_default());
        Ok(sockets)
    }

    fn dump(&self, family: u8, states: u32) -> io::Result<Vec<Socket>> {
        let mut body = vec![family, IPPROTO_TCP, 0, 0];
        body.extend(states.to_ne_bytes());
        body.extend([0; 48]);
        self.send(&message(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &body))?;
        let mut sockets = Vec::new();
        let mut buffer = vec![0; PIECE];
        loop {
            let (_, length) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let piece = parse(buffer.get(..length).unwrap_or_default());
            sockets.extend(piece.sockets);
            if let Some(code) = piece.error {
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            if piece.done {
                return Ok(sockets);
            }
            if length == 0 || sockets.len() > MAX_SOCKETS {
                return Err(io::Error::other("a list of sockets without end"));
            }
        }
    }

    /// Ends a connection as if its peer had reset it: both ends are told. `EOPNOTSUPP` where the kernel cannot.
    pub(super) fn destroy(&self, socket: &Socket) -> io::Result<()> {
        self.send(&message(SOCK_DESTROY, NLM_F_ACK, &destroy_request(socket)))?;
        let mut answer = [0; 1024];
        let (_, length) = rustix::net::recv(&self.0, &mut answer, RecvFlags::empty())?;
        match parse(answer.get(..length).unwrap_or_default()).error {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected netlink answer")),
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        rustix::net::sendto(&self.0, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(())
    }
}

/// `struct nlmsghdr` and body.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// `struct inet_diag_req_v2`. The cookie makes sure that it is this socket and not a later one with the same addresses.
fn destroy_request(socket: &Socket) -> Vec<u8> {
    let family = if socket.local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut body = vec![family, IPPROTO_TCP, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(socket.local.port().to_be_bytes());
    body.extend(socket.remote.port().to_be_bytes());
    for end in [socket.local, socket.remote] {
        match end.ip() {
            IpAddr::V4(ip) => body.extend(ip.octets().into_iter().chain([0; 12])),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    for word in [socket.interface, socket.cookie[0], socket.cookie[1]] {
        body.extend(word.to_ne_bytes());
    }
    body
}

/// Reads the messages of one datagram. What is not of the form ends it.
pub(super) fn parse(mut bytes: &[u8]) -> Piece {
    let mut piece = Piece::default();
    while let Some((kind, body, rest)) = next(bytes) {
        match kind {
            NLMSG_DONE => piece.done = true,
            NLMSG_ERROR => piece.error = word(body, 0).map(|code| code.cast_signed()),
            SOCK_DIAG_BY_FAMILY => piece.sockets.extend(socket(body)),
            _ => {}
        }
        bytes = rest;
    }
    piece
}

/// The sockets that a datagram of the kernel's tells of.
pub(super) fn sockets(datagram: &[u8]) -> Vec<Socket> {
    parse(datagram).sockets
}

/// Kind and body of the first message, and what follows it. Every message is at least its header long, so this comes to an end.
fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(word(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((half(bytes, 4)?, body, rest))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// `struct inet_diag_msg` and attributes.
fn socket(body: &[u8]) -> Option<Socket> {
    let ip = |at: usize| -> Option<IpAddr> {
        match *body.first()? {
            AF_INET => <[u8; 4]>::try_from(body.get(at..at + 4)?).ok().map(IpAddr::from),
            AF_INET6 => <[u8; 16]>::try_from(body.get(at..at + 16)?).ok().map(IpAddr::from),
            _ => None,
        }
    };
    let port = |at: usize| half(body, at).map(u16::from_be);
    Some(Socket {
        state: *body.get(1)?,
        local: SocketAddr::new(ip(8)?, port(4)?),
        remote: SocketAddr::new(ip(24)?, port(6)?),
        interface: word(body, 40)?,
        cookie: [word(body, 44)?, word(body, 48)?],
        uid: word(body, 64)?,
        inode: word(body, 68)?,
        v6_only: v6_only(body.get(MESSAGE..)?),
    })
}

/// `struct nlattr`s.
fn v6_only(mut attributes: &[u8]) -> bool {
    while let (Some(length), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        let length = usize::from(length);
        let Some(value) = attributes.get(4..length) else { return false };
        if kind == INET_DIAG_SKV6ONLY {
            return value.first().is_some_and(|value| *value != 0);
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::socket::LISTEN;
    use proptest::prelude::*;
    use std::io::Read;

    #[test]
    fn an_own_listener_is_in_the_list() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(own) = std::net::TcpListener::bind(address) else {
                println!("skipped for {address}: this system has no such address");
                continue;
            };
            let address = own.local_addr().unwrap();
            let listed = SockDiag::open().unwrap().list(1 << LISTEN).unwrap();
            let found = listed.iter().find(|socket| socket.local == address).unwrap();
            assert_eq!((found.state, found.uid), (LISTEN, rustix::process::geteuid().as_raw()));
        }
    }

    #[test]
    fn a_destroyed_connection_ends_with_an_error_at_once() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root may destroy sockets");
            return;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let diag = SockDiag::open().unwrap();
        let local = client.local_addr().unwrap();
        let found = *diag.list(1 << 1).unwrap().iter().find(|socket| socket.local == local).unwrap();
        match diag.destroy(&found) {
            Err(error) if error.raw_os_error() == Some(95) => println!("skipped: this kernel has no SOCK_DESTROY"),
            done => {
                done.unwrap();
                let error = client.read(&mut [0; 1]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
                assert_eq!(server.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
                assert!(diag.destroy(&found).is_err(), "it is gone");
            }
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic_or_loop(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            parse(&bytes);
            prop_assert!(sockets(&message(SOCK_DIAG_BY_FAMILY, 0, &bytes)).len() <= 1);
        }

        #[test]
        fn a_cut_or_overlong_message_gives_nothing(cut in 0usize..88, length in 0u32..200) {
            let mut whole = message(SOCK_DIAG_BY_FAMILY, 0, &[AF_INET; MESSAGE]);
            prop_assert_eq!(sockets(&whole).len(), 1);
            prop_assert!(parse(whole.get(..cut).unwrap()).sockets.is_empty());
            whole[..4].copy_from_slice(&length.to_ne_bytes());
            prop_assert_eq!(sockets(&whole).len(), usize::from(length == 88));
        }
    }
}
