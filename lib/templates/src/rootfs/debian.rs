//! A root filesystem of Debian's own packages, put together by mmdebstrap(1).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Resolved;
use super::root_dir::RootDir;
use crate::apt::{Apt, Release, Source, Suites, machine_sources, select};
use crate::command::Tool;
use crate::digest::KeyHasher;
use crate::error::AtPath;
use crate::scratch::Scratch;
use crate::store::Store;
use crate::{BuildError, Progress};

const NETWORK: &str = "\nis the network up and the apt mirror reachable? (`apt-get update` tells)";
/// Never installed, also not by a later apt-get in a sandbox: what only people at a desk read. Copyright files stay.
const EXCLUDED: [&str; 5] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

/// Asks apt which packages it would install, in which versions.
pub(super) fn resolve<'a>(
    suite: Option<&str>,
    packages: &'a [String],
    store: &Store,
    scratch: &Scratch,
    hasher: &mut KeyHasher,
    progress: &dyn Progress,
) -> Result<Resolved<'a>, BuildError> {
    let own = Release::of_machine()?.codename;
    let suite = suite.unwrap_or(&own).to_owned();
    let sources = select(&machine_sources(Path::new("/etc/apt"))?, &own, &suite, Suites::Release)?;
    let apt = Apt::new(&sources, &store.cache("apt-lists"), scratch.folder("apt-rootfs")?, progress)?;
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let wanted: Vec<&str> = ["?essential", "apt"].into_iter().chain(packages.iter().copied()).collect();
    let offers = apt.resolve(&wanted, progress)?;
    hasher.field(b"debian");
    hasher.field(suite.as_bytes());
    sources.iter().for_each(|source| hasher.field(source.without_credentials().to_deb822().as_bytes()));
    EXCLUDED.iter().for_each(|rule| hasher.field(rule.as_bytes()));
    offers.iter().for_each(|offer| hasher.field(offer.identity().as_bytes()));
    let download = offers.iter().map(crate::apt::Offer::size).sum();
    Ok(Resolved::Debian { suite, packages, apt, sources, download })
}

/// Installs the packages into the new directory `root`.
pub(super) fn install(
    suite: &str,
    packages: &[&str],
    apt: &Apt,
    root: &Path,
    work: &Path,
    progress: &dyn Progress,
) -> Result<(), BuildError> {
    // apt fetches as a user of its own, who has to get here. The packages are the distribution's: no need to hide them.
    fs::set_permissions(work, fs::Permissions::from_mode(0o711)).at(work)?;
    let on_line = |line: &str| {
        if let Some(step) = line.strip_prefix("I: ") {
            progress.step(&format!("root filesystem: {step}"));
        }
    };
    let mut tool = Tool::enclosed("mmdebstrap", "mmdebstrap", work)
        .args(["--mode=root", "--variant=apt", "--format=directory", "--components=main"])
        .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"])
        .args(apt.settings().iter().map(|line| format!("--aptopt={}", line.trim_end_matches(';'))))
        .args(EXCLUDED.iter().map(|rule| format!("--dpkgopt={rule}")));
    if !packages.is_empty() {
        tool = tool.args([format!("--include={}", packages.join(","))]);
    }
    tool.args([suite.as_ref(), root.as_os_str(), apt.sources().as_os_str()])
        .hint(NETWORK)
        .on_line(&on_line)
        .run(progress)?;
    Ok(())
}

/// Leaves nothing of this machine in the files: its proxies, its passwords for mirrors, logs of the installation.
pub(super) fn tidy(root: &Path, sources: &[Source]) -> Result<(), BuildError> {
    let root = RootDir::open(root)?;
    root.remove("etc/apt/apt.conf.d/99mmdebstrap")?;
    for name in root.names("etc/apt/sources.list.d")? {
        root.remove(&format!("etc/apt/sources.list.d/{name}"))?;
    }
    let text: String = sources.iter().map(|source| source.without_credentials().to_deb822() + "\n").collect();
    root.write("etc/apt/sources.list.d/distribution.sources", text.as_bytes(), 0o644)?;
    for log in ["var/log/dpkg.log", "var/log/bootstrap.log", "var/log/alternatives.log", "var/log/apt/history.log"] {
        root.remove(log)?;
    }
    root.remove("var/log/apt/term.log")
}
