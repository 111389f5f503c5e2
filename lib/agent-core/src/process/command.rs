//! What exactly is executed: program, environment, directory, identity.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dormouse_agent_proto::process::ProcessConfig;
use dormouse_agent_sys::{ChildSetup, Credentials};
use thiserror::Error;
use tokio::process::Command;

use crate::agent::Guest;
use crate::identity::{PathError, User, resolve};

/// Search path of processes unless they are given another one.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, Error)]
pub(super) enum CommandError {
    #[error("cmd is empty")]
    NoCommand,
    #[error("cmd, args and envs must not contain a zero byte")]
    ZeroByte,
    #[error("environment variable name '{0}' is empty or contains '='")]
    VariableName(String),
    #[error("cwd '{path}' is not a directory", path = .0.display())]
    NoDirectory(PathBuf),
    #[error("cwd: {0}")]
    Path(#[from] PathError),
    #[error("cannot open the cgroup of user processes: {0}")]
    Cgroup(std::io::Error),
}

/// Everything that decides about a process besides its standard streams.
pub(super) struct Plan<'a> {
    pub(super) config: &'a ProcessConfig,
    pub(super) user: &'a User,
    pub(super) sandbox_vars: BTreeMap<String, String>,
    pub(super) default_workdir: Option<PathBuf>,
    pub(super) guest: Option<&'a Guest>,
    pub(super) terminal: bool,
    /// Descriptors that it may open.
    pub(super) open_files: Option<u64>,
}

impl Plan<'_> {
    /// The command without standard streams.
    pub(super) fn command(self) -> Result<Command, CommandError> {
        self.check()?;
        let working_dir = self.working_dir()?;
        let mut command = std::process::Command::new(&self.config.cmd);
        command.args(&self.config.args).env_clear();
        command.env("PATH", DEFAULT_PATH).env("HOME", &self.user.home);
        command.env("USER", &self.user.name).env("LOGNAME", &self.user.name);
        command.envs(&self.sandbox_vars).envs(&self.config.envs);
        let setup = ChildSetup {
            credentials: credentials(self.user),
            working_dir: CString::new(working_dir.as_os_str().as_bytes()).map_err(|_| CommandError::ZeroByte)?,
            controlling_terminal: self.terminal,
            open_files: self.open_files,
            cgroup: self.guest.map(|guest| open_cgroup(guest, self.terminal)).transpose()?,
        };
        dormouse_agent_sys::prepare_child(&mut command, setup);
        Ok(command.into())
    }

    fn check(&self) -> Result<(), CommandError> {
        if self.config.cmd.is_empty() {
            return Err(CommandError::NoCommand);
        }
        let vars = || self.config.envs.iter().chain(&self.sandbox_vars);
        let words =
            self.config.args.iter().chain([&self.config.cmd]).chain(vars().flat_map(|(name, value)| [name, value]));
        if words.into_iter().any(|word| word.contains('\0')) {
            return Err(CommandError::ZeroByte);
        }
        match vars().find(|(name, _)| name.is_empty() || name.contains('=')) {
            Some((name, _)) => Err(CommandError::VariableName(name.clone())),
            None => Ok(()),
        }
    }

    /// The request's directory, else the default one, else the home. One that is asked for must exist; a missing home becomes `/`.
    fn working_dir(&self) -> Result<PathBuf, CommandError> {
        let home = self.user.home.as_path();
        let asked = self.config.cwd.as_deref().filter(|cwd| !cwd.is_empty());
        let dir = match (asked, &self.default_workdir) {
            (Some(cwd), _) => resolve(cwd, home, home)?,
            (None, Some(workdir)) => resolve(&workdir.to_string_lossy(), home, home)?,
            (None, None) if home.is_dir() => home.to_owned(),
            (None, None) => Path::new("/").to_owned(),
        };
        if dir.is_dir() { Ok(dir) } else { Err(CommandError::NoDirectory(dir)) }
    }
}

/// `None` for the agent's own identity, unless it is root, who can drop groups.
fn credentials(user: &User) -> Option<Credentials> {
    let own = rustix::process::geteuid();
    if !own.is_root() && own.as_raw() == user.uid {
        return None;
    }
    Some(Credentials { uid: user.uid, gid: user.gid, groups: user.groups.clone() })
}

fn open_cgroup(guest: &Guest, terminal: bool) -> Result<std::os::fd::OwnedFd, CommandError> {
    let procs = guest.cgroups.of(terminal).join("cgroup.procs");
    Ok(OpenOptions::new().write(true).open(procs).map_err(CommandError::Cgroup)?.into())
}
