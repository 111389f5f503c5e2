//! `dormouse store`.

mod gc;
mod stats;
mod verify;

use super::daemon::Daemon;
use crate::command_error::CommandResult;

/// What can be done with the store as a whole.
#[derive(Debug, clap::Subcommand)]
pub(super) enum StoreCommand {
    Stats(stats::StatsArgs),
    Verify(verify::VerifyArgs),
    Gc(gc::GcArgs),
}

/// Runs one of them.
pub(super) async fn run(command: StoreCommand, daemon: &Daemon) -> CommandResult {
    match command {
        StoreCommand::Stats(args) => stats::run(&args, daemon).await,
        StoreCommand::Verify(args) => verify::run(&args, daemon).await,
        StoreCommand::Gc(args) => gc::run(&args, daemon).await,
    }
}
