//! Packs and snapshots that come down.

use std::fs;

use dormouse_guest_mem::Bytes;
use dormouse_image::Digest;
use dormouse_store::remote::RemoteError;
use dormouse_store::{PackId, StoreError};
use http::Method;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::rig::{Daemon, INDEX, MANIFEST, Machine, OVERLAY, bounded, limits, pack_key, s3};
use crate::support::{content, files, id_of, name, read};
use dormouse_test_s3::{Fault, Server};

/// A remote with two packs and a snapshot that needs both.
async fn filled(server: &Server) -> [PackId; 2] {
    let machine = Machine::new();
    let daemon = machine.start(s3(server, ""));
    let packs = [daemon.put(&content(1, 1000)), daemon.put(&content(2, 6_000_000))];
    daemon.upload(&daemon.snapshot("snap", packs)).await;
    server.seen();
    packs
}

/// Nothing half-fetched is to be seen.
fn nothing_left(daemon: &Daemon) {
    assert_eq!(files(daemon.packs.root()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_ask_for_a_pack_at_once_share_one_fetch() {
    let server = Server::start().await;
    let packs = filled(&server).await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let all = (0..20).map(|_| daemon.remote.ensure(packs));
    for pins in futures_util::future::join_all(all).await {
        assert_eq!(pins.unwrap().ids(), packs);
    }
    let seen = server.seen();
    for id in packs {
        let gets = seen.iter().filter(|r| r.starts_with("GET") && r.contains(&pack_key(&id))).count();
        assert_eq!(gets, 1, "{seen:?}");
    }
    assert_eq!(read(&daemon.packs, &packs[1]), content(2, 6_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_where_it_broke_off() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let bytes = content(1, 9 << 20);
    let id = daemon.put(&bytes);
    daemon.upload(&daemon.snapshot("snap", [id])).await;
    let other = Machine::new();
    let daemon = other.start(s3(&server, ""));
    server.seen();
    let fault = server.fail(&Method::GET, &["/packs/"], 3, Fault::HalfBody);
    let _pins = daemon.remote.ensure([id]).await.unwrap();
    assert_eq!(fault.left(), 0);
    let from_the_start = server.seen().iter().filter(|r| r.starts_with("GET") && !r.contains("bytes=")).count();
    assert_eq!(from_the_start, 1, "what had come was not asked for again");
    assert_eq!(read(&daemon.packs, &id), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_damaged_on_the_remote_is_named_and_never_seen_and_others_are_not_affected() {
    let server = Server::start().await;
    let [bad, good] = filled(&server).await;
    let file = server.file(&pack_key(&bad));
    let mut bytes = fs::read(&file).unwrap();
    bytes[500] ^= 1;
    fs::write(&file, bytes).unwrap();
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let error = daemon.remote.ensure([bad]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Damaged { key, .. } if *key == pack_key(&bad)), "{error}");
    assert!(error.to_string().contains(&bad.to_string()), "{error}");
    nothing_left(&daemon);
    let _pins = daemon.remote.ensure([good]).await.unwrap();
    assert_eq!(read(&daemon.packs, &good), content(2, 6_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_damaged_on_the_way_is_fetched_again() {
    let server = Server::start().await;
    let packs = filled(&server).await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let parts = [pack_key(&packs[0]), OVERLAY.to_owned(), "snapshot.json".to_owned()];
    let faults = parts.map(|part| server.fail(&Method::GET, &[&part], 1, Fault::Flip));
    let _pins = daemon.remote.ensure(packs).await.unwrap();
    let into = machine.path().join("snapshots/snap");
    fs::create_dir(&into).unwrap();
    daemon.remote.fetch_snapshot(&name("snap"), &into).await.unwrap();
    assert_eq!(faults.map(|fault| fault.left()), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_not_there_is_named() {
    let server = Server::start().await;
    let [gone, _] = filled(&server).await;
    fs::remove_file(server.file(&pack_key(&gone))).unwrap();
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    for id in [gone, id_of(b"never there")] {
        let error = daemon.remote.ensure([id]).await.unwrap_err();
        assert!(matches!(&error, RemoteError::Absent { key, .. } if *key == pack_key(&id)), "{error}");
    }
    nothing_left(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_a_snapshot_is_named() {
    let server = Server::start().await;
    filled(&server).await;
    for part in [INDEX, OVERLAY, MANIFEST, "snapshot.json"] {
        let key = server.keys().into_iter().find(|key| key.ends_with(part)).unwrap();
        let whole = fs::read(server.file(&key)).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 8;
        let longer = [&whole[..], b"x"].concat();
        for bad in [&flipped, &whole[..whole.len() - 1], &longer, b""] {
            fs::write(server.file(&key), bad).unwrap();
            let machine = Machine::new();
            let into = machine.path().join("snapshots/snap");
            fs::create_dir(&into).unwrap();
            let daemon = machine.start(s3(&server, ""));
            let error = daemon.remote.fetch_snapshot(&name("snap"), &into).await.unwrap_err();
            assert!(matches!(&error, RemoteError::Damaged { key: named, .. } if *named == key), "{part}: {error}");
            assert!(!into.join(MANIFEST).exists() || part == MANIFEST, "{part}: the manifest comes last");
            nothing_left(&daemon);
        }
        fs::write(server.file(&key), whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_longer_than_any_can_be_is_not_read() {
    let server = Server::start().await;
    filled(&server).await;
    fs::write(server.file("snapshots/snap/snapshot.json"), vec![b' '; 9 << 20]).unwrap();
    let daemon = Machine::new();
    let daemon = daemon.start(s3(&server, ""));
    let error = daemon.remote.describe(&name("snap")).await.unwrap_err();
    assert!(matches!(error, RemoteError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("more than it can be"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start().await;
    filled(&server).await;
    let machine = Machine::new();
    let into = machine.path().join("snapshots/snap");
    fs::create_dir(&into).unwrap();
    machine.start(s3(&server, "")).remote.fetch_snapshot(&name("snap"), &into).await.unwrap();
    for file in [INDEX, OVERLAY, MANIFEST] {
        assert_eq!(fs::metadata(into.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_snapshot_on_the_remote_is_not_listed() {
    let server = Server::start().await;
    filled(&server).await;
    fs::remove_file(server.file("snapshots/snap/snapshot.json")).unwrap();
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    assert!(daemon.remote.list().await.unwrap().is_empty());
    assert!(matches!(daemon.remote.describe(&name("snap")).await, Err(RemoteError::Absent { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_without_room_is_an_error_with_figures_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("passed over: mounting a tmpfs takes root");
        return;
    }
    struct Mounted<'a>(&'a std::path::Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            unmount(self.0, UnmountFlags::DETACH).unwrap();
        }
    }
    let server = Server::start().await;
    let [small, large] = filled(&server).await;
    let machine = Machine::new();
    mount("tmpfs", machine.path(), "tmpfs", MountFlags::empty(), Some(c"size=200k")).unwrap();
    let _mounted = Mounted(machine.path());
    let daemon = machine.start(s3(&server, ""));
    let error = daemon.remote.ensure([large]).await.unwrap_err();
    let RemoteError::Local(local) = &error else { panic!("{error}") };
    assert!(matches!(&**local, StoreError::NoSpace { needed, .. } if needed.0 == 6_000_000), "{error}");
    nothing_left(&daemon);
    let _pins = daemon.remote.ensure([small]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_from_the_remote_may_go_again() {
    let server = Server::start().await;
    let packs = filled(&server).await;
    let machine = Machine::new();
    let daemon = machine.start_with(s3(&server, ""), limits(), Some(Bytes(0)));
    drop(daemon.remote.ensure(packs).await.unwrap());
    daemon.remote.trim();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    nothing_left(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_packs_than_may_come_at_once_wait_and_one_that_is_here_by_then_is_not_asked_for() {
    let server = Server::start().await;
    let [first, second] = filled(&server).await;
    let machine = Machine::new();
    let mut one_by_one = limits();
    one_by_one.packs_at_once = 1;
    let daemon = machine.start_with(s3(&server, ""), one_by_one, None);
    let hangs = server.fail(&Method::GET, &[&pack_key(&first)], usize::MAX, Fault::Status(503));
    let tried = async |times| {
        while usize::MAX - hangs.left() < times {
            tokio::task::yield_now().await;
        }
    };
    let other = async {
        tried(1).await;
        daemon.remote.ensure([second]).await
    };
    let meanwhile = async {
        // By then the other one would have come.
        tried(20).await;
        daemon.put(&content(2, 6_000_000));
        hangs.end();
    };
    let (one, other, ()) = bounded(async { tokio::join!(daemon.remote.ensure([first]), other, meanwhile) }).await;
    let _pins = [one.unwrap(), other.unwrap()];
    let asked: Vec<_> = server.seen().into_iter().filter(|request| request.contains(&pack_key(&second))).collect();
    assert_eq!(asked, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_on_this_machine_is_not_taken_for_damage_on_the_remote() {
    let server = Server::start().await;
    let [id, _] = filled(&server).await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    // In the place of the folder that the pack belongs into, and leads nowhere.
    let folder = daemon.packs.root().join(&id.to_string()[..2]);
    std::os::unix::fs::symlink(machine.path().join("nowhere"), folder).unwrap();
    let error = daemon.remote.ensure([id]).await.unwrap_err();
    assert!(matches!(error, RemoteError::Local(_)), "{error}");
    let gets = server.seen().iter().filter(|request| request.starts_with("GET")).count();
    assert_eq!(gets, 1, "the remote cannot mend it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_contradicts_itself_is_damaged() {
    let server = Server::start().await;
    filled(&server).await;
    let file = server.file("snapshots/snap/snapshot.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let len = &mut record["body"]["files"][0]["len"];
    *len = (len.as_u64().unwrap() + 1).into();
    let body = record["body"].to_string();
    let checksum = Digest::of(body.as_bytes());
    let text = format!(r#"{{"format":"dormouse-remote-snapshot","version":1,"checksum":"{checksum}","body":{body}}}"#);
    fs::write(&file, text).unwrap();
    let machine = Machine::new();
    let into = machine.path().join("snapshots/snap");
    fs::create_dir(&into).unwrap();
    let error = machine.start(s3(&server, "")).remote.fetch_snapshot(&name("snap"), &into).await.unwrap_err();
    assert!(error.to_string().contains("contradicts itself"), "{error}");
}
