//! `dormouse completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Args, output};
use crate::command_error::CommandResult;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dormouse completions bash > ~/.local/share/bash-completion/completions/dormouse")]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Runs it.
pub(super) fn run(args: &CompletionsArgs) -> CommandResult {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "dormouse", &mut text);
    output::write(&text)?;
    Ok(ExitCode::SUCCESS)
}
