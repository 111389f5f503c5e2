//! An apt of our own beside the machine's: chosen sources, own package lists, no installed packages, nothing of the
//! system changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::Source;
use crate::command::Tool;
use crate::digest::KeyHasher;
use crate::error::AtPath;
use crate::{BuildError, Progress};

const NETWORK: &str = "\nis the network up and the apt mirror reachable? (`apt-get update` tells)";
/// The host's settings that say how mirrors are reached and how old their lists may be.
const INHERITED: [&str; 8] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::http::ProxyAutoDetect",
    "Acquire::https::CAInfo",
    "Acquire::https::Verify-Peer",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
];

/// apt with the given sources and nothing installed.
pub(crate) struct Apt {
    sources: PathBuf,
    conf: PathBuf,
    settings: Vec<String>,
    scratch: PathBuf,
}

/// A package that apt would download: its file name, size and checksum in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer(String);

impl Offer {
    /// The line without the mirror, so that a change of mirror does not change it.
    pub(crate) fn identity(&self) -> &str {
        self.0.split_once("' ").map_or(self.0.as_str(), |(_, rest)| rest)
    }

    /// Bytes to download.
    pub(crate) fn size(&self) -> u64 {
        self.identity().split_whitespace().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
    }
}

impl Apt {
    /// Sets it up and fetches the package lists. `cache` keeps the lists from build to build; `scratch` is an empty
    /// folder for this one.
    pub(crate) fn new(
        sources: &[Source],
        cache: &Path,
        scratch: PathBuf,
        progress: &dyn Progress,
    ) -> Result<Self, BuildError> {
        let text = sources.iter().map(|source| source.to_deb822() + "\n").collect::<String>();
        let lists = cache.join(list_folder(&text));
        let parts = scratch.join("sources");
        for folder in [&lists.join("partial"), &parts, &scratch.join("archives/partial")] {
            fs::create_dir_all(folder).at(folder)?;
        }
        let path = parts.join("dormouse.sources");
        fs::write(&path, text).at(&path)?;
        let status = scratch.join("status");
        fs::write(&status, "").at(&status)?;
        let settings = inherited(&scratch, progress)?;
        let conf = scratch.join("apt.conf");
        fs::write(&conf, configuration(&parts, &status, &lists, &scratch, &settings)).at(&conf)?;
        let apt = Self { sources: path, conf, settings, scratch };
        apt.run("apt-get", &["update", "-q"], progress)?;
        Ok(apt)
    }

    /// The file of sources.
    pub(crate) fn sources(&self) -> &Path {
        &self.sources
    }

    /// The host's settings that another apt needs to reach the same mirrors, as lines of an apt.conf(5).
    pub(crate) fn settings(&self) -> &[String] {
        &self.settings
    }

    /// What installing the packages into nothing would download; order does not depend on the mirror's.
    pub(crate) fn resolve(&self, packages: &[&str], progress: &dyn Progress) -> Result<Vec<Offer>, BuildError> {
        let mut args = vec!["install", "--print-uris", "-qq", "--"];
        args.extend(packages);
        let lines = self.run("apt-get", &args, progress)?;
        let mut offers: Vec<Offer> =
            lines.lines().filter(|line| line.starts_with('\'')).map(|line| Offer(line.to_owned())).collect();
        offers.sort_by(|a, b| a.identity().cmp(b.identity()));
        Ok(offers)
    }

    /// The names of the packages on which the newest version of a package depends, alternatives and versions left out.
    pub(crate) fn depends(&self, package: &str, progress: &dyn Progress) -> Result<Vec<String>, BuildError> {
        let text = self.run("apt-cache", &["show", "--no-all-versions", "--", package], progress)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or_default();
        Ok(line.split([',', '|']).filter_map(|word| Some(word.split_whitespace().next()?.to_owned())).collect())
    }

    /// What downloading just these packages would fetch.
    pub(crate) fn offers(&self, packages: &[String], progress: &dyn Progress) -> Result<Vec<Offer>, BuildError> {
        let mut args = vec!["download", "--print-uris", "-qq", "--"];
        args.extend(packages.iter().map(String::as_str));
        let lines = self.run("apt-get", &args, progress)?;
        Ok(lines.lines().filter(|line| line.starts_with('\'')).map(|line| Offer(line.to_owned())).collect())
    }

    /// Downloads the packages, checked by apt against the signed lists, and gives the files.
    pub(crate) fn download(&self, packages: &[String], progress: &dyn Progress) -> Result<Vec<PathBuf>, BuildError> {
        let folder = self.scratch.join("debs");
        fs::create_dir(&folder).at(&folder)?;
        // apt fetches as an unprivileged user of its own, who must be able to write here.
        if let Some((uid, gid)) = apt_user() {
            chown(&folder, Some(uid), Some(gid)).at(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).at(&folder)?;
        }
        let tool = self.tool("apt-get").args(["download", "-q", "--"]).args(packages).folder(&folder);
        tool.run(progress)?;
        let entries = fs::read_dir(&folder).at(&folder)?;
        Ok(entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }

    fn run(&self, name: &'static str, args: &[&str], progress: &dyn Progress) -> Result<String, BuildError> {
        let output = self.tool(name).args(args).run(progress)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    fn tool(&self, name: &'static str) -> Tool<'_> {
        Tool::new(name, "apt", &self.scratch).env("APT_CONFIG", &self.conf).hint(NETWORK)
    }
}

fn list_folder(sources: &str) -> String {
    let mut hasher = KeyHasher::new("apt lists 1");
    hasher.field(sources.as_bytes());
    hasher.finish().to_string()
}

fn inherited(scratch: &Path, progress: &dyn Progress) -> Result<Vec<String>, BuildError> {
    let dump = Tool::new("apt-config", "apt", scratch).args(["dump"]).run(progress)?;
    let wanted = |line: &&str| {
        INHERITED.iter().any(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', ':'])))
    };
    Ok(String::from_utf8_lossy(&dump).lines().filter(wanted).map(str::to_owned).collect())
}

/// Keys and credentials stay the machine's; hooks, pins and installed packages are not taken over.
fn configuration(parts: &Path, status: &Path, lists: &Path, scratch: &Path, settings: &[String]) -> String {
    let mut text = settings.join("\n");
    for (name, value) in [
        ("Dir::Etc::parts", Path::new("/dev/null")),
        ("Dir::Etc::main", Path::new("/dev/null")),
        ("Dir::Etc::preferences", Path::new("/dev/null")),
        ("Dir::Etc::preferencesparts", Path::new("/dev/null")),
        ("Dir::Etc::sourcelist", Path::new("/dev/null")),
        ("Dir::Etc::sourceparts", parts),
        ("Dir::State::status", status),
        ("Dir::State::lists", lists),
        ("Dir::Cache", scratch),
        ("Dir::Cache::pkgcache", Path::new("")),
        ("Dir::Cache::srcpkgcache", Path::new("")),
        ("APT::Install-Recommends", Path::new("false")),
        ("Acquire::Languages", Path::new("none")),
    ] {
        text.push_str(&format!("\n{name} \"{}\";", value.display()));
    }
    text + "\n"
}

/// The user and group that apt fetches as, where there is one.
fn apt_user() -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = passwd.lines().find(|line| line.starts_with("_apt:"))?.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_the_same_from_every_mirror() {
        let offer = |mirror: &str| Offer(format!("'{mirror}/pool/a_1.deb' a_1.deb 2048 SHA256:ab"));
        assert_eq!(offer("http://m").identity(), offer("http://n").identity());
        assert_eq!(offer("http://m").size(), 2048);
    }
}
