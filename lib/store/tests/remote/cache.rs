//! The folder of packs as a cache of the remote.

use std::fs;
use std::time::{Duration, SystemTime};

use dormouse_guest_mem::Bytes;
use dormouse_store::PackId;
use dormouse_store::remote::UploadState;
use http::Method;

use crate::rig::{Daemon, Machine, limits, pack_key, s3};
use crate::support::{content, read};
use dormouse_test_s3::{Fault, Server};

fn here(daemon: &Daemon, ids: &[PackId]) -> Vec<bool> {
    ids.iter().map(|id| daemon.packs.len(id).unwrap().is_some()).collect()
}

/// Puts packs of 1000 bytes each, the first the longest unused.
fn put_all(daemon: &Daemon, count: u64) -> Vec<PackId> {
    let put = |n| {
        let id = daemon.put(&content(n, 1000));
        let used = SystemTime::now() - Duration::from_secs(1000 - n);
        daemon.packs.open_pack(&id).unwrap().set_modified(used).unwrap();
        id
    };
    (0..count).map(put).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_bound_the_longest_unused_go_but_never_what_is_pinned_or_not_there_yet() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start_with(s3(&server, ""), limits(), Some(Bytes(2000)));
    let ids = put_all(&daemon, 5);
    let _pins = daemon.packs.pin([ids[1]]);
    // The first one belongs to no snapshot, so it does not go up.
    daemon.upload(&daemon.snapshot("snap", ids[1..].to_vec())).await;
    assert_eq!(here(&daemon, &ids), [true, true, false, false, false]);
    // Whatever went comes back.
    let back = daemon.remote.ensure(ids[2..].to_vec()).await.unwrap();
    assert_eq!(here(&daemon, &ids), [true; 5]);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(read(&daemon.packs, id), content(n as u64, 1000));
    }
    drop(back);
    let _other = daemon.remote.ensure([ids[4]]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_remote_has_lost_stays_and_goes_up_again() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let ids = put_all(&daemon, 3);
    let snapshot = daemon.snapshot("snap", ids.clone());
    daemon.upload(&snapshot).await;
    drop(daemon);
    fs::remove_file(server.file(&pack_key(&ids[0]))).unwrap();
    fs::write(server.file(&pack_key(&ids[1])), "short").unwrap();

    let mut soon = limits();
    soon.again = Duration::ZERO;
    let daemon = machine.start_with(s3(&server, ""), soon, Some(Bytes(1000)));
    daemon.remote.reconcile(vec![snapshot], true).await.unwrap();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    assert_eq!(here(&daemon, &ids), [true; 3], "nothing was asked of the store yet");
    // Anything that is done makes room, and asks the remote before. The third pack, which the remote has, goes first; when
    // the first one is there again it goes too.
    server.seen();
    daemon.remote.upload(daemon.snapshot("other", []));
    crate::rig::bounded(async {
        while !daemon.remote.status().is_empty() || here(&daemon, &ids) != [false, true, false] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(server.seen().iter().any(|request| request.starts_with("HEAD")));
    for (n, id) in ids.iter().enumerate().take(2) {
        assert_eq!(fs::read(server.file(&pack_key(id))).unwrap(), content(n as u64, 1000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_remote_does_not_answer_nothing_is_evicted() {
    let server = Server::start().await;
    let machine = Machine::new();
    let mut hasty = limits();
    hasty.upload.total = Duration::from_secs(1);
    let daemon = machine.start_with(s3(&server, ""), hasty, Some(Bytes(0)));
    let ids = put_all(&daemon, 2);
    // All of the snapshot goes up; only the questions before the eviction fail.
    let asked = server.fail(&Method::HEAD, &["/packs/"], usize::MAX, Fault::Status(503));
    let snapshot = daemon.snapshot("snap", ids.clone());
    daemon.upload(&snapshot).await;
    assert!(asked.left() < usize::MAX, "it was asked");
    assert_eq!(here(&daemon, &ids), [true, true]);
    assert_eq!(daemon.remote.upload_of(&snapshot).unwrap(), UploadState::Done, "it is there all the same");
    // When it answers again, whoever says that packs may go makes them go.
    asked.end();
    daemon.remote.trim();
    daemon.settled().await;
    assert_eq!(here(&daemon, &ids), [false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_does_not_wait_for_others_to_go() {
    let server = Server::start().await;
    let machine = Machine::new();
    let mut patient = limits();
    patient.stall = Duration::from_millis(500);
    patient.upload.total = Duration::from_secs(3600);
    let daemon = machine.start_with(s3(&server, ""), patient, Some(Bytes(1000)));
    let ids = put_all(&daemon, 2);
    daemon.upload(&daemon.snapshot("snap", ids.clone())).await;
    assert_eq!(here(&daemon, &ids), [false, true]);
    let hangs = server.fail(&Method::HEAD, &[&pack_key(&ids[1])], usize::MAX, Fault::Hang);
    let _pins = crate::rig::bounded(daemon.remote.ensure([ids[0]])).await.unwrap();
    assert_eq!(here(&daemon, &ids), [true, true]);
    hangs.end();
    daemon.settled().await;
    assert_eq!(here(&daemon, &ids), [true, false]);
}
