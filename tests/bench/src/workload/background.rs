//! Programs that go on after they have done what a measurement needs.

use std::time::{Duration, Instant};

use anyhow::bail;
use dormouse_vm_tests::Guest;

/// Emulated guests on a busy machine are slow; only what hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(1800);
const LOOK: Duration = Duration::from_secs(2);

/// Starts a Python program in the guest and waits until it makes `/run/bench.done`.
pub(super) async fn run_to_mark(guest: &Guest, program: &str, argument: &str) -> anyhow::Result<()> {
    guest.sh(&format!("rm -f /run/bench.*; cat > /run/bench.py <<'END'\n{program}\nEND")).await;
    guest
        .sh(&format!("setsid python3 /run/bench.py {argument} > /run/bench.log 2>&1 & echo $! > /run/bench.pid"))
        .await;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let state = "if [ -e /run/bench.done ]; then echo done; elif kill -0 $(cat /run/bench.pid); then echo busy; fi";
        match guest.run(state).await.stdout.trim_ascii() {
            b"done" => return Ok(()),
            b"busy" => tokio::time::sleep(LOOK).await,
            _ => bail!("the workload failed: {}", guest.sh("tail -c 2000 /run/bench.log").await),
        }
    }
    bail!("the workload takes longer than {PATIENCE:?}")
}
