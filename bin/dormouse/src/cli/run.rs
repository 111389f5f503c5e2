//! `dormouse run`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use dormouse_api_types::{NewSandboxV2, Sandbox, SetTimeout};

use super::daemon::{Daemon, segment};
use super::guest::Guest;
use super::input::{self, Target};
use super::session::{Session, What};
use super::signals::Stops;
use super::{exit_status, output, pairs, progress};
use crate::command_error::{CommandError, CommandResult};

/// How long the sandbox outlives this process, in seconds, if it is killed.
const LEASE: u32 = 60;
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// Removing a sandbox takes far less.
const REMOVAL: Duration = Duration::from_secs(15);

/// Run one command in a throwaway sandbox
///
/// The sandbox is removed when the command ends, or when this is interrupted; if this is killed, the daemon removes it
/// within a minute. Standard input is passed on unless it is a terminal. Gives the command's exit code.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dormouse run -- python3 -c 'print(6*7)'\n  tar c . | dormouse run -t base -- tar t"
)]
pub(super) struct RunArgs {
    /// Template to start from
    #[arg(short, long, default_value = "base")]
    template: String,
    /// User to run as [default: the template's default user]
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory
    #[arg(short = 'w', long, value_name = "DIR")]
    cwd: Option<String>,
    /// Set a variable; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pairs::parse)]
    env: Vec<(String, String)>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs it.
pub(super) async fn run(args: RunArgs, daemon: &Daemon) -> CommandResult {
    let mut stops = Stops::listen()?;
    let new = NewSandboxV2 {
        template_id: args.template.clone(),
        timeout: LEASE,
        auto_pause: false,
        auto_pause_memory: None,
        auto_resume: None,
        allow_internet_access: None,
        metadata: BTreeMap::from([("dormouse.run".to_owned(), std::process::id().to_string())]),
        env_vars: BTreeMap::new(),
        volume_mounts: Vec::new(),
    };
    let creating = progress::waiting("starting a sandbox", daemon.post::<Sandbox>("/v2/sandboxes", &new));
    // When interrupted here, the daemon sees the connection close and removes what it started.
    let (_, sandbox) = tokio::select! {
        created = creating => created?,
        number = stops.next() => return Err(CommandError::interrupted(number)),
    };
    let result = tokio::select! {
        result = in_sandbox(args, daemon, &sandbox) => result,
        never = renew(daemon, &sandbox.sandbox_id) => match never {},
        number = stops.next() => Err(CommandError::interrupted(number)),
    };
    remove(daemon, &sandbox.sandbox_id).await;
    result
}

async fn in_sandbox(args: RunArgs, daemon: &Daemon, sandbox: &Sandbox) -> CommandResult {
    let token = sandbox.envd_access_token.as_deref();
    let guest = Guest::with_token(daemon, &sandbox.sandbox_id, token, args.user.as_deref())?;
    let feeding = !std::io::stdin().is_terminal();
    let what = What { command: args.command, cwd: args.cwd, env: args.env };
    let mut session = Session::start(&guest, what.request(feeding)?).await?;
    let _feed = feeding.then(|| input::feed(&guest, session.selector(), Target::Pipe));
    Ok(ExitCode::from(exit_status::code(&session.ended().await?)))
}

/// Keeps the sandbox alive for as long as this is polled.
async fn renew(daemon: &Daemon, id: &str) -> std::convert::Infallible {
    let path = format!("/sandboxes/{}/timeout", segment(id));
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        // If the daemon is being restarted, the next try finds it again; if not, the command's stream tells.
        let _ = daemon.order(&path, &SetTimeout { timeout: LEASE }).await;
    }
}

async fn remove(daemon: &Daemon, id: &str) {
    let path = format!("/sandboxes/{}", segment(id));
    let removed = tokio::time::timeout(REMOVAL, daemon.delete(&path)).await;
    if !matches!(removed, Ok(Ok(()))) {
        output::note(&format!("dormouse: sandbox {id} could not be removed now; its time ends within {LEASE} s"));
    }
}
