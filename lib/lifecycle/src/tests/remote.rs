//! A store that has packs which are not here: compaction, verification, figures and collection.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dormouse_guest_mem::Bytes;
use dormouse_store::SnapshotName;
use dormouse_test_s3::{Fault, Server};
use http::Method;
use tokio::time::Instant;

use super::remotes::{s3, setup};
use crate::compaction::compact;
use crate::snapshot::lab::{self, Lab, YOUNG, open_with, ram_of, start};
use crate::{Host, ObjectKind, RemoteSetup, SnapshotId, Target, UploadState, Verification, VerifyReport};

const MANY: usize = usize::MAX;

/// A folder as the remote, and nothing stays here that is there.
fn folder(lab: &Lab) -> RemoteSetup {
    setup(Target::Folder(remote_of(lab)), Some(0))
}

fn remote_of(lab: &Lab) -> PathBuf {
    lab.dir.with_extension("remote")
}

async fn settled(host: &Host) {
    let left = tokio::time::timeout(Duration::from_secs(120), host.shared.remote.settled()).await.expect("it settles");
    assert_eq!(left, []);
}

/// Lets a snapshot go up, and all that is here go.
async fn away(host: &Host, id: &SnapshotId) {
    host.shared.remote.snapshot_is_there(&host.stored(id).unwrap());
    settled(host).await;
    assert_eq!(host.shared.packs.packs().list().unwrap(), []);
}

async fn unpacked(host: &Host, id: &SnapshotId) -> Vec<u8> {
    let _packs = host.shared.fetch(&host.stored(id).unwrap()).await.unwrap();
    ram_of(host, id)
}

/// A snapshot of a guest that was started from `parent`, whose packs may not be here.
async fn snapshot(lab: &Lab, host: &Host, parent: &SnapshotId, from: u32, seed: u64) -> SnapshotId {
    let _packs = host.shared.fetch(&host.stored(parent).unwrap()).await.unwrap();
    lab.snapshot(host, parent, &[from..from + 20], seed)
}

async fn verify(host: &Host, fetch: bool) -> VerifyReport {
    let wanted = Verification { fetch, ..Verification::default() };
    let report = lab::verify(host, wanted).await;
    if host.shared.remote.remote().is_some() {
        // What was fetched goes again.
        settled(host).await;
    }
    report
}

fn sorted(ids: &[&SnapshotId]) -> Vec<SnapshotId> {
    let mut ids: Vec<_> = ids.iter().map(|id| (*id).clone()).collect();
    ids.sort();
    ids
}

/// The copy on the remote folder of the pack that only this snapshot needs.
fn own_pack(lab: &Lab, host: &Host, id: &SnapshotId) -> PathBuf {
    let template = host.stored(&lab.template).unwrap();
    let own = host.stored(id).unwrap().packs().iter().find(|pack| !template.packs().contains(pack)).unwrap().id;
    let name = own.file_name();
    remote_of(lab).join("packs").join(&name[..2]).join(name)
}

fn packs_in(remote: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    list(&remote.join("packs")).iter().flat_map(|dir| list(dir)).collect()
}

/// What was asked of packs since this was asked.
fn packs_asked_for(server: &Server) -> Vec<String> {
    server.seen().into_iter().filter(|request| request.contains("/packs/")).collect()
}

/// Makes all packs on the remote older than what is young.
fn age(remote: &Path) {
    for pack in packs_in(remote) {
        let file = fs::File::options().write(true).open(pack).unwrap();
        file.set_modified(SystemTime::now() - 2 * YOUNG).unwrap();
    }
}

