//! Why there is no watch, or no longer.

use std::io;
use std::path::PathBuf;

use connectrpc::ConnectError;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum WatchError {
    #[error("path '{path}' does not exist", path = .0.display())]
    NotFound(PathBuf),
    #[error("path '{path}' is not a directory", path = .0.display())]
    NotDirectory(PathBuf),
    #[error("path '{path}' is on a network file system, whose changes need not show; allow_network_mounts watches it all the same", path = .0.display())]
    Network(PathBuf),
    #[error("watcher with id {0} not found")]
    NoWatcher(String),
    #[error("more than {0} watchers, remove some")]
    TooManyWatchers(usize),
    #[error("more than {0} directories below the watched one, watch a smaller part")]
    TooManyDirectories(usize),
    #[error("cannot watch '{path}': the kernel's limit of watches is reached (fs.inotify.max_user_watches)", path = .0.display())]
    KernelWatches(PathBuf),
    #[error("the kernel's limit of watchers is reached (fs.inotify.max_user_instances)")]
    KernelInstances,
    #[error("more changed than the kernel keeps (fs.inotify.max_queued_events), events are lost: watch anew")]
    KernelQueue,
    #[error("more than {0} events wait to be fetched, events are lost: watch anew")]
    TooManyEvents(usize),
    #[error("events of all watchers that wait to be fetched need too much memory, events are lost: watch anew")]
    TooMuchMemory,
    #[error("the file system of the watched directory was unmounted")]
    Unmounted,
    #[error("cannot watch '{path}': {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl From<&WatchError> for ConnectError {
    fn from(error: &WatchError) -> Self {
        let message = error.to_string();
        match error {
            WatchError::NotFound(_) | WatchError::NoWatcher(_) => Self::not_found(message),
            WatchError::NotDirectory(_) | WatchError::Network(_) => Self::invalid_argument(message),
            WatchError::TooManyWatchers(_)
            | WatchError::TooManyDirectories(_)
            | WatchError::KernelWatches(_)
            | WatchError::KernelInstances => Self::resource_exhausted(message),
            WatchError::KernelQueue | WatchError::TooManyEvents(_) | WatchError::TooMuchMemory => {
                Self::data_loss(message)
            }
            WatchError::Unmounted => Self::aborted(message),
            WatchError::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Self::permission_denied(message),
                io::ErrorKind::InvalidFilename => Self::invalid_argument(message),
                _ => Self::internal(message),
            },
        }
    }
}

impl From<WatchError> for ConnectError {
    fn from(error: WatchError) -> Self {
        Self::from(&error)
    }
}
