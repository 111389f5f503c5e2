//! The kernel command line (proc(5), `/proc/cmdline`).

use std::net::Ipv4Addr;

use crate::init::is_hostname;

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
}

/// The agent's words on it. Wrong ones count as absent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cmdline {
    pub(super) hostname: Option<String>,
    pub(super) ip: Option<Cidr>,
    pub(super) gateway: Option<Ipv4Addr>,
    /// The interface to use; without it the first Ethernet one.
    pub(super) mac: Option<[u8; 6]>,
}

impl Cmdline {
    pub(super) fn parse(text: &str) -> Self {
        let mut cmdline = Self::default();
        for (key, value) in
            text.split_ascii_whitespace().filter_map(|word| word.strip_prefix("dormouse.")?.split_once('='))
        {
            match key {
                "hostname" => cmdline.hostname = Some(value.to_owned()).filter(|name| is_hostname(name)),
                "ip" => cmdline.ip = cidr(value),
                "gw" => cmdline.gateway = value.parse().ok(),
                "mac" => cmdline.mac = mac(value),
                _ => {}
            }
        }
        cmdline
    }
}

fn cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    Some(Cidr { address: address.parse().ok()?, prefix })
}

pub(super) fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn of_any_line_only_what_makes_sense_is_taken(
            text in "(?s).{0,60}", words in "(dormouse\\.(hostname|ip|gw|mac)=[a-zé0-9./:\\-]{0,24} ?){0,6}",
        ) {
            let cmdline = Cmdline::parse(&format!("{text} {words}"));
            prop_assert!(cmdline.hostname.is_none_or(|name| is_hostname(&name)));
            prop_assert!(cmdline.ip.is_none_or(|ip| ip.prefix <= 32));
        }
    }

    #[test]
    fn the_agents_words_are_found_among_the_kernels() {
        let text = "quiet console=ttyS0 dormouse.hostname=box dormouse.ip=10.0.2.15/24 dormouse.gw=10.0.2.2 dormouse.mac=52:54:00:12:34:56\n";
        let cmdline = Cmdline::parse(text);
        assert_eq!(cmdline.hostname.as_deref(), Some("box"));
        assert_eq!(cmdline.ip, Some(Cidr { address: Ipv4Addr::new(10, 0, 2, 15), prefix: 24 }));
        assert_eq!(cmdline.gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(cmdline.mac, Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    }

    #[test]
    fn wrong_words_count_as_absent() {
        let text = "dormouse.hostname=a/b dormouse.ip=10.0.2.15/33 dormouse.gw=x dormouse.mac=1:2:3 dormouse. other.ip=1.1.1.1/8";
        assert_eq!(Cmdline::parse(text), Cmdline::default());
    }
}
