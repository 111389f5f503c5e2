//! The vocabulary of guest memory, shared by everything that looks at a paused guest.
//!
//! Two address spaces meet here. The *guest physical* space is what the guest kernel sees: it has holes, and a
//! page in it is named by its [`Pfn`]. The *RAM file* is what the VMM backs that memory with: it is dense, and a
//! page in it is named by its [`PageIndex`]. A [`RamLayout`] translates between them.
//!
//! No I/O happens here; [`RamSource`] is the seam through which a paused guest's bytes are read.
#![forbid(unsafe_code)]

mod layout;
mod page_class;
mod page_set;
mod source;
mod units;

pub use layout::{LayoutError, RamLayout, RamRegion};
pub use page_class::PageClass;
pub use page_set::PageSet;
pub use source::{RamSource, is_zero};
pub use units::{Bytes, GuestAddr, PAGE_SHIFT, PAGE_SIZE, PageIndex, Pfn};
