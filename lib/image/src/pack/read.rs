//! Opening a pack and reading its frames, checked.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use dormouse_guest_mem::{Bytes, PAGE_SIZE};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::wire::{
    Extent, FOOTER_LEN, FOOTER_MAGIC, Footer, FrameRecord, HEADER_LEN, HEADER_MAGIC, Header, RECORD_LEN,
};
use super::{MAX_FRAME_PAGES, MAX_FRAMES, PackRef, VERSION, id_of};
use crate::codec::{CodedFrame, Decoder, Encoding, FrameFault};
use crate::digest::PackId;
use crate::error::{PackDamage, ReadError};
use crate::progress::Progress;

/// An open pack whose frame table is intact. Frames are checked each time that they are read.
#[derive(Debug)]
pub(crate) struct OpenPack {
    id: PackId,
    file: File,
    frame_pages: u32,
    pages: u32,
    frames: Vec<CodedFrame>,
}

impl OpenPack {
    /// Checks everything but the frames. `pack` names what the file must be.
    pub(crate) fn open(file: File, pack: &PackRef) -> Result<Self, ReadError> {
        let io = |source| ReadError::PackIo { pack: pack.id, source };
        let damaged = |damage| ReadError::PackDamaged { pack: pack.id, damage };
        let found = file.metadata().map_err(io)?.len();
        if found != pack.len.0 {
            return Err(damaged(PackDamage::Length { expected: pack.len.0, found }));
        }
        if found < HEADER_LEN + FOOTER_LEN {
            return Err(damaged(PackDamage::NotAPack));
        }
        let header: Header = read_fixed(&file, 0).map_err(io)?;
        if header.magic == HEADER_MAGIC && header.version.get() > VERSION {
            return Err(ReadError::PackNewer { pack: pack.id, version: header.version.get() });
        }
        check_header(&header).map_err(damaged)?;
        let footer: Footer = read_fixed(&file, found - FOOTER_LEN).map_err(io)?;
        let table_len = check_footer(&footer, &header, found).map_err(damaged)?;
        let mut table = Vec::new();
        table.try_reserve_exact(table_len).map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
        table.resize(table_len, 0);
        file.read_exact_at(&mut table, footer.extent.table_offset.get()).map_err(io)?;
        if footer.id != pack.id.0.0 || id_of(&header, &table, &footer.extent) != pack.id {
            return Err(damaged(PackDamage::Id));
        }
        let frame_pages = header.frame_pages.get();
        let frames = decode_table(&table, frame_pages, &footer.extent).map_err(damaged)?;
        Ok(Self { id: pack.id, file, frame_pages, pages: footer.extent.pages.get(), frames })
    }

    pub(crate) fn id(&self) -> PackId {
        self.id
    }

    /// Number of pages in it.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Pages in every frame but the last.
    pub(crate) fn frame_pages(&self) -> u32 {
        self.frame_pages
    }

    /// Length of its frame table and fixed parts.
    pub(crate) fn overhead(&self) -> u64 {
        HEADER_LEN + FOOTER_LEN + self.frames.len() as u64 * RECORD_LEN
    }
}

/// Reads frames of packs; one for each thread.
pub(crate) struct FrameReader {
    decoder: Decoder,
    stored: Vec<u8>,
}

impl FrameReader {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { decoder: Decoder::new()?, stored: Vec::new() })
    }

    /// Reads neighbouring frames into `raw`, which then holds their pages one after the other, and is only of use if
    /// this succeeds. Returns how many stored bytes were read.
    pub(crate) fn read(&mut self, pack: &OpenPack, frames: Range<u32>, raw: &mut Vec<u8>) -> Result<u64, ReadError> {
        let entries = pack.frames.get(frames.start as usize..frames.end as usize).unwrap_or_default();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err(ReadError::PackDamaged { pack: pack.id, damage: PackDamage::FrameTable });
        };
        let io = |source| ReadError::PackIo { pack: pack.id, source };
        let stored_len = last.offset + u64::from(last.stored_len) - first.offset;
        self.stored.resize(usize::try_from(stored_len).map_err(|e| io(io::Error::other(e)))?, 0);
        pack.file.read_exact_at(&mut self.stored, first.offset).map_err(io)?;
        raw.resize(entries.iter().map(CodedFrame::raw_len).sum(), 0);
        let (mut stored, mut rest) = (self.stored.as_slice(), raw.as_mut_slice());
        for (frame, number) in entries.iter().zip(frames) {
            let (now, later) = stored.split_at_checked(frame.stored_len as usize).unwrap_or_default();
            let (pages, after) = std::mem::take(&mut rest).split_at_mut_checked(frame.raw_len()).unwrap_or_default();
            (stored, rest) = (later, after);
            self.decoder.decode(frame, now, pages).map_err(|fault| {
                let (frame, offset, len) = (number as usize, frame.offset, Bytes(u64::from(frame.stored_len)));
                let damage = match fault {
                    FrameFault::Checksum => PackDamage::FrameChecksum { frame, offset, len },
                    FrameFault::Undecodable => PackDamage::FrameContent { frame, offset },
                };
                ReadError::PackDamaged { pack: pack.id, damage }
            })?;
        }
        Ok(stored_len)
    }
}

