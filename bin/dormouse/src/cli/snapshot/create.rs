//! `dormouse snapshot create`.

use std::process::ExitCode;

use dormouse_api_types::own::{Phase, SandboxEntry};
use dormouse_api_types::{NewSnapshot, Snapshot};

use crate::cli::daemon::{Daemon, segment};
use crate::cli::{output, progress, select};
use crate::command_error::{CommandError, CommandResult};

/// Take a snapshot of a running sandbox, which goes on, and print the snapshot's id
///
/// The sandbox stands still only while its memory is copied. The snapshot stays until it is removed, whatever becomes of the
/// sandbox; `dormouse create -t` starts sandboxes from it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  s=$(dormouse snapshot create i3f)\n  dormouse snapshot create i3f --name ready\n  dormouse create -t ready"
)]
pub(in crate::cli) struct CreateArgs {
    /// Sandbox, or the beginning of its id [default: the only one that runs]
    id: Option<String>,
    /// A name to use it by; the newest snapshot of a name has it
    #[arg(long)]
    name: Option<String>,
    /// Print the whole answer as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: CreateArgs, daemon: &Daemon) -> CommandResult {
    let id = match args.id {
        Some(prefix) => select::sandbox(daemon, &prefix).await?.id,
        None => the_only_one(daemon).await?,
    };
    let path = format!("/sandboxes/{}/snapshots", segment(&id));
    let body = NewSnapshot { name: args.name, memory: None };
    let (_, made) = progress::waiting("taking a snapshot", daemon.post::<Snapshot>(&path, &body)).await?;
    match args.json {
        true => output::json(&made)?,
        false => output::print(&format!("{}\n", made.snapshot_id))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn the_only_one(daemon: &Daemon) -> CommandResult<String> {
    let entries: Vec<SandboxEntry> = daemon.get("/dormouse/v1/sandboxes").await?;
    let mut running = entries.into_iter().filter(|entry| entry.phase == Phase::Running);
    match (running.next(), running.next()) {
        (Some(only), None) => Ok(only.id),
        (None, _) => Err(CommandError::user("no sandbox runs")),
        _ => Err(CommandError::user("several sandboxes run").hint("say which: `dormouse ls` shows them")),
    }
}
