//! Surveys a RAM file of a stopped guest and prints what was found, for looking at a guest by hand.
//!
//! `survey_file RAM-FILE BELOW-4G-MIB [--note "0xADDR SIZE"] [--mem-free KIB] [--kpageflags FILE]`
//!
//! RAM past BELOW-4G-MIB continues at 4 GiB, as on QEMU's `q35` and on Firecracker. A dump of the guest's
//! `/proc/kpageflags`, taken just before the stop, is compared with what was found.
#![expect(clippy::print_stdout, reason = "a program that prints its findings")]

use std::error::Error;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use std::{env, fs, io};

use dormouse_guest_mem::{Bytes, GuestAddr, PageClass, PageIndex, RamLayout, RamRegion, RamSource};
use dormouse_introspect::{Request, Survey, survey};

struct RamFile {
    file: File,
    len: u64,
}

impl RamSource for RamFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(vec![0..self.len])
    }
}

/// Bits of `/proc/kpageflags` (`include/uapi/linux/kernel-page-flags.h`) and the class that they stand for.
const ORACLE: [(u32, PageClass); 5] = [
    (10, PageClass::Free),
    (23, PageClass::Offline),
    (7, PageClass::Slab),
    (26, PageClass::PageTable),
    (12, PageClass::Anonymous),
];
const SWAPBACKED: u32 = 14;
const LRU: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (path, below) = args.next().zip(args.next()).ok_or("usage: survey_file RAM-FILE BELOW-4G-MIB […]")?;
    let options: Vec<String> = args.collect();
    let option = |name: &str| options.iter().skip_while(|a| *a != name).nth(1);
    let file = File::open(path)?;
    let ram = RamFile { len: file.metadata()?.len(), file };
    let layout = layout(ram.len, below.parse::<u64>()? << 20)?;
    let request = Request {
        ram: &ram,
        layout: &layout,
        note: option("--note").map(|n| n.parse()).transpose()?,
        mem_free: option("--mem-free").map(|k| k.parse::<u64>()).transpose()?.map(|kib| Bytes(kib << 10)),
    };
    let start = Instant::now();
    let found = survey(&request)?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    println!("{:?}\n{:?}\n{ms:.2} ms on one thread, free {}", found.kernel, found.work, found.free.bytes());
    for class in PageClass::ALL {
        println!("{class:?}: {}", Bytes::of_pages(found.classes.count(class).into()));
    }
    if let Some(flags) = option("--kpageflags") {
        compare(&found, &layout, &fs::read(flags)?);
    }
    Ok(())
}

fn layout(len: u64, below: u64) -> Result<RamLayout, Box<dyn Error>> {
    let low = RamRegion { guest: GuestAddr(0), offset: 0, len: len.min(below) };
    let mut regions = vec![low];
    if len > below {
        regions.push(RamRegion { guest: GuestAddr(1 << 32), offset: below, len: len - below });
    }
    Ok(RamLayout::new(regions)?)
}

/// Prints how often each class of ours met each class of the guest's.
fn compare(found: &Survey, layout: &RamLayout, dump: &[u8]) {
    let flags = dump.as_chunks::<8>().0;
    let mut met = std::collections::BTreeMap::<_, u32>::new();
    for page in (0..layout.pages()).map(PageIndex) {
        let pfn = layout.pfn_of(page).and_then(|pfn| usize::try_from(pfn.0).ok());
        let flags = pfn.and_then(|pfn| flags.get(pfn)).map_or(0, |f| u64::from_le_bytes(*f));
        *met.entry((found.classes.get(page), oracle(flags))).or_default() += 1;
    }
    for ((ours, theirs), pages) in met {
        println!("ours {ours:?}, the guest's {theirs:?}: {pages} pages");
    }
}

fn oracle(flags: u64) -> PageClass {
    let has = |bit: u32| flags >> bit & 1 == 1;
    match ORACLE.into_iter().find(|(bit, _)| has(*bit)) {
        Some((_, class)) => class,
        None if has(LRU) && has(SWAPBACKED) => PageClass::Shmem,
        None if has(LRU) => PageClass::PageCache,
        None => PageClass::Kernel,
    }
}
