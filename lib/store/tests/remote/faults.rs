//! Every kind of request with every kind of fault: it ends in success or a clear error in bounded time, and nothing
//! half-written is left.

use std::fs;
use std::time::Duration;

use dormouse_store::remote::{RemoteError, RemoteLimits};
use futures_util::StreamExt;
use http::Method;

use crate::rig::{INDEX, Machine, bounded, limits, pack_key, s3, same_files};
use crate::support::{content, files, name, read};
use dormouse_test_s3::{Fault, Server};

const ANY: [Fault; 5] = [Fault::Status(500), Fault::Status(503), Fault::Reset, Fault::DoneThenReset, Fault::Hang];
/// Only what has a body can break in its middle.
const BODY: [Fault; 3] = [Fault::HalfBody, Fault::ShortBody, Fault::Trickle];

/// The requests of an upload: puts of packs and files, the parts of a large pack, the record, looks.
const UP: [(Method, &str); 7] = [
    (Method::HEAD, "/packs/"),
    (Method::PUT, "/packs/"),
    (Method::POST, "uploads"),
    (Method::PUT, "partNumber"),
    (Method::POST, "uploadId"),
    (Method::PUT, INDEX),
    (Method::PUT, "snapshot.json"),
];

/// Quick to give up on what does not answer.
fn hasty() -> RemoteLimits {
    let mut limits = limits();
    limits.stall = Duration::from_millis(500);
    limits.slowest = 8 << 20;
    limits
}

/// Gives up for good after this long.
fn resigned() -> RemoteLimits {
    let mut limits = hasty();
    limits.fetch.total = Duration::from_millis(1500);
    limits.upload.total = Duration::from_millis(1500);
    limits
}

