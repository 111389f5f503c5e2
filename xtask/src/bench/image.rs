//! Accounting, storing and unpacking memory images of made-up RAM whose parts are known.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SIZE, PageClass, PageIndex, PageSet, RamLayout, RamRegion, RamSource};
use dormouse_image::{
    Capture, Codec, DirPacks, Disk, DiskContent, DiskIndex, DiskSlot, Image, Parent, StoreOptions, Stored, account,
};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{cpu_time, rate};

/// Pages in a MiB.
const MIB: u32 = 256;
const THREADS: usize = 2;

/// What the pages of RAM are, in MiB.
#[derive(Clone, Copy)]
struct Mix {
    free: u32,
    zero: u32,
    on_disk: u32,
    duplicate: u32,
    data: u32,
}

/// RAM as a VMM has it: a memfd, read by calls.
struct MemfdRam {
    file: File,
    layout: RamLayout,
    free: PageSet,
}

impl RamSource for MemfdRam {
    fn len(&self) -> u64 {
        self.layout.len().0
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(vec![0..self.len()])
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let typical = Mix { free: 500, zero: 84, on_disk: 200, duplicate: 40, data: 200 };
    let packed = bench.pause(
        "a guest that keeps its page cache",
        typical,
        StoreOptions { threads: THREADS, ..StoreOptions::default() },
    )?;
    bench.child(packed)?;
    let all_data = Mix { free: 0, zero: 0, on_disk: 0, duplicate: 0, data: 512 };
    for (codec, level, frame_pages) in
        [(Codec::Zstd, 1, 16), (Codec::Zstd, 1, 4), (Codec::Zstd, 1, 64), (Codec::Zstd, 3, 16), (Codec::Lz4, 1, 16)]
    {
        let options = StoreOptions { threads: THREADS, codec, level, frame_pages };
        let title = format!("nothing but data, {codec:?} {level}, {frame_pages} pages per frame");
        bench.pause(&title, all_data, options)?;
    }
    Ok(())
}

struct Bench {
    dir: tempfile::TempDir,
    packs: DirPacks,
    /// Bytes that look like memory: those of a program.
    sample: Vec<u8>,
    disk: File,
    disk_index: DiskIndex,
}

/// A stored image, and the RAM that it is of.
struct Packed {
    ram: MemfdRam,
    image: Image,
    stored: Stored,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(crate::target_dir())?;
        let sample = std::fs::read("/proc/self/exe")?;
        let disk = File::options().read(true).write(true).create_new(true).open(dir.path().join("disk"))?;
        for block in 0..1024 * u64::from(MIB) {
            disk.write_all_at(&page(&sample, block, 1), block * PAGE_SIZE as u64)?;
        }
        let started = Instant::now();
        let disk_index = DiskIndex::build(&disk, THREADS, &())?;
        println!("index of a disk of 1 GiB: {:.2} GB/s", rate(1 << 30, started.elapsed()));
        let packs = DirPacks::new(dir.path().to_owned());
        Ok(Self { dir, packs, sample, disk, disk_index })
    }

    fn ram(&self, mix: Mix) -> anyhow::Result<MemfdRam> {
        let file = File::from(memfd_create("bench-ram", MemfdFlags::CLOEXEC)?);
        let Mix { free, zero, on_disk, duplicate, data } = mix;
        let pages = [free, zero, on_disk, duplicate, data].iter().sum::<u32>() * MIB;
        let layout =
            RamLayout::new(vec![RamRegion { guest: GuestAddr(0), offset: 0, len: Bytes::of_pages(pages.into()).0 }])?;
        let mut free_set = PageSet::new(pages);
        file.set_len(layout.len().0)?;
        // Pieces of 1 MiB in turn, so that every part of RAM holds some of everything.
        let mut left = [free, zero, on_disk, duplicate, data];
        let mut piece = 0u32;
        while left.iter().any(|n| *n > 0) {
            for kind in 0..left.len() {
                let Some(count) = left.get_mut(kind).filter(|n| **n > 0) else { continue };
                *count -= 1;
                for into in 0..MIB {
                    let number = piece * MIB + into;
                    let content = match kind {
                        0 => page(&self.sample, number.into(), 2),
                        1 => continue,
                        2 => page(&self.sample, u64::from(number % (1024 * MIB)), 1),
                        3 => page(&self.sample, u64::from(into), 3),
                        _ => page(&self.sample, number.into(), 4),
                    };
                    file.write_all_at(&content, PageIndex(number).offset())?;
                }
                if kind == 0 {
                    free_set.insert_range(piece * MIB..(piece + 1) * MIB);
                }
                piece += 1;
            }
        }
        Ok(MemfdRam { file, layout, free: free_set })
    }

