//! Why a command failed: what kind of failure, what happened, and what to do.

use std::io::{self, Write};
use std::process::ExitCode;

/// What a command ends with.
pub(crate) type CommandResult<T = ExitCode> = Result<T, CommandError>;

/// Kinds of failure, which decide the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What was asked for is not possible.
    User,
    /// The command line makes no sense.
    Usage,
    /// No daemon answers.
    Unreachable,
    /// Something that should not happen.
    Internal,
    /// The user or the system asked to stop, by this signal.
    Interrupted(u8),
    /// The reader of our output went away; it knows.
    BrokenPipe,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) kind: Kind,
    error: anyhow::Error,
    hints: Vec<String>,
}

impl Kind {
    /// The exit code, as docs/cli.md lists them.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Internal => 4,
            Self::Interrupted(signal) => 128u8.saturating_add(signal),
            Self::BrokenPipe => 141,
        }
    }
}

impl CommandError {
    pub(crate) fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Self {
        Self { kind, error: error.into(), hints: Vec::new() }
    }

    /// Something that the user can mend.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self::new(Kind::User, anyhow::Error::msg(message.into()))
    }

    /// A command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, anyhow::Error::msg(message.into()))
    }

    /// Something that should not happen.
    pub(crate) fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Kind::Internal, error)
    }

    /// An I/O error, with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::BrokenPipe, error),
            _ => Self::new(Kind::User, anyhow::Error::new(error).context(what)),
        }
    }

    /// Stopped by a signal.
    pub(crate) fn interrupted(signal: u8) -> Self {
        Self::new(Kind::Interrupted(signal), anyhow::Error::msg("interrupted"))
    }

    /// Adds what the user can do.
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }

    /// What went wrong, on one line.
    pub(crate) fn message(&self) -> String {
        format!("{:#}", self.error)
    }

    /// Tells the user on standard error and gives the exit code. Says nothing where there is nobody to tell.
    pub(crate) fn report(&self) -> ExitCode {
        if self.kind != Kind::BrokenPipe {
            let mut text = format!("dormouse: {}\n", self.message());
            for hint in &self.hints {
                text.push_str(&format!("hint: {hint}\n"));
            }
            let _ = io::stderr().write_all(text.as_bytes());
        }
        ExitCode::from(self.kind.exit_code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_manual() {
        let codes =
            [Kind::User, Kind::Usage, Kind::Unreachable, Kind::Internal, Kind::Interrupted(2), Kind::BrokenPipe];
        assert_eq!(codes.map(Kind::exit_code), [1, 2, 3, 4, 130, 141]);
    }

    #[test]
    fn a_closed_pipe_is_no_error_of_the_user() {
        let error = CommandError::io("write")(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.kind, Kind::BrokenPipe);
        let error = CommandError::io("write x")(io::Error::from(io::ErrorKind::NotFound));
        assert!(error.kind == Kind::User && error.message().starts_with("write x: "), "{}", error.message());
    }
}
