//! The static network.

use std::fs;
use std::path::Path;

use super::cmdline::{Cmdline, mac};
use super::netlink::Netlink;
use super::{BootError, Doing, log};

/// `ARPHRD_ETHER` (include/uapi/linux/if_arp.h).
const ETHERNET: &str = "1";

/// Brings up loopback, and the interface that the command line means with its address and route. A guest without one boots too: the
/// host sees that nobody answers and the console tells why.
pub(super) fn configure(cmdline: &Cmdline) -> Result<(), BootError> {
    let netlink = Netlink::open().doing(|| "open netlink".into())?;
    netlink.set_up(1).doing(|| "set lo up".into())?;
    let Some((name, index)) = interface(Path::new("/sys/class/net"), cmdline.mac) else {
        log("there is no Ethernet interface");
        return Ok(());
    };
    netlink.set_up(index).doing(|| format!("set {name} up"))?;
    if let Some(ip) = cmdline.ip {
        netlink
            .add_address(index, ip.address, ip.prefix)
            .doing(|| format!("give {name} the address {}", ip.address))?;
    }
    if let Some(gateway) = cmdline.gateway {
        netlink.add_default_route(index, gateway).doing(|| format!("route by {gateway}"))?;
    }
    name_server(cmdline)
}

/// The Ethernet interface with `wanted` address, else the one with the lowest index.
fn interface(class: &Path, wanted: Option<[u8; 6]>) -> Option<(String, u32)> {
    let read =
        |name: &str, file: &str| fs::read_to_string(class.join(name).join(file)).ok().map(|t| t.trim().to_owned());
    let names = fs::read_dir(class).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| read(name, "type").as_deref() == Some(ETHERNET))
        .filter(|name| wanted.is_none() || read(name, "address").as_deref().and_then(mac) == wanted)
        .filter_map(|name| Some((read(&name, "ifindex")?.parse().ok()?, name)))
        .min()
        .map(|(index, name)| (name, index))
}

/// The gateway also answers names, unless the image says otherwise.
fn name_server(cmdline: &Cmdline) -> Result<(), BootError> {
    let (Some(gateway), file) = (cmdline.gateway, Path::new("/etc/resolv.conf")) else { return Ok(()) };
    if file.symlink_metadata().is_ok() {
        return Ok(());
    }
    fs::write(file, format!("nameserver {gateway}\n")).doing(|| "write /etc/resolv.conf".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ethernet_interface_is_used_unless_an_address_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind, index, address) in [
            ("lo", "772", "1", "00:00:00:00:00:00"),
            ("eth1", "1", "3", "52:54:00:00:00:01"),
            ("eth0", "1", "2", "52:54:00:00:00:00"),
        ] {
            let at = dir.path().join(name);
            fs::create_dir(&at).unwrap();
            for (file, text) in [("type", kind), ("ifindex", index), ("address", address)] {
                fs::write(at.join(file), format!("{text}\n")).unwrap();
            }
        }
        assert_eq!(interface(dir.path(), None), Some(("eth0".into(), 2)));
        assert_eq!(interface(dir.path(), mac("52:54:00:00:00:01")), Some(("eth1".into(), 3)));
        assert_eq!(interface(dir.path(), Some([1; 6])), None);
    }
}