/// Every fault in every request, each with a prefix on the remote of its own.
fn all<'a>(
    faults: impl IntoIterator<Item = Fault>,
    requests: &'a [(Method, &'a str)],
) -> Vec<(String, Fault, Method, &'a str)> {
    let pairs = faults.into_iter().flat_map(|fault| requests.iter().map(move |request| (fault, request)));
    let case = |(n, (fault, (method, part))): (usize, (Fault, &(Method, &'a str)))| {
        (format!("case{n}"), fault, method.clone(), *part)
    };
    pairs.enumerate().map(case).collect()
}

/// Does some at the same time: most of it is waiting for what does not come.
async fn each<T, F: Future<Output = ()>>(cases: Vec<T>, check: impl Fn(T) -> F) {
    futures_util::stream::iter(cases).map(check).buffer_unordered(6).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_a_burst_of_any_fault_in_any_request() {
    let server = Server::start().await;
    let server = &server;
    each(all(ANY, &UP), |(prefix, fault, method, part)| async move {
        let machine = Machine::new();
        let daemon = machine.start_with(s3(server, &prefix), hasty(), None);
        let contents = [content(1, 1000), content(2, 5_500_000)];
        let packs = [daemon.put(&contents[0]), daemon.put(&contents[1])];
        let times = if fault == Fault::Hang { 1 } else { 3 };
        let asked = server.fail(&method, &[&format!("/{prefix}/"), part], times, fault);
        daemon.remote.upload(daemon.snapshot("snap", packs));
        assert_eq!(daemon.settled().await, Vec::<String>::new(), "{fault:?} in {method} {part}");
        assert_eq!(asked.left(), 0, "{fault:?} in {method} {part}");
        for (id, bytes) in packs.iter().zip(contents) {
            let stored = fs::read(server.file(&format!("{prefix}/{}", pack_key(id)))).unwrap();
            assert!(stored == bytes, "{fault:?} in {method} {part}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_cannot_succeed_is_a_clear_error_and_goes_on_when_it_can() {
    let server = Server::start().await;
    let server = &server;
    each(all([Fault::Status(503), Fault::Reset, Fault::Hang], &UP), |(prefix, fault, method, part)| async move {
        let machine = Machine::new();
        let daemon = machine.start_with(s3(server, &prefix), resigned(), None);
        let packs = [daemon.put(&content(1, 1000)), daemon.put(&content(2, 5_500_000))];
        let snapshot = daemon.snapshot("snap", packs);
        let asked = server.fail(&method, &[&format!("/{prefix}/"), part], usize::MAX, fault);
        daemon.remote.upload(snapshot.clone());
        let failed = daemon.settled().await;
        assert_eq!(failed.len(), 1, "{fault:?} in {method} {part}");
        assert!(failed[0].contains("gave up after") && failed[0].contains("127.0.0.1"), "{failed:?}");
        asked.end();
        assert!(
            !server.file(&format!("{prefix}/snapshots/snap/snapshot.json")).exists(),
            "{fault:?} in {method} {part}"
        );
        assert_eq!(files(&daemon.packs.root().join("staging")), Vec::<String>::new());
        drop(daemon);
        let daemon = machine.start(s3(server, &prefix));
        daemon.remote.reconcile(vec![snapshot], true).await.unwrap();
        assert_eq!(daemon.settled().await, Vec::<String>::new());
        assert_eq!(daemon.remote.list().await.unwrap(), [name("snap")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_outlives_a_burst_of_any_fault_in_any_request() {
    let server = Server::start().await;
    let requests =
        [(Method::HEAD, "/packs/"), (Method::GET, "/packs/"), (Method::GET, INDEX), (Method::GET, "snapshot.json")];
    let server = &server;
    each(all(ANY.into_iter().chain(BODY), &requests), |(prefix, fault, method, part)| async move {
        if BODY.contains(&fault) && (method == Method::HEAD || part == INDEX) {
            return;
        }
        let machine = Machine::new();
        let origin = machine.start(s3(server, &prefix));
        let bytes = content(1, 5_500_000);
        let id = origin.put(&bytes);
        let snapshot = origin.snapshot("snap", [id]);
        origin.upload(&snapshot).await;
        let other = Machine::new();
        let daemon = other.start_with(s3(server, &prefix), hasty(), None);
        // What is cut short and says so looks like damage, which is not believed once.
        let times = if matches!(fault, Fault::Hang | Fault::Trickle | Fault::ShortBody) { 1 } else { 3 };
        let asked = server.fail(&method, &[&format!("/{prefix}/"), part], times, fault);
        let into = other.path().join("snapshots/snap");
        fs::create_dir(&into).unwrap();
        let fetched = bounded(daemon.remote.fetch_snapshot(&name("snap"), &into)).await;
        fetched.unwrap_or_else(|error| panic!("{fault:?} in {method} {part}: {error}"));
        let _pins = bounded(daemon.remote.ensure([id])).await.unwrap();
        assert_eq!(asked.left(), 0, "{fault:?} in {method} {part}");
        assert!(same_files(&snapshot.dir, &into), "{fault:?} in {method} {part}");
        assert!(read(&daemon.packs, &id) == bytes, "{fault:?} in {method} {part}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_cannot_succeed_is_a_clear_error_and_leaves_nothing() {
    let server = Server::start().await;
    let machine = Machine::new();
    let origin = machine.start(s3(&server, ""));
    let id = origin.put(&content(1, 5_500_000));
    origin.upload(&origin.snapshot("snap", [id])).await;
    for (fault, method) in [
        (Fault::Status(500), Method::HEAD),
        (Fault::Status(500), Method::GET),
        (Fault::Reset, Method::GET),
        (Fault::Hang, Method::GET),
        (Fault::Trickle, Method::GET),
        (Fault::Flip, Method::GET),
    ] {
        let other = Machine::new();
        let daemon = other.start_with(s3(&server, ""), resigned(), None);
        let asked = server.fail(&method, &["/packs/"], usize::MAX, fault);
        let error = bounded(daemon.remote.ensure([id])).await.unwrap_err();
        let clear = match &error {
            RemoteError::Unavailable { key, attempts, .. } => *key == pack_key(&id) && *attempts > 0,
            RemoteError::Damaged { key, .. } => *key == pack_key(&id) && fault == Fault::Flip,
            _ => false,
        };
        assert!(clear, "{fault:?} in {method}: {error}");
        assert_eq!(files(daemon.packs.root()), Vec::<String>::new(), "{fault:?} in {method}");
        asked.end();
        drop(daemon);
        let daemon = other.start(s3(&server, ""));
        let _pins = bounded(daemon.remote.ensure([id])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_outlives_faults_too() {
    let server = Server::start().await;
    for fault in ANY {
        let machine = Machine::new();
        let daemon = machine.start_with(s3(&server, ""), hasty(), None);
        daemon.upload(&daemon.snapshot("snap", [daemon.put(b"x")])).await;
        for (method, part) in [(Method::DELETE, "snapshot.json"), (Method::DELETE, INDEX), (Method::GET, "list-type")] {
            server.fail(&method, &[part], if fault == Fault::Hang { 1 } else { 2 }, fault);
        }
        daemon.remote.forget(&name("snap"));
        assert_eq!(daemon.settled().await, Vec::<String>::new(), "{fault:?}");
        assert!(!server.keys().iter().any(|key| key.starts_with("snapshots/")), "{fault:?}: {:?}", server.keys());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_pauses_waits_for_the_remote() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    server.fail(&Method::PUT, &[], usize::MAX, Fault::Hang);
    let snapshots: Vec<_> = (0..20).map(|n| daemon.snapshot(&format!("s{n}"), [daemon.put(&[n])])).collect();
    // Not async, so it cannot wait for anything that the remote does.
    for snapshot in snapshots {
        daemon.remote.upload(snapshot);
    }
    assert_eq!(daemon.remote.status().len(), 20);
}
