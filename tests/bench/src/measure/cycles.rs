//! W3: what cycles of resume, a trivial command and pause add to the store.

use std::sync::Arc;
use std::time::Duration;

use dormouse_guest_mem::Bytes;

use super::checks;
use super::single::{drop_caches, with_kpageflags};
use super::stop::pause;
use crate::figures::{Check, Figures, Value};
use crate::lab::Lab;
use crate::workload::{TRIVIAL, Workload};

const CYCLES: usize = 10;
const AN_HOUR: Duration = Duration::from_secs(3600);
/// Wanted: at most so much is added by a cycle.
const MOST_ADDED: Value = Value::Size(Bytes::mib(3));

/// Measures each pause. The table is that of another sandbox, which ran the command once and goes on.
pub(super) async fn measure(lab: &Arc<Lab>, other_guests: bool) -> anyhow::Result<Figures> {
    let workload = Workload::W3;
    let mut running = lab.sandbox().await?;
    running.guest.sh(TRIVIAL).await;
    let mut last = pause(lab, &running, "W3-0", None).await?;
    let mut added = Vec::new();
    for cycle in 1..=CYCLES {
        lab.host.connect(&running.info.id, AN_HOUR).await?;
        running = lab.running(&running.info.id).await?;
        running.guest.sh(TRIVIAL).await;
        last = pause(lab, &running, &format!("W3-{cycle}"), Some(last.pause.stored)).await?;
        added.push(last.pause.stored.on_disk());
    }
    let ram = running.info.ram;
    lab.remove(&running.info.id).await;

    let once = lab.sandbox().await?;
    once.guest.sh(TRIVIAL).await;
    let (stop, kpageflags) = with_kpageflags(lab, &once, "W3-once", false).await?;
    let dropped = drop_caches(lab, &once).await?;
    lab.remove(&once.info.id).await;

    let most = added.iter().max().copied().unwrap_or_default();
    let mut all = checks::oracles(&last);
    all.push(kpageflags);
    all.push(Check::at_most("added by a cycle at most: pack, index, device state", Value::Size(most), MOST_ADDED));
    all.push(Check::plain("added by ten cycles", Value::Size(Bytes(added.iter().map(|bytes| bytes.0).sum()))));
    all.push(Check::plain("packs that the tenth needs", Value::Count(last.pause.stored.packs.len() as u64)));
    all.extend(checks::sizes(&last));
    all.extend(checks::costs(&last, ram));
    let each = added.iter().map(Bytes::to_string).collect::<Vec<_>>().join(", ");
    let notes = vec![format!("added by each cycle: {each}"), checks::steps(&last.pause)];
    let methods = stop.methods(Some(dropped), super::other_methods(workload, ram, other_guests).await?);
    let kernel = stop.census.kernel;
    Ok(Figures { workload, title: workload.title(), ram, kernel, methods, checks: all, notes })
}
