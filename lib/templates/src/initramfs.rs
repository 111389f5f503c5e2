//! The initramfs: the agent as `/init`, and the modules that it loads before it can reach a disk.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use crate::BuildError;
use crate::cpio::Cpio;
use crate::error::AtPath;
use crate::kernel::ModuleList;

/// Writes the archive, uncompressed: it is small, and unpacking costs more under emulation than reading does.
pub(crate) fn write(agent: &Path, kernel: &Path, image: &Path) -> Result<(), BuildError> {
    let agent = fs::read(agent).at(agent)?;
    let ModuleList { list: (list, names), folder, files } = ModuleList::read(kernel)?;
    let at = |name: &str| format!("dormouse/{name}");
    let mut cpio = Cpio::new(BufWriter::new(File::create_new(image).at(image)?));
    let mut fill = || {
        cpio.directory("dev")?;
        // The kernel opens it for the first process before that could make it.
        cpio.character_device("dev/console", 0o600, (5, 1))?;
        cpio.directory("dormouse")?;
        cpio.file(&at(list), 0o644, names.as_bytes())?;
        cpio.directory(&at(folder))?;
        files.iter().try_for_each(|(name, content)| cpio.file(&at(name), 0o644, content))?;
        cpio.file("init", 0o755, &agent)
    };
    fill().at(image)?;
    cpio.finish().at(image)?;
    Ok(())
}
