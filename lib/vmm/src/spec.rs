//! What a VM is made of.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use dormouse_guest_mem::Bytes;
use serde::{Deserialize, Serialize};

/// The devices of a VM. A restore needs the same spec as the boot, except for host paths, the host port and the MAC
/// address (the guest keeps the one that it booted with).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Number of virtual CPUs; at least 1.
    pub vcpus: u8,
    /// Size of guest RAM; a multiple of 1 MiB.
    pub ram: Bytes,
    /// Whether the guest's CPU has 5-level page tables (`la57`).
    pub five_level_paging: bool,
    /// Block devices in the guest's order. The guest sees the id as the disk's serial number.
    pub disks: Vec<Disk>,
    /// The one network card.
    pub net: UserNet,
}

/// A raw disk image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Name within the VM: 1 to 20 lower-case letters, digits and `-`.
    pub id: String,
    /// The image; an absolute path.
    pub file: PathBuf,
    /// Read-only disks may be shared by any number of VMs; a writable one belongs to one VM at a time.
    pub read_only: bool,
}

/// A user-mode network: the guest reaches nothing, and one TCP port of it is reachable from the host's loopback.
///
/// The forwarder accepts connections before anything in the guest listens: a connection proves nothing, only an
/// answer does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNet {
    /// Port on 127.0.0.1 of the host; not 0.
    pub host_port: u16,
    /// Port in the guest; not 0.
    pub guest_port: u16,
    /// The card's address.
    pub mac: MacAddr,
}

/// What a fresh VM runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Kernel: bzImage, or ELF with a PVH or multiboot entry.
    pub kernel: PathBuf,
    /// Initial RAM file system.
    pub initramfs: PathBuf,
    /// Kernel command line. The console is `ttyS0`.
    pub cmdline: String,
}

/// An Ethernet address. Text form `52:54:00:12:34:56`, also in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// The text is no Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Ethernet address has six hex bytes separated by colons, such as 52:54:00:12:34:56")]
pub struct ParseMacError;

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|c| c.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or(ParseMacError)?, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() { Err(ParseMacError) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_survives_its_text_form(bytes: [u8; 6]) {
            prop_assert_eq!(MacAddr(bytes).to_string().parse(), Ok(MacAddr(bytes)));
        }
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        for bad in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "5:54:00:12:34:56", "+2:54:00:12:34:56", "zz:54:00:12:34:56"]
        {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseMacError), "{bad}");
        }
    }
}
