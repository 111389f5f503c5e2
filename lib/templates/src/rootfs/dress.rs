//! What every sandbox finds in its root filesystem, wherever the files came from.

use std::path::Path;

use super::account::{Accounts, ID, NAME};
use super::root_dir::RootDir;
use crate::BuildError;

/// A name server is set by the agent when a network is there.
const RESOLV_CONF: &[u8] = b"# Written anew by the sandbox's agent.\n";
const HOSTS: &[u8] = b"127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost ip6-loopback\n";
/// Mount points of the agent, with their modes.
const MOUNT_POINTS: [(&str, u32); 7] =
    [("proc", 0o555), ("sys", 0o555), ("dev", 0o755), ("run", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("home", 0o755)];

/// Adds the account `user`, passwordless sudo where sudo is, mount points and names; removes what must differ between
/// machines (machine id, ssh host keys).
pub(super) fn dress(path: &Path) -> Result<(), BuildError> {
    let root = RootDir::open(path)?;
    for (name, mode) in MOUNT_POINTS {
        root.make_dir(name, mode, 0)?;
    }
    add_account(&root)?;
    if root.is_dir("etc/sudoers.d") {
        root.write("etc/sudoers.d/user", format!("{NAME} ALL=(ALL:ALL) NOPASSWD:ALL\n").as_bytes(), 0o440)?;
    }
    root.write("etc/hostname", b"sandbox\n", 0o644)?;
    root.write("etc/resolv.conf", RESOLV_CONF, 0o644)?;
    if root.read("etc/hosts")?.is_none_or(|text| text.trim().is_empty()) {
        root.write("etc/hosts", HOSTS, 0o644)?;
    }
    root.write("etc/machine-id", b"", 0o444)?;
    for name in root.names("etc/ssh")?.iter().filter(|name| name.starts_with("ssh_host_")) {
        root.remove(&format!("etc/ssh/{name}"))?;
    }
    Ok(())
}

fn add_account(root: &RootDir) -> Result<(), BuildError> {
    let text = |name: &str| Ok::<_, BuildError>(root.read(name)?.unwrap_or_default());
    let mut accounts = Accounts { passwd: text("etc/passwd")?, group: text("etc/group")?, shadow: text("etc/shadow")? };
    let before = accounts.clone();
    let shell = if root.exists("bin/bash") { "/bin/bash" } else { "/bin/sh" };
    accounts.add_user(shell).map_err(|reason| BuildError::Rootfs { reason })?;
    for (name, old, new, mode) in [
        ("etc/passwd", &before.passwd, &accounts.passwd, 0o644),
        ("etc/group", &before.group, &accounts.group, 0o644),
        ("etc/shadow", &before.shadow, &accounts.shadow, 0o600),
    ] {
        if old != new {
            root.write(name, new.as_bytes(), mode)?;
        }
    }
    let home = format!("home/{NAME}");
    root.make_dir(&home, 0o755, ID)?;
    for name in root.names("etc/skel")? {
        let target = format!("{home}/{name}");
        if root.exists(&target) {
            continue;
        }
        if let Some(text) = root.read(&format!("etc/skel/{name}")).ok().flatten() {
            root.write(&target, text.as_bytes(), 0o644)?;
            root.give(&target, ID)?;
        }
    }
    Ok(())
}
