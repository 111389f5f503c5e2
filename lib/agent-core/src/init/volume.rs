//! One volume: an NFS export and where it belongs.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use dormouse_agent_proto::control::{MAX_VOLUMES, VolumeMount};
use thiserror::Error;

/// The port on which E2B's hosts serve both protocols, mounting and files.
const ONE_PORT: u16 = 2049;
/// Longer ones fit no path of the kernel's (`PATH_MAX`).
const MAX_LENGTH: usize = 4095;
/// Where the guest's own file systems are.
const TAKEN: [&str; 4] = ["proc", "sys", "dev", "run/dormouse"];

#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum VolumeError {
    #[error("volume target {target:?} is not ADDRESS:/PATH, with a numeric address")]
    Target { target: String },
    #[error(
        "a volume cannot be mounted at {path:?}: give an absolute path that is not the root or one of the kernel's"
    )]
    Path { path: String },
    #[error("volumes at {path:?} and in it: none may lie in another")]
    Nested { path: PathBuf },
    #[error("{count} volumes, name at most {MAX_VOLUMES}")]
    TooMany { count: usize },
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The server.
    pub server: IpAddr,
    /// What it exports, a path.
    pub export: String,
    /// Where it is mounted. Absolute, without `.` and `..`.
    pub path: PathBuf,
}

/// How the server is found out to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Both protocols on one port, as E2B's hosts do.
    One,
    /// The server's port mapper tells.
    Mapped,
}

impl Volume {
    pub(super) fn new(mount: &VolumeMount) -> Result<Self, VolumeError> {
        let path = path(&mount.path).ok_or_else(|| VolumeError::Path { path: mount.path.clone() })?;
        let (server, export) =
            target(&mount.nfs_target).ok_or_else(|| VolumeError::Target { target: mount.nfs_target.clone() })?;
        Ok(Self { server, export: export.to_owned(), path })
    }

    /// The export as `mount` shows it.
    pub(crate) fn source(&self) -> String {
        match self.server {
            IpAddr::V4(server) => format!("{server}:{}", self.export),
            IpAddr::V6(server) => format!("[{server}]:{}", self.export),
        }
    }

    /// Options of the kernel's own mount call (nfs(5)). The server holds what all see, so nothing is cached (`noac`) and nothing
    /// is lost (`hard`); there is no lock daemon in a guest.
    pub(crate) fn options(&self, ports: Ports) -> String {
        let protocol = if self.server.is_ipv4() { "tcp" } else { "tcp6" };
        let ports = match ports {
            Ports::One => format!(",port={ONE_PORT},mountport={ONE_PORT}"),
            Ports::Mapped => String::new(),
        };
        format!("vers=3,hard,noac,nolock,proto={protocol},mountproto={protocol},addr={}{ports}", self.server)
    }
}

/// All that one `/init` names. None lies in another, so that they can be mounted in any order and at the same time.
pub(super) fn check_all(mounts: &[VolumeMount]) -> Result<Vec<Volume>, VolumeError> {
    if mounts.len() > MAX_VOLUMES {
        return Err(VolumeError::TooMany { count: mounts.len() });
    }
    let volumes = mounts.iter().map(Volume::new).collect::<Result<Vec<_>, _>>()?;
    for (index, volume) in volumes.iter().enumerate() {
        let mut others = volumes.iter().enumerate().filter(|(other, _)| *other != index);
        if others.any(|(_, other)| other.path.starts_with(&volume.path)) {
            return Err(VolumeError::Nested { path: volume.path.clone() });
        }
    }
    Ok(volumes)
}

fn target(text: &str) -> Option<(IpAddr, &str)> {
    let (server, export) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").map(|(v6, export)| (v6.parse().ok().map(IpAddr::V6), export))?,
        None => text.split_once(':').map(|(v4, export)| (v4.parse().ok().map(IpAddr::V4), export))?,
    };
    let plain = export.starts_with('/') && export.len() <= MAX_LENGTH && !export.contains(|c: char| c.is_control());
    plain.then_some((server?, export))
}

