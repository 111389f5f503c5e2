//! `dormouse snapshot`.

mod create;
mod ls;
mod rm;

use super::daemon::Daemon;
use super::inspect;
use crate::command_error::CommandResult;

/// What can be done with snapshots.
#[derive(Debug, clap::Subcommand)]
pub(super) enum SnapshotCommand {
    Create(create::CreateArgs),
    Ls(ls::LsArgs),
    Rm(rm::RmArgs),
    Inspect(inspect::InspectArgs),
}

/// Runs one of them.
pub(super) async fn run(command: SnapshotCommand, daemon: &Daemon) -> CommandResult {
    match command {
        SnapshotCommand::Create(args) => create::run(args, daemon).await,
        SnapshotCommand::Ls(args) => ls::run(&args, daemon).await,
        SnapshotCommand::Rm(args) => rm::run(&args, daemon).await,
        SnapshotCommand::Inspect(args) => inspect::run(args, daemon).await,
    }
}
