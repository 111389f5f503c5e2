//! Packs on the remote that nobody needs any more.

use std::fs;
use std::time::{Duration, SystemTime};

use dormouse_store::remote::RemoteError;

use crate::rig::{Machine, pack_key, s3};
use crate::support::name;
use dormouse_test_s3::Server;

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_no_snapshot_there_or_here_needs_and_nobody_pins_goes() {
    let bucket = tempfile::tempdir().unwrap();
    let server = Server::start(bucket.path()).await;
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
    let bucket = tempfile::tempdir().unwrap();
    let server = Server::start(bucket.path()).await;
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
