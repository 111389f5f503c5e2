//! What `lib/image` makes of a stopped guest: the work of a pause on RAM, and the files that it leaves.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dormouse_guest_mem::{Bytes, PageIndex, RamLayout, RamSource};
use dormouse_image::{
    Capture, DirPacks, Disk, DiskContent, DiskIndex, DiskSlot, Image, PackId, PageKind, Parent, StoreOptions, account,
};
use dormouse_introspect::{ClassMap, NoteLocation, Request, survey};
use dormouse_vmm::{PausedRam, Vm};

use crate::codecs::{Known, Trials};
use crate::cost::{Baseline, Cost};

/// Threads of a pause: the machines that figures are compared on have two cores.
const THREADS: usize = 2;
/// As the device states of snapshots are compressed.
const DEVICE_STATE_LEVEL: i32 = 3;

/// Packs and their sizes.
pub(crate) type Packs = BTreeMap<PackId, Bytes>;

/// An image of the bench's own store.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its index file.
    pub(crate) path: PathBuf,
    /// The packs that it needs.
    pub(crate) packs: Packs,
    /// The pack that was written for it.
    pub(crate) pack: Bytes,
    pub(crate) index: Bytes,
    pub(crate) device_state: Bytes,
    /// What the overlay disk takes, of which every snapshot has a whole one.
    pub(crate) overlay: Bytes,
    kinds: Vec<PageKind>,
    classes: ClassMap,
}

/// How a pause went.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    pub(crate) stored: Stored,
    pub(crate) cost: Cost,
    /// Work on RAM, one step after the other.
    pub(crate) steps: Vec<(&'static str, Duration)>,
    /// What it stores by each way of compressing it, if that was asked for.
    pub(crate) codecs: Option<Trials>,
}

impl Stored {
    /// How the image holds a page.
    pub(crate) fn kind(&self, page: PageIndex) -> Option<PageKind> {
        self.kinds.get(page.0 as usize).copied()
    }

    /// The pages that are in packs, by class and then by address: nearly the order of a pack.
    fn data_pages(&self) -> Vec<PageIndex> {
        let data = (0..).map(PageIndex).zip(&self.kinds).filter(|(_, kind)| **kind == PageKind::Data);
        let mut pages: Vec<_> = data.map(|(page, _)| page).collect();
        pages.sort_by_key(|page| (self.classes.get(*page) as u8, *page));
        pages
    }

    /// What it adds to the store for RAM and device state, index counted.
    pub(crate) fn on_disk(&self) -> Bytes {
        Bytes(self.pack.0 + self.index.0 + self.device_state.0)
    }

    /// The same if it were alone: with all packs that it needs.
    pub(crate) fn alone(&self) -> Bytes {
        Bytes(self.packs.values().map(|len| len.0).sum::<u64>() + self.index.0 + self.device_state.0)
    }
}

/// Base disk and folder of a store.
pub(crate) struct Store {
    folder: PathBuf,
    base: PathBuf,
    base_index: DiskIndex,
    /// Where the template's kernel has its note, and every kernel that goes on from it. The agent tells a pause.
    note: OnceLock<NoteLocation>,
}

