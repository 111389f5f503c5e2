//! The guest's name.

use std::io;

/// True for a host name as hostname(7) has it: up to 64 letters, digits, dots and hyphens.
pub(crate) fn is_hostname(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// Sets the kernel's name and `/etc/hostname`.
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    rustix::system::sethostname(name.as_bytes())?;
    std::fs::write("/etc/hostname", format!("{name}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_hostnames() {
        assert!(is_hostname("box-1.local"));
        for bad in ["", "a b", "a\nb", "a/b", &"x".repeat(65)] {
            assert!(!is_hostname(bad), "{bad:?}");
        }
    }
}
