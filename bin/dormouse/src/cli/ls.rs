//! `dormouse ls`.

use std::process::ExitCode;

use dormouse_api_types::own::{Phase, SandboxEntry};
use jiff::Timestamp;

use super::daemon::Daemon;
use super::{output, spans};
use crate::command_error::CommandResult;

/// List sandboxes, newest first
///
/// COST is guest RAM while a sandbox runs, and disk while it is paused.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub(super) struct LsArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: &LsArgs, daemon: &Daemon) -> CommandResult {
    let entries: Vec<SandboxEntry> = daemon.get("/dormouse/v1/sandboxes").await?;
    if args.json {
        output::json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let mut table = output::new_table(["ID", "TEMPLATE", "PHASE", "AGE", "TIMEOUT", "COST"]);
    for entry in &entries {
        let age = spans::between(entry.started_at, now);
        table.add_row([entry.id.clone(), entry.template.clone(), phase(entry), age, timeout(entry, now), cost(entry)]);
    }
    output::table(&table)?;
    Ok(ExitCode::SUCCESS)
}

fn phase(entry: &SandboxEntry) -> String {
    let word = match entry.phase {
        Phase::Creating => "creating",
        Phase::Running => "running",
        Phase::Pausing => "pausing",
        Phase::Paused => "paused",
        Phase::Resuming => "resuming",
        Phase::Lost => "lost",
    };
    match &entry.reason {
        Some(reason) => format!("{word} ({reason})"),
        None => word.to_owned(),
    }
}

fn timeout(entry: &SandboxEntry, now: Timestamp) -> String {
    match entry.phase {
        Phase::Running if entry.end_at > now => spans::between(now, entry.end_at),
        Phase::Running => "now".to_owned(),
        _ => "-".to_owned(),
    }
}

fn cost(entry: &SandboxEntry) -> String {
    match (entry.phase, entry.on_disk) {
        (Phase::Paused | Phase::Lost, Some(disk)) => format!("{disk} disk"),
        (Phase::Paused | Phase::Lost, None) => "-".to_owned(),
        _ => format!("{} RAM", entry.ram),
    }
}
