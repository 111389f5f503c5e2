//! The command line: one file per command, and what they share.

mod completions;
mod connection;
mod console;
mod copy;
mod cp;
mod create;
mod daemon;
mod doctor;
mod events;
mod exec;
mod exit_status;
mod fork;
mod guest;
mod input;
mod inspect;
mod ls;
mod output;
mod pairs;
mod pause;
mod picture;
mod progress;
mod raw_mode;
mod resume;
mod rm;
mod run;
mod select;
mod session;
mod shell;
mod signals;
mod sizes;
mod snapshot;
mod spans;
mod store;
mod template;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command_error::{CommandError, CommandResult};
use crate::serve;
use crate::state_dir::StateDir;
use daemon::Daemon;
pub(crate) use sizes::parse as size;
pub(crate) use spans::parse as span;

/// microVM sandboxes that sleep small and wake fast
#[derive(Debug, Parser)]
#[command(version, name = "dormouse", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// State folder [default: $XDG_STATE_HOME/dormouse or ~/.local/state/dormouse]
    #[arg(long, global = true, value_name = "DIR", env = "DORMOUSE_STATE", hide_env_values = true)]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  dormouse serve &                      start the daemon
  dormouse template build base          make the template that sandboxes start from
  dormouse run -- uname -a              one command in a throwaway sandbox
  id=$(dormouse create)                 a sandbox that stays
  dormouse exec $id -- python3 -V
  dormouse snapshot create $id          a snapshot of it while it goes on
  dormouse pause $id                    now it costs only disk
  dormouse inspect $id --svg ram.svg    where every byte of its RAM went

Exit codes: 1 not possible, 2 bad command line, 3 no daemon, 4 internal error;
run, exec and shell give the command's own code, and 128+n when signal n ended it.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    /// Build, list and remove templates
    #[command(subcommand)]
    Template(template::TemplateCommand),
    Run(run::RunArgs),
    Create(create::CreateArgs),
    Exec(exec::ExecArgs),
    Shell(shell::ShellArgs),
    Cp(cp::CpArgs),
    Ls(ls::LsArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
    Fork(fork::ForkArgs),
    Rm(rm::RmArgs),
    Inspect(inspect::InspectArgs),
    /// Take, list, look into and remove snapshots
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Look into the store, check it, and clear it up
    #[command(subcommand)]
    Store(store::StoreCommand),
    Console(console::ConsoleArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs one command to its end.
pub(crate) async fn run(args: Args) -> CommandResult {
    let state = StateDir::resolve(args.state).map_err(CommandError::io("the state folder"))?;
    match args.command {
        Command::Serve(args) => serve::run(args, state).await,
        Command::Doctor(args) => doctor::run(args, &state).await,
        Command::Completions(args) => completions::run(&args),
        Command::Run(args) => run::run(args, &Daemon::find(&state)?).await,
        Command::Exec(args) => exec::run(args, &Daemon::find(&state)?).await,
        Command::Shell(args) => shell::run(args, &Daemon::find(&state)?).await,
        other => signals::or_interrupted(simple(other, &Daemon::find(&state)?)).await,
    }
}

/// Commands that a signal may drop at any point.
async fn simple(command: Command, daemon: &Daemon) -> CommandResult {
    match command {
        Command::Template(command) => template::run(command, daemon).await,
        Command::Create(args) => create::run(args, daemon).await,
        Command::Cp(args) => cp::run(args, daemon).await,
        Command::Ls(args) => ls::run(&args, daemon).await,
        Command::Pause(args) => pause::run(args, daemon).await,
        Command::Resume(args) => resume::run(args, daemon).await,
        Command::Fork(args) => fork::run(args, daemon).await,
        Command::Rm(args) => rm::run(args, daemon).await,
        Command::Inspect(args) => inspect::run(args, daemon).await,
        Command::Snapshot(command) => snapshot::run(command, daemon).await,
        Command::Store(command) => store::run(command, daemon).await,
        Command::Console(args) => console::run(args, daemon).await,
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests;
