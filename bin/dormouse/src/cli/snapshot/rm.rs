//! `dormouse snapshot rm`.

use std::process::ExitCode;

use crate::cli::daemon::{Daemon, segment};
use crate::cli::{output, select};
use crate::command_error::CommandResult;

/// Remove snapshots that are kept; sandboxes that were started from them go on
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RmArgs {
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
}

/// Runs it. All are looked up before the first one is removed.
pub(super) async fn run(args: &RmArgs, daemon: &Daemon) -> CommandResult {
    let mut ids = Vec::new();
    for text in &args.snapshots {
        ids.push(select::kept(daemon, text).await?.id);
    }
    ids.dedup();
    for id in ids {
        daemon.delete(&format!("/templates/{}", segment(&id))).await?;
        output::print(&format!("{id}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