impl Store {
    /// An empty store in a new folder for guests with this base disk.
    pub(crate) fn new(folder: PathBuf, base: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&folder)?;
        let base_index = DiskIndex::build(&File::open(&base)?, THREADS, &())?;
        Ok(Self { folder, base, base_index, note: OnceLock::new() })
    }

    /// Stores the RAM that VMs are started with: what a template's snapshot holds.
    pub(crate) fn store_template(&self, ram: &dyn RamSource, layout: &RamLayout) -> anyhow::Result<Stored> {
        let mut steps = Steps::start();
        self.store("template", &Subject { ram, layout, overlay: None, parent: None }, &mut steps)
    }

    /// Does with a paused VM what a pause does: the page structures, the overlay's blocks, accounting, compression, device
    /// state. Afterwards the image is checked and, with `codecs`, other ways of compressing are tried, which is not counted.
    pub(crate) fn pause(&self, name: &str, vm: &dyn Vm, parent: &Stored, codecs: bool) -> anyhow::Result<Pause> {
        let writable = vm.spec().disks.iter().find(|disk| !disk.read_only).context("no overlay disk")?;
        let (baseline, mut steps) = (Baseline::now()?, Steps::start());
        let ram = vm.paused_ram()?;
        let subject = Subject {
            ram: &*ram,
            layout: vm.layout(),
            overlay: Some(&writable.file),
            parent: Some((&*ram, Image::open(&parent.path, None)?)),
        };
        let mut stored = self.store(name, &subject, &mut steps)?;
        let cost = baseline.cost()?;
        stored.device_state = self.device_state(name, vm)?;
        stored.overlay = Bytes(fs::metadata(&writable.file)?.blocks() * 512);
        self.verify(&stored, &writable.file)?;
        let try_all = || {
            let started = ram.restored().context("the VM was not restored")?.file;
            anyhow::Ok(Known::of(started, &parent.data_pages())?.try_all(&*ram, &stored.data_pages())?)
        };
        let codecs = codecs.then(try_all).transpose()?;
        Ok(Pause { stored, cost, steps: steps.done, codecs })
    }

    fn store(&self, name: &str, subject: &Subject<'_>, steps: &mut Steps) -> anyhow::Result<Stored> {
        let Subject { ram, layout, .. } = *subject;
        let found = survey(&Request { ram, layout, note: self.note.get().copied(), mem_free: None })?;
        let _ = self.note.set(found.kernel.note);
        steps.end("introspect");
        let base = File::open(&self.base)?;
        let overlay = subject.overlay.map(File::open).transpose()?;
        let overlay = overlay.map(|file| Ok::<_, anyhow::Error>((DiskIndex::build(&file, THREADS, &())?, file)));
        let overlay = overlay.transpose()?;
        steps.end("overlay index");
        let mut disks = vec![DiskContent { slot: DiskSlot::Base, file: &base, index: &self.base_index }];
        disks.extend(overlay.iter().map(|(index, file)| DiskContent { slot: DiskSlot::Overlay, file, index }));
        let class_of = |page: PageIndex| found.classes.get(page);
        let parent = subject.parent.as_ref().and_then(|(paused, image)| {
            let restored = paused.restored()?;
            Some(Parent { image, written: restored.written, ram: restored.file })
        });
        let capture = Capture { ram, layout, free: Some(&found.free), class_of: &class_of, disks: &disks, parent };
        let accounting = account(&capture, THREADS, &())?;
        steps.end("account");
        let new = |end: &str| {
            let path = self.folder.join(format!("{name}.{end}"));
            let file = File::options().read(true).write(true).create_new(true).open(&path);
            file.map(|file| (file, path)).with_context(|| format!("create {name}.{end}"))
        };
        let ((pack_file, pack_path), (index_file, index_path)) = (new("new-pack")?, new("index")?);
        let options = StoreOptions { threads: THREADS, ..StoreOptions::default() };
        let stored = accounting.store(ram, &pack_file, &index_file, options, &())?;
        steps.end("compress and write");
        if let Some(pack) = &stored.pack {
            fs::rename(pack_path, DirPacks::new(self.folder.clone()).path(&pack.named().id))?;
        }
        let image = Image::open(&index_path, Some(&stored.root))?;
        let mut kinds = Vec::new();
        image.runs().for_each(|run| kinds.extend(run.pages.map(|_| run.kind)));
        Ok(Stored {
            path: index_path,
            packs: stored.packs.iter().map(|pack| (pack.id, pack.len)).collect(),
            pack: stored.pack.map_or(Bytes(0), |pack| pack.named().len),
            index: stored.index_len,
            device_state: Bytes(0),
            overlay: Bytes(0),
            kinds,
            classes: found.classes,
        })
    }

    fn device_state(&self, name: &str, vm: &dyn Vm) -> anyhow::Result<Bytes> {
        let file_name = format!("{name}.bench-state");
        let saved = tokio::runtime::Handle::current().block_on(vm.save_device_state(&file_name))?;
        let raw = fs::read(&saved)?;
        fs::remove_file(&saved)?;
        Ok(Bytes(zstd::bulk::compress(&raw, DEVICE_STATE_LEVEL)?.len() as u64))
    }

    /// Reads everything back and checks that RAM as a whole is what was paused.
    fn verify(&self, stored: &Stored, overlay: &Path) -> anyhow::Result<()> {
        let (base_file, overlay_file) = (File::open(&self.base)?, File::open(overlay)?);
        let disks = [
            Disk { slot: DiskSlot::Base, file: &base_file, path: &self.base },
            Disk { slot: DiskSlot::Overlay, file: &overlay_file, path: overlay },
        ];
        let image = Image::open(&stored.path, None)?;
        if image.version() < 2 {
            bail!("{} is of version {}", stored.path.display(), image.version());
        }
        let packs = DirPacks::new(self.folder.clone());
        image.verify(&packs, &disks, THREADS, &()).context("the stored image is not what was paused")
    }
}

/// What is stored.
struct Subject<'a> {
    ram: &'a dyn RamSource,
    layout: &'a RamLayout,
    overlay: Option<&'a Path>,
    parent: Option<(&'a dyn PausedRam, Image)>,
}

/// Times one step after the other.
struct Steps {
    done: Vec<(&'static str, Duration)>,
    since: Instant,
}

impl Steps {
    fn start() -> Self {
        Self { done: Vec::new(), since: Instant::now() }
    }

    fn end(&mut self, name: &'static str) {
        self.done.push((name, self.since.elapsed()));
        self.since = Instant::now();
    }
}
