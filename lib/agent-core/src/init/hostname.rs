//! The guest's name.

use std::io;
use std::path::Path;

use super::hosts;
use crate::bounded_file;
use crate::kernel::GuestKernel;

/// True for a host name as hostname(7) has it: up to 64 letters, digits, dots and hyphens.
pub(crate) fn is_hostname(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// Sets the kernel's name, `/etc/hostname` below `root`, and the name's address in `/etc/hosts`.
pub(crate) fn set_hostname(kernel: &dyn GuestKernel, root: &Path, name: &str) -> io::Result<()> {
    kernel.set_hostname(name)?;
    bounded_file::replace(root.join("etc/hostname"), &format!("{name}\n"), 0o644)?;
    hosts::set_own_name(root, name)
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
