//! What the guests do before they are measured.

mod background;
mod pip_wheel;

use dormouse_vm_tests::Guest;
use serde::Serialize;

use background::run_to_mark;

/// One workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Boot and idle.
    W0,
    /// A program with records in memory; it wrote and freed 200 MiB that repeat every MiB, and read 300 MiB of files.
    W1,
    /// The same with 200 MiB that do not repeat.
    W2,
    /// Ten times: resume, a trivial command, pause.
    W3,
    /// A package is installed by pip into an environment of its own, and its tests run.
    W4,
    /// Ten sandboxes of one template, each with a change of its own.
    W5,
}

/// What the sandboxes of W5 load, so that their memory differs.
const LIBRARIES: [&str; 5] = ["decimal", "asyncio", "email", "xml.dom.minidom", "unittest"];

/// What W3 runs in each cycle.
pub(crate) const TRIVIAL: &str = "python3 -c 'print(1)'";

impl Workload {
    pub(crate) const ALL: [Self; 6] = [Self::W0, Self::W1, Self::W2, Self::W3, Self::W4, Self::W5];

    /// One line for the head of its table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::W0 => "boot and idle",
            Self::W1 => {
                "60 000 records in Python and SQLite; 200 MiB (one MiB again and again) written and freed; files read"
            }
            Self::W2 => "as W1, but the 200 MiB written and freed do not repeat",
            Self::W3 => "ten times: resume, a trivial command, pause",
            Self::W4 => "pip installs a package, its tests run",
            Self::W5 => "ten sandboxes of one template, each with a change of its own",
        }
    }

    /// Does in one guest what the workload wants. Of W3 and W5, what a single guest has in common with it.
    pub(crate) async fn run(self, guest: &Guest) -> anyhow::Result<()> {
        match self {
            Self::W0 => {}
            Self::W1 => run_to_mark(guest, include_str!("w1.py"), "repeated").await?,
            Self::W2 => run_to_mark(guest, include_str!("w1.py"), "distinct").await?,
            Self::W3 => drop(guest.sh(TRIVIAL).await),
            Self::W4 => {
                let wheel = pip_wheel::find()?;
                let name = wheel.file_name().unwrap_or_default().to_string_lossy();
                guest.upload(&wheel, &format!("/root/{name}")).await;
                run_to_mark(guest, include_str!("w4.py"), "").await?;
            }
            Self::W5 => change(guest, 0).await,
        }
        Ok(())
    }
}

/// The change that sandbox number `number` of W5 makes.
pub(crate) async fn change(guest: &Guest, number: usize) {
    let library = LIBRARIES.iter().cycle().nth(number).unwrap_or(&"json");
    guest.sh(&format!("python3 -c 'import json, sqlite3, {library}; print({number})' > /root/result")).await;
    guest.sh(&format!("head -c {}K /dev/urandom > /root/data-{number}", 256 * (number + 1))).await;
}
