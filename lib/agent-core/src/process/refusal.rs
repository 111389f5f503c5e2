//! What a client is told when it is not done.

use connectrpc::ConnectError;

use super::command::CommandError;
use super::registry::SelectError;
use super::running::InputError;
use super::start::StartError;
use crate::identity::IdentityError;

impl From<SelectError> for ConnectError {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::NoPid(_) | SelectError::NoTag(_) => Self::not_found(error.to_string()),
            SelectError::Empty => Self::invalid_argument(error.to_string()),
        }
    }
}

impl From<InputError> for ConnectError {
    fn from(error: InputError) -> Self {
        Self::failed_precondition(error.to_string())
    }
}

impl From<IdentityError> for ConnectError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::UnknownUser { .. } => Self::unauthenticated(error.to_string()),
            IdentityError::Unreadable { .. } => Self::internal(error.to_string()),
        }
    }
}

impl From<StartError> for ConnectError {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::Command(CommandError::Cgroup(_)) | StartError::Streams(_) => Self::internal(message),
            StartError::Command(_) => Self::invalid_argument(message),
            StartError::Spawn { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => Self::not_found(message),
                std::io::ErrorKind::PermissionDenied => Self::permission_denied(message),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory => Self::resource_exhausted(message),
                _ => Self::invalid_argument(message),
            },
            StartError::Snapshot => Self::unavailable(message),
        }
    }
}
