//! `dormouse snapshot ls`.

use std::process::ExitCode;

use dormouse_api_types::own::SnapshotEntry;
use jiff::Timestamp;

use crate::cli::daemon::Daemon;
use crate::cli::{output, spans};
use crate::command_error::CommandResult;

/// List the snapshots that are kept, newest first
///
/// Those that paused sandboxes resume from are not among them: `dormouse ls` shows what those cost.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub(in crate::cli) struct LsArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: &LsArgs, daemon: &Daemon) -> CommandResult {
    let entries: Vec<SnapshotEntry> = daemon.get("/dormouse/v1/snapshots").await?;
    if args.json {
        output::json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::new_table(["ID", "NAME", "OF", "TEMPLATE", "AGE", "ON DISK"]);
    for s in &entries {
        table.add_row([
            s.id.clone(),
            s.name.clone().unwrap_or_else(|| "-".to_owned()),
            s.sandbox.clone(),
            s.template.clone(),
            spans::between(s.created_at, Timestamp::now()),
            s.on_disk.to_string(),
        ]);
    }
    output::table(&table)?;
    Ok(ExitCode::SUCCESS)
}
