//! `dormouse console`.

use std::io::IsTerminal;
use std::process::ExitCode;

use super::daemon::{Daemon, segment};
use super::{output, select};
use crate::command_error::CommandResult;

/// Print what a running guest's kernel last said
///
/// On a terminal, control characters are shown as dots: the text is the guest's, and may be hostile.
#[derive(Debug, clap::Args)]
pub(super) struct ConsoleArgs {
    /// Sandbox, or the beginning of its id
    id: String,
}

/// Runs it.
pub(super) async fn run(args: ConsoleArgs, daemon: &Daemon) -> CommandResult {
    let id = select::sandbox(daemon, &args.id).await?.id;
    let text = daemon.bytes(&format!("/dormouse/v1/sandboxes/{}/console", segment(&id))).await?;
    match std::io::stdout().is_terminal() {
        true => output::print(&harmless(&String::from_utf8_lossy(&text)))?,
        false => output::write(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps line ends and tabs; other control characters could move the cursor or answer for the user.
fn harmless(text: &str) -> String {
    let show = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '.' } else { c };
    text.replace("\r\n", "\n").chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_the_guest_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\r\nb\tc\x1b]0;x\x07\u{9b}1m"), "a\nb\tc.]0;x..1m");
    }
}
