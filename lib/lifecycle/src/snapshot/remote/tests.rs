//! Real packs and manifests, on a folder and on an S3 server that misbehaves.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use dormouse_guest_mem::{GuestAddr, PageClass, RamLayout, RamRegion};
use dormouse_image::{Capture, Digest, StoreOptions, account};
use dormouse_test_s3::{Fault, SECRET, Server};
use dormouse_vmm::Fingerprint;
use http::Method;

use super::*;
use crate::Introspection;
use crate::snapshot::report::Report;
use crate::snapshot::stored::{DEVICE_STATE, Draft, MEMORY, OVERLAY, remove_dir};
use crate::snapshot::{PackFolder, RamCache, device_state};
use crate::state::Machine;
use crate::tests::remotes::{s3, setup};

const RAM: usize = 64 << 10;
const MANY: usize = usize::MAX;

/// A state folder. It survives the daemon.
struct Lab {
    dir: tempfile::TempDir,
}

/// A daemon on it.
struct Daemon {
    folder: StateFolder,
    packs: PackFolder,
    behind: Behind,
    found: Option<RemoteFound>,
    ram_cache: Arc<RamCache>,
}

fn ram(seed: u64) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()[0]
    };
    (0..RAM).map(|_| next()).collect()
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn folder_remote(&self) -> Target {
        Target::Folder(self.dir.path().join("remote"))
    }

    fn remote_record(&self, stored: &Stored) -> PathBuf {
        self.dir.path().join("remote/snapshots").join(stored.id.as_str()).join("snapshot.json")
    }

    async fn try_start(&self, setup: RemoteSetup, patience: Duration) -> std::result::Result<Daemon, RemoteError> {
        let daemon = self.open(setup, patience).await?;
        daemon.behind.reconcile(&daemon.folder, true).await;
        Ok(daemon)
    }

    /// A daemon that has not looked yet what is here.
    async fn open(&self, setup: RemoteSetup, patience: Duration) -> std::result::Result<Daemon, RemoteError> {
        let folder = StateFolder::open(&self.dir.path().join("state")).unwrap();
        let packs = PackFolder::open(&folder.packs()).unwrap();
        packs.recall(&folder);
        let (behind, found) = Behind::start(Some(setup), packs.packs(), &folder.uploaded(), patience).await?;
        let ram_cache = Arc::new(RamCache::new(folder.cache(), folder.artifacts(), packs.clone(), 1));
        fs::write(folder.artifacts().join("base.ext4"), [0; 4096]).unwrap();
        Ok(Daemon { folder, packs, behind, found, ram_cache })
    }

    async fn start(&self, setup: RemoteSetup) -> Daemon {
        self.try_start(setup, Duration::from_secs(60)).await.unwrap()
    }

    /// A daemon that asks again for hours, and waits for packs as long as is said; and a snapshot whose packs are not here.
    async fn patient(&self, server: &Server, patience: Duration) -> (Daemon, Stored) {
        let mut setup = setup(s3(server, "p"), Some(0));
        setup.limits.fetch.total = Duration::from_secs(3600);
        let daemon = self.try_start(setup, patience).await.unwrap();
        let stored = daemon.uploading(1);
        daemon.settled().await;
        (daemon, stored)
    }
}

