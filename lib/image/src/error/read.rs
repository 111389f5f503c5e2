//! Why an image, or a part of it, can not be read.

use std::io;
use std::path::PathBuf;

use dormouse_guest_mem::Bytes;

use crate::digest::{ImageRoot, PackId};
use crate::disk::DiskSlot;
use crate::image::VERSION;
use crate::pack::{self, PackUnavailable};

/// Why an image, or a part of it, can not be read. No byte of guest RAM was given out.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can not be opened or read.
    #[error("memory image {} can not be read", path.display())]
    Io {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not start like an image.
    #[error("{} is no memory image: it does not start with the mark of one", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },
    /// The image is of a later version.
    #[error("memory image {} has version {version}, newer than {supported}: upgrade dormouse", path.display(), supported = VERSION)]
    Newer {
        /// The image.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The image uses features that this version does not know.
    #[error("memory image {} uses unknown features ({flags:#x}): upgrade dormouse", path.display())]
    UnknownFlags {
        /// The image.
        path: PathBuf,
        /// All its feature flags.
        flags: u32,
    },
    /// The file ends too early.
    #[error(
        "memory image {} is truncated or was never finished: {found} found, at least {expected} expected; the snapshot can not be resumed, delete it or restore the file from a backup",
        path.display()
    )]
    Truncated {
        /// The image.
        path: PathBuf,
        /// What there should be at least.
        expected: Bytes,
        /// What there is.
        found: Bytes,
    },
    /// The image breaks a rule of its format.
    #[error(
        "memory image {} is damaged: {damage}; the snapshot can not be resumed, delete it or restore the file from a backup",
        path.display()
    )]
    Damaged {
        /// The image.
        path: PathBuf,
        /// The rule.
        damage: Damage,
    },
    /// The image is intact, but not the one that the manifest names.
    #[error(
        "memory image {} is another one than its manifest names ({found} instead of {expected}); restore the right file from a backup or delete the snapshot",
        path.display()
    )]
    OtherImage {
        /// The image.
        path: PathBuf,
        /// The root that was asked for.
        expected: ImageRoot,
        /// The root of the file.
        found: ImageRoot,
    },
    /// A pack that the image needs can not be had.
    #[error(transparent)]
    Pack(#[from] PackUnavailable),
    /// A pack was changed, cut or is another one than its name says.
    #[error(
        "pack {pack} is damaged: {damage}; snapshots that name it can not be resumed, restore it from a backup or delete them"
    )]
    PackDamaged {
        /// The pack.
        pack: PackId,
        /// The rule.
        damage: PackDamage,
    },
    /// A pack is of a later version.
    #[error("pack {pack} has version {version}, newer than {supported}: upgrade dormouse", supported = pack::VERSION)]
    PackNewer {
        /// The pack.
        pack: PackId,
        /// Its version.
        version: u32,
    },
    /// A pack can not be read.
    #[error("pack {pack} can not be read")]
    PackIo {
        /// The pack.
        pack: PackId,
        /// What the system said.
        source: io::Error,
    },
    /// The image refers to a disk that was not given.
    #[error("memory image {} refers to the {disk}, which is not there; restore it from a backup or delete the snapshot", path.display())]
    DiskMissing {
        /// The image.
        path: PathBuf,
        /// The disk.
        disk: DiskSlot,
    },
    /// A disk that the image refers to can not be read.
    #[error("the {disk} {} can not be read", path.display())]
    DiskIo {
        /// Which one.
        disk: DiskSlot,
        /// The disk.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A disk was changed since the snapshot was taken, so that guest RAM is no longer to be had from it.
    #[error(
        "the {disk} {} was changed since the snapshot was taken: the {len} at offset {offset:#x} are not what the guest had in memory; put the unchanged disk back or delete the snapshot",
        path.display()
    )]
    DiskChanged {
        /// Which one.
        disk: DiskSlot,
        /// The disk.
        path: PathBuf,
        /// Where the run of blocks starts that fails its check.
        offset: u64,
        /// Length of that run.
        len: Bytes,
    },
    /// Every part is intact, but RAM as a whole is not what was paused: the index itself is wrong.
    #[error("memory image {} gives other RAM than was paused, at offset {offset:#x} of it; the snapshot can not be trusted, delete it", path.display())]
    OtherContent {
        /// The image.
        path: PathBuf,
        /// Start of the 2 MiB of RAM that differ.
        offset: u64,
    },
    /// There is no such page.
    #[error("memory image {} has {pages} pages, there is no page {page}", path.display())]
    NoSuchPage {
        /// The image.
        path: PathBuf,
        /// What was asked for.
        page: u32,
        /// How many pages RAM has.
        pages: u32,
    },
    /// The caller cancelled.
    #[error("reading memory image {} was cancelled", path.display())]
    Cancelled {
        /// The image.
        path: PathBuf,
    },
}

