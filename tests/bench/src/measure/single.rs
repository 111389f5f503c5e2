//! Workloads of one guest.

use std::sync::Arc;

use dormouse_vm_tests::oracle_buddy;

use super::checkpoint;
use super::checks::{self, NOTHING};
use super::stop::{Stop, census, stop_and_go_on};
use crate::figures::{Check, Figures, Value, percent};
use crate::lab::{Lab, Running};
use crate::portion::Portions;
use crate::watch::Sight;
use crate::workload::Workload;

/// Wanted of W1: at most so many percent of RAM on disk.
const MOST_OF_RAM: Value = Value::Share(3.0);

/// Measures a stop of a guest that did the workload; then it drops its page cache.
pub(super) async fn measure(lab: &Arc<Lab>, workload: Workload, other_guests: bool) -> anyhow::Result<Figures> {
    let running = lab.sandbox().await?;
    let ram = running.info.ram;
    workload.run(&running.guest).await?;
    let (stop, kpageflags) = with_kpageflags(lab, &running, &format!("{workload:?}"), true).await?;
    let (checkpoint, while_stopped) = checkpoint::measure(lab, &running).await?;
    let dropped = drop_caches(lab, &running).await?;
    lab.remove(&running.info.id).await;

    let mut all = checks::oracles(&stop);
    all.push(kpageflags);
    let on_disk = Value::Share(percent(stop.pause.stored.on_disk(), ram));
    all.push(match workload {
        Workload::W1 => Check::at_most("on disk, of RAM", on_disk, MOST_OF_RAM),
        _ => Check::plain("on disk, of RAM", on_disk),
    });
    all.extend(checks::sizes(&stop));
    all.extend(checks::costs(&stop, ram));
    all.extend(checks::codecs(&stop));
    all.extend(checkpoint);
    let methods = stop.methods(Some(dropped), super::other_methods(workload, ram, other_guests).await?);
    let notes = vec![checks::steps(&stop.pause), while_stopped];
    let kernel = stop.census.kernel;
    Ok(Figures { workload, title: workload.title(), ram, kernel, methods, checks: all, notes })
}

/// Also asks the guest itself, before and after the stop, which pages are free.
pub(super) async fn with_kpageflags(
    lab: &Arc<Lab>,
    running: &Running,
    name: &str,
    codecs: bool,
) -> anyhow::Result<(Stop, Check)> {
    let vm = lab.watcher.vm(&running.info.id)?;
    let (_, before) = oracle_buddy(&running.guest, vm.layout()).await;
    let stop = stop_and_go_on(lab, running, name, codecs).await?;
    let (_, after) = oracle_buddy(&running.guest, vm.layout()).await;
    let stored = Value::Size(stop.written_though(&before.intersection(&after)));
    let name = "stored though free, by the guest's /proc/kpageflags before and after";
    Ok((stop, Check::at_most(name, stored, NOTHING)))
}

/// Has the guest drop its page cache and counts what is not zero then.
pub(super) async fn drop_caches(lab: &Arc<Lab>, running: &Running) -> anyhow::Result<Portions> {
    let vm = lab.watcher.vm(&running.info.id)?;
    running.guest.sh("sync; echo 1 > /proc/sys/vm/drop_caches").await;
    let folder = lab.scratch.path().to_owned();
    let found = lab.watcher.at_next_stop(move |vm| Sight::take(vm, &folder));
    vm.pause().await?;
    vm.resume().await?;
    Ok(census(lab, found.try_recv()?).await?.non_zero())
}
