//! `dormouse store verify`.

use std::process::ExitCode;

use dormouse_api_types::own::{DamagedObject, ObjectKind, VerifyEvent, VerifyReport, VerifyRequest};

use crate::cli::daemon::Daemon;
use crate::cli::events::{self, Events};
use crate::cli::progress::Steps;
use crate::cli::{output, select};
use crate::command_error::CommandResult;

/// Read and check every byte of the store, or of some snapshots
///
/// Sandboxes go on meanwhile. The exit code is 1 when something is damaged. Ctrl-C ends it; nothing is ever changed. Of packs
/// that only the store behind the daemon has, it is asked whether it has them; --fetch reads them too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dormouse store verify\n  dormouse store verify base s4o")]
pub(in crate::cli) struct VerifyArgs {
    /// Snapshots, or sandboxes or templates that have one [default: everything]
    #[arg(value_name = "ID|SNAPSHOT")]
    what: Vec<String>,
    /// Fetch packs that only the store has, and read them
    #[arg(long)]
    fetch: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: &VerifyArgs, daemon: &Daemon) -> CommandResult {
    let mut request = VerifyRequest { fetch: args.fetch, ..VerifyRequest::default() };
    for text in &args.what {
        request.snapshots.push(select::snapshot(daemon, text).await?);
    }
    let report = follow(daemon, &request).await?;
    match args.json {
        true => output::json(&report)?,
        false => output::print(&told(&report))?,
    }
    let unfinished = args.fetch && report.unanswered.is_some();
    Ok(if report.damaged.is_empty() && !unfinished { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn follow(daemon: &Daemon, request: &VerifyRequest) -> CommandResult<VerifyReport> {
    let mut steps = Steps::new();
    let mut events = Events::new("verification", daemon.stream("/dormouse/v1/store/verify", request).await?);
    loop {
        match events.next().await? {
            VerifyEvent::Step(text) => steps.step(&text),
            VerifyEvent::Advance { done, total } => steps.advance(done, Some(total)),
            VerifyEvent::Damaged(object) => steps.aside(&format!("damaged: {}", line(&object))),
            VerifyEvent::Done(report) => {
                steps.finish();
                return Ok(report);
            }
            VerifyEvent::Error(error) => return Err(events::failed(error)),
        }
    }
}

fn told(report: &VerifyReport) -> String {
    let mut text = String::new();
    for object in &report.damaged {
        text.push_str(&format!("{}\n", line(object)));
        for id in &object.snapshots {
            text.push_str(&format!("  hurts {id}\n"));
        }
    }
    let (good, hurt, damaged) = (report.good.len(), report.hurt.len(), report.damaged.len());
    text.push_str(&format!(
        "{good} snapshot(s) good, {hurt} hurt; {damaged} damaged part(s); {} pack(s) read whole\n",
        report.packs
    ));
    if !report.unread.is_empty() {
        text.push_str(&format!(
            "{} snapshot(s) good as far as they are here; {} pack(s) of them are only on the store and were not read\n",
            report.unread.len(),
            report.remote_packs
        ));
    }
    if let Some(reason) = &report.unanswered {
        text.push_str(&format!("the store could not be asked for all of these: {reason}\n"));
    }
    text
}

fn line(object: &DamagedObject) -> String {
    format!("{} {}: {}", word(object.kind), object.path, object.reason)
}

fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Manifest => "manifest",
        ObjectKind::Index => "image index",
        ObjectKind::Pack => "pack",
        ObjectKind::DeviceState => "device state",
        ObjectKind::Overlay => "overlay disk",
        ObjectKind::BaseDisk => "base disk",
        ObjectKind::DiskIndex => "disk index",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_part_and_everybody_whom_it_hurts_is_told() {
        let object = DamagedObject {
            kind: ObjectKind::Pack,
            path: "packs/ab/abc.pack".into(),
            reason: "flipped".into(),
            snapshots: vec!["s1".into(), "s2".into()],
        };
        let report = VerifyReport {
            good: vec!["s3".into()],
            hurt: vec!["s1".into(), "s2".into()],
            packs: 4,
            damaged: vec![object],
            unread: vec!["s4".into()],
            remote_packs: 3,
            unanswered: Some("it hangs".into()),
        };
        let expected = "pack packs/ab/abc.pack: flipped\n  hurts s1\n  hurts s2\n\
                        1 snapshot(s) good, 2 hurt; 1 damaged part(s); 4 pack(s) read whole\n\
                        1 snapshot(s) good as far as they are here; 3 pack(s) of them are only on the store and were not read\n\
                        the store could not be asked for all of these: it hangs\n";
        assert_eq!(told(&report), expected);
    }
}
