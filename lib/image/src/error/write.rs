//! Why no image was written.

use std::io;

use dormouse_guest_mem::Bytes;

use crate::disk_index::MAX_DISK_LEN;
use crate::error::ReadError;
use crate::image::MAX_INDEX_LEN;
use crate::pack::MAX_FRAME_PAGES;

/// Why no image was written. What the output file then holds is no image.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system is full. `needed` is an upper bound for the whole image: what is written so far and everything
    /// else as if it could not be compressed. `available` is what the file system has for it, counting what the
    /// unfinished image takes.
    #[error(
        "no room for the memory image: it needs at most {needed}, {available} can be had; make room and pause again"
    )]
    NoSpace {
        /// Upper bound for the size of the whole image.
        needed: Bytes,
        /// Room for it, were the unfinished file removed.
        available: Bytes,
    },
    /// The caller cancelled.
    #[error("writing the memory image was cancelled")]
    Cancelled,
    /// RAM can not be read.
    #[error("guest RAM can not be read at offset {offset:#x} of the RAM file")]
    Ram {
        /// Where in the RAM file the failing read began.
        offset: u64,
        /// What the read said.
        source: io::Error,
    },
    /// The RAM source names populated ranges that are out of order or outside of RAM.
    #[error("the RAM file reports populated ranges that are out of order or past its end, at offset {offset:#x}")]
    BadRanges {
        /// Start of the offending range.
        offset: u64,
    },
    /// The layout, the RAM source and the free set do not describe the same RAM.
    #[error("the RAM layout describes {expected}, but the RAM file or the free set {found}")]
    LengthMismatch {
        /// Size by the layout.
        expected: Bytes,
        /// The size that differs.
        found: Bytes,
    },
    /// The options are outside of their limits.
    #[error("frames have 1 to {max} pages and 1 to 64 threads compress, not {frame_pages} pages and {threads} threads", max = MAX_FRAME_PAGES)]
    BadOptions {
        /// As given.
        frame_pages: u32,
        /// As given.
        threads: usize,
    },
    /// The RAM that the VM was started with can not be read.
    #[error("the RAM that the sandbox was started with can not be read at offset {offset:#x}")]
    ParentRam {
        /// Where in it the failing read began.
        offset: u64,
        /// What the read said.
        source: io::Error,
    },
    /// A disk that is to be indexed can not be read.
    #[error("the disk can not be read at offset {offset:#x} to index its blocks")]
    DiskRead {
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A disk is larger than its blocks can be numbered.
    #[error("the disk has {len}, more than {max} can not be indexed", max = Bytes(MAX_DISK_LEN))]
    DiskTooLarge {
        /// Its size.
        len: Bytes,
    },
    /// The image to be compacted can not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output file is not empty.
    #[error("the memory image can only be written to an empty file, this one has {len}")]
    NotEmpty {
        /// Its size.
        len: Bytes,
    },
    /// The page map would exceed what readers accept.
    #[error("guest RAM alternates between used and unused pages so much that the index would exceed {max}", max = Bytes(MAX_INDEX_LEN))]
    TooFragmented,
    /// The output file can not be written, for another reason than a full file system.
    #[error("the memory image can not be written")]
    Output {
        /// What the write said.
        source: io::Error,
    },
    /// The compressor failed or a thread could not be started.
    #[error("the memory image can not be compressed")]
    Compress {
        /// What it said.
        source: io::Error,
    },
}
