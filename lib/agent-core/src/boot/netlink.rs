//! The few rtnetlink messages that a static network needs (rtnetlink(7), include/uapi/linux/rtnetlink.h).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// A connection to the kernel's routing tables.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        // No protocol is protocol 0, NETLINK_ROUTE.
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self(socket))
    }

    pub(super) fn set_up(&self, index: u32) -> io::Result<()> {
        self.request(RTM_NEWLINK, 0, &link_up(index))
    }

    pub(super) fn add_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &new_address(index, address, prefix))
    }

    pub(super) fn add_default_route(&self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        self.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &default_route(index, gateway))
    }

    fn request(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.0, &message(kind, flags, body), SendFlags::empty(), &kernel)?;
        let mut answer = [0; 1024];
        let (_, length) = rustix::net::recv(&self.0, &mut answer, RecvFlags::empty())?;
        acknowledged(answer.get(..length).unwrap_or_default())
    }
}

/// `struct nlmsghdr` and body; the kernel ignores the sequence number of a lone request.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// An acknowledgement is an error message with the number 0; errors are negative.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let field = |from: usize, to: usize| answer.get(from..to);
    let kind = field(4, 6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let code = field(16, 20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected netlink answer")),
    }
}

/// `struct ifinfomsg`.
fn link_up(index: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [index, IFF_UP, IFF_UP] {
        body.extend(word.to_ne_bytes());
    }
    body
}

/// `struct ifaddrmsg` and attributes.
fn new_address(index: u32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = vec![AF_INET, prefix, 0, 0];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, address.octets());
    attribute(&mut body, IFA_ADDRESS, address.octets());
    body
}

/// `struct rtmsg` and attributes.
fn default_route(index: u32, gateway: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST];
    body.extend([0; 4]);
    attribute(&mut body, RTA_GATEWAY, gateway.octets());
    attribute(&mut body, RTA_OIF, index.to_ne_bytes());
    body
}

/// `struct rtattr` with four bytes, so no padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: [u8; 4]) {
    body.extend(8_u16.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_and_an_error_are_told_apart() {
        let answer = |code: i32| [&[0; 4], &NLMSG_ERROR.to_ne_bytes()[..], &[0; 10], &code.to_ne_bytes()].concat();
        assert!(acknowledged(&answer(0)).is_ok());
        assert_eq!(acknowledged(&answer(-17)).unwrap_err().raw_os_error(), Some(17));
        assert!(acknowledged(&[]).is_err());
    }

    #[test]
    fn messages_have_the_kernels_layout() {
        assert_eq!(link_up(2).len(), 16);
        assert_eq!(new_address(2, Ipv4Addr::LOCALHOST, 8).len(), 8 + 16);
        assert_eq!(default_route(2, Ipv4Addr::LOCALHOST).len(), 12 + 16);
        let message = message(RTM_NEWLINK, 0, &link_up(2));
        assert_eq!(message[..4], 32_u32.to_ne_bytes());
    }
}
