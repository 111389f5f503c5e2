//! RAM files made from snapshots.

use std::os::unix::fs::MetadataExt;

use super::world::{State, World, noise};
use crate::{Error, SnapshotId};

#[tokio::test]
async fn one_ram_file_serves_all_vms_of_an_image_and_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let ram = noise(1 << 20);
    let world = World::new(dir.path(), ram.clone(), State::Whole(noise(100))).await;
    let stored = world.pause(&SnapshotId::random().unwrap()).await.unwrap();
    let links = ["one", "two", "three"].map(|name| world.run.join(name));
    let cache = &world.host.shared.ram_cache;
    let (one, two) = tokio::join!(cache.link(&stored, &links[0]), cache.link(&stored, &links[1]));
    one.and(two).unwrap();
    // What is unpacked already needs nothing of the snapshot any more.
    std::fs::remove_file(stored.memory_file()).unwrap();
    cache.link(&stored, &links[2]).await.unwrap();
    let files = links.map(|link| (std::fs::read(&link).unwrap() == ram, link.metadata().unwrap().ino()));
    assert_eq!(files, [(true, files[0].1); 3]);
    let names: Vec<_> = std::fs::read_dir(world.host.shared.folder.cache()).unwrap().collect();
    assert_eq!(names.len(), 1, "no half of it stays: {names:?}");
}

#[tokio::test]
async fn a_damaged_image_leaves_no_ram_file_and_can_be_tried_again_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let ram = noise(1 << 20);
    let world = World::new(dir.path(), ram.clone(), State::Whole(noise(100))).await;
    let stored = world.pause(&SnapshotId::random().unwrap()).await.unwrap();
    let id = stored.packs()[0].id.to_string();
    let pack = world.host.shared.folder.packs().join(&id[..2]).join(format!("{id}.pack"));
    let whole = std::fs::read(&pack).unwrap();
    let mut bad = whole.clone();
    bad[500_000] ^= 1;
    let replace = |bytes: &[u8]| {
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, bytes).unwrap();
    };
    replace(&bad);
    let (cache, link) = (&world.host.shared.ram_cache, world.run.join("base.ram"));
    for _ in 0..2 {
        let error = cache.link(&stored, &link).await.unwrap_err();
        assert!(matches!(&error, Error::Snapshot { reason, .. } if reason.contains("checksum")), "{error}");
        assert!(!link.exists());
        assert!(std::fs::read_dir(world.host.shared.folder.cache()).unwrap().next().is_none());
    }
    replace(&whole);
    cache.link(&stored, &link).await.unwrap();
    assert!(std::fs::read(&link).unwrap() == ram);
}
