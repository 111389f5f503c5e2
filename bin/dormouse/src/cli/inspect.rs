//! `dormouse inspect`, also `dormouse snapshot inspect`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use comfy_table::{CellAlignment, Table};
use dormouse_api_types::own::{Comparison, Inspection, Introspection, RamMap, RemoteCopy, UploadState};
use dormouse_guest_mem::Bytes;

use super::daemon::{Daemon, segment};
use super::{output, picture, progress, select};
use crate::command_error::{CommandError, CommandResult};

/// Show where every byte of a paused guest's RAM went
///
/// A table by what the guest used pages for, and on request a picture: one pixel per page, in squares of 256 MiB, along
/// a Hilbert curve so that neighbours in memory are neighbours in the picture; strong colours are stored, pale ones not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dormouse inspect i3f\n  dormouse inspect base --svg base.svg --png base.png")]
pub(super) struct InspectArgs {
    /// Sandbox, snapshot (ids may be cut short) or template
    #[arg(value_name = "ID|SNAPSHOT")]
    what: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Also write a picture as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also write a picture as PNG
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
}

/// Runs it.
pub(super) async fn run(args: InspectArgs, daemon: &Daemon) -> CommandResult {
    let path = format!("/dormouse/v1/snapshots/{}", segment(&select::snapshot(daemon, &args.what).await?));
    let found: Inspection = progress::waiting("reading the snapshot", daemon.get(&path)).await?;
    if args.svg.is_some() || args.png.is_some() {
        let map: RamMap = progress::waiting("reading the map", daemon.get(&format!("{path}/map"))).await?;
        draw(&map, args.svg.as_deref(), args.png.as_deref())?;
    }
    match args.json {
        true => output::json(&found)?,
        false => {
            output::table(&by_class(&found))?;
            output::print(&summary(&found))?;
            if let Some(other) = found.comparison {
                output::table(&comparison(&found, other))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(map: &RamMap, svg: Option<&Path>, png: Option<&Path>) -> CommandResult<()> {
    let grid = picture::Grid::new(map);
    let save = |path: &Path, content: &[u8]| {
        std::fs::write(path, content).map_err(CommandError::io(format!("write {}", path.display())))
    };
    if let Some(path) = svg {
        save(path, picture::svg(&grid).as_bytes())?;
    }
    if let Some(path) = png {
        save(path, &picture::png(&grid).map_err(CommandError::internal)?)?;
    }
    Ok(())
}

fn by_class(found: &Inspection) -> Table {
    let mut table = output::new_table(["CLASS", "TOTAL", "ZERO", "ON DISK", "STORED"]);
    let mut rows = found.classes.clone();
    rows.sort_by_key(|row| std::cmp::Reverse((row.stored, row.total)));
    for row in rows {
        let [total, zero, disks, stored] = [row.total, row.zero, row.on_disks, row.stored].map(|b| b.to_string());
        table.add_row([picture::name(row.class).to_owned(), total, zero, disks, stored]);
    }
    let [zero, disks, stored] = [sum(found, |r| r.zero), sum(found, |r| r.on_disks), sum(found, |r| r.stored)];
    table.add_row(["all".to_owned(), found.ram.to_string(), zero, disks, stored]);
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// What other methods would keep of the same guest, counted in the same pause.
fn comparison(found: &Inspection, other: Comparison) -> Table {
    let mut table = output::new_table(["WHAT A SNAPSHOT WOULD HOLD", "SIZE", "OF RAM"]);
    for (what, size) in [
        ("all RAM", found.ram),
        ("RAM that is not zero", other.non_zero_before),
        ("the same after the guest prepared, page cache as asked", other.non_zero_after),
        ("kept by dormouse", found.kept),
        ("on disk: memory, device state, overlay", found.on_disk()),
    ] {
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = size.0 as f64 * 100.0 / found.ram.0.max(1) as f64;
        table.add_row([what.to_owned(), size.to_string(), format!("{share:.1} %")]);
    }
    for column in 1..3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn remote(copy: &RemoteCopy) -> String {
    let mut text = format!(
        "store        {}",
        match copy.upload {
            UploadState::NotWanted => "does not go there",
            UploadState::Waiting => "waits for its upload",
            UploadState::Uploading => "is being uploaded",
            UploadState::Failed => "upload failed and is tried again",
            UploadState::Uploaded => "uploaded",
        }
    );
    if let Some(reason) = &copy.reason {
        text.push_str(&format!(": {reason}"));
    }
    if copy.not_here > Bytes(0) {
        text.push_str(&format!("; {} are only there, and a resume fetches them", copy.not_here));
    }
    text
}

fn sum(found: &Inspection, part: impl Fn(&dormouse_api_types::own::ClassRow) -> Bytes) -> String {
    Bytes(found.classes.iter().map(|row| part(row).0).sum()).to_string()
}

fn summary(found: &Inspection) -> String {
    let how = match &found.introspection {
        Introspection::Pages { kernel } => format!("by the page structures of Linux {kernel}"),
        Introspection::ZeroOnly { reason } => format!("not known, only zero pages are left out: {reason}"),
    };
    let mut lines = vec![
        String::new(),
        format!("snapshot     {} of template {}, taken {:.0}", found.snapshot, found.template, found.created_at),
        format!("free pages   {how}"),
        format!("left out     {} free, {} zero, {} on the disks anyway", found.free, found.zero, found.on_disks),
        format!("kept         {} before compression; new since the parent: {} compressed", found.kept, found.new_pack),
        format!(
            "on disk      {}: memory {}, device state {}, overlay {}",
            found.on_disk(),
            found.memory_on_disk,
            found.device_state_on_disk,
            found.overlay_on_disk
        ),
    ];
    lines.extend(found.remote.as_ref().map(remote));
    let steps: Vec<String> = found.steps.iter().map(|s| format!("{} {} ms", s.name, s.micros / 1000)).collect();
    if !steps.is_empty() {
        lines.push(format!("pause took   {}", steps.join(", ")));
    }
    lines.push(String::new());
    lines.join("\n")
}