/// Reads and checks all of a pack, and returns what to name it by. `file` must be the pack `id`.
///
/// # Errors
/// [`ReadError`] for the first thing that is wrong, or `Cancelled`.
pub fn check_pack(file: File, id: &PackId, progress: &dyn Progress) -> Result<PackRef, ReadError> {
    let len = file.metadata().map_err(|source| ReadError::PackIo { pack: *id, source })?.len();
    let named = PackRef { id: *id, len: Bytes(len) };
    let pack = OpenPack::open(file, &named)?;
    let mut reader = FrameReader::new().map_err(|source| ReadError::PackIo { pack: *id, source })?;
    let (mut raw, mut done) = (Vec::new(), pack.overhead());
    for frame in 0..u32::try_from(pack.frames.len()).unwrap_or(u32::MAX) {
        if progress.cancelled() {
            return Err(ReadError::Cancelled { path: id.file_name().into() });
        }
        done += reader.read(&pack, frame..frame + 1, &mut raw)?;
        progress.advance(Bytes(done), named.len);
    }
    Ok(named)
}

fn read_fixed<T: FromBytes + IntoBytes + FromZeros>(file: &File, offset: u64) -> io::Result<T> {
    let mut value = T::new_zeroed();
    file.read_exact_at(value.as_mut_bytes(), offset)?;
    Ok(value)
}

fn check_header(header: &Header) -> Result<(), PackDamage> {
    let known = header.magic == HEADER_MAGIC && header.version.get() == VERSION && header.flags.get() == 0;
    let sizes_fit =
        header.page_size.get() == PAGE_SIZE as u32 && (1..=MAX_FRAME_PAGES).contains(&header.frame_pages.get());
    if known && sizes_fit && header.reserved == [0; 40] { Ok(()) } else { Err(PackDamage::NotAPack) }
}

/// Checks the numbers, and gives the length of the table.
fn check_footer(footer: &Footer, header: &Header, len: u64) -> Result<usize, PackDamage> {
    if footer.magic != FOOTER_MAGIC || footer.reserved != [0; 8] {
        return Err(PackDamage::NotAPack);
    }
    let Extent { table_offset, frames, pages } = footer.extent;
    let table_len = u64::from(frames.get()) * RECORD_LEN;
    let ends_at_footer = table_offset.get().checked_add(table_len) == Some(len - FOOTER_LEN);
    let full = pages.get().div_ceil(header.frame_pages.get()) == frames.get();
    let in_bounds = table_offset.get() >= HEADER_LEN && frames.get() <= MAX_FRAMES;
    if !ends_at_footer || !full || !in_bounds {
        return Err(PackDamage::FrameTable);
    }
    usize::try_from(table_len).map_err(|_| PackDamage::FrameTable)
}

fn decode_table(table: &[u8], frame_pages: u32, extent: &Extent) -> Result<Vec<CodedFrame>, PackDamage> {
    let records = <[FrameRecord]>::ref_from_bytes(table).map_err(|_| PackDamage::FrameTable)?;
    let (mut offset, mut left) = (HEADER_LEN, extent.pages.get());
    let mut frames = Vec::with_capacity(records.len());
    for record in records {
        let pages = frame_pages.min(left);
        left -= pages;
        let encoding = Encoding::from_code(record.encoding).ok_or(PackDamage::FrameTable)?;
        let pages = u16::try_from(pages).map_err(|_| PackDamage::FrameTable)?;
        let stored_len = record.stored_len.get();
        let frame = CodedFrame { offset, stored_len, pages, encoding, checksum: record.checksum };
        if record.reserved != [0; 3] || !frame.length_fits() {
            return Err(PackDamage::FrameTable);
        }
        offset += u64::from(stored_len);
        frames.push(frame);
    }
    if offset == extent.table_offset.get() { Ok(frames) } else { Err(PackDamage::FrameTable) }
}