fn path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let below = path.strip_prefix("/").ok()?;
    let free = TAKEN.iter().all(|taken| !below.starts_with(taken) && !Path::new(taken).starts_with(below));
    let good = plain && free && text.len() <= MAX_LENGTH && !text.contains('\0');
    // Collected anew, so that one place has one spelling.
    good.then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn volume(nfs_target: &str, path: &str) -> Result<Volume, VolumeError> {
        Volume::new(&VolumeMount { nfs_target: nfs_target.into(), path: path.into() })
    }

    #[test]
    fn a_volume_is_mounted_hard_and_uncached_by_the_third_version() {
        let v4 = volume("10.11.12.13:/team/vol 1", "/mnt//vol/").unwrap();
        assert_eq!((v4.source().as_str(), v4.path.to_str()), ("10.11.12.13:/team/vol 1", Some("/mnt/vol")));
        assert_eq!(
            v4.options(Ports::One),
            "vers=3,hard,noac,nolock,proto=tcp,mountproto=tcp,addr=10.11.12.13,port=2049,mountport=2049"
        );
        let v6 = volume("[fd00::1]:/vol", "/mnt").unwrap();
        assert_eq!(v6.source(), "[fd00::1]:/vol");
        assert_eq!(v6.options(Ports::Mapped), "vers=3,hard,noac,nolock,proto=tcp6,mountproto=tcp6,addr=fd00::1");
    }

    #[test]
    fn wrong_targets_and_taken_places_are_refused() {
        for target in
            ["", "/vol", "host:/vol", "10.0.0.1:vol", "10.0.0.1", "10.0.0.1:/a\nb", "fd00::1:/vol", "[10.0.0.1]:/v"]
        {
            assert!(matches!(volume(target, "/mnt"), Err(VolumeError::Target { .. })), "{target:?}");
        }
        for path in [
            "",
            "/",
            "mnt",
            "/mnt/../etc",
            "/proc",
            "/proc/1",
            "/sys/fs",
            "/dev/shm",
            "/run",
            "/run/dormouse/x",
            "/a\0",
        ] {
            assert!(matches!(volume("10.0.0.1:/vol", path), Err(VolumeError::Path { .. })), "{path:?}");
        }
        assert!(volume("10.0.0.1:/vol", "/run/user").is_ok() && volume("10.0.0.1:/vol", "/processes").is_ok());
    }

    #[test]
    fn volumes_in_one_another_and_too_many_are_refused() {
        let at = |path: &str| VolumeMount { nfs_target: "10.0.0.1:/vol".into(), path: path.into() };
        assert_eq!(check_all(&[at("/mnt/a"), at("/mnt/ab"), at("/srv")]).unwrap().len(), 3);
        for [one, other] in [["/mnt", "/mnt/a"], ["/mnt/a/b", "/mnt/a"], ["/mnt", "/mnt/"]] {
            assert!(matches!(check_all(&[at(one), at(other)]), Err(VolumeError::Nested { .. })), "{one} {other}");
        }
        let many: Vec<_> = (0..=MAX_VOLUMES).map(|n| at(&format!("/mnt/{n}"))).collect();
        assert_eq!(check_all(&many), Err(VolumeError::TooMany { count: MAX_VOLUMES + 1 }));
    }

    proptest! {
        /// The export is a string of its own for the kernel and never part of the options.
        #[test]
        fn no_target_reaches_the_options(export in "/[^\u{0}-\u{1f}\u{7f}]{0,40}") {
            if let Ok(volume) = volume(&format!("10.0.0.1:{export}"), "/mnt") {
                prop_assert_eq!(volume.options(Ports::Mapped).matches(',').count(), 6);
                prop_assert_eq!(volume.source(), format!("10.0.0.1:{export}"));
            }
        }
    }
}