/// The rule of the format that an image breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The end mark is missing.
    #[error("its end mark is missing, so it was truncated, never finished, or something was appended to it")]
    NoFooter,
    /// A field of the header is out of its limits.
    #[error("its page or frame size is out of bounds")]
    Header,
    /// Reserved bytes are not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// The index does not lie between the frames and the footer, or is too large.
    #[error("its index does not end at the footer, or is larger than any can be")]
    IndexPlace,
    /// Header or index were changed.
    #[error("header and index do not match the root hash")]
    RootHash,
    /// The tables of the index do not fill it exactly.
    #[error("its index is shorter or longer than its tables")]
    IndexLength,
    /// The RAM regions make no layout, or not one of the size that the header says.
    #[error("its RAM regions make no valid layout")]
    Layout,
    /// The page map has unknown kinds or classes, or does not cover RAM exactly.
    #[error("its page map does not cover RAM exactly with known kinds")]
    PageMap,
    /// Frames overlap, leave gaps, lie outside of the file, are too large, or do not hold exactly the data pages.
    #[error("its frame table does not fit the file and the page map")]
    FrameTable,
    /// The stored bytes of a frame were changed.
    #[error("the {len} of frame {frame} at offset {offset:#x} do not match their checksum")]
    FrameChecksum {
        /// Its place in the frame table.
        frame: usize,
        /// Where it lies in the file.
        offset: u64,
        /// Its stored length.
        len: Bytes,
    },
    /// The decompressed index is larger than any can be for so much RAM, or not what the header says.
    #[error("its index does not decompress to its length")]
    IndexContent,
    /// The table of packs is out of bounds or names one twice.
    #[error("its table of packs is out of bounds")]
    PackTable,
    /// A frame whose checksum is right does not decompress to its pages.
    #[error("frame {frame} at offset {offset:#x} does not decompress to its pages")]
    FrameContent {
        /// Its place in the frame table.
        frame: usize,
        /// Where it lies in the file.
        offset: u64,
    },
}

/// The rule that a pack breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackDamage {
    /// The file is shorter or longer than it should be.
    #[error("it has {found} bytes, not {expected}")]
    Length {
        /// Length that the image names.
        expected: u64,
        /// Length of the file.
        found: u64,
    },
    /// Header or footer are not those of a pack.
    #[error("it does not start or end like a pack, so it was truncated or never finished")]
    NotAPack,
    /// Header or frame table were changed, or the file is another pack.
    #[error("its header and frame table are not those of the pack that its name says")]
    Id,
    /// Frames overlap, leave gaps, are too large, or do not hold as many pages as the image says.
    #[error("its frame table does not fit the file")]
    FrameTable,
    /// The stored bytes of a frame were changed.
    #[error("the {len} of frame {frame} at offset {offset:#x} do not match their checksum")]
    FrameChecksum {
        /// Its place in the frame table.
        frame: usize,
        /// Where it lies in the file.
        offset: u64,
        /// Its stored length.
        len: Bytes,
    },
    /// A frame whose checksum is right does not decompress to its pages.
    #[error("frame {frame} at offset {offset:#x} does not decompress to its pages")]
    FrameContent {
        /// Its place in the frame table.
        frame: usize,
        /// Where it lies in the file.
        offset: u64,
    },
}

/// Why RAM could not be made from an image. The output file is empty again, if it could be emptied.
#[derive(Debug, thiserror::Error)]
pub enum MaterialiseError {
    /// The image can not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file system, or memory if the output lies in it, is full.
    #[error("no room for the guest's RAM: {needed} needed, {available} can be had; make room and resume again")]
    NoSpace {
        /// All data pages.
        needed: Bytes,
        /// Room for them, counting what had been written.
        available: Bytes,
    },
    /// The output file can not be written, for another reason than a full file system.
    #[error("the guest's RAM can not be written")]
    Output {
        /// What the system said.
        source: io::Error,
    },
    /// The output file is not empty: what it held would show through in the pages that are left out.
    #[error("the guest's RAM can only be written to an empty file, this one has {len}")]
    NotEmpty {
        /// Its size.
        len: Bytes,
    },
}
