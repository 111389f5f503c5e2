//! Figures beside what is wanted of them.

use std::time::Duration;

use dormouse_guest_mem::Bytes;

use super::stop::Stop;
use crate::codecs::{Trial, Trials};
use crate::figures::{Check, Value, percent};
use crate::portion::Portion;
use crate::store::{Pause, Stored};

pub(super) const NOTHING: Value = Value::Size(Bytes(0));
/// At most so many percent of what is stored are on a disk as well.
const MOST_ON_DISK: Value = Value::Share(0.5);
/// An index has at most so many percent of the size of the data.
const MOST_INDEX: Value = Value::Share(1.0);
/// A pause takes at most this memory, and one hundredth of RAM.
const MOST_MEMORY: Bytes = Bytes::mib(64);
/// GB of non-zero memory per second, on two cores.
const LEAST_RATE: Value = Value::Rate(1.0);

/// What the oracles find in the new pack, and in all packs, that need not be there.
pub(super) fn oracles(stop: &Stop) -> Vec<Check> {
    let written = stop.written();
    let free = Value::Size(written.get(Portion::Free));
    let on_disk = Value::Share(percent(written.get(Portion::OnDisk), written.total()));
    let packs = stop.in_packs();
    let packs_on_disk = Value::Share(percent(packs.get(Portion::OnDisk), packs.total()));
    vec![
        Check::at_most("stored though free, by the page structures at the stop", free, NOTHING),
        Check::at_most("stored though on a disk, by content, of what is stored", on_disk, MOST_ON_DISK),
        Check::at_most("the same in all packs that it needs", packs_on_disk, MOST_ON_DISK),
    ]
}

/// What the image takes on disk.
pub(super) fn sizes(stop: &Stop) -> Vec<Check> {
    let Stored { pack, index, device_state, overlay, .. } = stop.pause.stored;
    vec![
        Check::plain("new pack", Value::Size(pack)),
        Check::plain("index", Value::Size(index)),
        Check::at_most(
            "index, of the memory that it describes",
            Value::Share(percent(index, stop.content())),
            MOST_INDEX,
        ),
        Check::plain("device state", Value::Size(device_state)),
        Check::plain("overlay disk, which every snapshot has whole", Value::Size(overlay)),
        Check::plain("on disk with all packs that it needs", Value::Size(stop.pause.stored.alone())),
    ]
}

/// What a pause costs the machine.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn costs(stop: &Stop, ram: Bytes) -> Vec<Check> {
    let Pause { cost, steps, .. } = &stop.pause;
    let non_zero = stop.census.non_zero().total();
    let wall: Duration = steps.iter().map(|(_, took)| *took).sum();
    let rate = |took: Duration| Value::Rate(non_zero.0 as f64 / took.as_secs_f64().max(1e-9) / 1e9);
    let most = Value::Size(Bytes(MOST_MEMORY.0 + ram.0 / 100));
    vec![
        Check::plain(format!("CPU time of the pause, {non_zero} not zero"), Value::Seconds(cost.cpu.as_secs_f64())),
        Check::at_least("memory that is not zero, per second", rate(wall), LEAST_RATE),
        Check::plain("the same per second of CPU time", rate(cost.cpu)),
        Check::at_most("memory of the process, above what it had", Value::Size(cost.growth), most),
        Check::plain("memory of the process at most (VmHWM)", Value::Size(cost.peak)),
    ]
}

/// What the pages that are new since the parent take by each way of compressing them, if that was tried.
pub(super) fn codecs(stop: &Stop) -> Vec<Check> {
    let Some(Trials { raw, each }) = &stop.pause.codecs else { return Vec::new() };
    let mut all = vec![Check::plain("pages that the parent has not", Value::Size(*raw))];
    for Trial { name, stored, encode, decode } in each {
        all.push(Check::plain(format!("the same by {name}"), Value::Size(*stored)));
        all.push(Check::plain(format!("CPU time of {name}, to compress"), Value::Millis(encode.as_secs_f64() * 1e3)));
        all.push(Check::plain(format!("CPU time of {name}, to decompress"), Value::Millis(decode.as_secs_f64() * 1e3)));
    }
    all
}

/// The steps of a pause in one line.
pub(super) fn steps(pause: &Pause) -> String {
    let steps: Vec<_> = pause.steps.iter().map(|(name, took)| format!("{name} {} ms", took.as_millis())).collect();
    format!("work on RAM: {}", steps.join(", "))
}
