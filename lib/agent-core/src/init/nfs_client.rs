//! The kernel's NFS client, which a sandbox without volumes does not need: it is loaded before the first of them.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::boot;
use crate::bounded_file;

/// Its modules, which templates have on their base disk.
const MODULES: &str = "/usr/lib/dormouse/volumes";
/// The file systems that the kernel knows (`proc_filesystems(5)`).
const KNOWN: &str = "/proc/filesystems";
const MAX_KNOWN: u64 = 64 << 10;

/// Makes sure that the kernel can mount volumes. Blocks.
pub(crate) fn ensure() -> io::Result<()> {
    // Volumes are mounted side by side; the modules are loaded once and in their order.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    ensure_by(|| bounded_file::read(KNOWN, MAX_KNOWN), || boot::load_modules(Path::new(MODULES)))
}

fn ensure_by(known: impl Fn() -> io::Result<String>, load: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if knows_nfs(&known()?) {
        return Ok(());
    }
    load()?;
    if knows_nfs(&known()?) {
        return Ok(());
    }
    let reason = format!("the guest's kernel has no NFS client, and its template has no modules of one in {MODULES}");
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}

fn knows_nfs(known: &str) -> bool {
    known.lines().filter_map(|line| line.split('\t').next_back()).any(|name| name == "nfs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const WITHOUT: &str = "nodev\tsysfs\nnodev\tnfsd\n\text4\n";
    const WITH: &str = "nodev\tsysfs\nnodev\tnfs\n\text4\n";

    #[test]
    fn the_client_is_loaded_where_the_kernel_has_none_yet_and_only_there() {
        for (before, after, loads, works) in
            [(WITH, WITH, 0, true), (WITHOUT, WITH, 1, true), (WITHOUT, WITHOUT, 1, false)]
        {
            let loaded = Cell::new(0);
            let known = || Ok(if loaded.get() == 0 { before } else { after }.to_owned());
            let load = || {
                loaded.set(loaded.get() + 1);
                Ok(())
            };
            let ensured = ensure_by(known, load);
            assert_eq!((loaded.get(), ensured.is_ok()), (loads, works));
            if let Err(error) = ensured {
                assert!(error.to_string().contains("no NFS client"), "{error}");
            }
        }
    }
}
