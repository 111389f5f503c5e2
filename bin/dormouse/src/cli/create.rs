//! `dormouse create`.

use dormouse_api_types::{NewSandboxV2, Sandbox};
use std::process::ExitCode;

use super::daemon::Daemon;
use super::{output, pairs, progress, spans};
use crate::command_error::CommandResult;

/// Create a sandbox and print its id
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  id=$(dormouse create)\n  dormouse create -t base --timeout 1h --on-timeout pause -e LANG=C.UTF-8"
)]
pub(super) struct CreateArgs {
    /// Template or snapshot to start from
    #[arg(short, long, default_value = "base")]
    template: String,
    /// How long it may run, such as 90s, 5m, 2h
    #[arg(long, default_value = "5m", value_parser = spans::parse, value_name = "SPAN")]
    timeout: u32,
    /// What happens then
    #[arg(long, value_enum, default_value_t = OnTimeout::Kill)]
    on_timeout: OnTimeout,
    /// Set a variable for all its processes; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pairs::parse)]
    env: Vec<(String, String)>,
    /// Attach a label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pairs::parse)]
    metadata: Vec<(String, String)>,
    /// Print the whole answer, token included, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnTimeout {
    /// Remove it
    Kill,
    /// Pause it
    Pause,
}

/// Runs it.
pub(super) async fn run(args: CreateArgs, daemon: &Daemon) -> CommandResult {
    let new = NewSandboxV2 {
        template_id: args.template,
        timeout: args.timeout,
        auto_pause: args.on_timeout == OnTimeout::Pause,
        auto_pause_memory: None,
        auto_resume: None,
        allow_internet_access: None,
        metadata: args.metadata.into_iter().collect(),
        env_vars: args.env.into_iter().collect(),
        volume_mounts: Vec::new(),
    };
    let creating = daemon.post::<Sandbox>("/v2/sandboxes", &new);
    let (_, sandbox) = progress::waiting("starting a sandbox", creating).await?;
    match args.json {
        true => output::json(&sandbox)?,
        false => output::print(&format!("{}\n", sandbox.sandbox_id))?,
    }
    Ok(ExitCode::SUCCESS)
}