impl Daemon {
    /// A published snapshot of RAM that is in no other, which nobody was told of yet.
    fn published(&self, seed: u64) -> Stored {
        let bytes = ram(seed);
        let regions = vec![RamRegion { guest: GuestAddr(0), offset: 0, len: RAM as u64 }];
        let layout = RamLayout::new(regions).unwrap();
        let class_of = |_| PageClass::Unknown;
        let capture =
            Capture { ram: &bytes, layout: &layout, free: None, class_of: &class_of, disks: &[], parent: None };
        let id = SnapshotId::random().unwrap();
        let dir = self.folder.snapshot(&id);
        fs::create_dir(&dir).unwrap();
        let staged = self.packs.packs().stage().unwrap();
        let index = File::options().read(true).write(true).create_new(true).open(dir.join(MEMORY)).unwrap();
        let accounting = account(&capture, 1, &()).unwrap();
        let image = accounting.store(&bytes, staged.file(), &index, StoreOptions::default(), &()).unwrap();
        let _pins = self.packs.packs().adopt(staged, image.pack.as_ref().unwrap()).unwrap();
        fs::write(dir.join("raw"), "device state").unwrap();
        let packed = device_state::pack(&dir.join("raw"), &dir.join(DEVICE_STATE)).unwrap();
        fs::remove_file(dir.join("raw")).unwrap();
        let overlay = File::create(dir.join(OVERLAY)).unwrap();
        overlay.set_len(1 << 20).unwrap();
        overlay.write_all_at(b"overlay", 512 << 10).unwrap();
        let draft = Draft {
            id: id.clone(),
            created: jiff::Timestamp::now(),
            template: "base".parse().unwrap(),
            parent: None,
            machine: Machine {
                vcpus: 1,
                ram: Bytes(RAM as u64),
                five_level_paging: false,
                disk: Bytes(1 << 20),
                base_disk: "base.ext4".into(),
            },
            fingerprint: Fingerprint::default(),
            base_disk: self.folder.artifacts().join("base.ext4"),
        };
        let report = Report {
            introspection: Introspection::ZeroOnly { reason: "a test".into() },
            comparison: None,
            stillness: None,
            counts: None,
            new_pack: Bytes(0),
            steps: Vec::new(),
        };
        let manifest = draft.finish((&image, None, Digest::of(b"overlay")), &packed, &dir, &report).unwrap();
        manifest.write_into(&dir).unwrap();
        self.packs.snapshot_is_there(&id, &manifest.memory.packs);
        Stored::open(dir, id).unwrap()
    }

    /// The same, on its way to the remote.
    fn uploading(&self, seed: u64) -> Stored {
        let stored = self.published(seed);
        self.behind.snapshot_is_there(&stored);
        stored
    }

    async fn settled(&self) {
        let remote = self.behind.remote.as_ref().unwrap();
        let left = tokio::time::timeout(Duration::from_secs(120), remote.settled()).await.expect("it settles");
        assert_eq!(left, []);
    }

    fn copy(&self, stored: &Stored) -> (UploadState, u64) {
        let copy = self.behind.copy_of(stored).unwrap();
        (copy.upload, copy.not_here.0)
    }

    fn size(&self, stored: &Stored) -> u64 {
        stored.packs().iter().map(|pack| pack.len.0).sum()
    }

