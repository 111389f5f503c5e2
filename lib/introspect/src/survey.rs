//! The survey of a paused guest.

use dormouse_guest_mem::{Bytes, PageClass, PageSet, RamLayout, RamSource};

use crate::facts::Facts;
use crate::kernel_memory::KernelMemory;
use crate::page_table::AddressSpace;
use crate::ram::Ram;
use crate::{ClassMap, NoteLocation, SurveyError, find_note, note, sweep, trust};

/// What to survey.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The RAM of a guest whose vCPUs are stopped.
    pub ram: &'a dyn RamSource,
    /// Where that RAM lies in the guest.
    pub layout: &'a RamLayout,
    /// Where the guest's VMCOREINFO note lies, if the agent told; else RAM is searched for it.
    pub note: Option<NoteLocation>,
    /// `MemFree` as the agent reported it shortly before the stop, if it did. Guards against a wrong reading.
    pub mem_free: Option<Bytes>,
}

/// What every page of a paused guest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Pages whose content is nobody's: on the page allocator's free lists, or given back by a balloon.
    pub free: PageSet,
    /// The class of every page. `Free` and `Offline` pages are those of `free`; the rest is a report, not a promise.
    pub classes: ClassMap,
    /// The kernel by its own account.
    pub kernel: KernelInfo,
    /// What the survey cost.
    pub work: Work,
}

/// The guest kernel by its own account; claims of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// Release, as `uname -r` prints it: at most 64 printable ASCII characters.
    pub release: String,
    /// 4 or 5.
    pub page_table_levels: u8,
    /// Bytes of a `struct page`.
    pub page_struct_size: u32,
    /// Sections of guest RAM that have page structures.
    pub sections: u32,
    /// Where the note was.
    pub note: NoteLocation,
}

/// The cost of a survey. Bounded by the size of RAM, whatever the guest says; a search for the note is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Page structures looked at: at most one for each page of RAM.
    pub struct_pages_read: u64,
    /// Bytes read of RAM: at most 512 for each page of RAM and 1 MiB.
    pub bytes_read: u64,
    /// Reads of RAM.
    pub reads: u64,
}

/// Tells which pages of a paused guest are free and what the others are.
///
/// Every page of [`Survey::free`] was marked by the guest kernel as nobody's at the moment of the stop, so a restored
/// guest does not notice when it is zero, unless its kernel checks the content of free pages: leave them in for guests
/// that run with `page_poison=`, `debug_pagealloc=` or KASAN. Not every free page is found: pages in the per-CPU lists,
/// and those that were being moved between lists, count as used.
///
/// # Errors
/// [`SurveyError`] when the guest's structures are missing, not understood or not believed; leave out zero pages only.
pub fn survey(request: &Request<'_>) -> Result<Survey, SurveyError> {
    let mut ram = Ram::new(request.ram, request.layout)?;
    let location = request.note.or_else(|| find_note(request.ram, request.layout)).ok_or(SurveyError::NoNote)?;
    let facts = Facts::from_note(&note::read(&mut ram, location)?)?;
    let mut memory = KernelMemory::new(ram, AddressSpace::new(facts.root_table, facts.page_table_levels));
    let sweep = sweep::sweep(&mut memory, &facts)?;
    let mut free = sweep.buddy.clone();
    for (range, _) in sweep.classes.runs().filter(|(_, class)| *class == PageClass::Offline) {
        free.insert_range(range);
    }
    trust::check(&sweep, &free, &facts, &memory.ram, request.mem_free)?;
    let kernel = KernelInfo {
        release: facts.release,
        page_table_levels: facts.page_table_levels,
        page_struct_size: u32::try_from(facts.page.size).unwrap_or(u32::MAX),
        sections: sweep.sections,
        note: location,
    };
    Ok(Survey { free, classes: sweep.classes, kernel, work: memory.ram.work() })
}
