//! `dormouse template ls`.

use std::process::ExitCode;

use dormouse_api_types::own::TemplateEntry;
use jiff::Timestamp;

use crate::cli::daemon::Daemon;
use crate::cli::{output, spans};
use crate::command_error::CommandResult;

/// List templates
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub(in crate::cli) struct LsArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: &LsArgs, daemon: &Daemon) -> CommandResult {
    let entries: Vec<TemplateEntry> = daemon.get("/dormouse/v1/templates").await?;
    if args.json {
        output::json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        output::new_table(["NAME", "AGE", "VCPUS", "RAM", "DISK", "KERNEL", "BASE ON DISK", "SNAPSHOT ON DISK"]);
    for t in &entries {
        table.add_row([
            t.name.clone(),
            spans::between(t.created_at, Timestamp::now()),
            t.vcpus.to_string(),
            t.ram.to_string(),
            t.disk.to_string(),
            t.kernel.clone(),
            t.base_on_disk.to_string(),
            t.snapshot_on_disk.to_string(),
        ]);
    }
    output::table(&table)?;
    Ok(ExitCode::SUCCESS)
}
