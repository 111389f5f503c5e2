//! `dormouse rm`.

use std::process::ExitCode;

use dormouse_api_types::own::SandboxEntry;

use super::daemon::{Daemon, segment};
use super::{output, progress, select};
use crate::command_error::CommandResult;

/// Remove sandboxes for good, running or paused
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dormouse rm i3f i9a\n  dormouse rm --all")]
pub(super) struct RmArgs {
    /// Sandboxes, or the beginnings of their ids
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    ids: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Runs it. Ids are all looked up before the first sandbox is removed.
pub(super) async fn run(args: RmArgs, daemon: &Daemon) -> CommandResult {
    let mut ids = Vec::new();
    if args.all {
        let entries: Vec<SandboxEntry> = daemon.get("/dormouse/v1/sandboxes").await?;
        ids.extend(entries.into_iter().map(|entry| entry.id));
    }
    for prefix in &args.ids {
        ids.push(select::sandbox(daemon, prefix).await?.id);
    }
    ids.dedup();
    for id in ids {
        progress::waiting("removing", daemon.delete(&format!("/sandboxes/{}", segment(&id)))).await?;
        output::print(&format!("{id}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
