//! W5: what ten sandboxes of one template add to the store, beside what each would take alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_guest_mem::Bytes;

use super::checks;
use super::stop::{Stop, pause};
use crate::figures::{Check, Figures, Method, Row, Value, percent};
use crate::lab::Lab;
use crate::store::Packs;
use crate::workload::{Workload, change};

const SANDBOXES: usize = 10;

/// Pauses one after the other.
pub(super) async fn measure(lab: &Arc<Lab>) -> anyhow::Result<Figures> {
    let workload = Workload::W5;
    let (mut stops, mut packs, mut ram) = (Vec::new(), Packs::new(), Bytes(0));
    for number in 0..SANDBOXES {
        let running = lab.sandbox().await?;
        change(&running.guest, number).await;
        let stop = pause(lab, &running, &format!("W5-{number}"), None).await?;
        lab.remove(&running.info.id).await;
        packs.extend(stop.pause.stored.packs.clone());
        ram.0 += running.info.ram.0;
        stops.push(stop);
    }
    let stored = || stops.iter().map(|stop| &stop.pause.stored);
    let files: u64 = stored().map(|stored| stored.index.0 + stored.device_state.0).sum();
    let store = Bytes(packs.values().map(|len| len.0).sum::<u64>() + files);
    let alone = Bytes(stored().map(|stored| stored.alone().0).sum());
    let each = stored().map(|stored| stored.on_disk().to_string()).collect::<Vec<_>>().join(", ");
    let mut all = worst_of_oracles(&stops);
    all.push(Check::plain("store: all packs, indexes and device states", Value::Size(store)));
    all.push(Check::plain("the same of each sandbox alone, summed up", Value::Size(alone)));
    all.push(Check::plain("store, of the sum", Value::Share(percent(store, alone))));
    let notes = vec![format!("added by each: {each}")];
    let methods = sum_of_methods(&stops);
    let kernel = stops.first().map(|stop| stop.census.kernel.clone()).unwrap_or_default();
    Ok(Figures { workload, title: workload.title(), ram, kernel, methods, checks: all, notes })
}

fn sum_of_methods(stops: &[Stop]) -> Vec<Row> {
    let mut sums: BTreeMap<Method, Row> = BTreeMap::new();
    for row in stops.iter().flat_map(|stop| stop.methods(None, Vec::new())) {
        match sums.get_mut(&row.method) {
            Some(sum) => sum.add(&row),
            None => drop(sums.insert(row.method, row)),
        }
    }
    sums.into_values().collect()
}

/// The worst that an oracle found in any of them.
fn worst_of_oracles(stops: &[Stop]) -> Vec<Check> {
    let mut worst: Vec<Check> = Vec::new();
    for (at, check) in stops.iter().flat_map(|stop| checks::oracles(stop).into_iter().enumerate()) {
        match worst.get_mut(at) {
            Some(known) if known.value.number() >= check.value.number() => {}
            Some(known) => *known = check,
            None => worst.push(check),
        }
    }
    worst
}