    fn pause(&self, title: &str, mix: Mix, options: StoreOptions) -> anyhow::Result<Packed> {
        let ram = self.ram(mix)?;
        println!("{title}: {} of RAM", ram.layout.len());
        let stored = self.store(&ram, None, options)?;
        let image = Image::open(&self.dir.path().join("index"), Some(&stored.root))?;
        let disks = [Disk { slot: DiskSlot::Base, file: &self.disk, path: self.dir.path() }];
        let out = tempfile::tempfile_in(crate::target_dir())?;
        let content = image.summary().content();
        let took = timed(|| Ok(image.materialise(&self.packs, &disks, &out, THREADS, &())?))?;
        line("unpack", content.0, took);
        let took = timed(|| Ok(image.verify(&self.packs, &disks, THREADS, &())?))?;
        line("verify", content.0, took);
        Ok(Packed { ram, image, stored })
    }

    fn store(&self, ram: &MemfdRam, parent: Option<Parent<'_>>, options: StoreOptions) -> anyhow::Result<Stored> {
        let disks = [DiskContent { slot: DiskSlot::Base, file: &self.disk, index: &self.disk_index }];
        let class_of = |page: PageIndex| if page.0 % 64 < 48 { PageClass::Anonymous } else { PageClass::Slab };
        let capture =
            Capture { ram, layout: &ram.layout, free: Some(&ram.free), class_of: &class_of, disks: &disks, parent };
        let (pack_path, index_path) = (self.dir.path().join("pack"), self.dir.path().join("index"));
        let create = |path| File::options().read(true).write(true).create(true).truncate(true).open(path);
        let (pack, index) = (create(&pack_path)?, create(&index_path)?);

        let (before, started) = (cpu_time(), Instant::now());
        let accounting = account(&capture, options.threads, &())?;
        let first = (started.elapsed(), cpu_time().saturating_sub(before));
        let stored = accounting.store(ram, &pack, &index, options, &())?;
        let both = (started.elapsed(), cpu_time().saturating_sub(before));
        if let Some(pack) = &stored.pack {
            std::fs::rename(&pack_path, self.packs.path(&pack.named().id))?;
        }
        let counts = accounting.counts();
        println!("  {counts:?}");
        let used = u64::from(ram.layout.pages() - counts.free - counts.zero) * PAGE_SIZE as u64;
        line("account", used, first);
        let data = u64::from(counts.data) * PAGE_SIZE as u64;
        line("compress (of the data alone)", data, (both.0 - first.0, both.1 - first.1));
        line("account and store", used, both);
        let pack_len = stored.pack.as_ref().map_or(0, |pack| pack.named().len.0);
        println!(
            "  stored {} for {} of data ({:.2} to 1), index {} ({:.2} % of the data)",
            Bytes(pack_len),
            Bytes(data),
            ratio(data, pack_len),
            stored.index_len,
            100.0 * ratio(stored.index_len.0, data),
        );
        Ok(stored)
    }

    /// A VM that ran on from there and wrote one page in a hundred, half of them as they were.
    fn child(&self, parent: Packed) -> anyhow::Result<()> {
        let Packed { ram, image, stored } = parent;
        println!(
            "its child: one page in a hundred written, pack {:?}",
            stored.pack.map(|pack| pack.named().len.to_string())
        );
        let started = File::from(memfd_create("bench-parent", MemfdFlags::CLOEXEC)?);
        let disks = [Disk { slot: DiskSlot::Base, file: &self.disk, path: self.dir.path() }];
        image.materialise(&self.packs, &disks, &started, THREADS, &())?;
        let started = MemfdRam { file: started, layout: ram.layout.clone(), free: ram.free.clone() };
        let mut written = PageSet::new(ram.layout.pages());
        for number in (0..ram.layout.pages()).step_by(100).filter(|number| !ram.free.contains(PageIndex(*number))) {
            written.insert(PageIndex(number));
            if number % 200 == 0 {
                ram.file.write_all_at(&page(&self.sample, number.into(), 5), PageIndex(number).offset())?;
            }
        }
        let parent = Parent { image: &image, written: &written, ram: &started };
        let options = StoreOptions { threads: THREADS, ..StoreOptions::default() };
        self.store(&ram, Some(parent), options)?;
        Ok(())
    }
}

/// A page like one of a program, but another for every number and salt.
fn page(sample: &[u8], number: u64, salt: u64) -> Vec<u8> {
    let pages = (sample.len() / PAGE_SIZE).max(1) as u64;
    let from = (number % pages) as usize * PAGE_SIZE;
    let mut out = sample.get(from..from + PAGE_SIZE).map_or_else(|| vec![1; PAGE_SIZE], <[u8]>::to_vec);
    let mark = (number * 8 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    for place in out.chunks_exact_mut(1024) {
        if let Some(place) = place.first_chunk_mut() {
            *place = mark;
        }
    }
    out
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Duration, Duration)> {
    let (before, started) = (cpu_time(), Instant::now());
    work()?;
    Ok((started.elapsed(), cpu_time().saturating_sub(before)))
}

fn line(what: &str, bytes: u64, (wall, cpu): (Duration, Duration)) {
    println!("  {what:30} {:6.2} GB/s  ({:.2} GB per CPU second)", rate(bytes, wall), rate(bytes, cpu));
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / (b as f64).max(1.0)
}
