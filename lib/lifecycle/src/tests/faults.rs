//! A snapshot that fails in the middle of its making.

use std::path::{Path, PathBuf};

use dormouse_guest_mem::Bytes;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::world::{Follow, RAM, State, World, noise};
use crate::snapshot::{Stored, lab};
use crate::{Error, SnapshotId};

/// A small file system of its own, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(options: &std::ffi::CStr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount("none", dir.path(), "tmpfs", MountFlags::empty(), options)
            .expect("this test mounts a small tmpfs: run it as root");
        Self(dir)
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// What the VM and its agent hear of a pause that fails while the VM is stopped.
const CALLED_OFF: [&str; 4] = ["/snapshot/prepare", "pause", "resume", "/snapshot/abort"];

async fn fails(world: &World) -> Error {
    let error = world.pause(&SnapshotId::random().unwrap()).await.unwrap_err();
    assert_eq!(world.told.all(), CALLED_OFF, "{error}");
    assert!(world.nothing_is_left(), "{error}");
    error
}

#[tokio::test]
async fn half_a_device_state_is_not_left_with_the_vm() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), noise(8192), State::Half).await;
    let error = fails(&world).await;
    assert!(error.to_string().contains("it broke off"), "{error}");
    let error = world.checkpoint(&SnapshotId::random().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("it broke off"), "{error}");
    assert!(world.nothing_is_left());
}

#[tokio::test]
async fn a_checkpoint_has_the_ram_of_the_stop_however_it_was_copied() {
    let ram = noise(64 * 4096);
    let mut early = ram.clone();
    for page in [0, 7, 8, 63] {
        early[page * 4096..][..4096].fill(1);
    }
    let ways = [None, Some(false), Some(true)].map(|way| way.map(|fails| Follow { early: early.clone(), fails }));
    for follow in ways {
        let dir = tempfile::tempdir().unwrap();
        let world = World::following(dir.path(), ram.clone(), State::Whole(noise(100)), follow.clone()).await;
        let id = SnapshotId::random().unwrap();
        world.checkpoint(&id).await.unwrap();
        assert!(lab::ram_of(&world.host, &id) == ram, "a page is as it was before");
        let (copied, ahead) = match follow {
            Some(Follow { fails: false, .. }) => (4, 60),
            _ => (64, 0),
        };
        let stillness = world.host.inspect(&id).await.unwrap().stillness.unwrap();
        assert_eq!((stillness.copied, stillness.ahead), (Bytes::of_pages(copied), Bytes::of_pages(ahead)));
    }
}

#[tokio::test]
async fn what_was_gathered_is_gone_when_something_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), noise(8192), State::Whole(noise(100))).await;
    let overlay = world.run.join(crate::snapshot::OVERLAY);
    std::fs::rename(&overlay, world.run.join("away")).unwrap();
    let error = world.pause(&SnapshotId::random().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("link the overlay disk"), "{error}");
    assert_eq!(world.told.all(), CALLED_OFF);
    std::fs::rename(world.run.join("away"), &overlay).unwrap();
    assert!(world.nothing_is_left());
}

#[tokio::test]
async fn what_was_stored_is_gone_when_it_cannot_be_published() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), noise(8192), State::Whole(noise(100))).await;
    let id = SnapshotId::random().unwrap();
    let taken = world.host.shared.folder.snapshot(&id);
    std::fs::create_dir(&taken).unwrap();
    let error = world.pause(&id).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(world.told.all(), CALLED_OFF);
    std::fs::remove_dir(&taken).unwrap();
    assert!(world.nothing_is_left());
}

#[tokio::test]
async fn a_disk_that_fills_up_at_the_memory_says_how_much_is_needed_and_leaves_nothing() {
    let disk = SmallDisk::new(c"size=2m");
    let world = World::new(&disk.state(), noise(RAM as usize), State::Whole(noise(100))).await;
    let Error::NoSpace { needed, available } = fails(&world).await else { panic!("another error") };
    assert!(needed.0 > RAM && (1 << 20..2 << 20).contains(&available.0), "{needed} {available}");
}

#[tokio::test]
async fn a_disk_that_fills_up_at_the_device_state_says_how_much_is_needed_and_leaves_nothing() {
    let disk = SmallDisk::new(c"size=2m");
    // It fits once, and once more it does not.
    let world = World::new(&disk.state(), vec![0; RAM as usize], State::Whole(noise(1_200_000))).await;
    let Error::NoSpace { needed, available } = fails(&world).await else { panic!("another error") };
    assert!(needed > available && available.0 < 2 << 20, "{needed} {available}");
}

#[tokio::test]
async fn a_snapshot_under_the_name_of_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), noise(8192), State::Whole(noise(100))).await;
    let [id, other] = [(); 2].map(|()| SnapshotId::random().unwrap());
    let stored = world.pause(&id).await.unwrap();
    let open = |dir: &Path, id: &SnapshotId| Stored::open(dir.to_owned(), id.clone());
    let place = world.host.shared.folder.snapshot(&id);
    assert_eq!(open(&place, &id).unwrap().image_root(), stored.image_root());
    let error = open(&place, &other).unwrap_err();
    assert!(error.to_string().contains(&format!("its manifest is that of snapshot \"{id}\"")), "{error}");
    assert!(matches!(open(&world.host.shared.folder.snapshot(&other), &other), Err(Error::NoSnapshot(_))));
}

#[tokio::test]
async fn a_state_folder_and_what_is_in_a_snapshot_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let world = World::new(dir.path(), noise(8192), State::Whole(noise(100))).await;
    let id = SnapshotId::random().unwrap();
    world.pause(&id).await.unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o700);
    assert_eq!(mode(&world.host.shared.folder.snapshot(&id)), 0o700);
    for pack in world.host.shared.packs.packs().list().unwrap() {
        let text = pack.id.to_string();
        let file = world.host.shared.folder.packs().join(&text[..2]).join(pack.id.file_name());
        assert_eq!(mode(&file), 0o400);
    }
}
