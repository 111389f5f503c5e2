//! `dormouse store gc`.

use std::process::ExitCode;

use dormouse_api_types::own::{CollectRequest, Garbage};

use crate::cli::daemon::Daemon;
use crate::cli::{output, progress};
use crate::command_error::CommandResult;

/// Remove packs that no snapshot and no running sandbox needs, and what was left half-made
///
/// The daemon does this by itself whenever a snapshot goes; this finds out anew what is needed. Nothing is removed while
/// anything cannot be read.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GcArgs {
    /// Remove nothing, and say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Also remove packs from the store behind the daemon that no snapshot needs and that are a day old; only one daemon may
    #[arg(long)]
    remote: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: &GcArgs, daemon: &Daemon) -> CommandResult {
    let request = CollectRequest { dry_run: args.dry_run, remote: args.remote };
    let asked = daemon.post::<Garbage>("/dormouse/v1/store/gc", &request);
    let (_, found) = progress::waiting("reading what is needed", asked).await?;
    for pack in &found.absent {
        output::note(&format!(
            "dormouse: pack {} is neither here nor on a store; {} need it",
            pack.id,
            pack.needed_by.join(", ")
        ));
    }
    if args.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let word = if args.dry_run { "would free" } else { "freed" };
    output::print(&format!(
        "{word} {}: {} in {} pack(s), {} in {} leftover(s)\n",
        dormouse_guest_mem::Bytes(found.packs_freed.0.saturating_add(found.leftovers_freed.0)),
        found.packs_freed,
        found.packs,
        found.leftovers_freed,
        found.leftovers
    ))?;
    if args.remote {
        let (freed, packs) = (found.remote_freed, found.remote_packs);
        output::print(&format!("{word} {freed} in {packs} pack(s) on the store\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
