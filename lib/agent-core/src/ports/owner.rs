//! Who holds a listening socket: found by looking through the descriptors of all processes, so only for sockets that are new.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

/// Processes that are looked at, and descriptors of each.
const MAX_PROCESSES: usize = 4096;
const MAX_DESCRIPTORS: usize = 4096;
/// What is read of a file of /proc.
const MAX_TEXT: u64 = 4096;

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// Its name as `ps` shows it.
    pub(super) command: String,
    /// Its cgroup, from the root of the hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cgroup: Option<String>,
}

/// Owners of those of `inodes` that are found; of several that share a socket the one with the lowest pid.
pub(super) fn owners(inodes: &HashSet<u32>) -> HashMap<u32, Owner> {
    let mut found = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    let mut pids: Vec<u32> =
        processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).take(MAX_PROCESSES).collect();
    pids.sort_unstable();
    for pid in pids {
        if found.len() == inodes.len() {
            break;
        }
        let process = Path::new("/proc").join(pid.to_string());
        for inode in sockets(&process.join("fd")).filter(|inode| inodes.contains(inode)) {
            found.entry(inode).or_insert_with(|| describe(pid, &process));
        }
    }
    found
}

fn sockets(descriptors: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(descriptors).into_iter().flatten().take(MAX_DESCRIPTORS);
    entries.filter_map(|entry| inode(fs::read_link(entry.ok()?.path()).ok()?.to_str()?))
}

pub(super) fn inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn describe(pid: u32, process: &Path) -> Owner {
    let text = |name: &str| {
        let mut bytes = Vec::new();
        let file = fs::File::open(process.join(name)).ok()?;
        file.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    let cgroup = text("cgroup").and_then(|all| unified_cgroup(&all).map(str::to_owned));
    Owner { pid, command: text("comm").unwrap_or_default(), cgroup }
}

/// The cgroup of version 2 among the lines of `/proc/PID/cgroup` (cgroups(7)).
pub(super) fn unified_cgroup(all: &str) -> Option<&str> {
    all.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_socket_is_owned_by_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener))).unwrap();
        let own = inode(link.to_str().unwrap()).unwrap();
        let found = owners(&HashSet::from([own]));
        assert_eq!(found[&own].pid, std::process::id());
        assert!(!found[&own].command.is_empty());
    }

    #[test]
    fn the_cgroup_is_that_of_version_2() {
        assert_eq!(unified_cgroup("12:cpu:/old\n0::/sandbox/user\n"), Some("/sandbox/user"));
        assert_eq!(unified_cgroup("1:name=systemd:/\n"), None);
    }

    #[test]
    fn only_links_to_sockets_have_an_inode() {
        assert_eq!(inode("socket:[12]"), Some(12));
        for other in ["socket:[", "socket:[x]", "pipe:[12]", "/dev/null", "socket:[99999999999]"] {
            assert_eq!(inode(other), None);
        }
    }
}
