//! Writing `struct page`s.

use dormouse_guest_mem::{GuestAddr, Pfn};

use super::{Guest, STRUCT_SIZE};

/// What a page of the synthetic guest is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Kernel memory without a mark.
    Kernel,
    /// Memory of a process.
    Anonymous,
    /// Page cache.
    PageCache,
    /// tmpfs.
    Shmem,
    /// Slab allocator; its owner keeps something that is no mapping where others keep the mapping.
    Slab,
    /// A page table.
    PageTable,
    /// Taken by a balloon.
    Offline,
    /// A driver's movable page, which is no page cache although it has a mapping.
    Movable,
    /// Of a type that we do not know.
    NewType,
}

const SWAPBACKED: u64 = 1 << 19;
const SLAB: u64 = 1 << 9;
const UNTYPED: u32 = u32::MAX;
/// A pointer into the kernel's direct mapping.
const POINTER: u64 = 0xffff_8880_0123_4560;

impl Guest {
    /// Writes the structure of `pfn`, a single page.
    pub fn mark(&mut self, pfn: Pfn, usage: Use) {
        let new = self.shape.top_byte_types;
        let typed = |old: u32, new_type: u32| if new { new_type << 24 } else { !old };
        let (flags, mapping, kind, refs) = match usage {
            Use::Kernel => (0, 0, UNTYPED, 1),
            Use::Anonymous => (SWAPBACKED, POINTER | 1, 0, 1),
            Use::PageCache => (0, POINTER, UNTYPED, 2),
            Use::Shmem => (SWAPBACKED, POINTER, UNTYPED, 2),
            Use::Slab if new => (0, POINTER, 0xf500_0000, 1),
            Use::Slab => (SLAB, POINTER, UNTYPED, 1),
            Use::PageTable => (0, POINTER, typed(0x200, 0xf2), 1),
            Use::Offline => (0, POINTER | 2, typed(0x100, 0xf1), 1),
            Use::Movable => (0, POINTER | 2, UNTYPED, 1),
            Use::NewType => (0, POINTER, typed(0x8000, 0xfd), 1),
        };
        self.write_struct(pfn, flags, mapping, 0, kind, refs);
    }

    /// Marks `pfn` as the head of a free block of `2^order` pages. The other pages' structures stay as they are:
    /// the kernel leaves old values there too.
    pub fn free_block(&mut self, pfn: Pfn, order: u64) {
        let kind = if self.shape.top_byte_types { 0xf000_0000 } else { !0x80 };
        // A free page keeps its old mapping until it is used again.
        self.write_struct(pfn, 0, POINTER, order, kind, 0);
    }

    /// A compound page: `head` with `usage` and all the others as its tails.
    pub fn compound(&mut self, head: Pfn, order: u32, usage: Use) {
        self.mark(head, usage);
        for tail in head.0 + 1..head.0 + (1 << order) {
            self.mark(Pfn(tail), Use::Kernel);
            self.set_head(Pfn(tail), self.struct_page_va(head));
        }
    }

    /// Makes `tail` the tail of the compound page whose head's structure is at `head_va`.
    pub fn set_head(&mut self, tail: Pfn, head_va: u64) {
        let at = GuestAddr(self.struct_page(tail).0 + 8);
        self.write(at, &(head_va | 1).to_le_bytes());
    }

    /// Overwrites the reference count of `pfn`.
    pub fn set_refcount(&mut self, pfn: Pfn, refs: u32) {
        self.write(GuestAddr(self.struct_page(pfn).0 + 52), &refs.to_le_bytes());
    }

    fn write_struct(&mut self, pfn: Pfn, flags: u64, mapping: u64, private: u64, kind: u32, refs: u32) {
        let mut bytes = Vec::with_capacity(STRUCT_SIZE as usize);
        // flags, lru (a list of kernel pointers), mapping, index, private
        for word in [flags, POINTER, POINTER, mapping, 0, private] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&refs.to_le_bytes());
        bytes.resize(STRUCT_SIZE as usize, 0);
        self.write(self.struct_page(pfn), &bytes);
    }
}
