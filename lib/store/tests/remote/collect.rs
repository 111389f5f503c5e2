//! Packs on the remote that nobody needs any more.

use std::fs;
use std::time::{Duration, SystemTime};

use dormouse_store::remote::RemoteError;
use http::Method;

use crate::rig::{Machine, bounded, limits, pack_key, s3};
use crate::support::name;
use dormouse_test_s3::{Fault, Server};

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_no_snapshot_there_or_here_needs_and_nobody_pins_goes() {
    let server = Server::start().await;
    let (here, there) = (Machine::new(), Machine::new());
    let (daemon, other) = (here.start(s3(&server, "")), there.start(s3(&server, "")));
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|text| daemon.put(text.as_bytes()));
    daemon.upload(&daemon.snapshot("one", [a, b, d])).await;
    daemon.upload(&daemon.snapshot("two", [b, c])).await;
    let theirs = other.put(b"theirs");
    other.upload(&other.snapshot("three", [theirs])).await;
    daemon.remote.forget(&name("one"));
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    let _pins = daemon.packs.pin([d]);
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    assert!(daemon.remote.collect(yesterday).await.unwrap().removed.is_empty(), "all are too new");
    let collected = daemon.remote.collect(tomorrow()).await.unwrap();
    assert_eq!((collected.removed, collected.freed.0), (vec![a], 1));
    let left = |id| server.file(&pack_key(&id)).exists();
    assert_eq!([a, b, c, d, theirs].map(left), [false, true, true, true, true]);

    // What is gone from there is known to be gone, and goes up with whoever needs it.
    daemon.upload(&daemon.snapshot("four", [a])).await;
    assert!(left(a));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_collected_while_a_record_cannot_be_read() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    daemon.upload(&daemon.snapshot("one", [daemon.put(b"a")])).await;
    daemon.upload(&daemon.snapshot("two", [daemon.put(b"b")])).await;
    daemon.remote.forget(&name("one"));
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    fs::write(server.file("snapshots/two/snapshot.json"), "{}").unwrap();
    let before = server.keys();
    assert!(matches!(daemon.remote.collect(tomorrow()).await, Err(RemoteError::Damaged { .. })));
    assert_eq!(server.keys(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_comes_while_the_remote_is_looked_at_stays() {
    let server = Server::start().await;
    let (here, there) = (Machine::new(), Machine::new());
    let (daemon, other) = (here.start(s3(&server, "")), there.start(s3(&server, "")));
    let theirs = other.put(b"theirs");
    // The first list is answered; the second one, whatever it lists, only when somebody else has put a pack and its record there.
    server.fail(&Method::GET, &["list-type"], 1, Fault::None);
    let lists = server.fail(&Method::GET, &["list-type"], usize::MAX, Fault::Status(503));
    let meanwhile = async {
        while lists.left() == usize::MAX {
            tokio::task::yield_now().await;
        }
        other.remote.upload(other.snapshot("two", [theirs]));
        // The end of an upload lists what is to be cleared, so the record is all that is waited for.
        while !server.file("snapshots/two/snapshot.json").exists() {
            tokio::task::yield_now().await;
        }
        lists.end();
    };
    let (collected, ()) = bounded(async { tokio::join!(daemon.remote.collect(tomorrow()), meanwhile) }).await;
    assert_eq!(collected.unwrap().removed, []);
    assert!(server.file(&pack_key(&theirs)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_goes_while_the_remote_is_looked_at_needs_nothing() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let id = daemon.put(b"a");
    daemon.upload(&daemon.snapshot("one", [id])).await;
    drop(daemon);
    let daemon = machine.start(s3(&server, ""));
    server.fail(&Method::GET, &["/snapshots/one/snapshot.json"], 1, Fault::Status(404));
    assert_eq!(daemon.remote.collect(tomorrow()).await.unwrap().removed, [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_whose_removal_failed_halfway_goes_up_again_with_whoever_needs_it() {
    let server = Server::start().await;
    let machine = Machine::new();
    let mut hasty = limits();
    hasty.upload.total = Duration::from_secs(1);
    let daemon = machine.start_with(s3(&server, ""), hasty, None);
    let id = daemon.put(b"a");
    daemon.upload(&daemon.snapshot("one", [id])).await;
    daemon.remote.forget(&name("one"));
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    // It is gone there, but nobody hears of that.
    server.fail(&Method::DELETE, &["/packs/"], 1, Fault::DoneThenReset);
    let unheard = server.fail(&Method::DELETE, &["/packs/"], usize::MAX, Fault::Status(503));
    bounded(daemon.remote.collect(tomorrow())).await.unwrap_err();
    unheard.end();
    assert!(!server.file(&pack_key(&id)).exists());
    daemon.upload(&daemon.snapshot("two", [id])).await;
    assert!(server.file(&pack_key(&id)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_up_while_packs_are_removed_waits_and_has_all_its_packs() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let id = daemon.put(b"a");
    daemon.upload(&daemon.snapshot("one", [id])).await;
    daemon.remote.forget(&name("one"));
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    let removal = server.fail(&Method::DELETE, &["/packs/"], usize::MAX, Fault::Status(503));
    let tried = async |times: usize| {
        let target = removal.left() - times;
        while removal.left() > target {
            tokio::task::yield_now().await;
        }
    };
    let meanwhile = async {
        tried(1).await;
        daemon.remote.upload(daemon.snapshot("two", [id]));
        // As long as several attempts take the upload would have got to its end.
        tried(20).await;
        removal.end();
    };
    let (collected, ()) = bounded(async { tokio::join!(daemon.remote.collect(tomorrow()), meanwhile) }).await;
    assert_eq!(collected.unwrap().removed, [id]);
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    assert!(server.file(&pack_key(&id)).exists(), "the record of the other names it");
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_a_snapshot_whose_record_is_still_to_come_stay() {
    let server = Server::start().await;
    let machine = Machine::new();
    let mut hasty = limits();
    hasty.upload.total = Duration::from_secs(1);
    let daemon = machine.start_with(s3(&server, ""), hasty, None);
    let id = daemon.put(b"a");
    server.fail(&Method::PUT, &["snapshot.json"], usize::MAX, Fault::Status(503));
    daemon.remote.upload(daemon.snapshot("one", [id]));
    assert_eq!(daemon.settled().await.len(), 1);
    assert!(server.file(&pack_key(&id)).exists());
    assert_eq!(bounded(daemon.remote.collect(tomorrow())).await.unwrap().removed, []);
    // Looking does no more than that.
    daemon.remote.forget(&name("one"));
    daemon.settled().await;
    assert_eq!(daemon.remote.collectable(tomorrow()).await.unwrap().removed, [id]);
    assert!(server.file(&pack_key(&id)).exists());
}
