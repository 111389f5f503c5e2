//! `dormouse shell`.

use std::io::IsTerminal;
use std::process::ExitCode;

use dormouse_agent_proto::process::pty::Size;
use dormouse_agent_proto::process::{PTY, ProcessSelector, Signal, UpdateRequest};
use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{SignalKind, signal};

use super::daemon::Daemon;
use super::guest::Guest;
use super::input::{self, Target};
use super::raw_mode::RawMode;
use super::session::{Session, What};
use super::signals::Stops;
use super::{exit_status, select};
use crate::command_error::{CommandError, CommandResult};

/// What a terminal of unknown size has.
const USUAL_SIZE: (u32, u32) = (80, 24);

/// Open a shell in a running sandbox, on a terminal of its own
///
/// Gives the shell's exit code.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dormouse shell i3f -u root")]
pub(super) struct ShellArgs {
    /// Sandbox, or the beginning of its id
    id: String,
    /// User to run as [default: the sandbox's default user]
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory
    #[arg(short = 'w', long, value_name = "DIR")]
    cwd: Option<String>,
}

/// Runs it.
pub(super) async fn run(args: ShellArgs, daemon: &Daemon) -> CommandResult {
    if !std::io::stdin().is_terminal() {
        let error = CommandError::usage("a shell needs a terminal on standard input");
        return Err(error.hint("for a script use `dormouse exec -i ID -- bash`"));
    }
    let mut stops = Stops::listen()?;
    let mut resized = signal(SignalKind::window_change()).map_err(CommandError::io("listen for signals"))?;
    let id = select::sandbox(daemon, &args.id).await?.id;
    let guest = Guest::of(daemon, &id, args.user.as_deref()).await?;
    let env = vec![("TERM".to_owned(), std::env::var("TERM").unwrap_or_else(|_| "xterm-256color".to_owned()))];
    let what = What { command: ["/bin/bash", "-i", "-l"].map(String::from).to_vec(), cwd: args.cwd, env };
    let mut request = what.request(true)?;
    request.pty = terminal().into();
    let mut session = Session::start(&guest, request).await?;
    let raw = RawMode::enter().map_err(CommandError::io("switch the terminal to raw mode"))?;
    let feed = input::feed(&guest, session.selector(), Target::Terminal);
    let result = loop {
        tokio::select! {
            end = session.ended() => break end.map(|end| ExitCode::from(exit_status::code(&end))),
            _ = resized.recv() => resize(&guest, session.selector()).await,
            number = stops.next() => {
                session.signal(&guest, Signal::SIGNAL_SIGKILL).await;
                break Err(CommandError::interrupted(number));
            }
        }
    };
    drop(feed);
    drop(raw);
    result
}

fn terminal() -> PTY {
    let size = tcgetwinsize(std::io::stdout()).map(|s| (u32::from(s.ws_col), u32::from(s.ws_row)));
    let (cols, rows) = size.ok().filter(|(cols, rows)| *cols > 0 && *rows > 0).unwrap_or(USUAL_SIZE);
    PTY { size: Size { cols, rows, ..Size::default() }.into(), ..PTY::default() }
}

/// A size that does not get through is only ugly.
async fn resize(guest: &Guest, process: ProcessSelector) {
    let request = UpdateRequest { process: process.into(), pty: terminal().into(), ..UpdateRequest::default() };
    let _ = guest.rpc.process.update(request).await;
}
