//! The id by which programs tell machines apart (`machine-id(5)`).
//!
//! Copies of one guest must not share it, and a guest that was only paused must keep it. The host tells the two apart by the host
//! name: a copy gets another one.

use std::fmt::Write;
use std::io;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::bounded_file;

/// Where systemd and, unless it is a link to the former, D-Bus keep it.
const FILES: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];

/// Writes a new id to those of the files that are there. One that is not there has no reader.
pub(super) fn renew(root: &Path) -> io::Result<()> {
    let mut random = [0u8; 16];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let mut id = String::with_capacity(33);
    for byte in random {
        write!(id, "{byte:02x}").map_err(io::Error::other)?;
    }
    id.push('\n');
    let there = FILES.map(|file| root.join(file)).into_iter().filter(|path| path.is_file());
    let renewed: Vec<_> = there.map(|path| bounded_file::replace(path, &id, 0o444)).collect();
    renewed.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_id_is_new_each_time_the_same_in_both_files_and_never_made_where_there_was_none() {
        let root = tempfile::tempdir().unwrap();
        let read = |file: &str| fs::read_to_string(root.path().join(file));
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("var/lib/dbus")).unwrap();
        renew(root.path()).unwrap();
        assert!(read(FILES[0]).is_err() && read(FILES[1]).is_err());
        for file in FILES {
            fs::write(root.path().join(file), "").unwrap();
        }
        renew(root.path()).unwrap();
        let first = read(FILES[0]).unwrap();
        assert_eq!((first.len(), read(FILES[1]).unwrap()), (33, first.clone()));
        assert!(first.trim_end().bytes().all(|b| b.is_ascii_hexdigit()));
        renew(root.path()).unwrap();
        assert_ne!(read(FILES[0]).unwrap(), first);
    }
}
