//! How much memory a pause takes. A test program of its own: what other tests take must not count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io;
use std::ops::Range;

use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SIZE, PageClass, PageIndex, RamLayout, RamRegion, RamSource};
use dormouse_image::{Capture, StoreOptions, account};

const GIB: u64 = 1 << 30;
/// What is promised: so much, and one hundredth of RAM.
const MOST: u64 = 64 << 20;

/// RAM that takes no memory: every page is made when it is read.
struct Made {
    pages: u32,
    kind: fn(u32) -> Kind,
}

enum Kind {
    Zero,
    /// Equal to all pages of that number.
    Of(u32),
}

impl RamSource for Made {
    fn len(&self) -> u64 {
        PageIndex(self.pages).offset()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        assert!(offset.is_multiple_of(PAGE_SIZE as u64) && buf.len().is_multiple_of(PAGE_SIZE), "whole pages are read");
        let first = (offset / PAGE_SIZE as u64) as u32;
        for (page, into) in (first..).zip(buf.chunks_exact_mut(PAGE_SIZE)) {
            into.fill(0);
            if let Kind::Of(number) = (self.kind)(page) {
                // One word of eight: enough to be different, and quick to compress.
                for (word, at) in into.chunks_exact_mut(64).zip(0u64..) {
                    let value = (u64::from(number) * 64 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    word[..8].copy_from_slice(&value.to_le_bytes());
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(vec![0..self.len()])
    }
}

fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The most memory that this process has more than at the beginning while it accounts and stores `ram`.
fn growth(ram: &Made) -> u64 {
    let layout = RamLayout::new(vec![RamRegion { guest: GuestAddr(0), offset: 0, len: ram.len() }]).unwrap();
    // Classes that change with every page are the most that can be noted about them.
    let class_of = |page: PageIndex| if page.0 % 2 == 0 { PageClass::Anonymous } else { PageClass::Slab };
    let capture = Capture { ram, layout: &layout, free: None, class_of: &class_of, disks: &[], parent: None };
    let (pack, index) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    let options = StoreOptions::default();
    let accounting = account(&capture, options.threads, &()).unwrap();
    let stored = accounting.store(ram, &pack, &index, options, &()).unwrap();
    let growth = status("VmHWM:").saturating_sub(before);
    println!(
        "{:?}: {} of pack, {} of index, {} of memory",
        accounting.counts(),
        stored.pack.unwrap().named().len,
        stored.index_len,
        Bytes(growth)
    );
    growth
}

#[test]
fn a_pause_takes_64_mib_and_one_hundredth_of_ram_at_most_whatever_the_pages_are() {
    let pages = (2 * GIB / PAGE_SIZE as u64) as u32;
    let kinds: [fn(u32) -> Kind; 3] = [
        // Nothing but data, each page another.
        Kind::Of,
        // A little of everything in turn, so that no two pages make a run.
        |page| match page % 4 {
            0 => Kind::Zero,
            1 => Kind::Of(page.wrapping_mul(7919) % 1000 * 4 + 1),
            _ => Kind::Of(page),
        },
        // Every second page is equal to one far away.
        |page| Kind::Of(if page % 2 == 0 { page } else { (page ^ 0x1_5554) & !1 }),
    ];
    for kind in kinds {
        let ram = Made { pages, kind };
        let growth = growth(&ram);
        let most = MOST + ram.len() / 100;
        assert!(growth <= most, "{} of memory, {} are promised", Bytes(growth), Bytes(most));
    }
}
