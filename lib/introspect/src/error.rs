//! Why a guest's free pages could not be told.

use std::io;

use dormouse_guest_mem::{Bytes, GuestAddr, PageIndex};

use crate::NoteLocation;

/// Why a survey gave no answer. The snapshot is still possible and right: leave out zero pages only, and say why.
///
/// Unless it says that the RAM file could not be read, the reason lies in the guest: an unusual kernel or a lie.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// The RAM file is not as long as the layout says.
    #[error("the RAM file has {file} bytes, its layout describes {layout}; the VMM backend reported a wrong layout")]
    RamSize {
        /// Length of the RAM file.
        file: u64,
        /// Length by the layout.
        layout: u64,
    },
    /// The backing of the RAM file failed.
    #[error("reading the RAM file at offset {offset:#x} failed: {kind}")]
    Read {
        /// Where in the RAM file.
        offset: u64,
        /// What the backing answered.
        kind: io::ErrorKind,
    },
    /// No note was named and none found.
    #[error(
        "the guest kernel has no VMCOREINFO note in its memory; use a kernel with CONFIG_VMCORE_INFO \
         (CONFIG_CRASH_CORE before 6.9) to have free pages left out"
    )]
    NoNote,
    /// The note is not inside guest RAM, or longer than any kernel's.
    #[error("the guest says its VMCOREINFO note lies at `{location}`, which is not in its RAM or too long")]
    NoteOutsideRam {
        /// What the guest said.
        location: NoteLocation,
    },
    /// What lies there is no VMCOREINFO note.
    #[error("there is no VMCOREINFO note at `{location}`: {reason}")]
    NotANote {
        /// Where it was looked for.
        location: NoteLocation,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The note lacks a fact that is needed; this kernel is built without the feature or is not supported.
    #[error("the guest kernel's VMCOREINFO note lacks {key}; this kernel's memory layout is not supported")]
    FactMissing {
        /// The line's key.
        key: &'static str,
    },
    /// A fact in the note is not a number or cannot be true.
    #[error("the guest kernel's VMCOREINFO note says {key}={value}, which is implausible or not supported")]
    FactImplausible {
        /// The line's key.
        key: &'static str,
        /// Its value, cut at [`SurveyError::MAX_VALUE`] characters and without control characters.
        value: String,
    },
    /// The kernel's list of memory sections cannot be reached or is empty.
    #[error("none of the guest kernel's memory sections could be found by its page tables")]
    NoSections,
    /// There are sections, but not a single page structure is mapped.
    #[error("none of the guest kernel's page structures is mapped by its page tables")]
    NoPageStructs,
    /// More pages are marked free than a working kernel can have.
    #[error(
        "the guest marks {free} of {ram} as free, more than a running kernel leaves; its page structures are not believed"
    )]
    TooMuchFree {
        /// Free by the page structures.
        free: Bytes,
        /// All RAM.
        ram: Bytes,
    },
    /// More pages are marked free than the agent counted.
    #[error(
        "the guest marks {free} as free, but reported {reported} just before the stop; \
         its page structures are not believed"
    )]
    MoreFreeThanReported {
        /// Free by the page structures.
        free: Bytes,
        /// `MemFree` by the agent.
        reported: Bytes,
    },
    /// A page that the kernel itself lives in is marked free.
    #[error("the guest marks page {} as free although its kernel's own structures lie there; they are not believed", page.0)]
    OwnStructureFree {
        /// The page.
        page: PageIndex,
    },
    /// The guest's structures cost more reads than any honest guest of this size.
    #[error("the guest's page structures are laid out so that reading them takes more than {budget} bytes; given up")]
    TooMuchWork {
        /// The budget for a guest of this size.
        budget: u64,
    },
}

impl SurveyError {
    /// How much of a guest's own text an error repeats, in characters.
    pub const MAX_VALUE: usize = 40;

    pub(crate) fn implausible(key: &'static str, value: &str) -> Self {
        let value = value.chars().take(Self::MAX_VALUE).map(|c| if c.is_control() { '?' } else { c }).collect();
        Self::FactImplausible { key, value }
    }

    pub(crate) fn implausible_number(key: &'static str, value: impl std::fmt::Display) -> Self {
        Self::implausible(key, &value.to_string())
    }

    pub(crate) fn implausible_addr(key: &'static str, value: GuestAddr) -> Self {
        Self::implausible(key, &value.to_string())
    }
}
