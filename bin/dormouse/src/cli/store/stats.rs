//! `dormouse store stats`.

use std::process::ExitCode;

use dormouse_api_types::own::StoreStats;
use dormouse_guest_mem::Bytes;

use crate::cli::daemon::Daemon;
use crate::cli::{output, progress};
use crate::command_error::CommandResult;

/// Show what the store holds, what it costs, and what it stands for
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct StatsArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: &StatsArgs, daemon: &Daemon) -> CommandResult {
    let found: StoreStats = progress::waiting("reading the manifests", daemon.get("/dormouse/v1/store")).await?;
    for unreadable in &found.unreadable {
        output::note(&format!("dormouse: {} cannot be read: {}", unreadable.what, unreadable.why));
    }
    if args.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut ram = output::new_table(["RAM", "SIZE", "SHARE"]);
    let by = found.ram_by;
    for (name, bytes) in [
        ("free", by.free),
        ("zero", by.zero),
        ("as in the parent", by.parent),
        ("on a disk", by.disk),
        ("equal to another page", by.duplicate),
        ("stored by its own pause", by.data),
    ] {
        ram.add_row([name.to_owned(), bytes.to_string(), percent(bytes, found.ram)]);
    }
    ram.add_row([
        format!("all, of {} snapshot(s)", found.snapshots),
        found.ram.to_string(),
        percent(found.ram, found.ram),
    ]);
    output::table(&ram)?;
    let mut packs = output::new_table(["PACKS NEEDED BY", "COUNT", "ON DISK"]);
    for row in &found.needed {
        let by = if row.by == 0 { "nobody".to_owned() } else { row.by.to_string() };
        packs.add_row([by, row.packs.to_string(), row.bytes.to_string()]);
    }
    packs.add_row(["all".to_owned(), found.packs.to_string(), found.packs_on_disk.to_string()]);
    output::table(&packs)?;
    output::print(&rest(&found))?;
    Ok(ExitCode::SUCCESS)
}

fn rest(found: &StoreStats) -> String {
    let mut text = format!(
        "\npacks of a snapshot   median {}, at most {}\nindexes               {} ({} of RAM)\n\
         device states         {}\noverlay disks         {}\n\
         compacted             {} snapshot(s) since the daemon started, {} written\n",
        found.packs_per_snapshot_median,
        found.packs_per_snapshot_max,
        found.indexes,
        percent(found.indexes, found.ram),
        found.device_states,
        found.overlays,
        found.compacted,
        found.compacted_bytes
    );
    if found.remote_packs > 0 {
        text.push_str(&format!("only on the store     {} pack(s), {}\n", found.remote_packs, found.remote_bytes));
    }
    if found.absent_packs > 0 {
        text.push_str(&format!("packs missing         {}\n", found.absent_packs));
    }
    text
}

fn percent(part: Bytes, whole: Bytes) -> String {
    format!("{:.2} %", part.0 as f64 * 100.0 / whole.0.max(1) as f64)
}
