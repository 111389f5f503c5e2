//! Snapshots of guests that there never were, in a real state folder: for tests of what becomes of snapshots.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SIZE, PageIndex, PageSet, RamLayout, RamRegion, RamSource};
use dormouse_image::publish::Staging;
use dormouse_vmm::{Boot, Fingerprint, PausedRam, RamFile, Restored, Vm, VmSpec, Vmm, VmmError};

use super::look_inside::Found;
use super::material::{Material, RAW_STATE, Stop};
use crate::snapshot::parent::{self, ParentImage};
use crate::snapshot::report::Steps;
use crate::snapshot::stored::{Draft, OVERLAY};
use crate::state::{self, Machine, SnapshotRecord, TemplateRecord};
use crate::{
    DamagedObject, Host, Introspection, Limits, OpenError, Options, RemoteSetup, SandboxId, Secret, SnapshotId,
    Verification, VerifyReport, VerifyWatch,
};

/// RAM of every guest.
pub(crate) const PAGES: u32 = 1024;
/// Pages that lie on the base disk, from its first block on.
pub(crate) const ON_BASE: Range<u32> = 100..140;
/// Pages that lie on the overlay disk, from its first block on.
pub(crate) const ON_OVERLAY: Range<u32> = 150..170;
/// What is on a remote and younger is not collected.
pub(crate) const YOUNG: Duration = Duration::from_secs(3600);
const BLOCKS: u32 = 64;
const BASE_DISK: &str = "disks/base.ext4";

/// A state folder with a template `base`.
pub(crate) struct Lab {
    pub(crate) dir: PathBuf,
    pub(crate) template: SnapshotId,
    _temp: Option<tempfile::TempDir>,
}

/// A page that no compressor makes smaller, the same for the same number.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    (0..PAGE_SIZE / 8).flat_map(word).collect()
}

impl Lab {
    /// In a folder that goes away with it.
    pub(crate) async fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut lab = Self::at(temp.path()).await;
        lab._temp = Some(temp);
        lab
    }

    /// In this folder, which is empty.
    pub(crate) async fn at(dir: &Path) -> Self {
        let host = open(dir).await;
        let disk = host.shared.folder.artifacts().join(BASE_DISK);
        fs::create_dir_all(disk.parent().unwrap()).unwrap();
        fs::write(&disk, (0..BLOCKS).flat_map(|b| noise(1_000_000 + u64::from(b))).collect::<Vec<_>>()).unwrap();
        let mut ram = vec![0; PAGES as usize * PAGE_SIZE];
        (0..100).for_each(|page| put(&mut ram, page, &noise(page.into())));
        for (page, block) in ON_BASE.zip(0..) {
            put(&mut ram, page, &noise(1_000_000 + block));
        }
        let template = snapshot(&host, None, Ram { bytes: ram, restored: None }, 1);
        let record = TemplateRecord {
            name: "base".parse().unwrap(),
            created: jiff::Timestamp::now(),
            machine: machine(),
            kernel_release: "6.1".into(),
            snapshot: template.clone(),
            inputs: String::new(),
        };
        state::write_json(&host.shared.folder.template(&record.name), &record).unwrap();
        host.shutdown().await;
        Self { dir: dir.to_owned(), template, _temp: None }
    }

    /// A host on the folder, as a daemon opens it.
    pub(crate) async fn open(&self) -> Host {
        open(&self.dir).await
    }

    /// A kept snapshot of a guest that was started from `parent`, and wrote noise that differs by `seed` into these pages.
    pub(crate) fn snapshot(&self, host: &Host, parent: &SnapshotId, written: &[Range<u32>], seed: u64) -> SnapshotId {
        self.pause(host, &start(host, parent), written, seed)
    }

    /// The same of one that was started before.
    pub(crate) fn pause(&self, host: &Host, run: &Path, written: &[Range<u32>], seed: u64) -> SnapshotId {
        let id = generation(host, run, written, seed);
        let record = SnapshotRecord {
            id: id.clone(),
            sandbox: SandboxId::random().unwrap(),
            template: "base".parse().unwrap(),
            name: None,
            created: jiff::Timestamp::now(),
            token: Secret::from("token".to_owned()),
            generation: 1,
            env: std::collections::BTreeMap::new(),
        };
        crate::kept::publish(&host.shared, record).unwrap();
        id
    }

    /// The base disk.
    pub(crate) fn base_disk(&self) -> PathBuf {
        self.dir.join("artifacts").join(BASE_DISK)
    }
}

/// Unpacks the RAM of a snapshot.
pub(crate) fn ram_of(host: &Host, id: &SnapshotId) -> Vec<u8> {
    let stored = host.stored(id).unwrap();
    let out = tempfile::NamedTempFile::new().unwrap();
    let disks = stored.disks(&host.shared.folder.artifacts()).unwrap();
    let image = stored.image().unwrap();
    image.materialise(host.shared.packs.packs(), &disks.list(), out.as_file(), 2, &()).unwrap();
    fs::read(out.path()).unwrap()
}

/// A host on the folder, as a daemon opens it.
pub(crate) async fn open(dir: &Path) -> Host {
    open_with(dir, None).await
}

/// The same with a remote.
pub(crate) async fn open_with(dir: &Path, remote: Option<RemoteSetup>) -> Host {
    let limits = Limits { image_threads: 2, remote_garbage: YOUNG, ..Limits::default() };
    let (state, agent) = (dir.to_owned(), PathBuf::from("/nowhere"));
    // A program that another test starts at this moment has the lock of the host before, until it is itself.
    for _ in 0..500 {
        let (state, agent, limits, remote) = (state.clone(), agent.clone(), limits.clone(), remote.clone());
        match Host::open(Options { state, vmm: Arc::new(NoVmm), agent, limits, remote }).await {
            Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            opened => return opened.unwrap().0,
        }
    }
    panic!("{} stays locked", dir.display())
}

