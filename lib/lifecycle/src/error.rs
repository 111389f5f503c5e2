//! Why a request failed, in terms of what the caller can do.

use std::path::Path;

use dormouse_guest_mem::Bytes;

use crate::{Phase, SandboxId, SnapshotId, TemplateName};

/// Result of everything a [`Host`](crate::Host) does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request failed. Messages name what to do next where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such sandbox.
    #[error("no sandbox {0}: it never existed or was removed")]
    NoSandbox(SandboxId),
    /// No such template.
    #[error("no template or snapshot {0}: build a template with `dormouse template build {0}`")]
    NoTemplate(TemplateName),
    /// No such snapshot.
    #[error("no snapshot {0}")]
    NoSnapshot(SnapshotId),
    /// No snapshot that callers keep has this id or name.
    #[error("no snapshot {0:?}: it never existed or was removed")]
    NoKeptSnapshot(String),
    /// A template has the name that a snapshot was to get.
    #[error("there is a template {0}: give the snapshot another name")]
    NameTaken(TemplateName),
    /// The sandbox is in a phase in which this is not possible.
    #[error("sandbox {id} is {}: it cannot be {wanted}", phase_word(*.phase))]
    WrongPhase {
        /// The sandbox.
        id: SandboxId,
        /// Where it is.
        phase: Phase,
        /// What was asked for, as a participle.
        wanted: &'static str,
    },
    /// Sandboxes descend from the template and need its base disk.
    #[error("template {name} is used by {sandboxes} sandbox(es): remove them first")]
    TemplateInUse {
        /// The template.
        name: TemplateName,
        /// How many.
        sandboxes: usize,
    },
    /// The disk is full. Nothing was changed: a sandbox that was to be paused runs on, one to be resumed stays paused.
    #[error("no room on the disk: at most {needed} needed, {available} available; free some and try again")]
    NoSpace {
        /// Upper bound of what is needed.
        needed: Bytes,
        /// What there is.
        available: Bytes,
    },
    /// The machine has too little memory for a copy of the guest's. The sandbox runs on.
    #[error(
        "no memory for a copy of the guest's RAM: {needed} needed, {available} available; pause the sandbox instead"
    )]
    NoMemory {
        /// Upper bound of what is needed.
        needed: Bytes,
        /// What there is.
        available: Bytes,
    },
    /// The agent in the guest did not do what was asked in time.
    #[error("the agent in the guest failed at {step}: {reason}")]
    Agent {
        /// What it was asked.
        step: &'static str,
        /// What happened.
        reason: String,
    },
    /// A snapshot cannot be used: damaged, or made by another VMM. It stays as it is.
    #[error("snapshot {snapshot} cannot be resumed: {reason}")]
    Snapshot {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        reason: String,
    },
    /// Packs of a snapshot are only on the remote, and could not be had. Everything stays as it is.
    #[error(
        "snapshot {snapshot} is not all on this machine, and the rest could not be fetched: {reason}; try again later"
    )]
    NotFetched {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        reason: String,
    },
    /// What is on the remote could not be cleared up.
    #[error("nothing more was removed from the store: {reason}")]
    Remote {
        /// Why.
        reason: String,
    },
    /// The VMM failed.
    #[error("the VMM failed: {0}")]
    Vmm(String),
    /// Building a template failed.
    #[error("{0}")]
    Build(String),
    /// Something cannot be read, so it is not known what it needs.
    #[error("nothing was removed: {what} cannot be read, so it is not known what it needs ({why}){}; mend or remove it and try again", and_more(*.more))]
    CannotCollect {
        /// Its path.
        what: String,
        /// Why it cannot be read.
        why: String,
        /// How many others there are.
        more: usize,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// The daemon is shutting down.
    #[error("the daemon is shutting down")]
    ShuttingDown,
    /// The state folder could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`: an I/O error with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: what the VMM said.
    #[expect(clippy::needless_pass_by_value, reason = "used as a function value in map_err")]
    pub(crate) fn vmm(error: dormouse_vmm::VmmError) -> Self {
        Self::Vmm(with_causes(&error))
    }

    /// What went wrong with a file: a full disk as such, anything else with its causes.
    pub(crate) fn storage(doing: &str, path: &Path, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut causes = causes(error).filter_map(|e| e.downcast_ref::<std::io::Error>());
        let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
        if causes.any(|e| full.contains(&e.kind())) {
            let room = path.ancestors().find_map(|p| rustix::fs::statvfs(p).ok());
            let available = room.map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
            return Self::NoSpace { needed: Bytes(available.saturating_add(MARGIN)), available: Bytes(available) };
        }
        Self::Io { what: format!("{doing} {}", path.display()), source: std::io::Error::other(with_causes(error)) }
    }
}

/// Room for the small files of a snapshot, when one of them met a full disk.
const MARGIN: u64 = 1 << 20;

/// An error's message followed by those of its causes that it does not repeat.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).map(ToString::to_string).fold(String::new(), |text, cause| match text {
        text if text.is_empty() => cause,
        text if text.contains(&cause) => text,
        text => format!("{text}: {cause}"),
    })
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| e.source())
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(", and {more} more") }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Creating => "being created",
        Phase::Running => "running",
        Phase::Pausing => "being paused",
        Phase::Paused => "paused",
        Phase::Resuming => "being resumed",
        Phase::Lost => "lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it can not be written")]
    struct Wrapped(#[source] std::io::Error);

    #[test]
    fn a_full_disk_is_told_apart_however_deep_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let (path, full) = (dir.path().join("not/there"), std::fs::write("/dev/full", "x").unwrap_err());
        let error = Error::storage("write", &path, &Wrapped(full));
        let Error::NoSpace { needed, available } = error else { panic!("{error}") };
        assert!(needed > available && available.0 > 0, "{needed} {available}");
        let missing = std::fs::read(&path).unwrap_err();
        let error = Error::storage("read", &path, &Wrapped(missing));
        let Error::Io { what, source } = error else { panic!("{error}") };
        assert_eq!(what, format!("read {}", path.display()));
        assert!(source.to_string().starts_with("it can not be written: No such file"), "{source}");
    }
}
