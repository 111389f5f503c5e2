//! `dormouse fork`.

use std::process::ExitCode;

use dormouse_api_types::{Fork, ForkResult};

use super::daemon::{Daemon, segment};
use super::{output, progress, select, spans};
use crate::command_error::{CommandError, CommandResult};

/// Start sandboxes that continue from where one is, and print their ids
///
/// A running sandbox is stopped for a moment and goes on; a paused one stays paused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dormouse fork i3f -n 3")]
pub(super) struct ForkArgs {
    /// Sandbox, or the beginning of its id
    id: String,
    /// How many
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// How long each may run, such as 90s, 5m, 2h
    #[arg(long, default_value = "5m", value_parser = spans::parse, value_name = "SPAN")]
    timeout: u32,
}

/// Runs it. Prints the ids of those that started also when others did not.
pub(super) async fn run(args: ForkArgs, daemon: &Daemon) -> CommandResult {
    let id = select::sandbox(daemon, &args.id).await?.id;
    let path = format!("/sandboxes/{}/fork", segment(&id));
    let body = Fork { timeout: args.timeout, count: args.count };
    let (_, forks) = progress::waiting("forking", daemon.post::<Vec<ForkResult>>(&path, &body)).await?;
    let started: String = forks.iter().filter_map(|f| Some(format!("{}\n", f.sandbox.as_ref()?.sandbox_id))).collect();
    output::print(&started)?;
    let errors: Vec<&str> = forks.iter().filter_map(|f| Some(f.error.as_ref()?.message.as_str())).collect();
    match errors.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => Err(CommandError::user(format!("{} of {} forks failed: {first}", errors.len(), forks.len()))),
    }
}
