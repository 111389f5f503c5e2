//! The volumes that the host wants mounted, kept so from one life to the next.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::io::Errno;

use super::volume::Volume;
use crate::agent::Guest;
use crate::offload::Offload;

/// For mounting: a server that does not answer costs so much and no more.
const MOUNT_LIMIT: Duration = Duration::from_secs(10);
/// For taking one away in the orderly way, which writes what is not written yet.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounted {
    volume: Volume,
    lifecycle: Option<String>,
}

/// What is mounted, by its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Volumes(BTreeMap<PathBuf, Mounted>);

/// What has to be done so that exactly the wanted ones are mounted.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    unmount: Vec<PathBuf>,
    mount: Vec<Volume>,
}

impl Volumes {
    /// A mount of an earlier life holds a connection that its server does not know any more, so it is made anew.
    fn plan(&self, wanted: &[Volume], lifecycle: Option<&str>) -> Plan {
        let stays = |mounted: &Mounted| mounted.lifecycle.as_deref() == lifecycle && wanted.contains(&mounted.volume);
        let unmount = self.0.iter().filter(|(_, mounted)| !stays(mounted)).map(|(path, _)| path.clone()).collect();
        let there = |volume: &Volume| self.0.get(&volume.path).is_some_and(|m| m.volume == *volume && stays(m));
        Plan { unmount, mount: wanted.iter().filter(|volume| !there(volume)).cloned().collect() }
    }

    /// Makes exactly the `wanted` ones mounted, none of which lies in another, as far as servers answer in time. Returns what could
    /// not be done.
    pub(super) async fn set(
        &mut self,
        guest: &Guest,
        calls: &Offload,
        wanted: &[Volume],
        lifecycle: Option<&str>,
    ) -> Vec<String> {
        let plan = self.plan(wanted, lifecycle);
        let mut problems = Vec::new();
        let unmounted = join_all(plan.unmount.iter().map(|path| unmount(guest, calls, path))).await;
        for (path, result) in plan.unmount.iter().zip(unmounted) {
            self.0.remove(path);
            if let Err(error) = result {
                problems.push(format!("take the volume at {} away: {error}", path.display()));
            }
        }
        let mounted = join_all(plan.mount.iter().map(|volume| mount(guest, calls, volume))).await;
        for (volume, result) in plan.mount.into_iter().zip(mounted) {
            match result {
                Ok(()) => {
                    let lifecycle = lifecycle.map(str::to_owned);
                    self.0.insert(volume.path.clone(), Mounted { volume, lifecycle });
                }
                Err(error) => problems.push(format!("mount the volume {}: {error}", volume.source())),
            }
        }
        problems
    }
}

/// Each place has calls of its own, so that a server that hangs holds up only its own volume. One that answers after it was given
/// up on is not left mounted behind everybody's back.
async fn mount(guest: &Guest, calls: &Offload, volume: &Volume) -> io::Result<()> {
    let (kernel, volume) = (Arc::clone(&guest.kernel), volume.clone());
    let waited_for = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&waited_for);
    let name = format!("mount {}", volume.path.display());
    let call = calls.call(&name, move || {
        kernel.mount(&volume)?;
        if still.load(Ordering::SeqCst) { Ok(()) } else { kernel.unmount(&volume.path, true) }
    });
    let mounted = bounded(MOUNT_LIMIT, call).await;
    waited_for.store(false, Ordering::SeqCst);
    mounted
}

/// In the orderly way if that works in time; else it goes from the tree at once, and for good when nobody uses it any more.
async fn unmount(guest: &Guest, calls: &Offload, path: &Path) -> io::Result<()> {
    let call = |lazy: bool| {
        let (kernel, path) = (Arc::clone(&guest.kernel), path.to_owned());
        let name = format!("unmount {}{}", path.display(), if lazy { " lazily" } else { "" });
        async move { bounded(UNMOUNT_LIMIT, calls.call(&name, move || kernel.unmount(&path, lazy))).await }
    };
    match call(false).await {
        // Somebody in the guest was quicker.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
        Err(_) => call(true).await,
        done => done,
    }
}

async fn bounded<T>(limit: Duration, call: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn volume(export: &str, path: &str) -> Volume {
        Volume { server: [10, 0, 0, 1].into(), export: export.into(), path: path.into() }
    }

    fn after(volumes: &Volumes, plan: Plan, lifecycle: Option<&str>) -> Volumes {
        let mut next = volumes.clone();
        for path in plan.unmount {
            assert!(next.0.remove(&path).is_some(), "only what is mounted is taken away");
        }
        for volume in plan.mount {
            let mounted = Mounted { volume: volume.clone(), lifecycle: lifecycle.map(str::to_owned) };
            assert!(next.0.insert(volume.path, mounted).is_none(), "nothing is mounted twice");
        }
        next
    }

    #[test]
    fn a_volume_of_another_life_is_mounted_anew_and_one_of_this_life_is_left_alone() {
        let nothing = || Plan { unmount: Vec::new(), mount: Vec::new() };
        for (life, other) in [(Some("x"), Some("y")), (None, Some("x")), (Some("x"), None)] {
            let wanted = [volume("/a", "/a"), volume("/b", "/b")];
            let first = after(&Volumes::default(), Volumes::default().plan(&wanted, life), life);
            assert_eq!(first.plan(&wanted, life), nothing(), "{life:?}");
            let plan = first.plan(&wanted, other);
            assert_eq!((plan.unmount.len(), plan.mount.len()), (2, 2), "{life:?} to {other:?}");
            let moved = [volume("/b", "/a"), volume("/b", "/b")];
            assert_eq!(first.plan(&moved, life), Plan { unmount: vec!["/a".into()], mount: vec![volume("/b", "/a")] });
        }
    }

    proptest! {
        #[test]
        fn whatever_was_mounted_exactly_the_wanted_ones_are_in_the_end(
            calls in prop::collection::vec(
                (prop::collection::btree_map(0usize..4, 0usize..3, 0..4), prop::option::of(0u8..2)),
                1..8,
            ),
        ) {
            let mut volumes = Volumes::default();
            for (wanted, lifecycle) in calls {
                let wanted: Vec<_> =
                    wanted.into_iter().map(|(at, export)| volume(&format!("/{export}"), &format!("/{at}"))).collect();
                let lifecycle = lifecycle.map(|life| life.to_string());
                volumes = after(&volumes, volumes.plan(&wanted, lifecycle.as_deref()), lifecycle.as_deref());
                let mounted: Vec<_> = volumes.0.values().map(|m| m.volume.clone()).collect();
                prop_assert_eq!(&mounted, &wanted);
                prop_assert!(volumes.0.values().all(|m| m.lifecycle == lifecycle));
            }
        }
    }
}