/// The last of a chain of eight packs, of which none is here. The snapshots before it are gone.
async fn chain(lab: &Lab, host: &Host) -> SnapshotId {
    let mut id = lab.template.clone();
    for n in 0..7 {
        let next = snapshot(lab, host, &id, 300 + n * 20, u64::from(n) + 10).await;
        if id != lab.template {
            crate::kept::remove(&host.shared, &id).unwrap();
        }
        id = next;
        away(host, &id).await;
    }
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_gets_what_is_only_on_the_remote_and_what_it_made_goes_up_in_its_place() {
    let lab = Lab::new().await;
    let host = open_with(&lab.dir, Some(folder(&lab))).await;
    let id = chain(&lab, &host).await;
    let (ram, before) = (unpacked(&host, &id).await, host.stored(&id).unwrap().packs().to_vec());
    away(&host, &id).await;
    // What is not rewritten is not fetched.
    let kept = host.stored(&lab.template).unwrap().packs()[0].id.file_name();
    let (kept, aside) = (remote_of(&lab).join("packs").join(&kept[..2]).join(&kept), lab.dir.with_extension("aside"));
    fs::rename(&kept, &aside).unwrap();
    let outcome = compact(&host.shared, &id).await.unwrap();
    fs::rename(&aside, &kept).unwrap();
    assert_eq!((outcome.packs_before, before.len()), (8, 8));
    settled(&host).await;

    let after = host.stored(&id).unwrap();
    assert_eq!(after.packs().len(), outcome.packs_after);
    let copy = host.shared.remote.copy_of(&after).unwrap();
    assert_eq!(copy.upload, UploadState::Done);
    assert!(copy.not_here > Bytes(0), "the new pack is there, so it need not be here");
    let name = SnapshotName::try_from(id.as_str()).unwrap();
    let record = host.shared.remote.remote().unwrap().describe(&name).await.unwrap();
    assert_eq!(record.packs, after.packs().iter().map(|pack| pack.id).collect());
    assert!(record.files.iter().any(|file| file.name == after.memory().file), "{record:?}");

    let (remote, gone) = (remote_of(&lab), 8 + 1 - outcome.packs_after as u64);
    assert_eq!(host.collect_remote_garbage(false).await.unwrap().remote_packs, 0, "all are young");
    age(&remote);
    let would = host.collect_remote_garbage(true).await.unwrap();
    assert_eq!((would.remote_packs, packs_in(&remote).len()), (gone, 8 + 1));
    let collected = host.collect_remote_garbage(false).await.unwrap();
    assert_eq!(collected, would);
    assert!(collected.remote_freed > Bytes(0));
    assert_eq!(packs_in(&remote).len(), outcome.packs_after);
    assert!(unpacked(&host, &id).await == ram);
    assert_eq!(host.collect_remote_garbage(false).await.unwrap().remote_packs, 0);
}

/// The clock of this test goes on when nothing else does.
#[tokio::test(start_paused = true)]
async fn a_compaction_that_gets_no_packs_is_tried_again_by_itself_after_a_while() {
    let lab = Lab::new().await;
    let host = open_with(&lab.dir, Some(folder(&lab))).await;
    let id = chain(&lab, &host).await;
    let done = async |wanted: fn(&Host) -> u64, count| {
        while wanted(&host) < count {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (remote, aside) = (remote_of(&lab), lab.dir.with_extension("aside"));
    fs::rename(&remote, &aside).unwrap();
    host.shared.compactor.consider(&id);
    let failed = |host: &Host| host.shared.compactor.done().failed;
    done(failed, 1).await;
    let first = Instant::now();
    done(failed, 2).await;
    assert!(first.elapsed() > Duration::from_secs(50), "it waits before it asks again");
    fs::rename(&aside, &remote).unwrap();
    done(|host| host.shared.compactor.done().compacted, 1).await;
    assert!(first.elapsed() > Duration::from_secs(170), "longer each time");
    assert!(host.stored(&id).unwrap().packs().len() < 8);
    // After the end nothing is tried again.
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_waits_for_no_pack() {
    let server = Server::start().await;
    let lab = Lab::new().await;
    let mut patient = setup(s3(&server, ""), Some(0));
    patient.limits.fetch.total = Duration::from_secs(3600);
    let host = open_with(&lab.dir, Some(patient)).await;
    let id = chain(&lab, &host).await;
    let asked = server.fail(&Method::HEAD, &["/packs/"], MANY, Fault::Status(503));
    host.shared.compactor.consider(&id);
    let ended = async {
        while asked.left() == MANY {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let checking = tokio::spawn({
            let (host, wanted) = (host.clone(), Verification { fetch: true, ..Verification::default() });
            async move { lab::verify(&host, wanted).await }
        });
        host.shutdown().await;
        checking.await.unwrap()
    };
    let ended = tokio::time::timeout(Duration::from_secs(120), ended).await;
    // Also what did not end ends now.
    asked.end();
    let report = ended.expect("it ends");
    assert_eq!(report.unanswered.as_deref(), Some("the daemon ends"));
    assert_eq!(host.store_stats().await.unwrap().compactions_failed, 0);
}

#[tokio::test]
async fn without_a_remote_there_is_nothing_to_collect_on_it() {
    let lab = Lab::new().await;
    let error = lab.open().await.collect_remote_garbage(true).await.unwrap_err();
    assert!(matches!(error, crate::Error::Remote { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_does_not_need_the_packs_that_it_inherits() {
    let lab = Lab::new().await;
    let host = open_with(&lab.dir, Some(folder(&lab))).await;
    let first = snapshot(&lab, &host, &lab.template, 300, 2).await;
    let run = {
        let _packs = host.shared.fetch(&host.stored(&first).unwrap()).await.unwrap();
        start(&host, &first)
    };
    // As after a resume from RAM that was unpacked before: its packs were not fetched.
    let kept: Vec<_> = host.stored(&first).unwrap().packs().iter().map(|pack| pack.id.file_name()).collect();
    let (packs, aside) = (lab.dir.join("packs"), lab.dir.with_extension("aside"));
    fs::create_dir(&aside).unwrap();
    for name in &kept {
        fs::rename(packs.join(&name[..2]).join(name), aside.join(name)).unwrap();
    }
    let second = lab.pause(&host, &run, &[400..420], 3);
    for name in &kept {
        fs::rename(aside.join(name), packs.join(&name[..2]).join(name)).unwrap();
    }
    let (before, after) = (ram_of(&host, &first), ram_of(&host, &second));
    assert!(before[300 * 4096..320 * 4096] == after[300 * 4096..320 * 4096]);
    assert!(verify(&host, false).await.damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_remote_has_is_no_damage_and_what_it_lost_or_spoilt_is() {
    let lab = Lab::new().await;
    let host = open_with(&lab.dir, Some(folder(&lab))).await;
    let id = snapshot(&lab, &host, &lab.template, 300, 2).await;
    away(&host, &id).await;
    let all = sorted(&[&lab.template, &id]);

    let report = verify(&host, false).await;
    assert_eq!((report.damaged, report.hurt, report.good), (Vec::new(), Vec::new(), Vec::new()));
    assert_eq!((report.unread, report.remote_packs, report.packs), (all.clone(), 2, 0));
    let read = verify(&host, true).await;
    assert_eq!((read.damaged, read.good, read.unread), (Vec::new(), all.clone(), Vec::new()));
    assert_eq!((read.packs, read.remote_packs, read.unanswered), (2, 0, None));
    let stats = host.store_stats().await.unwrap();
    assert_eq!((stats.packs, stats.remote_packs, stats.absent_packs), (0, 2, 0));
    let lens = host.stored(&id).unwrap().packs().iter().map(|pack| pack.len.0).sum();
    assert_eq!(stats.remote_bytes, Bytes(lens));
    assert_eq!(host.collect_garbage(true).await.unwrap().absent, []);

    // What is here is checked all the same.
    let index = host.stored(&id).unwrap().memory_file();
    let text = fs::read(&index).unwrap();
    fs::write(&index, &text[..text.len() - 1]).unwrap();
    let report = verify(&host, false).await;
    assert_eq!((report.hurt, report.unread), (vec![id.clone()], vec![lab.template.clone()]));
    fs::write(&index, text).unwrap();

    let pack = own_pack(&lab, &host, &id);
    let bytes = fs::read(&pack).unwrap();
    let hurt = |report: &VerifyReport, word: &str| {
        let [object] = &report.damaged[..] else { panic!("{report:?}") };
        assert_eq!((object.kind, &object.snapshots), (ObjectKind::Pack, &vec![id.clone()]));
        assert!(object.path.starts_with("packs/") && object.reason.contains(word), "{object:?}");
        assert_eq!(report.hurt, vec![id.clone()]);
    };
    fs::remove_file(&pack).unwrap();
    hurt(&verify(&host, false).await, "neither here nor on the remote");
    hurt(&verify(&host, true).await, "is not on the remote");
    fs::write(&pack, &bytes[..bytes.len() / 2]).unwrap();
    hurt(&verify(&host, false).await, "on the remote it has");
    fs::write(&pack, &bytes).unwrap();
    let file = fs::File::options().write(true).open(&pack).unwrap();
    file.write_all_at(&[bytes[bytes.len() / 2] ^ 1], bytes.len() as u64 / 2).unwrap();
    assert_eq!(verify(&host, false).await.unread, all, "who does not read does not see it, and says so");
    hurt(&verify(&host, true).await, "damaged");
    fs::write(&pack, &bytes).unwrap();
    assert_eq!(verify(&host, true).await.good, all);

    // A daemon that is not told of the remote knows of no other place.
    host.shutdown().await;
    drop(host);
    let host = lab.open().await;
    let report = verify(&host, false).await;
    assert_eq!((report.hurt, report.damaged.len(), report.unread), (all, 2, Vec::new()));
    assert_eq!(host.store_stats().await.unwrap().absent_packs, 2);
    assert_eq!(host.collect_garbage(true).await.unwrap().absent.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_cannot_be_asked_is_told_and_is_no_damage() {
    let server = Server::start().await;
    let lab = Lab::new().await;
    let host = open_with(&lab.dir, Some(setup(s3(&server, ""), Some(0)))).await;
    let id = snapshot(&lab, &host, &lab.template, 300, 2).await;
    away(&host, &id).await;
    let all = sorted(&[&lab.template, &id]);
    for (fetch, method) in [(false, Method::HEAD), (true, Method::HEAD)] {
        let asked = server.fail(&method, &["/packs/"], MANY, Fault::Status(503));
        server.seen();
        let report = verify(&host, fetch).await;
        let mut packs = packs_asked_for(&server);
        packs.dedup();
        assert_eq!(packs.len(), 1, "whoever did not answer is not asked for others: {packs:?}");
        assert_eq!((report.damaged, report.unread, report.remote_packs), (Vec::new(), all.clone(), 2));
        assert!(report.unanswered.as_ref().is_some_and(|reason| reason.contains("503")), "{:?}", report.unanswered);
        asked.end();
    }
    assert_eq!(verify(&host, true).await.good, all);
    // Both need the template's pack.
    server.seen();
    verify(&host, false).await;
    assert_eq!(packs_asked_for(&server).len(), 2, "each once");
}
