//! /proc/net/tcp and /proc/net/tcp6 (Documentation/networking/proc_net_tcp.rst), where there is no sock_diag.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::socket::{LISTEN, Socket};

const FILES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// What is read of a file. Listening sockets come first in it.
const MAX_BYTES: u64 = 1 << 20;

/// The listening sockets. A kernel without IPv6 has no file for it.
pub(super) fn listening() -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for (index, path) in FILES.into_iter().enumerate() {
        match read(path) {
            Ok(text) => sockets.extend(parse(&text)),
            Err(error) if index == 0 => return Err(error),
            Err(_) => {}
        }
    }
    Ok(sockets)
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines that are not of the form are passed over.
pub(super) fn parse(text: &str) -> impl Iterator<Item = Socket> + '_ {
    text.lines().skip(1).filter_map(line).filter(|socket| socket.state == LISTEN)
}

fn line(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, remote, state, _, _, _, uid, _, inode] = words.as_slice() else { return None };
    Some(Socket {
        local: address(local)?,
        remote: address(remote)?,
        state: u8::from_str_radix(state, 16).ok()?,
        uid: uid.parse().ok()?,
        inode: inode.parse().ok()?,
        cookie: [0; 2],
        interface: 0,
        v6_only: false,
    })
}

/// `0100007F:1F90`: 32-bit words of the address in the machine's byte order, and the port.
fn address(word: &str) -> Option<SocketAddr> {
    let (host, port) = word.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let part = |at: usize| Some(u32::from_str_radix(host.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(part(0)?)),
        32 => {
            let bytes = [part(0)?, part(8)?, part(16)?, part(24)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn listening_sockets_of_both_families_are_read() {
        let text = format!(
            "{HEAD}   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77 1 0 100 0\n\
             1: 0100007F:1F90 0100007F:1F91 01 00000000:00000000 00:00000000 00000000  1000        0 78 1 0 100 0\n\
             2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 79 1\n"
        );
        let found: Vec<_> = parse(&text).map(|s| (s.local.to_string(), s.uid, s.inode)).collect();
        assert_eq!(found, [("127.0.0.1:8080".into(), 1000, 77), ("[::1]:80".into(), 0, 79)]);
    }

    #[test]
    fn an_own_listener_is_found_in_the_real_file() {
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = own.local_addr().unwrap();
        assert!(listening().unwrap().iter().any(|socket| socket.local == address));
    }

    proptest! {
        #[test]
        fn nonsense_is_passed_over(text in "(?s).{0,400}", words in "([0-9A-F:éx]{0,40} ?){0,14}") {
            let all = format!("{HEAD}{text}\n{words}\n");
            prop_assert!(parse(&all).count() <= all.lines().count());
        }
    }
}