    /// Does what a resume does with RAM: gets the packs, unpacks, and reads.
    async fn unpacked(&self, stored: &Stored) -> Result<Vec<u8>> {
        let _packs = self.behind.fetch(stored).await?;
        let link = self.folder.runs().join(format!("{}.ram", SnapshotId::random().unwrap()));
        self.ram_cache.link(stored, &link).await?;
        self.ram_cache.forget(stored.image_root());
        Ok(fs::read(link).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_up_and_was_evicted_comes_back_for_a_resume() {
    let lab = Lab::new();
    let daemon = lab.start(setup(lab.folder_remote(), Some(0))).await;
    let passing = daemon.published(1);
    let stored = daemon.uploading(2);
    daemon.settled().await;
    assert_eq!(daemon.copy(&passing), (UploadState::NotWanted, 0), "nobody said that it stays");
    assert_eq!(daemon.copy(&stored), (UploadState::Done, daemon.size(&stored)));
    assert!(lab.remote_record(&stored).exists() && !lab.remote_record(&passing).exists());

    assert!(daemon.unpacked(&stored).await.unwrap() == ram(2));
    assert!(daemon.unpacked(&passing).await.unwrap() == ram(1));
    // Nobody holds them any more: they go again.
    daemon.behind.trim();
    daemon.settled().await;
    assert_eq!(daemon.copy(&stored).1, daemon.size(&stored));

    daemon.behind.snapshot_is_gone(&stored.id);
    daemon.settled().await;
    assert!(!lab.remote_record(&stored).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_a_living_vm_stay_also_after_a_restart() {
    let lab = Lab::new();
    let daemon = lab.start(setup(lab.folder_remote(), Some(0))).await;
    let stored = daemon.published(1);
    let run = daemon.folder.runs().join("i00000000000000000000");
    fs::create_dir(&run).unwrap();
    super::super::parent::remember(&stored, &run, &daemon.packs).unwrap();
    daemon.behind.snapshot_is_there(&stored);
    daemon.settled().await;
    assert_eq!(daemon.copy(&stored), (UploadState::Done, 0));
    drop(daemon);

    let daemon = lab.start(setup(lab.folder_remote(), Some(0))).await;
    daemon.settled().await;
    assert_eq!(daemon.copy(&stored), (UploadState::Done, 0));
    daemon.packs.run_is_gone(&run);
    daemon.behind.trim();
    daemon.settled().await;
    assert_eq!(daemon.copy(&stored), (UploadState::Done, daemon.size(&stored)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_takes_up_what_is_missing_there_and_removes_what_is_gone_here() {
    let lab = Lab::new();
    let daemon = lab.start(setup(lab.folder_remote(), None)).await;
    let gone = daemon.uploading(1);
    daemon.settled().await;
    // The daemon dies before anybody hears of the one, and between the removal of the other and telling the remote.
    let new = daemon.published(2);
    remove_dir(&gone.dir).unwrap();
    drop(daemon);

    let daemon = lab.start(setup(lab.folder_remote(), None)).await;
    daemon.settled().await;
    assert_eq!(daemon.copy(&new), (UploadState::Done, 0));
    assert!(lab.remote_record(&new).exists() && !lab.remote_record(&gone).exists());
    drop(daemon);
    // With less room than before what is there goes.
    let daemon = lab.start(setup(lab.folder_remote(), Some(0))).await;
    daemon.settled().await;
    assert_eq!(daemon.copy(&new), (UploadState::Done, daemon.size(&new)));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_not_known_what_there_is_here_nothing_is_removed_from_the_remote() {
    let lab = Lab::new();
    let daemon = lab.start(setup(lab.folder_remote(), None)).await;
    let (gone, half_gone) = (daemon.uploading(1), daemon.uploading(2));
    daemon.settled().await;
    remove_dir(&gone.dir).unwrap();
    fs::remove_file(half_gone.dir.join(dormouse_image::manifest::FILE_NAME)).unwrap();
    drop(daemon);
    let daemon = lab.open(setup(lab.folder_remote(), None), Duration::from_secs(60)).await.unwrap();
    daemon.behind.reconcile(&daemon.folder, false).await;
    daemon.settled().await;
    assert!(lab.remote_record(&gone).exists());
    // A folder that cannot be listed holds who knows what; one without a manifest is half removed.
    let (snapshots, aside) = (daemon.folder.snapshots(), lab.dir.path().join("aside"));
    fs::rename(&snapshots, &aside).unwrap();
    assert_eq!(published(&daemon.folder), (Vec::new(), false));
    fs::rename(&aside, &snapshots).unwrap();
    assert_eq!(published(&daemon.folder), (Vec::new(), true));
    daemon.behind.reconcile(&daemon.folder, true).await;
    daemon.settled().await;
    assert!(!lab.remote_record(&gone).exists() && !lab.remote_record(&half_gone).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_manifest_cannot_be_read_nothing_is_removed_from_the_remote() {
    let lab = Lab::new();
    let daemon = lab.start(setup(lab.folder_remote(), None)).await;
    let (damaged, whole) = (daemon.uploading(1), daemon.uploading(2));
    daemon.settled().await;
    drop(daemon);
    let manifest = damaged.dir.join(dormouse_image::manifest::FILE_NAME);
    let text = fs::read(&manifest).unwrap();
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();

    let daemon = lab.start(setup(lab.folder_remote(), None)).await;
    daemon.settled().await;
    assert!(lab.remote_record(&damaged).exists() && lab.remote_record(&whole).exists());
}

/// Every way in which a remote fails, each named; afterwards the snapshot is as good as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_resume_without_its_packs_is_a_clear_error_and_works_later() {
    let server = Server::start().await;
    let lab = Lab::new();
    let daemon = lab.start(setup(s3(&server, "p"), Some(0))).await;
    let stored = daemon.uploading(1);
    daemon.settled().await;
    let (local, size) = (daemon.published(2), daemon.size(&stored));
    for (fault, named) in [
        (Fault::Status(503), "503"),
        (Fault::Reset, "gave up"),
        (Fault::Hang, "did not answer in time"),
        (Fault::HalfBody, "gave up"),
        (Fault::Flip, "damaged"),
    ] {
        let asked = server.fail(&Method::GET, &["/packs/"], MANY, fault);
        let error = daemon.unpacked(&stored).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::NotFetched { .. }) && text.contains(named), "{fault:?}: {text}");
        assert!(text.contains("packs/") && text.contains(&server.address.to_string()), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        assert!(asked.left() < MANY);
        // What is all here does not care.
        assert!(daemon.unpacked(&local).await.unwrap() == ram(2));
        asked.end();
        assert_eq!(daemon.copy(&stored).1, size, "nothing half-fetched is there");
        assert!(daemon.unpacked(&stored).await.unwrap() == ram(1));
        daemon.behind.trim();
        daemon.settled().await;
    }

    let id = stored.packs()[0].id.to_string();
    let object = server.file(&format!("p/packs/{}/{id}.pack", &id[..2]));
    let aside = lab.dir.path().join("aside");
    fs::rename(&object, &aside).unwrap();
    let text = daemon.unpacked(&stored).await.unwrap_err().to_string();
    assert!(text.contains(&id) && text.contains("is not on the remote"), "{text}");
    fs::rename(&aside, &object).unwrap();
    assert!(daemon.unpacked(&stored).await.unwrap() == ram(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_ends_at_its_deadline() {
    let server = Server::start().await;
    let lab = Lab::new();
    let (daemon, stored) = lab.patient(&server, Duration::from_millis(300)).await;
    server.fail(&Method::GET, &["/packs/"], MANY, Fault::Hang);
    let text = daemon.unpacked(&stored).await.unwrap_err().to_string();
    assert!(text.contains("did not come within 300ms"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_does_not_wait_for_a_fetch() {
    let server = Server::start().await;
    let lab = Lab::new();
    let (daemon, stored) = lab.patient(&server, Duration::from_secs(3600)).await;
    let hangs = server.fail(&Method::GET, &["/packs/"], MANY, Fault::Hang);
    let ending = async {
        while hangs.left() == MANY {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon.behind.end();
    };
    let both = async { tokio::join!(daemon.unpacked(&stored), ending).0 };
    let ended = tokio::time::timeout(Duration::from_secs(120), both).await.expect("it ends");
    assert!(matches!(ended, Err(Error::ShuttingDown)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_is_told_and_one_that_cannot_work_is_refused() {
    let server = Server::start().await;
    let lab = Lab::new();
    let asked = server.fail(&Method::GET, &["/snapshots/probe"], 1, Fault::Status(503));
    let daemon = lab.start(setup(s3(&server, "p"), None)).await;
    assert_eq!(asked.left(), 0);
    let reason = daemon.found.as_ref().unwrap().unreachable.as_ref().unwrap();
    assert!(reason.contains("503"), "{reason}");
    let stored = daemon.uploading(1);
    daemon.settled().await;
    assert_eq!(daemon.copy(&stored), (UploadState::Done, 0), "it goes up when the store answers");
    drop(daemon);

    let Target::S3(mut wrong) = s3(&server, "p") else { panic!("no bucket") };
    wrong.credentials.secret_access_key = "another-secret".to_owned().into();
    let refused = lab.try_start(setup(Target::S3(wrong), None), Duration::from_secs(60)).await.err().unwrap();
    assert!(matches!(refused, RemoteError::Refused { .. }), "{refused}");
    assert!(!refused.to_string().contains("another-secret"));
}
