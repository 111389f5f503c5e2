//! The distribution's kernel for virtual machines, downloaded and unpacked but not installed.

use std::fs;
use std::path::{Path, PathBuf};

use super::Resolved;
use crate::apt::{Apt, Release, Suites, machine_sources, select};
use crate::command::Tool;
use crate::digest::KeyHasher;
use crate::error::AtPath;
use crate::scratch::Scratch;
use crate::store::Store;
use crate::{BuildError, KernelLine, Progress};

/// The package that always depends on the newest kernel for virtual machines.
fn newest(release: &Release, line: KernelLine) -> Result<(&'static str, Suites), BuildError> {
    match (release.id.as_str(), line) {
        ("debian", KernelLine::Stable) => Ok(("linux-image-cloud-amd64", Suites::Release)),
        ("debian", KernelLine::Backports) => Ok(("linux-image-cloud-amd64", Suites::Backports)),
        ("ubuntu", KernelLine::Stable) => Ok(("linux-image-virtual", Suites::Release)),
        _ => Err(BuildError::NoKernelPackage {
            wanted: match line {
                KernelLine::Stable => "stable",
                KernelLine::Backports => "backports",
            },
            distribution: format!("{} {}", release.id, release.codename),
        }),
    }
}

/// Asks apt which kernel that is now.
pub(super) fn resolve<'a>(
    line: KernelLine,
    store: &Store,
    scratch: &Scratch,
    hasher: &mut KeyHasher,
    progress: &dyn Progress,
) -> Result<Resolved<'a>, BuildError> {
    let release = Release::of_machine()?;
    let (package, suites) = newest(&release, line)?;
    let own = &release.codename;
    let sources = select(&machine_sources(Path::new("/etc/apt"))?, own, own, suites)?;
    let apt = Apt::new(&sources, &store.cache("apt-lists"), scratch.folder("apt-kernel")?, progress)?;
    let image = depends_on(&apt, package, "linux-image-", progress)?.into_iter().next();
    let image = image.ok_or_else(|| BuildError::NoKernelPackage {
        wanted: package,
        distribution: format!("{} {own}", release.id),
    })?;
    // Ubuntu keeps the modules in a package of their own.
    let mut packages = depends_on(&apt, &image, "linux-modules-", progress)?;
    packages.insert(0, image);
    let offers = apt.offers(&packages, progress)?;
    hasher.field(b"debian");
    offers.iter().for_each(|offer| hasher.field(offer.identity().as_bytes()));
    Ok(Resolved::Debian { apt, packages, offers })
}

fn depends_on(apt: &Apt, package: &str, prefix: &str, progress: &dyn Progress) -> Result<Vec<String>, BuildError> {
    Ok(apt.depends(package, progress)?.into_iter().filter(|name| name.starts_with(prefix)).collect())
}

/// Downloads and unpacks it; gives the kernel and its module folder.
pub(super) fn fetch(
    apt: &Apt,
    packages: &[String],
    work: &Path,
    progress: &dyn Progress,
) -> Result<(PathBuf, PathBuf), BuildError> {
    let unpacked = work.join("unpacked");
    for package in apt.download(packages, progress)? {
        Tool::new("dpkg-deb", "dpkg", work).args(["--extract".as_ref(), package.as_path(), &unpacked]).run(progress)?;
    }
    let kernel = only(&unpacked.join("boot"), "vmlinuz-")?;
    // Newer packages say usr/lib.
    let modules =
        [unpacked.join("lib/modules"), unpacked.join("usr/lib/modules")].into_iter().find(|path| path.is_dir());
    Ok((kernel, only(&modules.unwrap_or(unpacked), "")?))
}

/// The first entry of a folder with this prefix.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf, BuildError> {
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let found = fs::read_dir(folder).at(folder)?.filter_map(|entry| Some(entry.ok()?.path())).find(named);
    found.ok_or_else(|| BuildError::Kernel {
        path: folder.to_owned(),
        reason: format!("the kernel package has no {prefix}* there"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_distribution_is_told_to_bring_its_kernel() {
        let release = |id: &str| Release { id: id.to_owned(), codename: "x".to_owned() };
        assert!(newest(&release("debian"), KernelLine::Backports).is_ok());
        for (id, line) in [("fedora", KernelLine::Stable), ("ubuntu", KernelLine::Backports)] {
            let error = newest(&release(id), line).unwrap_err().to_string();
            assert!(error.contains(id) && error.contains("as files"), "{error}");
        }
    }
}
