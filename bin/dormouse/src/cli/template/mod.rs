//! `dormouse template`.

mod build;
mod ls;
mod rm;

use super::daemon::Daemon;
use crate::command_error::CommandResult;

/// What can be done with templates.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TemplateCommand {
    Build(build::BuildArgs),
    Ls(ls::LsArgs),
    Rm(rm::RmArgs),
}

/// Runs one of them.
pub(super) async fn run(command: TemplateCommand, daemon: &Daemon) -> CommandResult {
    match command {
        TemplateCommand::Build(args) => build::run(args, daemon).await,
        TemplateCommand::Ls(args) => ls::run(&args, daemon).await,
        TemplateCommand::Rm(args) => rm::run(&args, daemon).await,
    }
}
