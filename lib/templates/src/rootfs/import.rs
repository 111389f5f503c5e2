//! A root filesystem given as a directory or an archive. Neither is trusted: nothing in it may reach outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::command::Tool;
use crate::error::AtPath;
use crate::{BuildError, Progress};

/// Copies a directory with owners, modes, times, hard links, devices and extended attributes; shares blocks with it
/// where the filesystem can. Symbolic links are copied, not followed; other mounts are left out.
pub(super) fn copy(from: &Path, root: &Path, work: &Path, progress: &dyn Progress) -> Result<(), BuildError> {
    let from = fs::canonicalize(from).at(from)?;
    let options = ["--archive", "--one-file-system", "--reflink=auto", "--no-target-directory", "--"];
    Tool::new("cp", "coreutils", work).args(options).args([from.as_path(), root]).run(progress)?;
    Ok(())
}

/// Unpacks an archive into the new directory `root` by tar(1), which takes `/` and refuses `..` off member names and
/// makes links that lead out only after everything else, so that no member is written through them.
pub(super) fn unpack(archive: &Path, root: &Path, work: &Path, progress: &dyn Progress) -> Result<(), BuildError> {
    let archive = fs::canonicalize(archive).at(archive)?;
    fs::create_dir(root).at(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).at(root)?;
    Tool::new("tar", "tar", work)
        .args(["--extract", "--force-local", "--numeric-owner", "--same-owner", "--preserve-permissions"])
        .args(["--xattrs", "--xattrs-include=*", "--file"])
        .args([archive.as_path(), Path::new("--directory"), root])
        .hint("\nis it a .tar, .tar.gz, .tar.xz or .tar.zst of a root filesystem?")
        .run(progress)?;
    Ok(())
}
