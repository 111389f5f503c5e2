//! Kernel modules: from the initramfs, and later from the base disk.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{BootError, Doing, log};
use crate::bounded_file;

const MAX_LIST: u64 = 64 << 10;

/// Loads what `modules.list` in `directory` names, in its order, from `modules/`. A list that is missing is an empty one, and a module
/// that is built in or loaded already is fine. One that cannot be loaded is told and passed over: what needs it says so itself.
pub(super) fn load_all(directory: &Path) -> Result<(), BootError> {
    let list = directory.join("modules.list");
    let names = match bounded_file::read(&list, MAX_LIST) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        names => names.doing(|| format!("read {}", list.display()))?,
    };
    for name in names.lines().map(str::trim).filter(|name| !name.is_empty()) {
        if let Err(error) = load(&directory.join("modules").join(name)) {
            log(&format!("cannot load module {name}: {error}"));
        }
    }
    Ok(())
}

fn load(path: &Path) -> std::io::Result<()> {
    // Without waiting for a pipe that somebody put in its place.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
