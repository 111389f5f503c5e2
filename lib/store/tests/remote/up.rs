//! Snapshots that go up.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use dormouse_store::gc::References;
use dormouse_store::remote::{RemoteError, S3Target, Target};
use http::Method;

use crate::rig::{INDEX, MANIFEST, Machine, OVERLAY, bounded, limits, pack_key, s3, same_files};
use crate::support::{content, name, read};
use dormouse_test_s3::{Fault, Server};

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_with_nothing_lists_and_fetches_what_went_up() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    for target in [s3(&server, "some/prefix"), s3(&server, ""), Target::Folder(folder.path().join("new"))] {
        let (here, there) = (Machine::new(), Machine::new());
        let origin = here.start(target.clone());
        // One goes up in one piece, one in parts.
        let contents = [content(1, 1000), content(2, 6_000_000)];
        let packs = [origin.put(&contents[0]), origin.put(&contents[1])];
        let snapshot = origin.snapshot("snap", packs);
        origin.upload(&snapshot).await;

        let other = there.start(target);
        assert_eq!(other.remote.list().await.unwrap(), [name("snap")]);
        let into = there.path().join("snapshots/snap");
        fs::create_dir(&into).unwrap();
        let record = other.remote.fetch_snapshot(&name("snap"), &into).await.unwrap();
        assert_eq!(record.packs, packs.into());
        assert!(same_files(&snapshot.dir, &into));
        let allocated = fs::metadata(into.join(OVERLAY)).unwrap().blocks() * 512;
        assert!(allocated < 1 << 20, "the holes came back: {allocated}");
        let _pins = other.remote.ensure(packs).await.unwrap();
        for (id, bytes) in packs.iter().zip(&contents) {
            assert_eq!(read(&other.packs, id), *bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_go_before_files_and_files_before_the_record() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let packs = [daemon.put(&content(1, 1000)), daemon.put(&content(2, 5_300_000))];
    daemon.upload(&daemon.snapshot("snap", packs)).await;
    let seen = server.seen();
    let puts: Vec<_> =
        seen.iter().filter(|request| request.starts_with("PUT") || request.starts_with("POST")).collect();
    let at = |part: &str| puts.iter().rposition(|request| request.contains(part)).unwrap();
    let first = |part: &str| puts.iter().position(|request| request.contains(part)).unwrap();
    assert!(at("/packs/") < first(INDEX) && at("/packs/") < first(OVERLAY));
    assert!(at(INDEX) < first(MANIFEST) && at(OVERLAY) < first(MANIFEST));
    assert!(at(MANIFEST) < first("snapshot.json"));
    assert_eq!(first("snapshot.json"), puts.len() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_sent_again() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    // One that goes up in one piece, and one in parts.
    let shared = [daemon.put(&content(1, 1000)), daemon.put(&content(2, 5_300_000))];
    let first = daemon.snapshot("first", shared);
    daemon.upload(&first).await;
    server.seen();
    daemon.upload(&daemon.snapshot("second", shared)).await;
    assert!(!server.seen().iter().any(|request| request.contains("/packs/")));

    // After a restart nothing at all is sent; without the ledger, only what cannot be known to be there.
    drop(daemon);
    let daemon = machine.start(s3(&server, ""));
    let all = vec![daemon.described("first", shared), daemon.described("second", shared)];
    daemon.remote.reconcile(all.clone(), true).await.unwrap();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    assert_eq!(server.seen(), Vec::<String>::new());
    drop(daemon);
    fs::remove_dir_all(machine.path().join("uploaded")).unwrap();
    let daemon = machine.start(s3(&server, ""));
    daemon.remote.reconcile(all, true).await.unwrap();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    let packs: Vec<_> = server.seen().into_iter().filter(|request| request.contains("/packs/")).collect();
    assert!(packs.len() <= 5, "one put that finds it there, and looks: {packs:?}");
    assert!(!packs.iter().any(|request| request.contains("partNumber")), "{packs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_another_length_on_the_remote_is_replaced() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    for (seed, len) in [(1, 1000), (2, 5_300_000)] {
        let id = daemon.put(&content(seed, len));
        let file = server.file(&pack_key(&id));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "somebody's half").unwrap();
        daemon.upload(&daemon.snapshot(&format!("snap{seed}"), [id])).await;
        assert_eq!(fs::read(file).unwrap(), content(seed, len));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_does_not_go_up_and_others_do() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let (bad, good) = (daemon.put(&content(1, 1000)), daemon.put(&content(2, 1000)));
    let file = daemon.packs.root().join(&pack_key(&bad)["packs/".len()..]);
    fs::remove_file(&file).unwrap();
    fs::write(&file, content(3, 1000)).unwrap();
    daemon.remote.upload(daemon.snapshot("bad", [bad]));
    daemon.remote.upload(daemon.snapshot("good", [good]));
    let failed = daemon.settled().await;
    assert_eq!(failed.len(), 1);
    assert!(failed[0].starts_with("bad: ") && failed[0].contains(&bad.to_string()), "{failed:?}");
    assert_eq!(daemon.remote.list().await.unwrap(), [name("good")]);
    assert!(!server.file(&pack_key(&bad)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pack_is_named_and_others_go_up() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let lost = crate::support::id_of(b"lost");
    daemon.remote.upload(daemon.snapshot("bad", [lost]));
    daemon.remote.upload(daemon.snapshot("good", [daemon.put(b"x")]));
    let failed = daemon.settled().await;
    assert_eq!(failed.len(), 1);
    assert!(failed[0].contains(&lost.to_string()) && failed[0].contains("missing"), "{failed:?}");
    assert_eq!(daemon.remote.list().await.unwrap(), [name("good")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_changed_replaces_its_earlier_self() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, "p"));
    let snapshot = daemon.snapshot("snap", [daemon.put(b"old")]);
    daemon.upload(&snapshot).await;
    let before = server.keys().len();
    // What a compaction does: new pack, new index, new manifest.
    fs::write(snapshot.dir.join(INDEX), "another index").unwrap();
    fs::write(snapshot.dir.join(MANIFEST), "another manifest").unwrap();
    let new = daemon.put(b"new");
    let snapshot = daemon.described("snap", [new]);
    daemon.upload(&snapshot).await;
    assert_eq!(
        server.keys().len(),
        before + 1,
        "its former files are gone, its former pack is not: {:?}",
        server.keys()
    );

    let other = Machine::new();
    let into = other.path().join("snapshots/snap");
    fs::create_dir(&into).unwrap();
    let record = other.start(s3(&server, "p")).remote.fetch_snapshot(&name("snap"), &into).await.unwrap();
    assert_eq!(record.packs, [new].into());
    assert!(same_files(&snapshot.dir, &into));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_removed_here_is_removed_there_and_a_fetched_one_is_not() {
    let server = Server::start().await;
    let (here, there) = (Machine::new(), Machine::new());
    let (origin, other) = (here.start(s3(&server, "")), there.start(s3(&server, "")));
    for text in ["a", "b"] {
        origin.upload(&origin.snapshot(text, [origin.put(text.as_bytes())])).await;
    }
    let into = there.path().join("snapshots/a");
    fs::create_dir(&into).unwrap();
    let record = other.remote.fetch_snapshot(&name("a"), &into).await.unwrap();
    server.seen();
    other.remote.reconcile(vec![other.described("a", record.packs)], true).await.unwrap();
    assert_eq!((other.settled().await, server.seen()), (Vec::new(), Vec::new()), "all of it is there");
    other.remote.forget(&name("a"));
    assert_eq!(other.settled().await, Vec::<String>::new());
    assert_eq!(origin.remote.list().await.unwrap(), [name("a"), name("b")]);
    // Nor when it went while the daemon was down, and what never came from there is not missed there either.
    fs::remove_dir_all(&into).unwrap();
    fs::create_dir(&into).unwrap();
    other.remote.fetch_snapshot(&name("a"), &into).await.unwrap();
    drop(other);
    let other = there.start(s3(&server, ""));
    other.remote.reconcile(Vec::new(), true).await.unwrap();
    other.remote.forget(&name("b"));
    assert_eq!(other.settled().await, Vec::<String>::new());
    assert_eq!(origin.remote.list().await.unwrap(), [name("a"), name("b")]);

    origin.remote.forget(&name("a"));
    assert_eq!(origin.settled().await, Vec::<String>::new());
    assert_eq!(origin.remote.list().await.unwrap(), [name("b")]);
    assert!(!server.keys().iter().any(|key| key.starts_with("snapshots/a/")), "{:?}", server.keys());

    // One that went while the daemon was down is found by the ledger.
    drop(origin);
    let origin = here.start(s3(&server, ""));
    origin.remote.reconcile(Vec::new(), false).await.unwrap();
    assert_eq!(origin.settled().await, Vec::<String>::new());
    assert_eq!(origin.remote.list().await.unwrap(), [name("b")], "not all manifests could be read");
    origin.remote.reconcile(Vec::new(), true).await.unwrap();
    assert_eq!(origin.settled().await, Vec::<String>::new());
    assert!(origin.remote.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_up_from_here_stays_ours_when_it_is_fetched_too() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    daemon.upload(&daemon.snapshot("snap", [daemon.put(b"x")])).await;
    let into = machine.path().join("another");
    fs::create_dir(&into).unwrap();
    daemon.remote.fetch_snapshot(&name("snap"), &into).await.unwrap();
    daemon.remote.forget(&name("snap"));
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    assert!(daemon.remote.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_not_known_to_be_there_is_looked_for_at_the_next_start() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let id = daemon.put(b"x");
    let snapshot = daemon.snapshot("snap", [id]);
    daemon.upload(&snapshot).await;
    drop(daemon);
    // A crash may take the note of a pack, and the remote may have lost it since.
    let notes = crate::support::files(&machine.path().join("uploaded"));
    let note = notes.iter().find(|file| file.ends_with(&id.to_string())).unwrap();
    fs::remove_file(machine.path().join("uploaded").join(note)).unwrap();
    fs::remove_file(server.file(&pack_key(&id))).unwrap();
    let daemon = machine.start(s3(&server, ""));
    daemon.remote.reconcile(vec![snapshot], true).await.unwrap();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    assert!(server.file(&pack_key(&id)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_changed_before_a_crash_goes_up_at_the_next_start() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let snapshot = daemon.snapshot("snap", [daemon.put(b"x")]);
    daemon.upload(&snapshot).await;
    drop(daemon);
    fs::write(snapshot.dir.join(MANIFEST), "another manifest").unwrap();
    let daemon = machine.start(s3(&server, ""));
    daemon.remote.reconcile(vec![snapshot], true).await.unwrap();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    let key = server.keys().into_iter().find(|key| key.ends_with(MANIFEST)).unwrap();
    assert_eq!(fs::read(server.file(&key)).unwrap(), b"another manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_gone_is_not_missed_and_a_link_in_one_is_not_followed() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    let [gone, half_gone, linked, cut] = ["gone", "half-gone", "linked", "cut"].map(|text| daemon.snapshot(text, []));
    fs::remove_dir_all(&gone.dir).unwrap();
    fs::remove_file(half_gone.dir.join(MANIFEST)).unwrap();
    let secret = machine.path().join("secret");
    fs::write(&secret, "of somebody else").unwrap();
    fs::remove_file(linked.dir.join(INDEX)).unwrap();
    std::os::unix::fs::symlink(&secret, linked.dir.join(INDEX)).unwrap();
    fs::remove_file(cut.dir.join(INDEX)).unwrap();
    for snapshot in [gone.clone(), half_gone, linked, cut] {
        daemon.remote.upload(snapshot);
    }
    let failed = daemon.settled().await;
    assert!(failed.len() == 2 && failed[0].starts_with("cut: ") && failed[1].starts_with("linked: "), "{failed:?}");
    assert!(daemon.remote.list().await.unwrap().is_empty());
    // Nor does it keep a daemon from starting.
    drop(daemon);
    let daemon = machine.start(s3(&server, ""));
    daemon.remote.reconcile(vec![gone], true).await.unwrap();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_on_its_way_up_is_not_collected() {
    let server = Server::start().await;
    let machine = Machine::new();
    let daemon = machine.start(s3(&server, ""));
    daemon.packs.set_references(References::default());
    // It is under way for as long as the remote is down.
    let fault = server.fail(&Method::PUT, &["/packs/"], usize::MAX, Fault::Status(503));
    let id = daemon.put(b"x");
    daemon.remote.upload(daemon.snapshot("snap", [id]));
    bounded(async {
        while !server.seen().iter().any(|request| request.contains("/packs/")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(daemon.packs.collect().unwrap().removed.is_empty());
    fault.end();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    assert_eq!(daemon.packs.collect().unwrap().removed, [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_wanted_any_more_ends_and_leaves_nothing() {
    let server = Server::start().await;
    let [one, two] = ["one", "two"].map(|text| crate::support::id_of(text.as_bytes()));
    let (first, second) = if one < two { (one, two) } else { (two, one) };
    let (first, second) = (pack_key(&first), pack_key(&second));
    // What it is at when it is called off, and what would be next.
    let stages = [(&*first, &*second), (INDEX, OVERLAY), (MANIFEST, "snapshot.json")];
    for (number, (stage, next)) in stages.into_iter().enumerate() {
        let machine = Machine::new();
        let mut one_by_one = limits();
        one_by_one.packs_at_once = 1;
        let daemon = machine.start_with(s3(&server, &number.to_string()), one_by_one, None);
        // It is under way for as long as the remote is down.
        let fault = server.fail(&Method::PUT, &[stage], usize::MAX, Fault::Status(503));
        server.seen();
        daemon.remote.upload(daemon.snapshot("snap", [daemon.put(b"one"), daemon.put(b"two")]));
        bounded(async {
            while fault.left() == usize::MAX {
                tokio::task::yield_now().await;
            }
        })
        .await;
        fs::remove_dir_all(machine.path().join("snapshots/snap")).unwrap();
        daemon.remote.forget(&name("snap"));
        fault.end();
        assert_eq!(daemon.settled().await, Vec::<String>::new());
        let seen = server.seen();
        assert!(!seen.iter().any(|request| request.starts_with("PUT") && request.contains(next)), "{stage}: {seen:?}");
        assert!(!server.keys().iter().any(|key| key.contains("snapshots/")), "{stage}: {:?}", server.keys());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_an_error_at_once_that_shows_no_secret() {
    let server = Server::start().await;
    let machine = Machine::new();
    let Target::S3(mut target) = s3(&server, "") else { unreachable!() };
    target.credentials.secret_access_key = "wrong-but-secret".to_owned().into();
    let daemon = machine.start_with(Target::S3(target), limits(), None);
    let error = daemon.remote.describe(&name("snap")).await.unwrap_err();
    assert!(matches!(error, RemoteError::Refused { .. }), "{error}");
    assert!(!format!("{error} {error:?} {:?}", daemon.remote).contains("wrong-but-secret"));
    assert_eq!(server.seen().len(), 1, "asking again does not help");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_is_down_is_told_from_one_that_will_never_work() {
    let server = Server::start().await;
    let machine = Machine::new();
    let probe = async |target: Target| {
        let patience = Duration::from_secs(20);
        bounded(machine.start(target).remote.probe(patience)).await
    };
    probe(s3(&server, "p")).await.unwrap();
    probe(Target::Folder(machine.path().join("remote"))).await.unwrap();
    server.fail(&Method::GET, &["/snapshots/probe"], 1, Fault::Status(503));
    let error = probe(s3(&server, "p")).await.unwrap_err();
    assert!(matches!(error, RemoteError::Unavailable { attempts: 1, .. }), "{error}");
    server.fail(&Method::GET, &["/snapshots/probe"], 1, Fault::Hang);
    let hangs = machine.start(s3(&server, "p"));
    let error = bounded(hangs.remote.probe(Duration::from_millis(300))).await.unwrap_err();
    assert!(matches!(error, RemoteError::Unavailable { attempts: 1, .. }), "{error}");
    let Target::S3(good) = s3(&server, "p") else { panic!("no bucket") };
    let missing = Target::S3(S3Target { bucket: "other".into(), ..good.clone() });
    let error = probe(missing).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Refused { reason, .. } if reason.contains("no such bucket")), "{error}");
    let mut wrong = good.clone();
    wrong.credentials.secret_access_key = "another".to_owned().into();
    let error = probe(Target::S3(wrong)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Refused { .. }), "{error}");
    let gone = S3Target { endpoint: Some("http://127.0.0.1:1".to_owned()), ..good };
    let error = probe(Target::S3(gone)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Unavailable { .. }), "{error}");
}
