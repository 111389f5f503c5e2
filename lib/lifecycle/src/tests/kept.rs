//! In which order a kept snapshot, its record and its copy on the remote come and go.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::remotes::setup;
use super::world::{RAM, State, World, noise};
use crate::{Error, SnapshotId, Target, UploadState};

struct Lab {
    dir: tempfile::TempDir,
    world: World,
    id: SnapshotId,
}

/// A sandbox, with a folder as the remote.
async fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let remote = setup(Target::Folder(dir.path().join("remote")), None);
    let state = State::Whole(noise(100));
    let world = World::with_remote(&dir.path().join("state"), noise(RAM as usize), state, Some(remote)).await;
    Lab { dir, world, id: SnapshotId::random().unwrap() }
}

impl Lab {
    /// The file of the record.
    fn record(&self) -> PathBuf {
        self.world.host.shared.folder.kept_record(&self.id)
    }

    /// Its record, its folder, and its record on the remote, whichever there are; and whether it is listed.
    fn there(&self) -> [bool; 4] {
        let host = &self.world.host;
        let folder = host.shared.folder.snapshot(&self.id);
        let remote = self.dir.path().join("remote/snapshots").join(self.id.as_str()).join("snapshot.json");
        let listed = host.snapshots().iter().any(|snapshot| snapshot.id == self.id);
        [self.record().is_file(), folder.join("manifest.json").exists(), remote.exists(), listed]
    }

    async fn settled(&self) {
        let settled = self.world.host.shared.remote.settled();
        assert_eq!(tokio::time::timeout(Duration::from_secs(120), settled).await.expect("it settles"), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_snapshot_is_listed_and_goes_up_and_is_nowhere_when_it_is_removed() {
    let lab = lab().await;
    let info = lab.world.keep(&lab.id).await.unwrap();
    assert_eq!(info.id, lab.id);
    assert_eq!((lab.record().is_file(), lab.world.host.snapshots().len()), (true, 1));
    lab.settled().await;
    assert_eq!(lab.there(), [true; 4]);
    let stored = lab.world.host.stored(&lab.id).unwrap();
    assert_eq!(lab.world.host.shared.remote.copy_of(&stored).unwrap().upload, UploadState::Done);
    lab.world.host.remove_snapshot(lab.id.as_str()).await.unwrap();
    lab.settled().await;
    assert_eq!(lab.there(), [false; 4]);
    assert!(lab.world.nothing_is_left());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_record_cannot_be_written_is_not_there_and_does_not_go_up() {
    let lab = lab().await;
    let in_the_way = lab.record().with_extension("half");
    fs::create_dir(&in_the_way).unwrap();
    let error = lab.world.keep(&lab.id).await.unwrap_err();
    assert!(error.to_string().contains(lab.id.as_str()), "{error}");
    lab.settled().await;
    assert_eq!(lab.there(), [false; 4]);
    assert!(lab.world.nothing_is_left());
    fs::remove_dir(&in_the_way).unwrap();
    lab.world.keep(&lab.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_record_of_a_snapshot_that_could_not_be_made() {
    let lab = lab().await;
    // Something is in its place already.
    fs::create_dir(lab.world.host.shared.folder.snapshot(&lab.id)).unwrap();
    lab.world.keep(&lab.id).await.unwrap_err();
    assert_eq!(lab.there(), [false; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_record_cannot_be_removed_is_there_as_before() {
    let lab = lab().await;
    lab.world.keep(&lab.id).await.unwrap();
    lab.settled().await;
    let text = fs::read(lab.record()).unwrap();
    fs::remove_file(lab.record()).unwrap();
    fs::create_dir(lab.record()).unwrap();
    lab.world.host.remove_snapshot(lab.id.as_str()).await.unwrap_err();
    lab.settled().await;
    fs::remove_dir(lab.record()).unwrap();
    fs::write(lab.record(), text).unwrap();
    assert_eq!(lab.there(), [true; 4]);
    lab.world.host.remove_snapshot(lab.id.as_str()).await.unwrap();
    assert_eq!(lab.there()[..2], [false; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_is_not_removed_as_if_it_were() {
    let lab = lab().await;
    let stored = lab.world.pause(&lab.id).await.unwrap();
    let error = crate::kept::remove(&lab.world.host.shared, &lab.id).unwrap_err();
    assert!(matches!(error, Error::NoSnapshot(_)), "{error}");
    assert!(stored.dir.exists());
}
