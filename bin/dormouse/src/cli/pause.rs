//! `dormouse pause`.

use std::process::ExitCode;

use dormouse_api_types::Pause;
use dormouse_api_types::own::{self, Inspection};

use super::daemon::{Daemon, segment};
use super::{output, progress, select};
use crate::command_error::CommandResult;

/// Pause a running sandbox: from then on it costs disk only
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dormouse pause i3f --cache drop --measure")]
pub(super) struct PauseArgs {
    /// Sandbox, or the beginning of its id
    id: String,
    /// What becomes of the guest's page cache
    #[arg(long, value_enum, default_value_t = CachePolicy::Keep)]
    cache: CachePolicy,
    /// Also count what other methods would keep; takes longer
    #[arg(long)]
    measure: bool,
    /// Print where every byte went, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum CachePolicy {
    /// It stays, and is warm after a resume
    Keep,
    /// It is given up
    Drop,
}

/// Runs it.
pub(super) async fn run(args: PauseArgs, daemon: &Daemon) -> CommandResult {
    let id = select::sandbox(daemon, &args.id).await?.id;
    let cache = match args.cache {
        CachePolicy::Keep => own::CachePolicy::Keep,
        CachePolicy::Drop => own::CachePolicy::Drop,
    };
    let path = format!("/sandboxes/{}/pause", segment(&id));
    progress::waiting("pausing", daemon.order(&path, &Pause::with(cache, args.measure))).await?;
    let found: Inspection = daemon.get(&format!("/dormouse/v1/sandboxes/{}/snapshot", segment(&id))).await?;
    match args.json {
        true => output::json(&found)?,
        false => output::print(&summary(&id, &found))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(id: &str, found: &Inspection) -> String {
    let mut text = format!(
        "paused {id}: of {} RAM {} kept ({} free, {} zero and {} on the disks left out), {} on disk, {} of memory new\n",
        found.ram,
        found.kept,
        found.free,
        found.zero,
        found.on_disks,
        found.on_disk(),
        found.new_pack
    );
    if let Some(other) = found.comparison {
        text.push_str(&format!(
            "not zero before: {}, after the guest prepared: {}\n",
            other.non_zero_before, other.non_zero_after
        ));
    }
    text
}