fn machine() -> Machine {
    Machine {
        vcpus: 1,
        ram: Bytes::of_pages(PAGES.into()),
        five_level_paging: true,
        disk: Bytes::of_pages(BLOCKS.into()),
        base_disk: BASE_DISK.into(),
    }
}

fn put(ram: &mut [u8], page: u32, content: &[u8]) {
    ram[page as usize * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(content);
}

/// The folder of a VM that was started from a snapshot.
pub(crate) fn start(host: &Host, from: &SnapshotId) -> PathBuf {
    let shared = &host.shared;
    let run = shared.folder.run(&SandboxId::random().unwrap());
    fs::create_dir(&run).unwrap();
    let _held = shared.readers.hold(from);
    parent::remember(&host.stored(from).unwrap(), &run, &shared.packs).unwrap();
    fs::write(run.join("base.ram"), ram_of(host, from)).unwrap();
    run
}

/// As a pause of a sandbox that was resumed does it.
fn generation(host: &Host, run: &Path, written: &[Range<u32>], seed: u64) -> SnapshotId {
    let shared = &host.shared;
    let file = run.join("base.ram");
    let mut bytes = fs::read(&file).unwrap();
    let mut pages = PageSet::new(PAGES);
    for page in written.iter().cloned().flatten() {
        put(&mut bytes, page, &noise(seed << 32 | u64::from(page)));
        pages.insert(PageIndex(page));
    }
    for (page, block) in ON_OVERLAY.zip(0..) {
        put(&mut bytes, page, &overlay_block(seed, block));
        pages.insert(PageIndex(page));
    }
    let image = ParentImage::of(run, &shared.packs);
    let ram = Ram { bytes, restored: Some((pages, RamFile::open(&file).unwrap())) };
    let id = snapshot(host, image, ram, seed);
    fs::remove_dir_all(run).unwrap();
    shared.packs.run_is_gone(run);
    id
}

fn overlay_block(seed: u64, block: u64) -> Vec<u8> {
    noise(seed << 40 | 2_000_000 + block)
}

fn snapshot(host: &Host, parent: Option<ParentImage>, ram: Ram, seed: u64) -> SnapshotId {
    let shared = &host.shared;
    let id = SnapshotId::random().unwrap();
    let staging = Staging::create(&shared.folder.staging(), id.as_str()).unwrap();
    fs::write(staging.path().join(RAW_STATE), format!("device state {seed} ").repeat(500)).unwrap();
    let overlay = File::create(staging.path().join(OVERLAY)).unwrap();
    overlay.set_len(Bytes::of_pages(BLOCKS.into()).0).unwrap();
    // Twice as many as are in RAM.
    for block in 0..2 * ON_OVERLAY.len() as u64 {
        overlay.write_all_at(&overlay_block(seed, block), block * PAGE_SIZE as u64).unwrap();
    }
    let len = Bytes::of_pages(PAGES.into()).0;
    let layout = RamLayout::new(vec![RamRegion { guest: GuestAddr(0), offset: 0, len }]).unwrap();
    let introspection = Introspection::ZeroOnly { reason: "there was no guest".into() };
    let found = Found::Now((None, introspection));
    let draft = Draft {
        id: id.clone(),
        created: jiff::Timestamp::now(),
        template: "base".parse().unwrap(),
        parent: None,
        machine: machine(),
        fingerprint: Fingerprint::new([("vmm", "none")]),
        base_disk: shared.folder.artifacts().join(BASE_DISK),
    };
    let ram: Box<dyn PausedRam> = Box::new(ram);
    let (stop, steps) = (Stop::begins(), Steps::start());
    let material = Material { ram, layout, parent, found, comparison: None, stop, steps, staging, draft };
    material.store(shared).unwrap();
    id
}

struct Ram {
    bytes: Vec<u8>,
    restored: Option<(PageSet, RamFile)>,
}

impl RamSource for Ram {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes.read_at(offset, buf)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        self.bytes.populated()
    }
}

impl PausedRam for Ram {
    fn restored(&self) -> Option<Restored<'_>> {
        self.restored.as_ref().map(|(written, file)| Restored { written, file })
    }
}

/// Starts nothing.
struct NoVmm;

fn none<T>() -> dormouse_vmm::Result<T> {
    Err(VmmError::NotAdoptable { dir: PathBuf::new(), reason: "there are no VMs here".into() })
}

#[async_trait]
impl Vmm for NoVmm {
    fn fingerprint(&self, _: &VmSpec) -> Fingerprint {
        Fingerprint::new([("vmm", "none")])
    }

    fn layout(&self, _: Bytes) -> dormouse_vmm::Result<RamLayout> {
        none()
    }

    async fn boot(&self, _: &Path, _: &VmSpec, _: &Boot) -> dormouse_vmm::Result<Arc<dyn Vm>> {
        none()
    }

    async fn restore(&self, _: &Path, _: &VmSpec, _: &Path, _: &Path) -> dormouse_vmm::Result<Arc<dyn Vm>> {
        none()
    }

    async fn adopt(&self, _: &Path) -> dormouse_vmm::Result<Arc<dyn Vm>> {
        none()
    }
}

/// Checks what is wanted, and tells nobody how it goes.
pub(crate) async fn verify(host: &Host, wanted: impl Into<Verification>) -> VerifyReport {
    host.verify_store(wanted, Arc::new(Silent)).await.unwrap()
}

struct Silent;

impl VerifyWatch for Silent {
    fn step(&self, _: &str) {}
    fn advance(&self, _: u64, _: u64) {}
    fn damaged(&self, _: &DamagedObject) {}
    fn cancelled(&self) -> bool {
        false
    }
}
