//! One frame: pages to stored bytes and back.

use std::io;

use dormouse_guest_mem::PAGE_SIZE;
use zstd::bulk::{Compressor, Decompressor};

/// How frames are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// zstd at the level that the options name.
    Zstd,
    /// lz4 (block format): larger, but quicker to read.
    Lz4,
}

/// How a frame's pages are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Encoding {
    Raw = 1,
    Zstd = 2,
    Lz4 = 3,
}

impl Encoding {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Raw, Self::Zstd, Self::Lz4].into_iter().find(|encoding| encoding.code() == code)
    }
}

/// A frame in a file: where it lies, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodedFrame {
    /// Where its stored bytes start in the file.
    pub(crate) offset: u64,
    pub(crate) stored_len: u32,
    pub(crate) pages: u16,
    pub(crate) encoding: Encoding,
    pub(crate) checksum: [u8; 32],
}

impl CodedFrame {
    /// Length of its pages.
    pub(crate) fn raw_len(&self) -> usize {
        usize::from(self.pages) * PAGE_SIZE
    }

    /// Whether the stored length is one that this encoding can have. So nothing allocates more than the pages take.
    pub(crate) fn length_fits(&self) -> bool {
        let (stored, raw) = (self.stored_len as usize, self.raw_len());
        match self.encoding {
            Encoding::Raw => stored == raw,
            Encoding::Zstd | Encoding::Lz4 => stored > 0 && stored < raw,
        }
    }
}

/// Makes frames. The result depends on the pages, codec and level only, not on what was encoded before.
pub(crate) struct Encoder {
    /// `None` for lz4.
    zstd: Option<Compressor<'static>>,
}

impl Encoder {
    pub(crate) fn new(codec: Codec, level: i32) -> io::Result<Self> {
        let zstd = match codec {
            Codec::Zstd => Some(Compressor::new(level)?),
            Codec::Lz4 => None,
        };
        Ok(Self { zstd })
    }

    /// Encodes whole pages and adds the stored bytes to `out`; the frame's offset is that within `out`. Pages that do not
    /// become smaller are kept as they are.
    pub(crate) fn append(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<CodedFrame> {
        let pages = u16::try_from(raw.len() / PAGE_SIZE).map_err(io::Error::other)?;
        let at = out.len();
        let mut encoding = self.compress(raw, out)?;
        if out.len() - at >= raw.len() {
            out.truncate(at);
            out.extend_from_slice(raw);
            encoding = Encoding::Raw;
        }
        let stored = out.get(at..).unwrap_or_default();
        let stored_len = u32::try_from(stored.len()).map_err(io::Error::other)?;
        let checksum = *blake3::hash(stored).as_bytes();
        Ok(CodedFrame { offset: at as u64, stored_len, pages, encoding, checksum })
    }

    fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<Encoding> {
        let at = out.len();
        let Some(zstd) = &mut self.zstd else {
            out.resize(at + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
            let room = out.get_mut(at..).unwrap_or_default();
            let len = lz4_flex::block::compress_into(raw, room).map_err(io::Error::other)?;
            out.truncate(at + len);
            return Ok(Encoding::Lz4);
        };
        out.resize(at + zstd::zstd_safe::compress_bound(raw.len()), 0);
        let len = zstd.compress_to_buffer(raw, out.get_mut(at..).unwrap_or_default())?;
        out.truncate(at + len);
        Ok(Encoding::Zstd)
    }
}

/// Why stored bytes are not the frame that the index describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameFault {
    Checksum,
    Undecodable,
}

/// Reads frames.
pub(crate) struct Decoder {
    zstd: Decompressor<'static>,
}

impl Decoder {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()? })
    }

    /// Checks `stored` against the frame's checksum and only then decodes it into `raw`, which must be exactly as long
    /// as the frame's pages. Never writes more than that, whatever the compressed stream claims.
    pub(crate) fn decode(&mut self, frame: &CodedFrame, stored: &[u8], raw: &mut [u8]) -> Result<(), FrameFault> {
        if blake3::hash(stored) != frame.checksum {
            return Err(FrameFault::Checksum);
        }
        let decoded = match frame.encoding {
            Encoding::Raw if stored.len() == raw.len() => {
                raw.copy_from_slice(stored);
                Some(stored.len())
            }
            Encoding::Raw => None,
            Encoding::Zstd => self.zstd.decompress_to_buffer(stored, raw).ok(),
            Encoding::Lz4 => lz4_flex::block::decompress_into(stored, raw).ok(),
        };
        if decoded == Some(frame.raw_len()) { Ok(()) } else { Err(FrameFault::Undecodable) }
    }
}
