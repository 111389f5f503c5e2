//! What can go wrong with a VM.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dormouse_guest_mem::{Bytes, LayoutError};

use crate::{ExitReason, QmpError, RunState};

/// Result with [`VmmError`].
pub type Result<T, E = VmmError> = std::result::Result<T, E>;

/// Why a VM could not be started, or could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// Another process listens on the port that the guest's agent was to have. Choose another and try again.
    #[error("port {port} on 127.0.0.1 is taken by another process; choose another one")]
    HostPortTaken {
        /// The port.
        port: u16,
    },
    /// The VM's process ended, or had ended before.
    #[error("the VM is gone: {0}")]
    Gone(Box<ExitReason>),
    /// The VM's process ended while it loaded a device state: the state is damaged, or was saved with other devices.
    #[error("the device state {state} cannot be loaded: {reason}")]
    StateRefused {
        /// The file.
        state: PathBuf,
        /// How the process ended, with the VMM's own words.
        reason: Box<ExitReason>,
    },
    /// The VMM did not do something in time. It may be hung; the VM can still be killed.
    #[error("the VMM took longer than {after:?} to {doing}; it may hang")]
    Deadline {
        /// What it was to do, such as "answer `stop`".
        doing: String,
        /// How long was waited.
        after: Duration,
    },
    /// The VMM refused a command, or its control connection broke.
    #[error("VMM control: {0}")]
    Control(#[from] QmpError),
    /// The call needs the VM in another state.
    #[error("the VM is {found:?}, but this needs it to be {needed:?}")]
    WrongState {
        /// What is needed.
        needed: RunState,
        /// What it is.
        found: RunState,
    },
    /// The spec asks for something that the backend does not do.
    #[error("the VM spec cannot be used: {reason}")]
    BadSpec {
        /// What is wrong with it.
        reason: String,
    },
    /// No VM layout has this much RAM.
    #[error("{ram} of RAM cannot be laid out: {source}")]
    Layout {
        /// The size asked for.
        ram: Bytes,
        /// Why.
        source: LayoutError,
    },
    /// The folder holds no VM that could be taken over. None is left running in it.
    #[error("no VM to take over in {dir}: {reason}")]
    NotAdoptable {
        /// The VM's folder.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// The VM's process shows its RAM in a way that was not expected; reading it could give wrong bytes.
    #[error("guest RAM cannot be read: {reason}")]
    Ram {
        /// What is unexpected.
        reason: String,
    },
    /// A file could not be read or written, or a process not be started.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried, such as "open".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl VmmError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
