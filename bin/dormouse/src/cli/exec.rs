//! `dormouse exec`.

use std::process::ExitCode;

use dormouse_agent_proto::process::Signal;

use super::daemon::Daemon;
use super::guest::Guest;
use super::input::{self, Target};
use super::session::{Session, What};
use super::signals::Stops;
use super::{exit_status, pairs, select};
use crate::command_error::{CommandError, CommandResult};

/// Run a command in a running sandbox
///
/// The command is started directly; for pipes and the like use `sh -c`. Gives the command's exit code, or 128+n when
/// signal n ended it. Ctrl-C asks the command to stop, a second one kills it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dormouse exec i3f -- ls -l /\n  echo hi | dormouse exec -i i3f -u root -- tee /etc/motd"
)]
pub(super) struct ExecArgs {
    /// Sandbox, or the beginning of its id
    id: String,
    /// User to run as [default: the sandbox's default user]
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory
    #[arg(short = 'w', long, value_name = "DIR")]
    cwd: Option<String>,
    /// Set a variable; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pairs::parse)]
    env: Vec<(String, String)>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs it.
pub(super) async fn run(args: ExecArgs, daemon: &Daemon) -> CommandResult {
    let mut stops = Stops::listen()?;
    let id = select::sandbox(daemon, &args.id).await?.id;
    let guest = Guest::of(daemon, &id, args.user.as_deref()).await?;
    let what = What { command: args.command, cwd: args.cwd, env: args.env };
    let mut session = Session::start(&guest, what.request(args.interactive)?).await?;
    let _feed = args.interactive.then(|| input::feed(&guest, session.selector(), Target::Pipe));
    let mut asked = 0;
    loop {
        tokio::select! {
            end = session.ended() => return Ok(ExitCode::from(exit_status::code(&end?))),
            number = stops.next() => {
                asked += 1;
                match asked {
                    1 => session.signal(&guest, Signal::SIGNAL_SIGTERM).await,
                    2 => session.signal(&guest, Signal::SIGNAL_SIGKILL).await,
                    _ => return Err(CommandError::interrupted(number)),
                }
            }
        }
    }
}
