//! One stop of a guest: what the oracles see, and what a pause makes of it.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::Context;
use dormouse_guest_mem::RamSource;
use dormouse_lifecycle::PauseOptions;

use crate::census::Census;
use crate::lab::{Lab, Running};
use crate::store::{Pause, Stored};
use crate::watch::Sight;

/// What was found at a stop.
pub(super) struct Stop {
    pub(super) census: Census,
    pub(super) pause: Pause,
}

/// At the next stop of a VM: copies what the oracles need, then stores, and with `codecs` tries other ways of compressing.
/// `parent` is the image that the VM was started from; the template's when not given.
fn order(lab: &Arc<Lab>, name: &str, parent: Option<Stored>, codecs: bool) -> Receiver<(Sight, Pause)> {
    let (shared, name) = (Arc::clone(lab), name.to_owned());
    lab.watcher.at_next_stop(move |vm| {
        let sight = Sight::take(vm, shared.scratch.path())?;
        let (store, template) = shared.store(&sight)?;
        let pause = store.pause(&name, vm, parent.as_ref().unwrap_or(template), codecs)?;
        Ok((sight, pause))
    })
}

async fn examine(lab: &Arc<Lab>, found: &Receiver<(Sight, Pause)>) -> anyhow::Result<Stop> {
    let (sight, pause) = found.try_recv().context("the VM was not stopped")?;
    let census = census(lab, sight).await?;
    Ok(Stop { census, pause })
}

/// What every page of a sight holds.
pub(super) async fn census(lab: &Arc<Lab>, sight: Sight) -> anyhow::Result<Census> {
    let lab = Arc::clone(lab);
    let looked = tokio::task::spawn_blocking(move || {
        let fixed = sight.fixed_disks.iter().map(|disk| lab.blocks_of(disk)).collect::<anyhow::Result<Vec<_>>>()?;
        let disks: Vec<_> = fixed.iter().map(|blocks| &**blocks).chain([&sight.written_disks]).collect();
        let before = sight.before.as_ref().map(|before| before as &dyn RamSource);
        Census::take(&sight.ram, &sight.layout, &disks, before)
    });
    looked.await?
}

/// Gets a guest ready as a pause does, stops it, and lets it go on.
pub(super) async fn stop_and_go_on(
    lab: &Arc<Lab>,
    running: &Running,
    name: &str,
    codecs: bool,
) -> anyhow::Result<Stop> {
    let vm = lab.watcher.vm(&running.info.id)?;
    running.guest.prepare("keep").await;
    let found = order(lab, name, None, codecs);
    vm.pause().await?;
    vm.resume().await?;
    running.guest.abort_prepare().await;
    examine(lab, &found).await
}

/// Pauses a sandbox.
pub(super) async fn pause(
    lab: &Arc<Lab>,
    running: &Running,
    name: &str,
    parent: Option<Stored>,
) -> anyhow::Result<Stop> {
    let found = order(lab, name, parent, false);
    lab.host.pause(&running.info.id, PauseOptions::default()).await?;
    examine(lab, &found).await
}
