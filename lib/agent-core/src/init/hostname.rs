//! The guest's name.

use std::fs;
use std::io::{self, Read};

/// Where Debian keeps a host's own name (`hosts(5)`); `sudo` and others look it up.
const OWN_ADDRESS: &str = "127.0.1.1";
/// A larger table is the user's work and left alone.
const MAX_HOSTS: u64 = 64 << 10;

/// True for a host name as hostname(7) has it: up to 64 letters, digits, dots and hyphens.
pub(crate) fn is_hostname(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// Sets the kernel's name, `/etc/hostname`, and the name's address in `/etc/hosts`.
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    rustix::system::sethostname(name.as_bytes())?;
    fs::write("/etc/hostname", format!("{name}\n"))?;
    let mut hosts = String::new();
    if let Ok(file) = fs::File::open("/etc/hosts") {
        file.take(MAX_HOSTS).read_to_string(&mut hosts)?;
    }
    if (hosts.len() as u64) < MAX_HOSTS {
        fs::write("/etc/hosts", with_own_name(&hosts, name))?;
    }
    Ok(())
}

/// The table with `name` at the host's own address, and nothing else there.
fn with_own_name(hosts: &str, name: &str) -> String {
    let others = hosts.lines().filter(|line| line.split_whitespace().next() != Some(OWN_ADDRESS));
    let own = format!("{OWN_ADDRESS} {name}");
    others.chain([own.as_str()]).map(|line| format!("{line}\n")).collect()
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
    fn only_plain_names_are_hostnames() {
        assert!(is_hostname("box-1.local"));
        for bad in ["", "a b", "a\nb", "a/b", &"x".repeat(65)] {
            assert!(!is_hostname(bad), "{bad:?}");
        }
    }
}
