//! Reads a paused Linux guest's page structures: which pages are free, and what the others are.
//!
//! The guest kernel describes itself in its VMCOREINFO note (`kernel/crash_core.c`, later `kernel/vmcore_info.c`):
//! where its page tables are, where the array of `struct page` is, and how such a structure is laid out.
//! [`survey`] follows that description over a [`RamSource`](dormouse_guest_mem::RamSource) and returns the pages
//! whose content is nobody's (page allocator free lists, balloon) and a class for every other page.
//!
//! Only x86_64 guests with 4 KiB pages and `CONFIG_SPARSEMEM_EXTREME` are understood. All of the guest's RAM is hostile
//! input: every address is checked against the [`RamLayout`](dormouse_guest_mem::RamLayout), the work is bounded by the
//! size of RAM, and a guest that lies can spoil only its own snapshot. In doubt a page is kept; in doubt about
//! everything there is a [`SurveyError`] and the caller leaves out zero pages only.
#![forbid(unsafe_code)]

mod class_map;
mod classify;
mod error;
mod fact_list;
mod facts;
mod kernel_memory;
mod note;
mod note_location;
mod note_scan;
mod page_struct;
mod page_table;
mod page_type;
mod ram;
mod sections;
mod survey;
mod sweep;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod trust;

pub use class_map::ClassMap;
pub use error::SurveyError;
pub use note_location::{NoteLocation, NoteLocationError};
pub use note_scan::find_note;
pub use survey::{KernelInfo, Request, Survey, Work, survey};
