//! `dormouse template rm`.

use std::process::ExitCode;

use crate::cli::daemon::{Daemon, segment};
use crate::cli::output;
use crate::command_error::CommandResult;

/// Remove templates that no sandbox descends from
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RmArgs {
    /// Names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Runs it.
pub(super) async fn run(args: &RmArgs, daemon: &Daemon) -> CommandResult {
    for name in &args.names {
        daemon.delete(&format!("/templates/{}", segment(name))).await?;
        output::print(&format!("{name}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
