//! `dormouse resume`.

use std::process::ExitCode;
use std::time::Instant;

use dormouse_api_types::{ConnectV2, Sandbox};
use hyper::StatusCode;

use super::daemon::{Daemon, segment};
use super::{output, progress, select, spans};
use crate::command_error::CommandResult;

/// Resume a paused sandbox
///
/// A sandbox that runs already is given at least the time asked for.
#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    /// Sandbox, or the beginning of its id
    id: String,
    /// How long it may run, such as 90s, 5m, 2h
    #[arg(long, default_value = "5m", value_parser = spans::parse, value_name = "SPAN")]
    timeout: u32,
}

/// Runs it.
pub(super) async fn run(args: ResumeArgs, daemon: &Daemon) -> CommandResult {
    let id = select::sandbox(daemon, &args.id).await?.id;
    let started = Instant::now();
    let path = format!("/v2/sandboxes/{}/connect", segment(&id));
    let body = ConnectV2 { timeout: args.timeout, memory: None };
    let (status, _) = progress::waiting("resuming", daemon.post::<Sandbox>(&path, &body)).await?;
    let text = match status {
        StatusCode::CREATED => format!("resumed {id} in {:.2} s\n", started.elapsed().as_secs_f64()),
        _ => format!("{id} runs already\n"),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
