//! The class of a page that is in use.

use dormouse_guest_mem::PageClass;

use crate::page_struct::Page;
use crate::page_type::PageType;

/// Bits of `page->mapping` that say what it points to (`PAGE_MAPPING_FLAGS`, `include/linux/page-flags.h`).
const MAPPING_FLAGS: u64 = 3;
/// `PAGE_MAPPING_ANON`; together with the other flag bit it is KSM, which is anonymous memory too.
const MAPPING_ANON: u64 = 1;
/// `PAGE_MAPPING_MOVABLE`: driver memory, not the page cache.
const MAPPING_MOVABLE: u64 = 2;
/// Kernel pointers have the upper half of the address space, with 4 and with 5 levels.
const KERNEL_HALF: u64 = 1 << 63;

/// The class of a page that is neither free nor the tail of a compound page.
///
/// `mapping` is shared with other fields in page structures of the slab allocator, page tables and drivers. It is read
/// only for pages without a type that somebody holds, and believed only when it is a kernel pointer.
pub(crate) fn classify(page: Page<'_>) -> PageClass {
    match page.page_type() {
        PageType::Offline => return PageClass::Offline,
        PageType::Slab => return PageClass::Slab,
        PageType::Table => return PageClass::PageTable,
        PageType::Buddy | PageType::Other => return PageClass::Kernel,
        PageType::Untyped => {}
    }
    if page.is_slab() {
        return PageClass::Slab;
    }
    let mapping = page.mapping();
    if page.refcount() <= 0 || mapping & KERNEL_HALF == 0 {
        return PageClass::Kernel;
    }
    match mapping & MAPPING_FLAGS {
        MAPPING_MOVABLE => PageClass::Kernel,
        flags if flags & MAPPING_ANON != 0 => PageClass::Anonymous,
        _ if page.is_swapbacked() => PageClass::Shmem,
        _ => PageClass::PageCache,
    }
}
