//! The table of names and addresses, `/etc/hosts`.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::bounded_file;

/// Where Debian keeps a host's own name (`hosts(5)`); `sudo` and others look it up.
const OWN_ADDRESS: &str = "127.0.1.1";
/// The name under which E2B's programs reach the host's events.
const EVENTS: &str = "events.e2b.local";
/// A larger table is the user's work and left alone.
const MAX_HOSTS: u64 = 64 << 10;

/// Enters `name` at the host's own address, in place of whatever was there.
pub(super) fn set_own_name(root: &Path, name: &str) -> io::Result<()> {
    change(root, |hosts| with_own_name(hosts, name))
}

/// Enters `address` for events, in place of an earlier one.
pub(super) fn set_events(root: &Path, address: IpAddr) -> io::Result<()> {
    change(root, |hosts| with_events(hosts, address))
}

fn change(root: &Path, new: impl FnOnce(&str) -> String) -> io::Result<()> {
    let path = root.join("etc/hosts");
    let old = match bounded_file::read(&path, MAX_HOSTS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    let new = new(&old);
    if new == old { Ok(()) } else { bounded_file::replace(path, &new, 0o644) }
}

fn with_own_name(hosts: &str, name: &str) -> String {
    let others = hosts.lines().filter(|line| line.split_whitespace().next() != Some(OWN_ADDRESS));
    lines(others, &format!("{OWN_ADDRESS} {name}"))
}

fn with_events(hosts: &str, address: IpAddr) -> String {
    lines(hosts.lines().filter(|line| line.split_whitespace().nth(1) != Some(EVENTS)), &format!("{address} {EVENTS}"))
}

fn lines<'a>(others: impl Iterator<Item = &'a str>, own: &'a str) -> String {
    others.chain([own]).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_replaces_the_old_one_and_keeps_the_rest_of_the_table() {
        let first = with_own_name("127.0.0.1 localhost\n# mine\n10.0.0.1 db", "one");
        assert_eq!(first, "127.0.0.1 localhost\n# mine\n10.0.0.1 db\n127.0.1.1 one\n");
        assert_eq!(with_own_name(&first, "two"), first.replace("one", "two"));
    }

    #[test]
    fn a_new_address_for_events_replaces_the_old_one() {
        let first = with_events("127.0.0.1 localhost\n", "10.0.0.9".parse().unwrap());
        assert_eq!(first, "127.0.0.1 localhost\n10.0.0.9 events.e2b.local\n");
        assert_eq!(with_events(&first, "::9".parse().unwrap()), "127.0.0.1 localhost\n::9 events.e2b.local\n");
    }

    #[test]
    fn a_table_that_cannot_be_read_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let long = "#".repeat(70_000);
        std::fs::write(root.path().join("etc/hosts"), &long).unwrap();
        assert!(set_own_name(root.path(), "one").is_err());
        assert_eq!(std::fs::read_to_string(root.path().join("etc/hosts")).unwrap(), long);
    }
}
